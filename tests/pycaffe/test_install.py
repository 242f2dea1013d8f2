"""`import caffe`: scripts that were written for the original run unchanged."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.recorded import tool_environment

ROOT = Path(__file__).parents[2]

IMPORTS = """
import caffe
import caffe.io
import caffe.draw
import caffe.proto.caffe_pb2
from caffe import layers as L, params as P, to_proto
from caffe.proto import caffe_pb2
from caffe.net_spec import NetSpec
from caffe.coord_map import crop
from caffe.io import Transformer as T
from caffe.pycaffe import Net
from caffe._caffe import Layer
import caffetools.pycaffe
assert caffe is caffetools.pycaffe
assert caffe.io.Transformer is T and caffe.Net is Net and caffe.NetSpec is NetSpec
assert caffe.proto.caffe_pb2 is caffe_pb2 and caffe_pb2.NetParameter is caffe.io.caffe_pb2.NetParameter
assert issubclass(caffe.Classifier, Net) and caffe.draw.draw_net_to_file and crop and Layer is caffe.Layer
"""

SCRIPT = """
import sys
import helper
import caffe
from caffe import layers as L, params as P

assert __name__ == "__main__", __name__

n = caffe.NetSpec()
n.data = L.Input(shape=dict(dim=[2, 1, 4, 4]))
n.pool = L.Pooling(n.data, kernel_size=4, pool=P.Pooling.MAX)
n.double = L.Python(n.pool, module="helper", layer="Double")
with open("net.prototxt", "w") as f:
    f.write(str(n.to_proto()))
net = caffe.Net("net.prototxt", caffe.TEST)
net.blobs["data"].data[...] = float(sys.argv[1])
print(sys.argv, net.forward()["double"].ravel().tolist())
"""

HELPER = """
import caffe

class Double(caffe.Layer):
    def setup(self, bottom, top):
        pass

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].data.shape)

    def forward(self, bottom, top):
        top[0].data[...] = 2 * bottom[0].data

    def backward(self, top, propagate_down, bottom):
        pass
"""


def python(*arguments, cwd, environment=None):
    command = [sys.executable, *map(str, arguments)]
    env = environment or tool_environment()
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=120)


def test_imports(tmp_path):
    (tmp_path / "script.py").write_text("import caffetools.pycaffe\ncaffetools.pycaffe.install()\n" + IMPORTS)
    done = python("script.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_imports_from_the_python_folder(tmp_path):
    """What scripts do that lie in a checkout: put its folder `python` on the path."""
    (tmp_path / "script.py").write_text(
        f"import sys\nsys.path.insert(0, {str(ROOT / 'python')!r})\n{IMPORTS}"
    )
    environment = {name: value for name, value in tool_environment().items() if name != "PYTHONPATH"}
    done = python("script.py", cwd=tmp_path, environment=environment)
    assert done.returncode == 0, done.stderr


def test_install_twice(tmp_path):
    (tmp_path / "script.py").write_text(
        "from caffetools.pycaffe import install\ninstall()\ninstall()\nimport caffe\n"
    )
    assert python("script.py", cwd=tmp_path).returncode == 0


def test_another_caffe_that_is_imported(tmp_path):
    (tmp_path / "caffe.py").write_text("")
    (tmp_path / "script.py").write_text("import caffe\nfrom caffetools.pycaffe import install\ninstall()\n")
    done = python("script.py", cwd=tmp_path)
    assert done.returncode == 1
    assert f"imported already, from {tmp_path / 'caffe.py'}: call install() before it is" in done.stderr


class TestScripts:
    @pytest.fixture
    def folder(self, tmp_path):
        (tmp_path / "scripts").mkdir()
        (tmp_path / "scripts" / "script.py").write_text(SCRIPT)
        (tmp_path / "scripts" / "helper.py").write_text(HELPER)
        return tmp_path

    def test_run(self, folder):
        done = python("-m", "caffetools.pycaffe", "scripts/script.py", 3, "--x", cwd=folder)
        assert done.returncode == 0, done.stderr
        assert done.stdout == "['scripts/script.py', '3', '--x'] [6.0, 6.0]\n"

    def test_exit_status_and_traceback(self, folder):
        done = python("-m", "caffetools.pycaffe", "scripts/script.py", "three", cwd=folder)
        assert done.returncode == 1
        assert (
            'script.py", line' in done.stderr and "could not convert string to float: 'three'" in done.stderr
        )

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [((), "usage: python -m"), (("gone.py",), "gone.py: no such file"), (("-h",), "usage:")],
    )
    def test_no_script(self, folder, arguments, words):
        done = python("-m", "caffetools.pycaffe", *arguments, cwd=folder)
        assert done.returncode == 1 and done.stderr.startswith(words)
