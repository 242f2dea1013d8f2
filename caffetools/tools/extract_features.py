"""`extract_features`: blobs of a trained net, run on its data, to databases or to one file of arrays.

A database gets a Datum of floats for each item, with the keys 0000000000, 0000000001, ...; a file gets an array
(items, ...) for each blob, under the blob's name. Progress is logged as errors, as in the original, so that it is
seen where nothing else is.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np

from caffetools.formats import datum
from caffetools.formats.files import atomic_path
from caffetools.glog import check, check_eq, error, info
from caffetools.layer import TEST, Context
from caffetools.net import Net, load_net
from caffetools.tools import engines
from caffetools.tools.new_database import Writer, new_database

_REPORT_EVERY = 1000  # items

#: Takes a blob's name and the rows of a batch, (items, ...), which are its own only during the call.
Store = Callable[[str, np.ndarray], None]


def extract(
    weights: str,
    model: str,
    blobs: Sequence[str],
    databases: Sequence[str],
    batches: int,
    backend: str = "lmdb",
    npz: str = "",
    hdf5: str = "",
    gpu: str = "",
    force: bool = False,
) -> None:
    """Run a net on `batches` batches and store what is in some of its blobs then.

    weights: the trained net. model: the prototxt of a net with a data layer. blobs: names. databases: their
    names, one for each blob, or none. backend: "lmdb" or "leveldb". npz, hdf5: files for all blobs, if given.
    gpu: the device's number, if a GPU is to be used. force: replace databases of these names.
    Errors: FatalError for names that do not fit, and whatever the net and the databases report; then there are
    neither databases nor files.
    """
    engine = None
    if gpu:
        error("Using GPU")
        error(f"Using Device_id={gpu}")
        engine = engines.choose(gpu)
    else:
        error("Using CPU")
    net = load_net(model, TEST, Context(engine=engine), stages=(), plan=True, keep=blobs)
    try:
        net.copy_from(weights)
        if databases or not (npz or hdf5):
            words = "the number of blob names and dataset names must be equal"
            check_eq(len(blobs), len(databases), "num_features == dataset_names.size()", words)
        for name in blobs:
            check(
                name in net.blobs,
                "feature_extraction_net->has_blob(extract_feature_blob_names[i])",
                f"Unknown feature blob name {name} in the network {model} (it has: {', '.join(net.blobs)})",
            )
        with ExitStack() as stack:
            stores: list[Store] = []
            if databases:
                stores.append(_Databases(stack, dict(zip(blobs, databases, strict=True)), backend, force))
            if npz:
                stores.append(stack.enter_context(npz_file(npz)))
            if hdf5:
                stores.append(stack.enter_context(hdf5_file(hdf5)))
            error("Extracting Features")
            _run(net, blobs, batches, stores)
        error("Successfully extracted the features!")
    finally:
        net.close()


def _run(net: Net, blobs: Sequence[str], batches: int, stores: Sequence[Store]) -> None:
    counts = dict.fromkeys(blobs, 0)
    for _ in range(batches):
        net.forward()
        for name in blobs:
            blob = net.blobs[name]
            rows = blob.data.reshape(blob.shape or (1,))
            for store in stores:
                store(name, rows)
            before = counts[name]
            counts[name] += len(rows)
            for count in range(
                before - before % _REPORT_EVERY + _REPORT_EVERY, counts[name] + 1, _REPORT_EVERY
            ):
                _report(count, name)
    for name, count in counts.items():
        _report(count, name)


def _report(count, name):
    error(f"Extracted features of {count} query images for feature blob {name}")


class _Databases:
    """Stores each blob in its database."""

    def __init__(self, stack: ExitStack, names: dict[str, str], backend: str, force: bool):
        self.writers: dict[str, Writer] = {}
        for blob, database in names.items():
            info(f"Opening dataset {database}")
            self.writers[blob] = stack.enter_context(new_database(backend, database, force))

    def __call__(self, name: str, rows: np.ndarray) -> None:
        check(rows.ndim <= 4, "num_axes() <= 4", f"Cannot store blob {name} of {rows.ndim} axes in a Datum.")
        writer = self.writers[name]
        for row in rows.reshape(*rows.shape, *[1] * (4 - rows.ndim)):
            writer.put(b"%010d" % writer.count, datum.serialize_floats(row))


@contextmanager
def npz_file(path: str) -> Iterator[Store]:
    """Collect rows, and write them at the end as NumPy's savez does."""
    rows: dict[str, list[np.ndarray]] = {}
    with atomic_path(path) as temporary:
        yield lambda name, batch: rows.setdefault(name, []).append(batch.copy())
        with zipfile.ZipFile(temporary, "w") as archive:
            for name, parts in rows.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.concatenate(parts))


@contextmanager
def hdf5_file(path: str) -> Iterator[Store]:
    """Append rows to a new HDF5 file."""
    from caffetools.formats.hdf5_datasets import RowWriter

    with atomic_path(path) as temporary:
        writer = RowWriter(temporary)
        try:
            yield writer.append
        finally:
            writer.close()
