"""The flags of `caffe train` that are solver fields of the same name: a flag that is given goes before the file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from caffetools.cli.flags import Value, flag

Function = TypeVar("Function", bound=Callable[..., Any])

#: Name, default and help text. The defaults are those of the fields.
_FLAGS: tuple[tuple[str, Value, str], ...] = (
    ("snapshot_best", "", "keep the best snapshot, PREFIX_best, by this test output: accuracy, min:loss, max:score@1"),
    ("snapshot_keep", 0, "keep this many snapshots, the newest; 0: all"),
    ("early_stop", "", "end training when this test output has stopped improving"),
    ("early_stop_patience", 5, "tests in a row without an improvement that early_stop waits for"),
    ("min_delta", 0.0, "smallest change that early_stop and the policy plateau take for an improvement"),
    ("time_limit", "", "stop with a snapshot after this time: 2h30m, 90m, 5400 (seconds)"),
    ("warmup_iter", 0, "iterations in which the learning rate rises to that of its policy"),
    ("warmup_start_lr", 0.0, "learning rate where the warm-up starts"),
    ("min_lr", 0.0, "lowest learning rate of the policies cosine, plateau and poly"),
    ("plateau_output", "", "test output that the policy plateau watches; the training loss if not given"),
    ("plateau_patience", 5, "tests or intervals in a row without an improvement that the policy plateau waits for"),
    ("plateau_interval", 0, "iterations whose mean loss the policy plateau takes as one number; 0: test_interval"),
    ("decoupled_decay", False, "let weights decay beside the gradient, as AdamW does"),
    ("ema_decay", 0.0, "keep a moving average of the weights, with this decay, such as 0.999; 0: none"),
    ("ema_test", True, "test with the averaged weights"),
    ("ema_snapshot", True, "write the averaged weights into .caffemodel files"),
    ("log_gradient_norm", False, "log the norm of the gradients at each display"),
    ("deterministic", False, "fix all seeds where the solver file has none, and say what that covers"),
    ("precision", "FLOAT32", "precision of products on a GPU: FLOAT32, FLOAT16 or BFLOAT16; sums stay in float32"),
    ("loss_scale", 0.0, "factor of the loss in the backward pass in half precision; 0: found while training"),
    ("loss_scale_window", 2000, "good steps in a row until a loss_scale that is found while training is doubled"),
)

#: Their names.
RUN_FLAGS = tuple(name for name, _, _ in _FLAGS)


def run_flags(function: Function) -> Function:
    """Declare them for the command below."""
    for name, default, text in reversed(_FLAGS):
        function = flag(name, default, text)(function)
    return function
