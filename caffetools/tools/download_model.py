"""Trained models from the web: those that a readme.md in a model's folder describes, and those in GitHub's gists.

A readme begins with lines between two `---`: `caffemodel: NAME`, `caffemodel_url: URL`, `sha1: SUM` and others.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import zipfile
from pathlib import Path

from caffetools import glog
from caffetools.formats.files import atomic_path, reason, write_errors
from caffetools.glog import fatal
from caffetools.tools.download import TIMEOUT, SourceError, download

_NEEDED = ("caffemodel", "caffemodel_url", "sha1")
_GISTS = "https://gist.github.com/"
_GIST = re.compile(r"([\w-]+/)?[0-9a-f]+")


def download_model(folder: str, timeout: float = TIMEOUT) -> str:
    """Fetch the weights of the model in `folder` into it, unless they are there, and return what was done.

    A download that broke off is continued. timeout: seconds to wait for the next byte.
    Errors: FatalError for a readme that does not say what is needed, for a server that does not have the file,
    and for a file with another SHA-1 sum than the readme's.
    """
    fields = read_front_matter(os.path.join(folder, "readme.md"))
    name, url, sha1 = (fields[key] for key in _NEEDED)
    target = Path(folder) / name
    if target.is_file() and _sha1(target) == sha1:
        return "Model already exists."
    part = target.with_name(f"{name}.part")
    _fetch(url, part, timeout)
    found = _sha1(part)
    if found != sha1:
        part.unlink()
        fatal(
            f"Model did not download correctly: {url} has the SHA-1 sum {found} instead of {sha1}. Run this again."
        )
    with write_errors(str(target)):
        os.replace(part, target)
    return f"Saved {target}"


def read_front_matter(path: str) -> dict[str, str]:
    """Return the fields between the first two lines `---` of a readme.

    Errors: FatalError if it cannot be read or lacks what `download_model` needs.
    """
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = [line.strip() for line in file]
    except OSError as err:
        fatal(f"Cannot read {path}: {reason(err)}")
    fields = {}
    if "---" in lines:
        start = lines.index("---") + 1
        for line in lines[start : lines.index("---", start) if "---" in lines[start:] else None]:
            key, colon, value = line.partition(":")
            if colon:
                fields[key.strip()] = value.strip().strip("'\"")
    for key in _NEEDED:
        if not fields.get(key):
            fatal(f"{path} does not say '{key}:' between two lines of ---, and so not what to download")
    if os.path.basename(fields["caffemodel"]) != fields["caffemodel"]:
        fatal(f"{path}: caffemodel is the name of a file in the folder, not {fields['caffemodel']}")
    return fields


def download_gist(gist: str, folder: str = "models", site: str = _GISTS, timeout: float = TIMEOUT) -> str:
    """Fetch the files of a gist into a folder of its own in `folder`, and return that folder.

    gist: its number, or USER/NUMBER. site: where gists are.
    Errors: FatalError for a folder that is there already, and for what cannot be fetched or unpacked.
    """
    if not _GIST.fullmatch(gist):
        fatal(f"'{gist}' is no gist: its number, or USER/NUMBER, is expected")
    target = Path(folder) / gist.replace("/", "-")
    if target.exists():
        fatal(f"{target} already exists! Nothing in it is overwritten: move it, or choose another folder.")
    with write_errors(folder):
        Path(folder).mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.zip.part")
    part.unlink(missing_ok=True)
    _fetch(f"{site}{gist}/download", part, timeout)
    try:
        with zipfile.ZipFile(part) as archive:
            files = {
                os.path.basename(info.filename): info for info in archive.infolist() if not info.is_dir()
            }
            with write_errors(str(target)):
                target.mkdir()
            for name, info in files.items():
                with atomic_path(target / name) as temporary, open(temporary, "wb") as output:
                    shutil.copyfileobj(archive.open(info), output)
    except zipfile.BadZipFile as err:
        fatal(f"{site}{gist}/download is no archive of a gist: {err}")
    finally:
        part.unlink()
    return str(target)


def _fetch(url: str, part: Path, timeout: float) -> None:
    if not url.startswith(("http://", "https://")):
        fatal(f"{url} is no address of the web")
    glog.plain(f"fetching {url}")
    try:
        download(url, part, timeout)
    except SourceError as err:
        fatal(f"Cannot download {url}: {err}")


def _sha1(path: Path) -> str:
    digest = hashlib.sha1(usedforsecurity=False)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
