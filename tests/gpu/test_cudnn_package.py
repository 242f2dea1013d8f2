"""The real package takes the graphs that the engine makes; without a device they are built, not run."""

from __future__ import annotations

import inspect
from functools import partial
from types import SimpleNamespace

import numba
import pytest

TYPES = [("FLOAT32", "FLOAT32"), ("FLOAT16", "FLOAT32"), ("FLOAT16", "FLOAT16"), ("BFLOAT16", "FLOAT32")]
#: shape of x, of w, of y; padding, stride, dilation
CASES = [
    ((4, 8, 9, 9), (6, 4, 3, 3), (4, 6, 9, 9), [1, 1], [1, 1], [1, 1]),
    ((2, 3, 8, 7), (5, 3, 2, 3), (2, 5, 4, 3), [0, 1], [2, 3], [1, 1]),
    ((1, 2, 6, 6, 6), (4, 2, 2, 2, 2), (1, 4, 4, 4, 4), [0, 0, 0], [1, 1, 1], [2, 2, 2]),
]
LATER = {
    "build_operation_graph": None,
    "create_execution_plans": None,
    "deselect_numeric_notes": None,
    "select_numeric_notes": None,
    "deselect_workspace_greater_than": None,
    "check_support": None,
    "build_plans": None,
    "get_workspace_size": 12345,
    "execute": None,
}
#: Asked only where NaNs have to go through.
STRICT = ["select_numeric_notes"]


@pytest.fixture
def calls(monkeypatch):
    """The calls of what needs a device, held against the package's signatures."""
    package = pytest.importorskip("cudnn")
    if numba.config.ENABLE_CUDASIM:
        pytest.skip("the simulator has no cuDNN")
    from caffetools.engine.gpu import cudnn

    made = []

    def stub(name, result):
        signature = inspect.signature(getattr(package.pygraph, name))

        def method(*args, **keywords):
            signature.bind(*args, **keywords)
            made.append((name, *args[1:]))
            return result

        monkeypatch.setattr(package.pygraph, name, method)

    for name, result in LATER.items():
        stub(name, result)
    # A graph is lowered with a handle, which needs a device; the library's checks of the graph do not.
    monkeypatch.setattr(package.pygraph, "_backend_handle_for_lowering", lambda *_: None)
    monkeypatch.setattr(cudnn, "handle", lambda: None)
    monkeypatch.setattr(cudnn, "current", lambda: SimpleNamespace(tf32=False))
    return made


@pytest.mark.parametrize(("operand", "result"), TYPES)
@pytest.mark.parametrize(("x", "w", "y", "padding", "stride", "dilation"), CASES)
@pytest.mark.parametrize("operation", ["fprop", "bias", "relu", "sum", "dgrad", "wgrad"])
def test_the_library_accepts_the_graph(operation, x, w, y, padding, stride, dilation, operand, result, calls):
    from caffetools.engine.gpu.cudnn import Graph, Tensor
    from caffetools.engine.gpu.cudnn_conv import _BUILDS

    settings = {"padding": padding, "stride": stride, "dilation": dilation}
    bias = (1, w[0], *(1,) * len(padding))
    names = {
        "fprop": ("forward", (x, w), y),
        "bias": ("forward with bias", (x, w, bias), y),
        "relu": ("forward with bias and ReLU", (x, w, bias), y),
        "sum": ("forward with sum, bias and ReLU", (x, w, bias, y), y),
        "dgrad": ("data gradient", (y, w), x),
        "wgrad": ("weight gradient", (x, y), w),
    }
    name, inputs, output = names[operation]
    build, strict = partial(_BUILDS[name], settings), operation in ("relu", "sum")
    tensors = [Tensor(f"input {i}", shape, operand) for i, shape in enumerate(inputs)]
    graph = Graph(operation, build, tensors, Tensor("output", output, result), 1 << 20, strict)
    assert graph.workspace == 12345
    graph.run([1024 * i for i in range(len(inputs) + 1)], 4096)
    (target,) = graph._graph.get_outputs()
    assert (target.get_dim(), target.get_uid()) == (list(output), len(inputs) + 1)
    assert [name for name, *_ in calls] == [name for name in LATER if strict or name not in STRICT]


def test_the_functions_that_need_a_device_exist():
    package = pytest.importorskip("cudnn")
    inspect.signature(package.create_handle).bind()
    inspect.signature(package.set_stream).bind("handle", 0)
    assert issubclass(package.cudnnGraphNotSupportedError, Exception)
