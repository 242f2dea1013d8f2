#!/usr/bin/env sh
# Fetches lists, class names and the mean picture of ILSVRC 2012 into this folder.
# ILSVRC12_DIR=folder takes them from there instead.
set -e

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
. "$here/../python.sh"
run_python -m caffetools.tools.get_ilsvrc_aux "$here"
