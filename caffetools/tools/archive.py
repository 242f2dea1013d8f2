"""Data sets that come as one archive: looked for on this machine, fetched, checked, unpacked."""

from __future__ import annotations

import os
import shutil
import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from caffetools import glog
from caffetools.formats.files import atomic_path, write_errors
from caffetools.tools.download import TIMEOUT, SourceError, attempt, download, md5


class Archive(NamedTuple):
    """A packed folder of files.

    title: for people. name: of the file. md5: its sum, or "" where it is not known. files: what must be in it, with
    sizes in bytes, or 0 where they are not known. more: what else is unpacked if it is there. folder: how the
    packed folder is called. variable: of the environment, names a folder that has the archive or its files.
    """

    title: str
    name: str
    md5: str
    files: dict[str, int]
    more: tuple[str, ...]
    folder: str
    variable: str


def fetch(
    archive: Archive, folder: str | os.PathLike[str], mirrors: Sequence[str], timeout: float = TIMEOUT
) -> None:
    """Put an archive's files into `folder`, which is made if need be.

    They, or the archive, are looked for there and in the folder that the environment names, then the archive at
    the mirrors, which are folders on the web. What is there already is not fetched again; a download that broke
    off is continued. timeout: seconds to wait for a mirror's next byte.
    Errors: FatalError that lists what was tried and tells how to go on with files from elsewhere; or that says
    that the folder cannot be written.
    """
    folder = Path(folder)
    with write_errors(str(folder)):
        folder.mkdir(parents=True, exist_ok=True)
    if not _is_complete(folder, archive):
        tried: list[str] = []
        places = [Path(place) for place in (folder, os.environ.get(archive.variable)) if place]
        found = any(attempt(tried, place, _from_folder, place, archive, folder) for place in places)
        if not found and not any(
            attempt(tried, mirror, _from_mirror, mirror, archive, folder, timeout) for mirror in mirrors
        ):
            glog.fatal(
                f"Cannot get {archive.title}. Tried:\n"
                + "".join(f"  {line}\n" for line in tried)
                + f"Put {archive.name}, or the files from it, into a folder and say {archive.variable}=folder"
                " before the command."
            )
    glog.plain(f"{archive.title} is in {folder}")


def _is_complete(folder: Path, archive: Archive) -> bool:
    return all(
        (folder / name).is_file() and size in (0, (folder / name).stat().st_size)
        for name, size in archive.files.items()
    )


def _from_folder(place: Path, archive: Archive, folder: Path) -> None:
    """Take the files, or the archive, from a folder on this machine."""
    for source in (place, place / archive.folder):
        if source != folder and _is_complete(source, archive):
            for name in (*archive.files, *filter(lambda name: (source / name).is_file(), archive.more)):
                with atomic_path(folder / name) as temporary:
                    shutil.copyfile(source / name, temporary)
            return
    if not (place / archive.name).is_file():
        raise SourceError(f"there are neither {', '.join(archive.files)} nor {archive.name}")
    _unpack(place / archive.name, archive, folder)


def _from_mirror(mirror: str, archive: Archive, folder: Path, timeout: float) -> None:
    """Download the archive, continuing what an earlier attempt left, and unpack it."""
    url, part = f"{mirror}{archive.name}", folder / f"{archive.name}.part"
    if not archive.md5:  # nothing would tell whether the beginning came from somewhere else
        part.unlink(missing_ok=True)
    continued = part.exists()
    glog.plain(f"fetching {url}")
    download(url, part, timeout)
    if continued and md5(part) != archive.md5:
        part.unlink()
        download(url, part, timeout)
    try:
        _unpack(part, archive, folder)
    finally:
        part.unlink()


def _unpack(path: Path, archive: Archive, folder: Path) -> None:
    """Unpack the files of an archive with the right MD5 sum."""
    found = md5(path) if archive.md5 else ""
    if found != archive.md5:
        raise SourceError(f"{path.name} has the MD5 sum {found} instead of {archive.md5}")
    try:
        with tarfile.open(path) as packed:
            members = {os.path.basename(member.name): member for member in packed if member.isfile()}
            missing = archive.files.keys() - members.keys()
            if missing:
                raise SourceError(f"{path.name} has no {', '.join(sorted(missing))}")
            for name in (*archive.files, *filter(members.__contains__, archive.more)):
                with atomic_path(folder / name) as temporary, open(temporary, "wb") as output:
                    shutil.copyfileobj(packed.extractfile(members[name]), output)
    except (tarfile.TarError, EOFError, zlib.error) as err:
        raise SourceError(f"cannot unpack {path.name}: {err}") from err
