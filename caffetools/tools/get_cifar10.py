"""Fetch CIFAR-10's six binary batches, unpacked, from an archive that is checked by its MD5 sum.

    python -m caffetools.tools.get_cifar10 [FOLDER]

FOLDER is data/cifar10 unless given. The batches, or the archive cifar-10-binary.tar.gz, are looked for there, then
in the folder that CIFAR10_DIR names, then the archive at public mirrors. A download that broke off is continued
where it ended.
"""

from __future__ import annotations

import sys

from caffetools import glog
from caffetools.tools.archive import Archive, fetch

ARCHIVE = Archive(
    title="CIFAR-10",
    name="cifar-10-binary.tar.gz",
    md5="c32a1d4ab5d03f1284b67883e8d87530",
    files={f"{name}.bin": 30_730_000 for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")},
    more=("batches.meta.txt",),  # the names of the classes
    folder="cifar-10-batches-bin",
    variable="CIFAR10_DIR",
)
MIRRORS = (
    "https://www.cs.toronto.edu/~kriz/",
    "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/CIFAR10/",
    "https://mindspore-website.obs.cn-north-4.myhuaweicloud.com/notebook/datasets/",
)


def main(arguments: list[str]) -> None:
    if "-h" in arguments or "--help" in arguments:
        print(__doc__)
        return
    if len(arguments) > 1:
        sys.exit(f"one folder at most, not {len(arguments)} (see --help)")
    try:
        fetch(ARCHIVE, *(arguments or ["data/cifar10"]), MIRRORS)
    except glog.FatalError as err:
        sys.exit(str(err))


if __name__ == "__main__":
    main(sys.argv[1:])
