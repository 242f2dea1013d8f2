"""Fetch CIFAR-10's six binary batches, unpacked, from an archive that is checked by its MD5 sum.

    python -m caffetools.tools.get_cifar10 [FOLDER]

FOLDER is data/cifar10 unless given. The batches, or the archive cifar-10-binary.tar.gz, are looked for there, then
in the folder that CIFAR10_DIR names, then the archive at public mirrors. A download that broke off is continued
where it ended.
"""

from __future__ import annotations

import os
import shutil
import sys
import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from caffetools import glog
from caffetools.formats.files import atomic_path, write_errors
from caffetools.tools.download import TIMEOUT, SourceError, attempt, download, md5


class Archive(NamedTuple):
    """A packed folder of batches. size: bytes of each batch."""

    name: str
    md5: str
    size: int


ARCHIVE = Archive("cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530", 30_730_000)
BATCHES = (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin")
#: Not needed, but of use to people: the names of the classes.
CLASS_NAMES = "batches.meta.txt"
MIRRORS = (
    "https://www.cs.toronto.edu/~kriz/",
    "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/CIFAR10/",
    "https://mindspore-website.obs.cn-north-4.myhuaweicloud.com/notebook/datasets/",
)


def get_cifar10(
    folder: str | os.PathLike[str] = "data/cifar10",
    mirrors: Sequence[str] = MIRRORS,
    archive: Archive = ARCHIVE,
    timeout: float = TIMEOUT,
) -> None:
    """Put the six batches into `folder`, which is made if need be.

    mirrors: folders on the web that hold the archive. timeout: seconds to wait for a mirror's next byte.
    Errors: FatalError that lists what was tried and tells how to go on with files from elsewhere; or that says
    that the folder cannot be written.
    """
    folder = Path(folder)
    with write_errors(str(folder)):
        folder.mkdir(parents=True, exist_ok=True)
    if not _is_complete(folder, archive):
        tried: list[str] = []
        places = [Path(place) for place in (folder, os.environ.get("CIFAR10_DIR")) if place]
        found = any(attempt(tried, place, _from_folder, place, archive, folder) for place in places)
        if not found and not any(
            attempt(tried, mirror, _from_mirror, mirror, archive, folder, timeout) for mirror in mirrors
        ):
            glog.fatal(
                "Cannot get CIFAR-10. Tried:\n"
                + "".join(f"  {line}\n" for line in tried)
                + f"Put {archive.name}, or the six batches from it, into a folder and say CIFAR10_DIR=folder"
                " before the command."
            )
    glog.plain(f"CIFAR-10 is in {folder}")


def _is_complete(folder: Path, archive: Archive) -> bool:
    return all(
        (folder / name).is_file() and (folder / name).stat().st_size == archive.size for name in BATCHES
    )


def _from_folder(place: Path, archive: Archive, folder: Path) -> None:
    """Take the batches, or the archive, from a folder on this machine."""
    for source in (place, place / "cifar-10-batches-bin"):
        if source != folder and _is_complete(source, archive):
            for name in BATCHES:
                with atomic_path(folder / name) as temporary:
                    shutil.copyfile(source / name, temporary)
            return
    if not (place / archive.name).is_file():
        raise SourceError(f"there are neither six batches of {archive.size} bytes nor {archive.name}")
    _unpack(place / archive.name, archive, folder)


def _from_mirror(mirror: str, archive: Archive, folder: Path, timeout: float) -> None:
    """Download the archive, continuing what an earlier attempt left, and unpack it."""
    url, part = f"{mirror}{archive.name}", folder / f"{archive.name}.part"
    continued = part.exists()
    glog.plain(f"fetching {url}")
    download(url, part, timeout)
    if continued and md5(part) != archive.md5:
        # The beginning may have come from somewhere else.
        part.unlink()
        download(url, part, timeout)
    try:
        _unpack(part, archive, folder)
    finally:
        part.unlink()


def _unpack(path: Path, archive: Archive, folder: Path) -> None:
    """Unpack the batches of an archive with the right MD5 sum."""
    found = md5(path)
    if found != archive.md5:
        raise SourceError(f"{path.name} has the MD5 sum {found} instead of {archive.md5}")
    try:
        with tarfile.open(path) as packed:
            members = {os.path.basename(member.name): member for member in packed if member.isfile()}
            for name in (*BATCHES, CLASS_NAMES):
                if name not in members and name == CLASS_NAMES:
                    continue
                with atomic_path(folder / name) as temporary, open(temporary, "wb") as output:
                    shutil.copyfileobj(packed.extractfile(members[name]), output)
    except (tarfile.TarError, EOFError, zlib.error, KeyError) as err:
        raise SourceError(f"cannot unpack {path.name}: {err}") from err


def main(arguments: Sequence[str]) -> None:
    if "-h" in arguments or "--help" in arguments:
        print(__doc__)
        return
    if len(arguments) > 1:
        sys.exit(f"one folder at most, not {len(arguments)} (see --help)")
    try:
        get_cifar10(*arguments)
    except glog.FatalError as err:
        sys.exit(str(err))


if __name__ == "__main__":
    main(sys.argv[1:])
