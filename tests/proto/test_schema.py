"""caffe.proto and the generated module against the table of the original's schema, row by row."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest
from google.protobuf.descriptor import FieldDescriptor

import caffetools.proto
from caffetools.proto import caffe_pb2
from caffetools.proto.forks import FORKS

TABLE = Path(__file__).parents[1] / "golden" / "schema.csv"
OUR_OWN = 10_000  # fields that the original never had start here
PROTO = Path(caffetools.proto.__file__).with_name("caffe.proto")
SCALARS = {
    getattr(FieldDescriptor, f"TYPE_{name.upper()}"): name
    for name in ("int32", "int64", "uint32", "float", "double", "bool", "string", "bytes")
}


def table_rows() -> list[dict[str, str]]:
    with TABLE.open(newline="") as file:
        return list(csv.DictReader(file))


def row_id(row: dict[str, str]) -> str:
    return f"{row['message_or_enum']}.{row['name']}"


ROWS = table_rows()
FIELDS = [row for row in ROWS if row["kind"] == "field"]
ENUM_VALUES = [row for row in ROWS if row["kind"] == "enum_value"]


def same_default(kind: str, left: str, right: str) -> bool:
    """Numbers are compared as the field's type holds them: 1e-08 is 9.99999994e-09 once it is a float32."""
    if kind == "float" and left and right:
        return np.float32(left) == np.float32(right)
    return left == right


# ---- the generated module ----------------------------------------------------------------------------------


def messages(container) -> dict[str, object]:
    """All message descriptors by their name without the package."""
    found = {}
    for message in container:
        found[message.full_name.split(".", 1)[1]] = message
        found.update(messages(message.nested_types))
    return found


MESSAGES = messages(caffe_pb2.DESCRIPTOR.message_types_by_name.values())
ENUMS = {
    enum.full_name.split(".", 1)[1]: enum
    for container in (caffe_pb2.DESCRIPTOR, *MESSAGES.values())
    for enum in container.enum_types_by_name.values()
}


def is_repeated(field) -> bool:
    """``label`` is deprecated in newer protobufs, ``is_repeated`` is missing in older ones."""
    flag = getattr(field, "is_repeated", None)
    return field.label == FieldDescriptor.LABEL_REPEATED if flag is None else flag


def is_required(field) -> bool:
    flag = getattr(field, "is_required", None)
    return field.label == FieldDescriptor.LABEL_REQUIRED if flag is None else flag


def described_type(field) -> str:
    if field.message_type is not None:
        return "message:" + field.message_type.full_name.split(".", 1)[1]
    if field.enum_type is not None:
        return "enum:" + field.enum_type.full_name.split(".", 1)[1]
    return SCALARS[field.type]


def described_default(field) -> str:
    if is_repeated(field) or not field.has_default_value:
        return ""
    if field.enum_type is not None:
        return field.enum_type.values_by_number[field.default_value].name
    if isinstance(field.default_value, bool):
        return str(field.default_value).lower()
    return str(field.default_value)


@pytest.mark.parametrize("row", FIELDS, ids=row_id)
def test_generated_field(row):
    field = MESSAGES[row["message_or_enum"]].fields_by_name[row["name"]]
    label = "repeated" if is_repeated(field) else "required" if is_required(field) else "optional"
    assert field.number == int(row["number"])
    assert label == row["label"]
    assert described_type(field) == row["type"]
    assert same_default(row["type"], described_default(field), row["default"])
    assert field.GetOptions().packed == (row["packed"] == "true")
    assert field.GetOptions().deprecated == (row["deprecated"] == "true")


@pytest.mark.parametrize("row", ENUM_VALUES, ids=row_id)
def test_generated_enum_value(row):
    assert ENUMS[row["message_or_enum"]].values_by_name[row["name"]].number == int(row["number"])


#: Fields that forks have under numbers of their own, and the messages and enums that these consist of.
OF_FORKS = {
    f"{message}.{name}" for fork in FORKS for message, names in fork.fields.items() for name in names.split()
}
OWN_MESSAGES = {row["message_or_enum"].partition(".")[0] for row in ROWS}


def parts_of(message) -> set[str]:
    """A message that the original does not have, and those in it."""
    if message.name in OWN_MESSAGES:
        return set()
    return {message.name}.union(*(parts_of(field.message_type) for field in message.fields if field.message_type))


FORK_MESSAGES = {"Type"}.union(  # Type: of NVCaffe's numbers
    parts_of(MESSAGES["AnnotatedDatum"]),  # files of SSD
    parts_of(MESSAGES["LabelMap"]),
    *(
        parts_of(MESSAGES[message].fields_by_name[name].message_type)
        for message, name in (name.split(".") for name in OF_FORKS)
        if message in MESSAGES
        and name in MESSAGES[message].fields_by_name
        and MESSAGES[message].fields_by_name[name].message_type
    ),
)


