#!/usr/bin/env sh
# Builds cifar10_train_lmdb, cifar10_test_lmdb and mean.binaryproto in data/cifar10 from the batches there.
# BACKEND=leveldb makes cifar10_train_leveldb and cifar10_test_leveldb instead. Databases of the same names are replaced.
set -e

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
data=$root/data/cifar10
backend=${BACKEND:-lmdb}

# The tools of the installed package, or else the launchers of this checkout.
PATH=$PATH:$root/bin

for file in data_batch_1 data_batch_2 data_batch_3 data_batch_4 data_batch_5 test_batch; do
    if [ ! -f "$data/$file.bin" ]; then
        echo "create_cifar10.sh: $data/$file.bin is not there: run data/cifar10/get_cifar10.sh first" >&2
        exit 1
    fi
done

echo "Creating $backend databases in $data ..."
convert_cifar_data --force "$data" "$data" "$backend"
echo "Computing the mean picture ..."
compute_image_mean --backend="$backend" "$data/cifar10_train_$backend" "$data/mean.binaryproto"
echo "Done."
