"""cuDNN through its graph interface (nvidia-cudnn-frontend): a graph for each operation, built once, run on the stream.

What of the package is used, and nothing else: `create_handle`, `set_stream`; `pygraph(...)` with `tensor`,
`conv_fprop`, `conv_dgrad`, `conv_wgrad`, `add`, `bias` and `relu`; a tensor's `set_output`, `set_data_type`, `set_uid`,
`set_dim` and `set_stride`; and the steps from `validate` to `execute`. A graph takes addresses of device memory by the
tensors' uids, which are 1, 2, ... here, the output's the last.

Algorithms that are not reproducible or that compute with fewer digits than was asked for are left out: float32 is
computed by tensor cores, which round it to TF32, only where the engine allows that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec

from caffetools.engine.gpu.device import current
from caffetools.engine.gpu.events import simulated
from caffetools.engine.precisions import BFLOAT16, FLOAT16, FLOAT32

#: Spatial axes of a convolution.
MOST_AXES = 3
#: Bytes of scratch that an algorithm may ask for; the next number where the device has no room for it.
WORKSPACES = 512 << 20, 32 << 20, 1 << 20, 0


class Unsupported(Exception):
    """cuDNN has no algorithm for an operation; the text is its own."""


@dataclass(frozen=True)
class Tensor:
    """A dense tensor in row-major order; type: one of `PRECISIONS`."""

    name: str
    shape: tuple[int, ...]
    type: str = FLOAT32

    @property
    def strides(self) -> list[int]:
        """Elements between two neighbours along each axis."""
        strides = [1] * len(self.shape)
        for axis in range(len(self.shape) - 2, -1, -1):
            strides[axis] = strides[axis + 1] * self.shape[axis + 1]
        return strides


@cache
def why_not() -> str:
    """Say why cuDNN cannot be used here, nothing where it can."""
    if simulated():
        return "the simulator has none"
    if find_spec("cudnn") is None:
        return "the package nvidia-cudnn-frontend is missing (pip install caffetools[gpu])"
    return why_unusable()


def why_unusable() -> str:
    """Say why the package that is there does not work, nothing where it does."""
    try:
        handle()
    except Exception as error:
        # Whatever it is, a library that is missing or does not suit the driver: there are other kernels.
        return f"its package does not work here ({type(error).__name__}: {str(error).partition(chr(10))[0]})"
    return ""


class Graph:
    """An operation on tensors of given shapes.

    build: called with the package's graph and its tensors, adds the operation and returns its result. most: bytes of
    scratch that it may ask for. strict: whether NaNs have to go through. workspace: the bytes that a run needs.

    Errors: Unsupported.
    """

    def __init__(
        self,
        name: str,
        build: Callable,
        inputs: Sequence[Tensor],
        output: Tensor,
        most: int,
        strict: bool = False,
    ):
        import cudnn

        single = cudnn.data_type.FLOAT
        graph = cudnn.pygraph(
            name=name,
            io_data_type=_type(inputs[0].type),
            intermediate_data_type=single,
            compute_data_type=single,
            handle=handle(),
        )
        try:
            tensors = [
                graph.tensor(
                    name=tensor.name,
                    dim=list(tensor.shape),
                    stride=tensor.strides,
                    data_type=_type(tensor.type),
                    uid=uid,
                )
                for uid, tensor in enumerate(inputs, 1)
            ]
            result = build(graph, *tensors)
            result.set_output(True)
            result.set_data_type(_type(output.type))
            result.set_uid(len(inputs) + 1)
            result.set_dim(list(output.shape))
            result.set_stride(output.strides)
            graph.validate()
            graph.build_operation_graph()
            graph.create_execution_plans([cudnn.heur_mode.A, cudnn.heur_mode.FALLBACK])
            # The package's filters mark plans that are there already.
            graph.deselect_numeric_notes(_refused(inputs[0].type))
            if strict:
                graph.select_numeric_notes([cudnn.numerical_note.STRICT_NAN_PROP])
            graph.deselect_workspace_greater_than(most)
            graph.check_support()
            graph.build_plans()
        except (cudnn.cudnnGraphNotSupportedError, RuntimeError) as error:
            raise Unsupported(str(error)) from error
        self._graph = graph
        self.workspace = graph.get_workspace_size()

    def run(self, addresses: Sequence[int], workspace: int) -> None:
        """Start the operation on the compute stream.

        addresses: of the inputs and the output in device memory. workspace: the address of the scratch.
        """
        self._graph.execute(dict(enumerate(addresses, 1)), workspace, handle=handle())


@cache
def handle():
    """Return the library's handle of this process, bound to the compute stream."""
    import cudnn

    made = cudnn.create_handle()
    cudnn.set_stream(made, current().stream_handle)
    return made


def _type(name):
    import cudnn

    types = cudnn.data_type
    return {
        FLOAT32: types.FLOAT,
        FLOAT16: types.HALF,
        BFLOAT16: types.BFLOAT16,
    }[name]


def _refused(inputs):
    """Return the properties that an algorithm must not have."""
    import cudnn

    note = cudnn.numerical_note
    notes = [note.NONDETERMINISTIC, note.DOWN_CONVERT_INPUTS, note.REDUCED_PRECISION_REDUCTION]
    if inputs == FLOAT32 and not current().tf32:
        notes.append(note.TENSOR_CORE)
    return notes
