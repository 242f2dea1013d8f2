"""Nets written as Python expressions, which become prototxts.

    from caffe import layers as L, params as P

    n = caffe.NetSpec()
    n.data, n.label = L.Data(source="train_lmdb", backend=P.Data.LMDB, batch_size=64, ntop=2)
    n.conv1 = L.Convolution(n.data, kernel_size=5, num_output=20, weight_filler=dict(type="xavier"))
    n.relu1 = L.ReLU(n.conv1, in_place=True)
    n.loss = L.SoftmaxWithLoss(n.conv1, n.label)
    print(n.to_proto())

`L.TYPE(*bottoms, ntop=1, in_place=False, **params)` is a layer of any type and gives its tops. A parameter lands
in the type's own message where that has it, as kernel_size in convolution_param, else in the layer; what ends in
`param` is a message of its own, as a dict. `P.MESSAGE.ENUM` is a value of an enumeration: `P.Pooling.MAX`.
"""

from __future__ import annotations

import difflib
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from google.protobuf.message import Message

from caffetools.proto import caffe_pb2
from caffetools.proto.fields import is_repeated

_PARAM, _PARAMETER = "_param", "Parameter"


def param_name_dict() -> dict[str, str]:
    """Return which message of a layer belongs to which type: `InnerProduct` to `inner_product`."""
    fields = caffe_pb2.LayerParameter.DESCRIPTOR.fields
    return {
        field.message_type.name.removesuffix(_PARAMETER): field.name.removesuffix(_PARAM)
        for field in fields
        if field.name.endswith(_PARAM)
    }


_PARAM_NAMES = param_name_dict()


def to_proto(*tops: Top | Function) -> caffe_pb2.NetParameter:
    """Return the net that tops need, with all layers before them; blobs and layers get automatic names."""
    return _net(tops, {})


def assign_proto(proto: Message, name: str, val: Any) -> None:
    """Set a field of a message: a scalar, a dict for a message, a list for a repeated field.

    A repeated field also takes one value, which is appended.
    """
    field = proto.DESCRIPTOR.fields_by_name.get(name)
    if field is None:
        near = difflib.get_close_matches(name, proto.DESCRIPTOR.fields_by_name, n=1)
        hint = f", did you mean {near[0]}?" if near else ""
        raise AttributeError(f"{proto.DESCRIPTOR.name} has no field {name}{hint}")
    if is_repeated(field):
        target = getattr(proto, name)
        for item in val if isinstance(val, (list, tuple)) else [val]:
            if isinstance(item, Mapping):
                _assign_all(target.add(), item)
            else:
                target.append(item)
    elif isinstance(val, Mapping):
        _assign_all(getattr(proto, name), val)
    elif isinstance(val, Message):
        getattr(proto, name).CopyFrom(val)
    else:
        setattr(proto, name, val)


def _assign_all(proto, values):
    proto.SetInParent()  # also where a dict is empty
    for name, val in values.items():
        assign_proto(proto, name, val)


class Top:
    """A blob that a layer gives. fn: the layer. n: which of its tops this is."""

    def __init__(self, fn: Function, n: int):
        self.fn = fn
        self.n = n

    def to_proto(self) -> caffe_pb2.NetParameter:
        """Return the net that this blob needs."""
        return to_proto(self)


class Function:
    """A layer.

    type_name: its type. inputs: the bottoms. params: what it was called with. ntop, in_place: how many tops it
    gives, and whether they are the bottoms. tops: what it gives.
    Errors: TypeError for an input that is no blob of a layer.
    """

    def __init__(self, type_name: str, inputs: Iterable[Top], params: Mapping[str, Any]):
        self.type_name = type_name
        self.inputs = tuple(inputs)
        self.params = dict(params)
        self.ntop = self.params.pop("ntop", 1)
        self.in_place = self.params.pop("in_place", False)
        self.tops = tuple(Top(self, n) for n in range(self.ntop))
        for index, top in enumerate(self.inputs):
            if not isinstance(top, Top):
                raise TypeError(f"{type_name} input {index} is not a Top (type is {type(top)})")

    def to_proto(self) -> caffe_pb2.NetParameter:
        """Return the net that ends with this layer."""
        return to_proto(self)

    def _layer(self, layers: Mapping[Function, caffe_pb2.LayerParameter], name: Callable[[Any], str]):
        """Return the layer's message. layers: those of the inputs. name: gives tops and layers theirs."""
        bottoms = [layers[top.fn].top[top.n] for top in self.inputs]
        tops = [name(top) for top in self.tops]
        layer = caffe_pb2.LayerParameter(
            name=tops[0] if tops else name(self),
            type=self.type_name,
            bottom=bottoms,
            top=bottoms if self.in_place else tops,
        )
        for key, value in self.params.items():
            try:
                assign_proto(self._message_with(key, layer), key, value)
            except (AttributeError, TypeError, ValueError) as err:
                raise type(err)(f"{self.type_name} layer '{layer.name}', {key}: {err}") from err
        return layer

    def _message_with(self, key, layer):
        own = _PARAM_NAMES.get(self.type_name)
        if own is not None and not key.endswith("param"):
            message = getattr(layer, own + _PARAM)
            # A name that neither has is refused by the layer's own message, which knows the nearest one.
            if key in message.DESCRIPTOR.fields_by_name or key not in layer.DESCRIPTOR.fields_by_name:
                return message
        return layer


