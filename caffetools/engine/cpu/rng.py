"""Random numbers that depend on a key and a counter only, never on threads or on the order of calls.

The generator is SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014), read at
any position: number i of a key is the finaliser applied to `key + i * GOLDEN`. `RandomSource` hands out
keys, one for each use; its whole state is a seed and a count, which is what an exact resume needs.
"""

from __future__ import annotations

import os

import numpy as np

from caffetools.engine.cpu.jit import kernel

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31, _S40 = (np.uint64(s) for s in (30, 27, 31, 40))
_UNIT = np.float32(2.0**-24)
_MASK = (1 << 64) - 1


@kernel
def random_bits(key, index):
    """Return number `index` (uint64) of the stream `key` (uint64) as 64 random bits."""
    z = key + (index + np.uint64(1)) * GOLDEN
    z = (z ^ (z >> _S30)) * _MIX1
    z = (z ^ (z >> _S27)) * _MIX2
    return z ^ (z >> _S31)


@kernel
def random_uniform(key, index):
    """Return number `index` of the stream `key` as a float32 in [0, 1) with 24 random bits."""
    return np.float32(random_bits(key, index) >> _S40) * _UNIT


def mix(key: int, index: int) -> int:
    """`random_bits` for Python integers: derive a new key from a key and an index."""
    z = (key + (index + 1) * int(GOLDEN)) & _MASK
    z = ((z ^ (z >> 30)) * int(_MIX1)) & _MASK
    z = ((z ^ (z >> 27)) * int(_MIX2)) & _MASK
    return z ^ (z >> 31)


class RandomSource:
    """The one source of randomness of a run: hands out independent keys in a fixed order.

    seed: any integer; a negative one (the original's "no seed") is replaced by entropy of the system.
    """

    def __init__(self, seed: int = -1):
        self.seed = seed if seed >= 0 else int.from_bytes(os.urandom(8), "little") >> 1
        self.count = 0

    def key(self, rank: int = 0) -> np.uint64:
        """Return the next key, for `random_bits` and `random_uniform`.

        rank: of this process where all that train together are to have the same key; their seeds are that of rank 0
        and their ranks.
        """
        self.count += 1
        return np.uint64(mix(self.seed - rank, self.count - 1))

    def generator(self) -> np.random.Generator:
        """Return a NumPy generator with the next key, for work that is done once (fillers, shuffling)."""
        return np.random.Generator(np.random.Philox(key=int(self.key())))
