"""How much memory a process can still have: what the system can free, within the limits of its container."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

#: A container's limit, what it uses of that, and statistics: Linux's control groups, version 2 and version 1.
CONTAINERS = (
    ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory.current", "sys/fs/cgroup/memory.stat"),
    (
        "sys/fs/cgroup/memory/memory.limit_in_bytes",
        "sys/fs/cgroup/memory/memory.usage_in_bytes",
        "sys/fs/cgroup/memory/memory.stat",
    ),
)


def free_memory(root: str | os.PathLike[str] = "/") -> int | None:
    """Return the bytes that can be had without swapping, or None where the system does not tell.

    root: where /proc and /sys are found.
    """
    root = Path(root)
    known = [_of_system(root), *(_of_container(root, *names) for names in CONTAINERS)]
    return min((size for size in known if size is not None), default=None)


def _of_system(root: Path) -> int | None:
    with contextlib.suppress(OSError, KeyError):
        return _table(root / "proc/meminfo")["MemAvailable"] * 1024
    for name in ("SC_AVPHYS_PAGES", "SC_PHYS_PAGES"):  # Linux before 2014, then the BSDs and macOS
        with contextlib.suppress(AttributeError, ValueError, OSError):
            return os.sysconf(name) * os.sysconf("SC_PAGE_SIZE")
    return None


def _of_container(root: Path, limit: str, usage: str, statistics: str) -> int | None:
    with contextlib.suppress(OSError, ValueError):  # the limit may be the word "max"
        used = int((root / usage).read_text())
        # Cached files count as used, but make room when memory is short.
        reclaimable = _table(root / statistics).get("inactive_file", 0)
        return max(0, int((root / limit).read_text()) - used + reclaimable)
    return None


def _table(path: Path) -> dict[str, int]:
    """Read lines such as `MemAvailable:  123 kB` or `inactive_file 123`."""
    rows = (line.replace(":", " ").split() for line in path.read_text().splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()}
