"""Fields of a solver file that are set although nothing reads them, because of what another field says."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from caffetools.proto import caffe_pb2
from caffetools.solver.policies import FIELDS

Param = caffe_pb2.SolverParameter

#: By the name of a field: what it goes with, in words, and whether that is so.
_GOES_WITH: dict[str, tuple[str, Callable[[Param], bool]]] = {
    "early_stop_patience": ("early_stop", lambda p: bool(p.early_stop)),
    "min_delta": ('early_stop or lr_policy "plateau"', lambda p: bool(p.early_stop) or p.lr_policy == "plateau"),
    "warmup_start_lr": ("warmup_iter", lambda p: p.warmup_iter > 0),
    "min_lr": (
        'lr_policy "cosine", "plateau" or "poly"',
        lambda p: p.lr_policy in ("cosine", "plateau", "poly"),
    ),
    "plateau_patience": ('lr_policy "plateau"', lambda p: p.lr_policy == "plateau"),
    "ema_test": ("ema_decay", lambda p: p.ema_decay > 0),
    "ema_snapshot": ("ema_decay", lambda p: p.ema_decay > 0),
    "loss_scale_window": ("loss_scale: 0 and half precision", lambda p: not p.loss_scale and p.precision == "FLOAT16"),
    "log_gradient_norm": ("display", lambda p: p.display > 0),
    "stepvalue": ('lr_policy "multistep"', lambda p: "stepvalue" in FIELDS.get(p.lr_policy, ())),
}


def unused(param: Param) -> Iterator[str]:
    """Yield a sentence for each field that is set to another value than its default and not read."""
    for field, value in param.ListFields():
        words, is_read = _GOES_WITH.get(field.name, ("", None))
        if is_read and not is_read(param) and value != field.default_value:
            yield f"{field.name} does nothing without {words}"
