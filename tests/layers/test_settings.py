"""No setting is ignored: each field of a message changes what a layer does, or is refused (`settings_table.py`)."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from google.protobuf import text_format
from PIL import Image

from caffetools.formats import binary
from caffetools.formats import blob as blob_format
from caffetools.formats import datum as datum_format
from caffetools.formats.db import open_db
from caffetools.glog import FatalError
from caffetools.layers import built_in_types, check_settings, layer_class, types_that_read
from caffetools.layers.unread import refuse_unread_settings
from caffetools.proto import caffe_pb2
from caffetools.proto.fields import is_repeated
from tests.layers import fork_tables, settings_table
from tests.layers.gradient import SingleLayer, uniform
from tests.layers.settings_table import LEAVES, LOGS, REFUSED
from tests.recorded import log_lines

TYPES = settings_table.TYPES | fork_tables.TYPES
LINES = settings_table.LINES | fork_tables.LINES
INNER = settings_table.INNER | fork_tables.INNER
PICTURES = np.random.default_rng(8).integers(0, 256, (6, 3, 8, 9), np.uint8)
MESSAGES = [
    field.name for field in caffe_pb2.LayerParameter.DESCRIPTOR.fields if field.name.endswith("_param")
]
TRIED = [
    *((kind, path, line, "") for kind, messages in LINES.items() for path in messages for line in messages[path]),
    *((kind, path, line, beside) for path, (kind, lines, beside) in INNER.items() for line in lines),
]


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A folder with all that the layers of the table read."""
    folder = tmp_path_factory.mktemp("sources")
    for name, pictures in (("raw", PICTURES), ("encoded", 255 - PICTURES)):
        with open_db("lmdb", folder / name, "new") as db:
            for i, picture in enumerate(pictures):
                db.put(b"%d" % i, datum_format.from_array(picture, i % 3).SerializeToString())
    for name, seed in (("boxed", 4), ("other_boxed", 5)):
        random = np.random.default_rng(seed)
        with open_db("lmdb", folder / name, "new") as db:
            for i, picture in enumerate(PICTURES):
                record = caffe_pb2.AnnotatedDatum(datum=datum_format.from_array(picture), type="BBOX")
                for _ in range(3):
                    low, size = random.uniform(0, 0.6, 2), random.uniform(0.2, 0.4, 2)
                    box = dict(zip(("xmin", "ymin", "xmax", "ymax"), (*low, *(low + size)), strict=True))
                    record.annotation_group.add(group_label=1).annotation.add(bbox=box)
                db.put(b"%d" % i, record.SerializeToString())
    for i, picture in enumerate(PICTURES):
        Image.fromarray(picture.transpose(1, 2, 0)).save(folder / f"{i}.png")
    lines = [f"{i}.png {i % 3}\n" for i in range(6)]
    (folder / "list.txt").write_text("".join(lines))
    (folder / "other_list.txt").write_text("".join(reversed(lines)))
    for name, overlaps in (("windows", (0.9, 0.6, 0.3, 0.1)), ("other_windows", (0.1, 0.9, 0.6, 0.3))):
        boxes = ("0 0 3 7", "2 2 7 5", "1 0 8 3", "4 1 6 6")
        windows = [f"2 {overlap} {box}" for overlap, box in zip(overlaps, boxes, strict=True)]
        (folder / f"{name}.txt").write_text("\n".join(["# 0", "0.png", "3", "8", "9", "4", *windows, ""]))
    for name, seed in (("files", 1), ("other_files", 2)):
        with h5py.File(folder / f"{name}.h5", "w") as file:
            file["x"], file["label"] = uniform(7, 2, seed=seed), np.arange(7.0)
        (folder / f"{name}.txt").write_text(f"{name}.h5\n")
    for name, shape in (("h", (3, 3)), ("other_h", (3, 3)), ("mean", (3, 8, 9))):
        blob = blob_format.fill_proto(caffe_pb2.BlobProto(), uniform(*shape, low=0, high=9, seed=len(name)))
        binary.write(folder / f"{name}.binaryproto", blob)
    return folder


def layer_of(kind, path, *settings, drop=()):
    """Return the table's layer of a type, with settings of the message at a path (names with points between)."""
    param = text_format.Parse(f'name: "l" type: "{kind}" {TYPES[kind].text}', caffe_pb2.LayerParameter())
    param.top.extend(TYPES[kind].top_names)
    message = param
    for name in path.split("."):
        message = getattr(message, name)
        if not hasattr(message, "DESCRIPTOR"):  # a list of messages
            message = message[-1] if len(message) else message.add()
    message.SetInParent()
    for setting in settings:
        added = type(message)()
        text_format.Parse(setting, added)
        for name in (*(field.name for field, _ in added.ListFields()), *drop):
            message.ClearField(name)
        message.MergeFrom(added)
    return param