def of_a_fork(name: str) -> bool:
    return name in OF_FORKS or name.partition(".")[0] in FORK_MESSAGES


def test_generated_module_holds_nothing_else_below_our_own_numbers():
    fields = {
        f"{name}.{field.name}"
        for name, message in MESSAGES.items()
        for field in message.fields
        if field.number < OUR_OWN and not of_a_fork(f"{name}.{field.name}")
    }
    values = {
        f"{name}.{value.name}" for name, enum in ENUMS.items() for value in enum.values if not of_a_fork(f"{name}.")
    }
    assert fields == {row_id(row) for row in FIELDS}
    assert values == {row_id(row) for row in ENUM_VALUES}


# ---- the text of caffe.proto -------------------------------------------------------------------------------

FIELD = re.compile(r"(optional|required|repeated)\s+(\w+)\s+(\w+)\s*=\s*(\d+)\s*(?:\[(.*?)\])?;")
STATEMENT = re.compile(
    rf"message\s+(?P<message>\w+)\s*{{|enum\s+(?P<enum>\w+)\s*{{(?P<values>.*?)}}|(?P<field>{FIELD.pattern})|(?P<end>}})",
    re.DOTALL,
)


def proto_rows() -> dict[str, dict[str, str]]:
    """The rows of the table, as a reader of caffe.proto finds them."""
    text = re.sub(r"//[^\n]*", "", PROTO.read_text())
    rows, enums, scope = {}, set(), []
    for match in STATEMENT.finditer(text):
        if match["message"]:
            scope.append(match["message"])
        elif match["enum"]:
            name = ".".join([*scope, match["enum"]])
            enums.add(name)
            for value, number in re.findall(r"(\w+)\s*=\s*(-?\d+)", match["values"]):
                rows[f"{name}.{value}"] = {"kind": "enum_value", "number": number}
        elif match["end"]:
            scope.pop()
        else:
            label, kind, name, number, options = FIELD.fullmatch(match["field"]).groups()
            options = dict(option.split(" = ") for option in (options or "").split(", ") if option)
            default = options.pop("default", "").strip('"')
            packed = options.pop("packed", "")
            assert not options, f"unexpected options of {name}"
            rows[f"{scope[-1]}.{name}"] = {
                "kind": "field", "number": number, "label": label, "type": kind, "default": default,
                "packed": packed, "deprecated": "false", "scope": scope[-1],
            }  # fmt: skip
    for row in rows.values():
        if row["kind"] == "field" and row["type"] not in SCALARS.values():
            local = f"{row['scope']}.{row['type']}"
            name = local if local in enums else row["type"]
            row["type"] = ("enum:" if name in enums else "message:") + name
    return rows


PROTO_ROWS = proto_rows()


@pytest.mark.parametrize("row", ROWS, ids=row_id)
def test_proto_line(row):
    found = PROTO_ROWS[row_id(row)]
    assert found["kind"] == row["kind"]
    assert found["number"] == row["number"]
    if row["kind"] == "field":
        assert found["label"] == row["label"]
        assert found["type"] == row["type"]
        assert same_default(row["type"], found["default"], row["default"])
        assert (found["packed"] == "true") == (row["packed"] == "true")
        assert found["deprecated"] == row["deprecated"]


def test_what_is_not_in_the_table_has_a_number_of_our_own():
    others = PROTO_ROWS.keys() - {row_id(row) for row in ROWS}
    assert all(int(PROTO_ROWS[name]["number"]) >= OUR_OWN or of_a_fork(name) for name in others)


def normalized(file):
    """Without what differs between versions of protoc only: JSON names, digits of float32 defaults."""
    for message in file.message_type:
        for field in message.field:
            field.ClearField("json_name")
            if field.type == field.TYPE_FLOAT and field.HasField("default_value"):
                field.default_value = str(np.float32(field.default_value))
    return file


def test_generated_module_is_compiled_from_the_proto(tmp_path):
    protoc = pytest.importorskip("grpc_tools.protoc")
    from google.protobuf import descriptor_pb2

    out = tmp_path / "caffe.pb"
    root = PROTO.parents[2]
    name = caffe_pb2.DESCRIPTOR.name
    assert protoc.main(["protoc", f"--proto_path={root}", f"--descriptor_set_out={out}", name]) == 0
    compiled = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file[0]
    generated = descriptor_pb2.FileDescriptorProto.FromString(caffe_pb2.DESCRIPTOR.serialized_pb)
    assert normalized(compiled) == normalized(generated)
