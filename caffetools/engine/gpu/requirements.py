"""Whether a device and its driver are new enough for the packages that are installed; said before anything fails."""

from __future__ import annotations

from importlib import metadata

from caffetools.glog import fatal

#: The oldest devices for which CUDA 13 makes code: Turing.
CAPABILITY = 7, 5
#: What the packages for a CUDA version need: the oldest driver on Linux.
DRIVERS = {12: "525", 13: "580"}


def check(index: int, name: str, capability: tuple[int, int], driver: tuple[int, int]) -> None:
    """Refuse a device that is too old, or whose driver is.

    capability: its compute capability. driver: the CUDA version that the driver supports. Errors: FatalError.
    """
    which = f"GPU {index} ({name}) cannot be used"
    if capability < CAPABILITY:
        least = f"{_text(CAPABILITY)} (Turing, 2018) is the least"
        fatal(f"{which}: its compute capability is {_text(capability)}, and {least}")
    needed = packages_for()
    if driver[0] < needed:
        newer = f" {DRIVERS[needed]} or newer" if needed in DRIVERS else ""
        fatal(
            f"{which}: its driver supports CUDA {_text(driver)}, and the installed packages are for CUDA {needed}: "
            f"install a driver{newer}"
        )


def packages_for() -> int:
    """Return the CUDA version for which the packages are made, 0 where that cannot be told."""
    try:
        return int(metadata.version("cuda-bindings").partition(".")[0])
    except (metadata.PackageNotFoundError, ValueError):
        return 0


def _text(version):
    return ".".join(map(str, version))
