"""``extract_features``: blobs of a trained net as databases or arrays."""

from __future__ import annotations

import click

from caffetools import glog
from caffetools.cli.command import Tool
from caffetools.cli.flags import flag

_USAGE = """\
run a trained net on its data and store what some of its blobs hold then
usage: <program> [FLAGS] WEIGHTS NET BLOB1[,BLOB2,...] DB1[,DB2,...] BATCHES lmdb|leveldb [CPU|GPU [DEVICE_ID]]
or:    <program> --npz=FILE or --hdf5=FILE WEIGHTS NET BLOB1[,BLOB2,...] BATCHES [CPU|GPU [DEVICE_ID]]

NET is a prototxt with a data layer, of which BATCHES batches are taken. Each blob gets a
database of its own, or an array in the one file."""


@click.command(
    "extract_features",
    cls=Tool,
    usage=_USAGE,
    examples=(
        "<program> net.caffemodel train_val.prototxt fc7 fc7_lmdb 10 lmdb",
        "<program> --npz=features.npz net.caffemodel train_val.prototxt fc6,fc7 10",
    ),
    log_to_stderr=False,
)
@flag("npz", "", "store all blobs in this NumPy file", pattern="*.npz")
@flag("hdf5", "", "store all blobs in this HDF5 file", pattern="*.h5")
@flag("force", False, "replace databases of these names, once the new ones are complete")
@click.pass_context
def command(ctx: click.Context, args: tuple[str, ...], npz: str, hdf5: str, force: bool) -> object:
    """Extract, or show the usage with too few arguments."""
    has_databases = len(args) >= 6 or not (npz or hdf5)
    needed = 6 if has_databases else 4
    if len(args) < needed:
        return ctx.command.refuse(ctx)
    weights, model, blobs, *rest = args
    databases = rest.pop(0).split(",") if has_databases else []
    batches = rest.pop(0)
    backend = rest.pop(0) if has_databases else "lmdb"
    if not batches.isdecimal() or int(batches) == 0:
        glog.fatal(f"The number of batches must be a whole number above 0, not '{batches}'")
    from caffetools.tools import extract_features

    names = blobs.split(",")
    gpu = _device(rest)
    extract_features.extract(weights, model, names, databases, int(batches), backend, npz, hdf5, gpu, force)
    return 0


def _device(args: list[str]) -> str:
    """The GPU's number in what follows the other arguments, or "" for the CPU."""
    name = args[0] if args else "CPU"
    number = args[1] if len(args) > 1 else "0"
    if name not in ("CPU", "GPU"):
        glog.fatal(f"The engine is CPU or GPU, not '{name}'")
    return number if name == "GPU" else ""


if __name__ == "__main__":
    command.main()
