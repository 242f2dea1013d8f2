"""Downloads that are continued where they broke off, from sources that are tried one after another."""

from __future__ import annotations

import hashlib
import http.client
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from caffetools.formats.files import write_errors

TIMEOUT = 5.0  # seconds without a byte: a machine without internet is done with three mirrors in 15
_ATTEMPTS = 5  # to continue one download that keeps breaking off
_BLOCK = 1 << 16


class SourceError(Exception):
    """A source cannot give a file; the text says why."""


def attempt(tried: list[str], name: object, source: Callable[..., object], *args: object) -> bool:
    """Call a source with `args`; return whether it worked, else note in `tried` why not."""
    try:
        source(*args)
    except (SourceError, OSError) as err:
        tried.append(f"{name}: {err}")
        return False
    return True


def download(url: str, part: Path, timeout: float) -> None:
    """Download `url` to `part`, going on where that ends; take up a connection again that breaks.

    timeout: seconds to wait for the next byte.
    Errors: SourceError if the server does not have it, or the connection keeps breaking.
    """
    for number in range(_ATTEMPTS):
        before = part.stat().st_size if part.exists() else 0
        try:
            _download_rest(url, part, before, timeout)
            return
        except urllib.error.HTTPError as err:
            if err.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise SourceError(f"HTTP status {err.code} {err.reason}") from err
            if err.headers.get("Content-Range") == f"bytes */{before}":
                return  # nothing was missing
            part.unlink()
        except (OSError, http.client.HTTPException) as err:
            after = part.stat().st_size if part.exists() else 0
            if after <= before or number == _ATTEMPTS - 1:
                raise SourceError(str(getattr(err, "reason", err)) or type(err).__name__) from err


def _download_rest(url: str, part: Path, start: int, timeout: float) -> None:
    """Append the rest of `url` to `part`, or write it all where the server sends the whole file."""
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    with urllib.request.urlopen(request, timeout=timeout) as response:
        if response.status == http.client.PARTIAL_CONTENT and start:
            _, _, total = response.headers.get("Content-Range", "").rpartition("/")
        else:
            start, total = 0, response.headers.get("Content-Length", "")
        total = int(total) if total.isdigit() else None
        with write_errors(str(part)):
            output = open(part, "r+b" if start else "wb")  # noqa: SIM115
        with output:
            output.seek(start)
            done = _copy(response, output, start, total, url.rpartition("/")[2])
        if total is not None and done < total:
            raise ConnectionError(f"the connection broke after {done} of {total} bytes")


def _copy(response: BinaryIO, output: BinaryIO, done: int, total: int | None, name: str) -> int:
    """Copy until the end, with a line of progress on a terminal; return how many bytes the file has then."""
    terminal = sys.stderr.isatty()
    shown = 0.0
    try:
        while block := response.read(_BLOCK):
            with write_errors(output.name):
                output.write(block)
            done += len(block)
            if terminal and time.monotonic() - shown > 0.1:
                shown = time.monotonic()
                share = f" of {total / 1e6:.1f}" if total else ""
                print(f"\r{name}: {done / 1e6:.1f}{share} MB ", end="", file=sys.stderr, flush=True)
    finally:
        if terminal and shown:
            print(f"\r{' ' * (len(name) + 24)}\r", end="", file=sys.stderr, flush=True)
    return done


def md5(path: Path) -> str:
    """Return the MD5 sum of a file."""
    digest = hashlib.md5()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