class NetSpec:
    """A net of named blobs: `n.conv1 = L.Convolution(...)` or `n["conv1"] = ...` names a blob and its layer.

    tops: the blobs by their names, in order; a layer without tops stands for itself.
    """

    tops: OrderedDict[str, Top | Function]

    def __init__(self) -> None:
        super().__setattr__("tops", OrderedDict())

    def __setattr__(self, name: str, value: Top | Function) -> None:
        self.tops[name] = value

    def __getattr__(self, name: str) -> Top | Function:
        try:
            return self.__dict__["tops"][name]
        except KeyError:
            raise AttributeError(f"The net has no blob '{name}'") from None

    def __delattr__(self, name: str) -> None:
        del self.tops[name]

    def __setitem__(self, name: str, value: Top | Function) -> None:
        self.tops[name] = value

    def __getitem__(self, name: str) -> Top | Function:
        return self.tops[name]

    def __delitem__(self, name: str) -> None:
        del self.tops[name]

    def __contains__(self, name: str) -> bool:
        return name in self.tops

    def keys(self) -> list[str]:
        """Return the blobs' names."""
        return list(self.tops)

    def vals(self) -> list[Top | Function]:
        """Return the blobs."""
        return list(self.tops.values())

    def update(self, tops: Mapping[str, Top | Function]) -> None:
        """Name several blobs."""
        self.tops.update(tops)

    def to_proto(self) -> caffe_pb2.NetParameter:
        """Return the net, with the layers that the named blobs need. Those without a name get one."""
        return _net(self.tops.values(), {top: name for name, top in self.tops.items()})


class Layers:
    """`layers`: its attributes are the types of layers."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)

        def layer(*args: Top, **kwargs: Any) -> Top | Function | tuple[Top, ...]:
            function = Function(name, args, kwargs)
            if function.ntop == 0:
                return function
            return function.tops[0] if function.ntop == 1 else function.tops

        layer.__name__ = name
        return layer


class Parameters:
    """`params`: its attributes are messages, whose attributes are the values of their enumerations."""

    def __getattr__(self, name: str) -> type[Message]:
        try:
            return getattr(caffe_pb2, name + _PARAMETER)
        except AttributeError:
            raise AttributeError(f"There is no message {name}{_PARAMETER}") from None


layers = Layers()
params = Parameters()


def _net(outputs: Iterable[Top | Function], names: dict[Top | Function, str]) -> caffe_pb2.NetParameter:
    names = dict(names)
    automatic: Counter[str] = Counter()

    def name(what: Top | Function) -> str:
        if what not in names:
            type_name = (what.fn if isinstance(what, Top) else what).type_name
            automatic[type_name] += 1
            names[what] = f"{type_name}{automatic[type_name]}"
        return names[what]

    messages: dict[Function, caffe_pb2.LayerParameter] = {}
    for function in _in_order(top.fn if isinstance(top, Top) else top for top in outputs):
        messages[function] = function._layer(messages, name)
    return caffe_pb2.NetParameter(layer=messages.values())


def _in_order(functions: Iterable[Function]) -> Iterator[Function]:
    """Yield layers and those that they need, each once and after its inputs; without recursion, for deep nets."""
    done: set[Function] = set()
    for last in functions:
        waiting = [last]
        while waiting:
            function = waiting[-1]
            missing = next((top.fn for top in function.inputs if top.fn not in done), None)
            if missing is not None:
                waiting.append(missing)
                continue
            waiting.pop()
            if function not in done:
                done.add(function)
                yield function
