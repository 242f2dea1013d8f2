"""The solver's fields for training in half precision: which products a GPU rounds, and how the loss is scaled.

Gradients are often smaller than what FLOAT16 can hold, so the loss is multiplied by a large number before the backward
pass and the gradients are divided by it before the update (Micikevicius et al. 2018). Without `loss_scale` the number
is found while training: steps with gradients that are not finite are skipped and halve it, `loss_scale_window` good
ones in a row double it. BFLOAT16 has the range of float32 and needs none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from caffetools.engine.precisions import FLOAT16, FLOAT32, PRECISIONS
from caffetools.glog import check_gt, fatal
from caffetools.proto import caffe_pb2
from caffetools.solver.names import check_known

if TYPE_CHECKING:
    from caffetools.engine.gpu.device import Engine

#: Where the search for a scale starts: too large for most nets, a few skipped steps later it is right.
FIRST_SCALE = 65536.0


@dataclass(frozen=True)
class LossScaling:
    """The factor of the loss at the start, and the good steps until it is doubled; 0: it never changes."""

    first: float
    window: int


def prepare(param: caffe_pb2.SolverParameter, engine: Engine | None) -> LossScaling | None:
    """Let the engine, None for the CPU, multiply as a solver file says; return how the loss is scaled.

    To be called before the nets are made, which prepare their products. Returns None in float32, where nothing is
    scaled. Errors: FatalError for what is not known or cannot be had.
    """
    check_known("precision", param.precision, PRECISIONS, "precisions")
    if engine is not None:
        engine.precision = param.precision
    if param.precision == FLOAT32:
        if param.loss_scale not in (0, 1):
            fatal(
                f'loss_scale: {param.loss_scale:g} goes with precision: "{FLOAT16}"; in {FLOAT32} nothing is scaled'
            )
        return None
    if engine is None:
        fatal(
            f'precision: "{param.precision}" needs a GPU: the CPU computes in {FLOAT32}. Remove it, or give --gpu'
        )
    if param.loss_scale < 0:
        fatal(f"loss_scale: {param.loss_scale:g} is negative: 0 finds one while training")
    check_gt(param.loss_scale_window, 0, "param_.loss_scale_window() > 0", "It counts good steps.")
    if param.loss_scale or param.precision != FLOAT16:
        return LossScaling(param.loss_scale or 1.0, 0)
    return LossScaling(FIRST_SCALE, param.loss_scale_window)
