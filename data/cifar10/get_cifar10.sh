#!/usr/bin/env sh
# Fetches the six binary batches of CIFAR-10 into this folder, unpacked.
# CIFAR10_DIR=folder takes them from there instead.
set -e

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
. "$here/../python.sh"
run_python -m caffetools.tools.get_cifar10 "$here"