def layer_settings(path, text):
    """Return a layer with settings of the message that a path begins with."""
    return text_format.Parse(f"{path.partition('.')[0]} {{ {text} }}", caffe_pb2.LayerParameter())


def message_field(message, path):
    """Return the descriptor of the field at a path."""
    descriptor = message.DESCRIPTOR
    for name in path.split("."):
        field = descriptor.fields_by_name[name]
        descriptor = field.message_type
    return field


def results(param):
    """Set a layer up and return all that comes of two passes: tops, gradients and parameters."""
    made = TYPES[param.type]
    check_settings(param)
    bottoms = [uniform(*b, seed=i) if isinstance(b, tuple) else b for i, b in enumerate(made.bottoms)]
    rig = SingleLayer(text_format.MessageToString(param), *bottoms, tops=made.tops)
    try:
        if param.type == "MemoryData":
            pictures = PICTURES[: 2 * rig.layer.batch_size].transpose(0, 2, 3, 1)
            rig.layer.add_mat_vector(list(pictures), np.arange(len(pictures)))
        found = []
        for _ in range(2):
            found += rig.forward()
            if bottoms and layer_class(param.type).backward is not layer_class("Threshold").backward:
                wanted = [rig.layer.allow_force_backward(i) for i in range(len(bottoms))]
                found += rig.backward(*(np.ones(blob.shape) for blob in rig.top), propagate_down=wanted)
        return found + [array.copy() for blob in rig.layer.blobs for array in (blob.data, blob.diff)]
    finally:
        rig.layer.close()


def are_same(some, others):
    return len(some) == len(others) and all(
        a.shape == b.shape and np.array_equal(a, b, equal_nan=True) for a, b in zip(some, others, strict=True)
    )


@pytest.mark.parametrize(
    ("kind", "path", "line", "beside"),
    TRIED,
    ids=[f"{kind} {path} {line.given} {line.setting} {line.outcome}" for kind, path, line, _ in TRIED],
)
def test_setting(kind, path, line, beside, sources, monkeypatch, capfd):
    monkeypatch.chdir(sources)
    with_it = layer_of(kind, path, line.given, line.setting, drop=line.drop)
    if beside:
        with_it.MergeFrom(layer_settings(path, beside))
    if line.outcome == REFUSED:
        with pytest.raises(FatalError) as error:
            results(with_it)
        assert line.words in str(error.value)
        return
    without = layer_of(kind, path, line.given)
    if beside:
        without.MergeFrom(layer_settings(path, beside))
    before, log_before = results(without), log_lines(capfd.readouterr().err)
    after, log_after = results(with_it), log_lines(capfd.readouterr().err)
    assert are_same(before, after) == (line.outcome in (LEAVES, LOGS))
    if line.outcome == LOGS:
        assert log_after != log_before


def test_every_type_is_in_the_table():
    assert set(TYPES) == set(built_in_types())


@pytest.mark.parametrize("kind", built_in_types())
def test_every_field_that_a_type_could_be_given_is_tried(kind):
    layer = caffe_pb2.LayerParameter.DESCRIPTOR.fields_by_name
    for name in set(layer_class(kind).settings()) & set(MESSAGES):
        tried = {
            field.name
            for line in LINES[kind][name]
            for field, _ in getattr(layer_of(kind, name, line.setting), name).ListFields()
            if field.name in line.setting
        }
        assert tried == set(layer[name].message_type.fields_by_name), name


@pytest.mark.parametrize("path", INNER)
def test_every_field_of_messages_within_messages_is_tried(path):
    fields = message_field(caffe_pb2.LayerParameter(), path).message_type.fields_by_name
    told = " ".join(line.setting for line in INNER[path][1])
    assert not [name for name in fields if f"{name}:" not in told and f"{name} {{" not in told]


@pytest.mark.parametrize("name", MESSAGES)
def test_every_message_is_for_some_type_and_refused_by_all_others(name):
    readers = types_that_read(name)
    assert readers
    for kind in sorted(set(built_in_types()) - set(readers)):
        param = caffe_pb2.LayerParameter(name="l", type=kind)
        message = getattr(param, name)
        field = message.DESCRIPTOR.fields[0]
        if is_repeated(field):
            value = getattr(message, field.name)
            value.add() if field.message_type else value.append(1)
        elif field.message_type:
            getattr(message, field.name).SetInParent()
        else:
            setattr(message, field.name, field.default_value)
        if kind == "HDF5Data" and name == "transform_param":
            continue  # refused in the original's words, by the layer
        words = f"{name} would have no effect: {kind} does not read it. Remove it; it is for somebody"
        with pytest.raises(FatalError, match=words):
            refuse_unread_settings(layer_class(kind), param, lambda message: ["somebody"])
