#!/usr/bin/env sh
# Fetches the four MNIST files into this folder, uncompressed. MNIST_DIR=folder takes them from there instead.
set -e

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
root=$here/../..

# A relative MNIST_DIR is meant from where the user is, as is the interpreter that PYTHON names.
for python in "$PYTHON" "$root/.venv/bin/python" python3 python; do
    if [ -n "$python" ] && command -v "$python" >/dev/null 2>&1; then
        PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} exec "$python" -m caffetools.tools.get_mnist "$here"
    fi
done
echo "get_mnist.sh: no Python 3 found; set PYTHON to the interpreter" >&2
exit 1
