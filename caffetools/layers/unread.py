"""Settings that a net file gives to a layer that has no use for them: refused, where the original took no notice.

A message that the type does not read is refused, and so is a field that its class lists in `refuses`, unless it
says what would be done anyway. What another setting of the layer has switched off asks for nothing and may
stay: `bias_filler` beside `bias_term: false`, `std` of a xavier filler, `eps` of an MVN that does not divide.
Old files, which may hold such things, lose them when they are upgraded (`caffetools/upgrade/unread.py`).
"""

from __future__ import annotations

from collections.abc import Callable

from google.protobuf.message import Message

from caffetools.glog import fatal
from caffetools.layer import Layer
from caffetools.proto import caffe_pb2
from caffetools.proto.fields import is_repeated


def refuse_unread_settings(
    layer_class: type[Layer], param: caffe_pb2.LayerParameter, readers: Callable[[str], list[str]]
) -> None:
    """Refuse settings of a layer that would have no effect.

    readers: gives the types that read a message. Errors: FatalError with the way out.
    """
    read = layer_class.settings()
    for field, message in param.ListFields():
        if not field.name.endswith("_param"):
            continue
        if field.name not in read and message.ListFields():
            types = readers(field.name)
            fatal(
                f"{field.name} would have no effect: {param.type} does not read it. Remove it"
                f"{f'; it is for {_and_joined(types)}' if types else ''} (layer '{param.name}')"
            )
        for name, instead in layer_class.refuses.get(field.name, {}).items():
            if asks_for_something(message, name):
                words = f"{field.name} {{ {name} }} would have no effect: {param.type} does not read it"
                fatal(f"{words}. {instead} (layer '{param.name}')")


def asks_for_something(message: Message, name: str) -> bool:
    """Whether a field is set, and to another value than its default."""
    field = message.DESCRIPTOR.fields_by_name[name]
    value = getattr(message, name)
    if is_repeated(field):
        return bool(value)
    return message.HasField(name) and (field.message_type is not None or value != field.default_value)


def _and_joined(words):
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last
