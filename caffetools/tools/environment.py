"""What a result may depend on beside its inputs: versions, machine, and the commit of a checkout."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import numba

import caffetools
from caffetools.samples.prefetch import processors

#: Packages that take part in a run; those that are not installed are left out.
PACKAGES = ("numpy", "numba", "llvmlite", "numba-cuda", "protobuf", "lmdb", "plyvel", "h5py", "pillow", "tbb")
_ROOT = Path(caffetools.__file__).parent


def describe() -> dict:
    """Return all of it as JSON values."""
    return {"packages": packages(), "machine": machine(), "commit": commit()}


def packages() -> dict[str, str]:
    """Return versions by name, with Python's and caffetools' own."""
    versions = {"python": platform.python_version(), "caffetools": caffetools.__version__}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def machine() -> dict:
    """Return what computes: processor, cores, those this process may use, threads of kernels, memory in MiB, system."""
    memory = None
    with contextlib.suppress(AttributeError, ValueError, OSError):
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
    return {
        "name": platform.node(),
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "usable_cores": processors(),
        "threads": numba.get_num_threads(),
        "memory_mib": memory,
    }


def _processor():
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def commit() -> str | None:
    """Return the commit of the checkout that caffetools runs from, with "+" if files differ from it; None elsewhere."""
    if not _git("ls-files", "--error-unmatch", str(_ROOT / "__init__.py")):
        return None  # installed; a repository around the environment is another project's
    head = _git("rev-parse", "HEAD")
    return f"{head}{'+' if _git('status', '--porcelain', '--untracked-files=no') else ''}" if head else None


def _git(*arguments):
    try:
        command = ["git", "-C", str(_ROOT), *arguments]
        result = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""
