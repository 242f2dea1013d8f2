"""Which nets a solver file asks for: one to train, any number to test, each with the state that filters its layers."""

from __future__ import annotations

from collections.abc import Callable

from caffetools import upgrade
from caffetools.glog import check, check_eq, check_ge, check_gt, info
from caffetools.layer import TEST, TRAIN, Context
from caffetools.net import Net, weights
from caffetools.proto import caffe_pb2

#: Changes a net as it was read, before its layers are filtered.
Edit = Callable[["caffe_pb2.NetParameter"], None]

TRAIN_FIELDS = ("net", "net_param", "train_net", "train_net_param")


def unchanged(net: caffe_pb2.NetParameter) -> None:
    """Leave a net as it was read."""


def train_net(
    param: caffe_pb2.SolverParameter, context: Context, plan: bool = False, edit: Edit = unchanged
) -> Net:
    """Build the net that is trained, and copy the weights that the solver file or the command line names.

    plan: as in `Net`; a solver that shows debug_info has nets without a plan. edit: called with the net as it was read.
    """
    given = [name for name in TRAIN_FIELDS if param.HasField(name)]
    fields = ", ".join(TRAIN_FIELDS)
    check_ge(
        len(given),
        1,
        "num_train_nets",
        f"SolverParameter must specify a train net using one of these fields: {fields}",
    )
    check(
        len(given) == 1,
        f"num_train_nets <= 1 ({len(given)} vs. 1)",
        f"SolverParameter must not contain more than one of these fields specifying a train_net: {fields}"
        f" (it has {', '.join(given)})",
    )
    (field,) = given
    value = getattr(param, field)
    if field.endswith("_param"):
        info(f"Creating training net specified in {field}.")
        source = upgrade.upgrade_net(value, field)
    else:
        info(f"Creating training net from {'net' if field == 'net' else 'train_net'} file: {value}")
        source = upgrade.read_net_text(value)
    return _build(param, source, TRAIN, param.train_state, context, plan, edit)


def test_nets(
    param: caffe_pb2.SolverParameter, context: Context, plan: bool = False, edit: Edit = unchanged
) -> list[Net]:
    """Build the nets that are tested: every test_net_param, every test_net, then the generic net as often as needed."""
    sources = [("test_net_param", net) for net in param.test_net_param]
    sources += [(f"test_net file: {path}", path) for path in param.test_net]
    count = _test_net_count(param, len(sources))
    generic = count - len(sources)
    if param.HasField("net_param"):
        sources += [("net_param", param.net_param)] * generic
    elif param.HasField("net"):
        sources += [(f"net file: {param.net}", param.net)] * generic
    if sources:
        check_gt(
            param.test_interval,
            0,
            "param_.test_interval()",
            "test_interval must be set when there are test nets (test_iter or a test net is given)",
        )
    nets = []
    for i, (words, source) in enumerate(sources):
        info(f"Creating test net (#{i}) specified by {words}")
        state = param.test_state[i] if param.test_state else caffe_pb2.NetState()
        net = upgrade.read_net_text(source) if isinstance(source, str) else upgrade.upgrade_net(source, words)
        nets.append(_build(param, net, TEST, state, context, plan, edit))
    return nets


def _test_net_count(param, explicit):
    generic = param.HasField("net") + param.HasField("net_param")
    check(
        generic <= 1,
        f"num_generic_nets <= 1 ({generic} vs. 1)",
        "Both net_param and net_file may not be specified.",
    )
    words = "test_iter must be specified for each test network."
    if generic:
        check_ge(len(param.test_iter), explicit, "param_.test_iter_size()", words)
    else:
        check_eq(len(param.test_iter), explicit, "param_.test_iter_size() == num_test_nets", words)
    if param.test_state:
        check_eq(
            len(param.test_state),
            len(param.test_iter),
            "param_.test_state_size() == num_test_net_instances",
            "test_state must be unspecified or specified once per test net.",
        )
    return len(param.test_iter)


def _build(param, source, phase, state, context, plan, edit):
    net_param = caffe_pb2.NetParameter()
    net_param.CopyFrom(source)
    edit(net_param)
    # Later scalars win, stages are appended: the phase, the net's own state, the solver's state for it.
    merged = caffe_pb2.NetState(phase=phase)
    merged.MergeFrom(net_param.state)
    merged.MergeFrom(state)
    net_param.state.CopyFrom(merged)
    net = Net(net_param, context, plan=plan and not param.debug_info)
    for names in param.weights:
        for name in weights.split_list(names):
            info(f"Finetuning from {name}")
            weights.copy_from(net, name)
    return net
