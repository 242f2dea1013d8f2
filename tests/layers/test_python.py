"""Python layers: what the user's class gets and gives, its errors, and layer types of installed packages."""

from __future__ import annotations

import re
import sys
import textwrap

import numpy as np
import pytest

from caffetools.glog import FatalError
from caffetools.layer import TEST, TRAIN, Context
from caffetools.layers import create_layer, known_types, layer_class, plugins
from caffetools.proto import caffe_pb2
from tests.layers.gradient import SingleLayer, check_gradient, uniform

#: The marks under a line of a traceback, which not every version of Python draws.
MARKS = r"(?: *[~^]+\n?)?"

SCALE = """
    import caffetools.pycaffe as caffe

    class Scale(caffe.Layer):
        def setup(self, bottom, top):
            self.factor = float(self.param_str)

        def reshape(self, bottom, top):
            top[0].reshape(*bottom[0].data.shape)

        def forward(self, bottom, top):
            top[0].data[...] = self.factor * bottom[0].data

        def backward(self, top, propagate_down, bottom):
            bottom[0].diff[...] = self.factor * top[0].diff
"""

# y = x w + b for one number w and a vector b: parameters made in setup.
AFFINE = """
    class Affine:
        def setup(self, bottom, top):
            self.blobs.add_blob()
            self.blobs.add_blob(bottom[0].shape[1])
            self.blobs[0].data[...] = 3
            self.blobs[1].data[...] = [1, 2]

        def reshape(self, bottom, top):
            top[0].reshape(*bottom[0].shape)

        def forward(self, bottom, top):
            w, b = self.blobs
            top[0].data[...] = bottom[0].data * w.data + b.data

        def backward(self, top, propagate_down, bottom):
            w, b = self.blobs
            w.diff[...] += (bottom[0].data * top[0].diff).sum()
            b.diff[...] += top[0].diff.sum(0)
            if propagate_down[0]:
                bottom[0].diff[...] = top[0].diff * w.data
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Return a function that writes a user's module into the current directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    before = set(sys.modules)

    def write(text, name="user_layers"):
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
        return name

    yield write
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in sys.modules[name].__file__:
            del sys.modules[name]


def python_layer(name, more="", module="user_layers"):
    return f'name: "p" type: "Python" python_param {{ module: "{module}" layer: "{name}" {more} }}'


def failing(method, line="raise ValueError('bad luck')"):
    """Return a class whose `method` has a certain first line."""
    bodies = {"setup": "pass", "reshape": "top[0].reshape()", "forward": "pass", method: line}
    methods = "\n".join(f"    def {name}(self, bottom, top):\n        {bodies[name]}" for name in bodies)
    return f"class Failing:\n{methods}\n"


def test_forward_and_backward(module):
    module(SCALE)
    x, dy = uniform(2, 3, 4), uniform(2, 3, 4, seed=9)
    rig = SingleLayer(python_layer("Scale", 'param_str: "2.5"'), x)
    np.testing.assert_allclose(rig.forward()[0], 2.5 * x, rtol=1e-6)
    np.testing.assert_allclose(rig.backward(dy)[0], 2.5 * dy, rtol=1e-6)


def test_reshape_is_called_before_every_forward_pass_of_a_net(module):
    from tests.layers.recorded_batches import build

    module("""
        class Growing:
            size = 0

            def setup(self, bottom, top): pass

            def reshape(self, bottom, top):
                self.size += 1
                top[0].reshape(self.size)

            def forward(self, bottom, top):
                top[0].data[...] = self.size
    """)
    net = build(f'layer {{ {python_layer("Growing")} top: "y" }}')
    net.forward()
    assert net.blobs["y"].data.tolist() == [2, 2]
    net.forward()
    assert net.blobs["y"].data.tolist() == [3, 3, 3]


def test_gradient_of_input_and_parameters(module):
    module(AFFINE)
    check_gradient(python_layer("Affine"), uniform(4, 2))


def test_parameters_are_the_layers_blobs(module):
    module(AFFINE)
    layer = SingleLayer(python_layer("Affine"), uniform(4, 2)).layer
    assert [blob.data.tolist() for blob in layer.blobs] == [3, [1, 2]]


def test_kernel_compiled_by_numba(module):
    module("""
        import numba

        @numba.njit
        def square(x, y):
            for i in range(x.size):
                y[i] = x[i] * x[i]

        class Square:
            def setup(self, bottom, top): pass

            def reshape(self, bottom, top):
                top[0].reshape(bottom[0].count)

            def forward(self, bottom, top):
                square(bottom[0].data.ravel(), top[0].data)
    """)
    x = uniform(3, 4)
    np.testing.assert_allclose(SingleLayer(python_layer("Square"), x).forward()[0], x.ravel() ** 2, rtol=1e-6)


@pytest.mark.parametrize("phase", [TRAIN, TEST])
def test_phase_and_param_str(module, phase):
    module(SCALE)
    user = SingleLayer(python_layer("Scale", 'param_str: "7"'), uniform(1), phase=phase).layer.user
    assert (user.phase, user.param_str, user.type) == (phase, "7", "Python")


def test_param_str_is_empty_by_default(module):
    module(failing("setup", "self.seen = self.param_str"))
    assert SingleLayer(python_layer("Failing")).layer.user.seen == ""


def test_blobs_have_legacy_sizes(module):
    module(failing("setup", "self.seen = [(b.num, b.channels, b.height, b.width, b.count) for b in bottom]"))
    rig = SingleLayer(python_layer("Failing"), uniform(2, 3, 4, 5), uniform(6, 7))
    assert rig.layer.user.seen == [(2, 3, 4, 5, 120), (6, 7, 1, 1, 42)]


def test_module_of_the_path_comes_before_the_current_directory(module, tmp_path, monkeypatch):
    module(failing("setup", "self.where = 'here'"))
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "user_layers.py").write_text(failing("setup", "self.where = 'path'"))
    monkeypatch.syspath_prepend(str(tmp_path / "path"))
    assert SingleLayer(python_layer("Failing")).layer.user.where == "path"


class TestErrors:
    @pytest.mark.parametrize("method", ["setup", "reshape", "forward"])
    def test_user_code_that_raises(self, module, tmp_path, method):
        module(failing(method))
        with pytest.raises(FatalError) as caught:
            SingleLayer(python_layer("Failing"), tops=1).forward()
        line = {"setup": 3, "reshape": 5, "forward": 7}[method]
        assert str(caught.value).splitlines() == [
            f"Layer 'p' (class Failing of module user_layers) failed in {method}: ValueError: bad luck",
            f'  File "{tmp_path}/user_layers.py", line {line}, in {method}',
            "    raise ValueError('bad luck')",
        ]
        assert isinstance(caught.value.__cause__, ValueError)

    def test_traceback_goes_through_all_of_the_users_code(self, module):
        module("def helper():\n    return 1 / 0\n" + failing("forward", "helper()"))
        with pytest.raises(FatalError, match=rf"in forward\n *helper\(\)\n{MARKS}.*in helper\n *return 1 / 0"):
            SingleLayer(python_layer("Failing")).forward()

    def test_constructor_that_raises(self, module):
        module(
            "class Failing:\n    setup = reshape = forward = print\n    def __init__(self):\n        1 / 0\n"
        )
        with pytest.raises(FatalError, match=r"\(class Failing .*failed in __init__: ZeroDivisionError"):
            SingleLayer(python_layer("Failing"))

    def test_keyboard_interrupt_goes_through(self, module):
        module(failing("forward", "raise KeyboardInterrupt"))
        with pytest.raises(KeyboardInterrupt):
            SingleLayer(python_layer("Failing")).forward()

    def test_shape_that_is_refused(self, module):
        module(failing("reshape", "top[0].reshape(2, -1)"))
        with pytest.raises(FatalError, match=r"'p' .* failed in reshape: .*shape 2 -1") as caught:
            SingleLayer(python_layer("Failing"))
        assert re.search(rf"\n    top\[0\].reshape\(2, -1\)\n?{MARKS}$", str(caught.value))

    def test_sizes_must_be_whole_numbers(self, module):
        module(failing("reshape", "top[0].reshape(2, 1.5)"))
        with pytest.raises(FatalError, match="failed in reshape: TypeError"):
            SingleLayer(python_layer("Failing"))

    def test_gradient_of_a_layer_without_backward(self, module):
        module(failing("forward", "pass"))
        rig = SingleLayer(python_layer("Failing"), uniform(1))
        with pytest.raises(FatalError, match="Python Layer has no gradient"):
            rig.backward(0)

    @pytest.mark.parametrize("method", ["setup", "reshape", "forward"])
    def test_missing_method(self, module, method):
        module(failing("setup", "pass").replace(f"def {method}", "def something_else"))
        with pytest.raises(FatalError, match=f"user_layers of layer 'p' lacks the method {method}"):
            SingleLayer(python_layer("Failing"))

    def test_missing_module(self, module, tmp_path):
        with pytest.raises(FatalError, match=f"Cannot import module no_such .*{tmp_path} or in .*PYTHONPATH"):
            SingleLayer(python_layer("Any", module="no_such"))

    def test_module_that_imports_a_missing_one(self, module):
        module("import no_such_library\n")
        with pytest.raises(
            FatalError, match="No module named 'no_such_library'\n.*user_layers.py.*line 1"
        ) as e:
            SingleLayer(python_layer("Any"))
        assert "PYTHONPATH" not in str(e.value)

    def test_module_with_a_mistake(self, module):
        module("class Broken(\n")
        with pytest.raises(
            FatalError, match="(?s)Cannot import module user_layers .*user_layers.py.*SyntaxError"
        ):
            SingleLayer(python_layer("Broken"))

    def test_misspelt_class(self, module):
        module(SCALE)
        with pytest.raises(FatalError, match="has no class Scala, did you mean Scale?"):
            SingleLayer(python_layer("Scala"))

    def test_a_layer_cannot_be_shared_among_processes(self, module):
        module(SCALE)
        param = caffe_pb2.LayerParameter(name="p", type="Python")
        param.python_param.MergeFrom(
            caffe_pb2.PythonParameter(module="user_layers", layer="Scale", param_str="1", share_in_parallel=True)
        )
        create_layer(param, Context()).setup([], [])  # one process shares with itself
        with pytest.raises(FatalError, match=r"share_in_parallel would have no effect.*layer 'p'"):
            create_layer(param, Context(ranks=2)).setup([], [])

    def test_fields_are_needed(self):
        with pytest.raises(FatalError, match=r"python_param needs a module and a layer.*\(layer 'p'\)"):
            SingleLayer('name: "p" type: "Python"')


class TestPlugins:
    @staticmethod
    def forget():
        for function in (plugins.declared, plugins.plugin_class, plugins.warn_of_replacement):
            function.cache_clear()

    @pytest.fixture
    def package(self, module, tmp_path, monkeypatch):
        """Return a function that installs a package with an entry point."""
        monkeypatch.syspath_prepend(str(tmp_path))
        self.forget()

        def install(entry, text=SCALE, name="user_layers"):
            module(text, name)
            folder = tmp_path / f"{name}-1.0.dist-info"
            folder.mkdir()
            (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
            (folder / "entry_points.txt").write_text(f"[caffetools.layers]\n{entry}\n")
            self.forget()

        yield install
        self.forget()

    def test_class_in_the_style_of_python_layers(self, package):
        package("TimesConstant = user_layers:Scale")
        x = uniform(2, 3)
        rig = SingleLayer('type: "TimesConstant" python_param { param_str: "4" }', x)
        np.testing.assert_allclose(rig.forward()[0], 4 * x, rtol=1e-6)
        assert rig.layer.type == "TimesConstant"

    def test_class_in_the_style_of_this_package(self, package):
        package(
            "Negative = user_layers:NegativeLayer",
            """
            from caffetools.layer import Layer

            class NegativeLayer(Layer):
                exact_bottoms = exact_tops = 1

                def reshape(self, bottom, top):
                    top[0].reshape_like(bottom[0])

                def forward(self, bottom, top):
                    top[0].data[...] = -bottom[0].data
            """,
        )
        assert SingleLayer('type: "Negative"', [1.0, 2.0]).forward()[0].tolist() == [-1, -2]

    def test_known_types_name_them(self, package):
        package("TimesConstant = user_layers:Scale")
        assert "TimesConstant" in known_types()

    def test_own_types_are_not_replaced(self, package, capfd):
        package("ReLU = user_layers:Scale")
        for _ in range(2):
            assert layer_class("ReLU").__module__ == "caffetools.layers.relu"
        words = "The layer type ReLU of user_layers:Scale is not used: types of Caffe cannot be replaced"
        assert capfd.readouterr().err.count(words) == 1
        assert known_types().count("ReLU") == 1

    def test_two_packages_with_one_type(self, package):
        package("Twice = user_layers:Scale")
        package("Twice = other_layers:Scale", name="other_layers")
        with pytest.raises(
            FatalError, match="Several packages add .* Twice: other_layers:Scale, user_layers:Scale"
        ):
            layer_class("Twice")

    def test_package_that_cannot_be_loaded(self, package):
        package("Lost = user_layers:Lost")
        with pytest.raises(
            FatalError, match="Cannot load the layer type Lost from user_layers:Lost"
        ) as caught:
            layer_class("Lost")
        assert isinstance(caught.value.__cause__, AttributeError)

    def test_entry_point_that_is_no_class(self, package):
        package("Number = user_layers:x", "x = 1")
        with pytest.raises(FatalError, match="Number .* is no class"):
            layer_class("Number")
