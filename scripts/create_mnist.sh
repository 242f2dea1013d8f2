#!/usr/bin/env sh
# Builds mnist_train_lmdb and mnist_test_lmdb in models/lenet from the idx files in data/mnist.
# BACKEND=leveldb makes mnist_train_leveldb and mnist_test_leveldb instead. Databases of the same names are replaced.
set -e

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
data=$root/data/mnist
out=$root/models/lenet
backend=${BACKEND:-lmdb}

# The tools of the installed package, or else the launchers of this checkout.
PATH=$PATH:$root/bin

for name in train t10k; do
    for file in "$name-images-idx3-ubyte" "$name-labels-idx1-ubyte"; do
        if [ ! -f "$data/$file" ]; then
            echo "create_mnist.sh: $data/$file is not there: run data/mnist/get_mnist.sh first" >&2
            exit 1
        fi
    done
done

echo "Creating $backend databases in $out ..."
rm -rf "$out/mnist_train_$backend" "$out/mnist_test_$backend"
convert_mnist_data --backend="$backend" \
    "$data/train-images-idx3-ubyte" "$data/train-labels-idx1-ubyte" "$out/mnist_train_$backend"
convert_mnist_data --backend="$backend" \
    "$data/t10k-images-idx3-ubyte" "$data/t10k-labels-idx1-ubyte" "$out/mnist_test_$backend"
echo "Done."
