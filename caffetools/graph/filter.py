"""Keep the layers that a net's state asks for: phase, level and stages against `include` and `exclude` rules.

A rule is met when all that it names holds of the state. A layer with `include` rules stays if ANY of them is
met, one with `exclude` rules goes if ANY of them is met, one without rules stays.
"""

from __future__ import annotations

from collections.abc import Iterator

from caffetools.glog import check, info
from caffetools.proto import caffe_pb2


def filter_net(param: caffe_pb2.NetParameter) -> caffe_pb2.NetParameter:
    """Return the net without the layers that `param.state` leaves out.

    The first reason against each rule is logged. Raises FatalError for a layer with both kinds of rules.
    """
    kept = [layer for layer in param.layer if _stays(layer, param.state)]
    filtered = caffe_pb2.NetParameter()
    filtered.CopyFrom(param)
    del filtered.layer[:]
    filtered.layer.extend(kept)
    return filtered


def _stays(layer: caffe_pb2.LayerParameter, state: caffe_pb2.NetState) -> bool:
    check(
        not (layer.include and layer.exclude),
        "layer_param.include_size() == 0 || layer_param.exclude_size() == 0",
        f"Specify either include rules or exclude rules; not both. (layer '{layer.name}')",
    )
    if layer.include:
        return any(_meets(state, rule, layer.name) for rule in layer.include)
    return not any(_meets(state, rule, layer.name) for rule in layer.exclude)


def _meets(state: caffe_pb2.NetState, rule: caffe_pb2.NetStateRule, layer_name: str) -> bool:
    mismatch = next(_mismatches(state, rule), None)
    if mismatch is None:
        return True
    info(f"The NetState {mismatch} specified by a rule in layer {layer_name}")
    return False


def _mismatches(state: caffe_pb2.NetState, rule: caffe_pb2.NetStateRule) -> Iterator[str]:
    """Each point in which the state differs from a rule, in the order in which they are looked at."""
    if rule.HasField("phase") and rule.phase != state.phase:
        yield f"phase ({state.phase}) differed from the phase ({rule.phase})"
    if rule.HasField("min_level") and state.level < rule.min_level:
        # "above" is the original's word for both bounds; logs are compared with the original's
        yield f"level ({state.level}) is above the min_level ({rule.min_level})"
    if rule.HasField("max_level") and state.level > rule.max_level:
        yield f"level ({state.level}) is above the max_level ({rule.max_level})"
    for stage in rule.stage:
        if stage not in state.stage:
            yield f"did not contain stage '{stage}'"
    for stage in rule.not_stage:
        if stage in state.stage:
            yield f"contained a not_stage '{stage}'"
