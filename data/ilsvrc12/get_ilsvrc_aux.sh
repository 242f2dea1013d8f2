#!/usr/bin/env sh
# Fetches lists, class names and the mean picture of ILSVRC 2012 into this folder.
# ILSVRC12_DIR=folder takes them from there instead.
set -e

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
root=$here/../..

# A relative ILSVRC12_DIR is meant from where the user is, as is the interpreter that PYTHON names.
for python in "$PYTHON" "$root/.venv/bin/python" python3 python; do
    if [ -n "$python" ] && command -v "$python" >/dev/null 2>&1; then
        PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} exec "$python" -m caffetools.tools.get_ilsvrc_aux "$here"
    fi
done
echo "get_ilsvrc_aux.sh: no Python 3 found; set PYTHON to the interpreter" >&2
exit 1
