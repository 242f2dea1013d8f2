"""Fetch what goes with the ImageNet pictures of 2012: lists with labels, the names of the classes, the mean picture.

    python -m caffetools.tools.get_ilsvrc_aux [FOLDER]

FOLDER is data/ilsvrc12 unless given. The files, or the archive caffe_ilsvrc12.tar.gz, are looked for there, then in
the folder that ILSVRC12_DIR names, then the archive at public mirrors. The pictures themselves are to be had from
image-net.org alone.
"""

from __future__ import annotations

import sys

from caffetools import glog
from caffetools.tools.archive import Archive, fetch

ARCHIVE = Archive(
    title="What goes with ILSVRC 2012",
    name="caffe_ilsvrc12.tar.gz",
    md5="",
    files=dict.fromkeys(("train.txt", "val.txt", "synset_words.txt", "imagenet_mean.binaryproto"), 0),
    more=("test.txt", "synsets.txt", "det_synset_words.txt", "imagenet.bet.pickle"),
    folder="caffe_ilsvrc12",
    variable="ILSVRC12_DIR",
)
MIRRORS = (
    "http://dl.caffe.berkeleyvision.org/",
    "https://download.openmmlab.com/mmclassification/datasets/imagenet/meta/",
)


def main(arguments: list[str]) -> None:
    if "-h" in arguments or "--help" in arguments:
        print(__doc__)
        return
    if len(arguments) > 1:
        sys.exit(f"one folder at most, not {len(arguments)} (see --help)")
    try:
        fetch(ARCHIVE, *(arguments or ["data/ilsvrc12"]), MIRRORS)
    except glog.FatalError as err:
        sys.exit(str(err))


if __name__ == "__main__":
    main(sys.argv[1:])
