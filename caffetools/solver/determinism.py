"""`deterministic: true`: the same numbers in every run, whatever the solver file leaves open.

What depends on chance draws from one seeded source: initial weights, dropout, crops and mirroring, shuffles. Batches
are handed over in the order in which they were read, whatever number of threads prepares them, and sums do not depend
on the number of threads either. So a run on the CPU is decided by its seed, and a seed is all that has to be fixed;
layers in Python, which may draw from Python's and NumPy's own generators, get those seeded as well.
"""

from __future__ import annotations

import random

import numpy as np

from caffetools.glog import info
from caffetools.proto import caffe_pb2

SEED = 1  # of a solver file without random_seed


def fix_seeds(param: caffe_pb2.SolverParameter) -> None:
    """Give the solver file a seed if it has none, seed Python's and NumPy's generators, and say so."""
    origin = "from the solver file"
    if param.random_seed < 0:
        param.random_seed, origin = SEED, "as the solver file has none"
    random.seed(param.random_seed)
    np.random.seed(param.random_seed % 2**32)
    info(
        f"Deterministic: random_seed {param.random_seed}, {origin}, for initial weights, dropout, augmentation, "
        "shuffles and Python layers; data come in the same order whatever threads prefetch them; results do not depend "
        "on the number of threads. Another kind of processor may round differently."
    )
