#!/usr/bin/env sh
# Fetches the six binary batches of CIFAR-10 into this folder, unpacked.
# CIFAR10_DIR=folder takes them from there instead.
set -e

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
root=$here/../..

# A relative CIFAR10_DIR is meant from where the user is, as is the interpreter that PYTHON names.
for python in "$PYTHON" "$root/.venv/bin/python" python3 python; do
    if [ -n "$python" ] && command -v "$python" >/dev/null 2>&1; then
        PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} exec "$python" -m caffetools.tools.get_cifar10 "$here"
    fi
done
echo "get_cifar10.sh: no Python 3 found; set PYTHON to the interpreter" >&2
exit 1
