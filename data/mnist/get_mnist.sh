#!/usr/bin/env sh
# Fetches the four MNIST files into this folder, uncompressed. MNIST_DIR=folder takes them from there instead.
set -e

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
. "$here/../python.sh"
run_python -m caffetools.tools.get_mnist "$here"
