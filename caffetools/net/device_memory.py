"""What a net takes of a GPU's memory, and what to say where that does not suffice."""

from __future__ import annotations

from caffetools.engine.out_of_memory import OutOfMemory


def explained(net, i: int, what: str, error: OutOfMemory) -> OutOfMemory:
    """Return the error of layer i with its name and the largest batch that would fit. what: it was doing."""
    layer = net.layers[i]
    largest = largest_batch(net, error.free, error.needed)
    return error.named(f"the {what} of layer '{layer.name}' ({layer.type})", _advice(net, largest))


def explained_for(net, asked_by: str, error: OutOfMemory) -> OutOfMemory:
    """Return the error of what a net needs whatever its batch is."""
    return error.named(asked_by, _advice(net, largest_batch(net, error.free - error.needed)))


def largest_batch(net, free: int, missing: int = 0) -> int | None:
    """Return about the largest batch of a net with `free` bytes on the device beside what it has there already.

    Data, diffs and the layers' scratch grow with the batch; parameters do not. missing: bytes that it lacks at least.
    None where there is no batch, or where the net should fit as it is.
    """
    batch = batch_size(net)
    there, wanted = _grows_with_batch(net)
    missing = max(wanted - there, missing)
    there += net.device_scratch
    free -= net.flat_data.missing_bytes
    if any(net.layer_needs_backward):
        free -= net.flat_diff.missing_bytes
    if not batch or not there + missing:
        return None
    largest = max(0, batch * (free + there) // (there + missing))
    return largest if largest < batch else None


def batch_size(net) -> int:
    """Return the items of the first top of the first layer that brings data; 0 where there is none."""
    for bottoms, tops in zip(net.bottoms, net.tops, strict=True):
        if not bottoms and tops and tops[0].shape:
            return tops[0].shape[0]
    return 0


def _grows_with_batch(net):
    """Return the bytes of data and diffs that are on the device, and those that a pass needs there."""
    wanted = {id(blob.data_storage): (blob.data_storage, blob.count) for blob in net.blob_list}
    for needs, bottoms, each in zip(net.layer_needs_backward, net.bottoms, net.bottom_needs_backward, strict=True):
        for blob, gradient in zip(bottoms, each, strict=True):
            if needs and gradient:
                wanted[id(blob.diff_storage)] = blob.diff_storage, blob.count
    there = sum(storage.device_bytes for storage, _ in wanted.values())
    size = net.context.dtype.itemsize
    return there, sum(max(storage.device_bytes, count * size) for storage, count in wanted.values())


def _advice(net, largest):
    batch = batch_size(net)
    if largest is None:
        return "A smaller batch needs less."
    if largest == 0:
        return f"Not even one item would fit, of the {batch} of a batch."
    return f"A batch of about {largest} would fit; it is {batch} now."
