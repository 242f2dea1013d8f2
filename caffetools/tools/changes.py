"""Settings changed from the command line: `--set PATH=VALUE`, once for each.

    solver.base_lr=0.02                          a field of the solver file
    solver.stepvalue=1000,2000                   all values of a repeated field
    solver.test_iter[0]=50                       one of them
    solver.train_state.level=1                   a field within a field
    net.layer[conv1].param[0].lr_mult=0          of the layers of that name, in the nets of training and testing
    net.layer[conv1].convolution_param.num_output=30
    net.layer[3].loss_weight=0.5                 of the fourth layer, where none has the name 3

Nets are changed as they were read, after upgrades of old forms and before layers are filtered by phase. A path that
leads nowhere and a value that a field cannot hold are errors, with the name that was probably meant.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NoReturn

from google.protobuf import text_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from caffetools.glog import fatal, info
from caffetools.proto import caffe_pb2
from caffetools.proto.fields import is_repeated
from caffetools.solver.names import hint

_PART = re.compile(r"\.(?P<field>\w+)(?:\[(?P<which>[^\]]*)\])?")


class Change:
    """One `--set`. text: what follows it on the command line. Errors: FatalError for another form."""

    def __init__(self, text: str):
        self.text = text
        path, equals, self.value = text.partition("=")
        self.root, rest = path.split(".", 1)[0].strip(), path.strip()
        if self.root not in ("solver", "net") or not equals or "." not in path:
            guess = f"; did you mean solver.{text}?" if "." not in path and _is_field(path) else ""
            self.refuse(f"the form is solver.FIELD=VALUE or net.layer[NAME].FIELD=VALUE{guess}")
        rest = rest[len(self.root) :]
        self.parts = [(match["field"], match["which"]) for match in _PART.finditer(rest)]
        if "".join(match[0] for match in _PART.finditer(rest)) != rest:
            self.refuse(f"'{rest.lstrip('.')}' is no path such as layer[conv1].param[0].lr_mult")
        self.done: set[str] = set()  # what was changed, in words
        self.layers: list[str] = []  # those that were there to choose from

    def refuse(self, reason: str) -> NoReturn:
        """Raise a FatalError about it."""
        fatal(f"--set {self.text}: {reason}")

    def apply(self, message: Message) -> None:
        """Make the change in a SolverParameter or, for `net.`, in a NetParameter that may lack the layer."""
        self._assign(message, self.parts, self.root)

    def _assign(self, message, parts, path):
        (name, which), rest = parts[0], parts[1:]
        field = message.DESCRIPTOR.fields_by_name.get(name)
        if field is None:
            known = message.DESCRIPTOR.fields_by_name
            self.refuse(f"{path} ({message.DESCRIPTOR.name}) has no field {name}{hint(name, known)}")
        path = f"{path}.{name}"
        if is_repeated(field):
            self._assign_repeated(message, field, which, rest, path)
            return
        if which is not None:
            self.refuse(f"{path} has one value: leave [{which}] out")
        if rest:
            if field.message_type is None:
                self.refuse(f"{path} is a value and has no field {rest[0][0]}")
            self._assign(getattr(message, name), rest, path)
        elif field.message_type is not None:
            self.refuse(f"{path} is a message: name one of its fields ({', '.join(field.message_type.fields_by_name)})")
        else:
            before = _shown(getattr(message, name)) if message.HasField(name) else "unset"
            setattr(message, name, self._parse(message, field, self.value, path))
            self._note(path, before, _shown(getattr(message, name)))

    def _assign_repeated(self, message, field, which, rest, path):
        values = getattr(message, field.name)
        if field.message_type is not None:
            if which is None or not rest:
                self.refuse(f"{path} are several: name one, {path}[{'NAME' if field.name == 'layer' else '0'}].FIELD")
            for place, element in self._choose(values, which, path):
                self._assign(element, rest, f"{path}[{place}]")
            return
        if rest:
            self.refuse(f"{path} is a value and has no field {rest[0][0]}")
        before = ", ".join(map(_shown, values)) or "unset"
        if which is None:
            new = [self._parse(message, field, part.strip(), path) for part in self.value.split(",") if part.strip()]
            del values[:]
            values.extend(new)
        elif not which.isdigit() or int(which) >= len(values):
            self.refuse(f"{path} has {len(values)} values, there is no [{which}]")
        else:
            values[int(which)] = self._parse(message, field, self.value, path)
        self._note(path, before, ", ".join(map(_shown, values)))

    def _choose(self, values, which, path):
        """Return the elements that are meant, each with how to call it: layers by name, others by number."""
        if path == "net.layer":
            names = [layer.name for layer in values]
            self.layers += names
            chosen = [(which, layer) for layer in values if layer.name == which]
            if chosen or not which.isdigit() or int(which) >= len(values):
                return chosen
        elif not which.isdigit():
            self.refuse(f"{path}[{which}]: {path} are numbered from 0")
        while int(which) >= len(values) and path != "net.layer":
            values.add()
        return [(which, values[int(which)])]

    def _parse(self, message, field, text, path):
        text = text.strip()
        if field.type == FieldDescriptor.TYPE_STRING and text[:1] not in ("'", '"'):
            return text
        scratch = type(message)()
        try:
            text_format.Parse(f"{field.name}: {text}", scratch)
        except (text_format.ParseError, ValueError):
            self.refuse(f"{path} takes {_kind(field)}, not '{text}'{_hint_of_enum(field, text)}")
        value = getattr(scratch, field.name)
        return value[0] if is_repeated(field) else value

    def _note(self, path, before, after):
        words = f"Set {path}: {before} -> {after}"
        if words not in self.done:  # once for all the nets and layers in which it is the same
            info(words)
        self.done.add(words)


class Changes:
    """All changes of a command line."""

    def __init__(self, texts: Iterable[str]):
        self.all = [Change(text) for text in texts]

    def apply_to_solver(self, param: caffe_pb2.SolverParameter) -> None:
        """Change a solver file."""
        for change in self.all:
            if change.root == "solver":
                change.apply(param)

    def apply_to_net(self, net: caffe_pb2.NetParameter) -> None:
        """Change a net; layers that it lacks may be in another one."""
        for change in self.all:
            if change.root == "net":
                change.apply(net)

    def check_done(self) -> None:
        """Refuse changes of layers that no net had."""
        for change in self.all:
            if not change.done:
                which = change.parts[0][1]
                change.refuse(f"no net has a layer '{which}'{hint(which or '', change.layers)}")


def _is_field(name):
    return name.strip().partition("[")[0] in caffe_pb2.SolverParameter.DESCRIPTOR.fields_by_name


def _shown(value):
    return f"{value:g}" if isinstance(value, float) else str(value)


_KINDS = {
    FieldDescriptor.TYPE_BOOL: "true or false",
    FieldDescriptor.TYPE_FLOAT: "a number",
    FieldDescriptor.TYPE_DOUBLE: "a number",
    FieldDescriptor.TYPE_UINT32: "a whole number from 0",
    FieldDescriptor.TYPE_STRING: "a text",
}


def _kind(field):
    if field.enum_type is not None:
        return f"one of {', '.join(field.enum_type.values_by_name)}"
    return _KINDS.get(field.type, "a whole number")


def _hint_of_enum(field, text):
    return hint(text, field.enum_type.values_by_name) if field.enum_type is not None else ""
