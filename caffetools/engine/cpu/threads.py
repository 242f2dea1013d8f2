"""The engine's threads: how many, and which library runs them.

Entering a parallel kernel costs 2 microseconds with OpenMP, 20 with TBB and over 100 with numba's own work
queue, which small nets would feel in every layer. OpenMP is there wherever libgomp is, TBB comes with the
package `tbb`.

Threads without work look for some in a loop for a while before they sleep. libgomp's own patience, some milliseconds,
is 2 % faster on an idle machine, but where another program wants a processor, the loops use up the thread's share of
time before there is work: with one such program on two processors a step took 100 times as long, and 2 to 3 times with
the patience that is set here.

After a fork, a child must not enter parallel kernels if the parent has done so under OpenMP: numba ends it
with a message. Data layers prefetch with threads for that reason.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import sys
from pathlib import Path

from caffetools import glog

#: Rounds that libgomp's threads wait in a loop (GOMP_SPINCOUNT): some 30 microseconds, as long as the pauses between
#: most layers.
SPIN_ROUNDS = 1000


def start() -> None:
    """Fix the number of threads and the threading layer, before any kernel runs."""
    count = thread_count()
    late = "numba" in sys.modules
    previous = os.environ.get("NUMBA_NUM_THREADS")
    os.environ["NUMBA_NUM_THREADS"] = str(count)  # numba makes up its mind when it is imported
    import numba

    if previous is None:
        del os.environ["NUMBA_NUM_THREADS"]
    else:
        os.environ["NUMBA_NUM_THREADS"] = previous
    if late:
        if count < numba.config.NUMBA_NUM_THREADS:
            numba.set_num_threads(count)
        count = min(count, numba.config.NUMBA_NUM_THREADS)
    else:
        # The compiler reads all settings anew where a variable has changed, and forgets what programs have set:
        # let it see the change now.
        numba.config.reload_config()
        numba.config.NUMBA_NUM_THREADS = count
    numba.config.THREADING_LAYER = choose_layer()
    glog.note(f"CPU engine: {count} thread(s) by {numba.config.THREADING_LAYER}")


def thread_count() -> int:
    """Return NUMBA_NUM_THREADS or OMP_NUM_THREADS if set, else the processors this process may use."""
    for name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS"):
        text = os.environ.get(name, "").split(",")[0]
        if text.isdigit() and int(text) > 0:
            return int(text)
    # Windows and macOS have no such call.
    affinity = getattr(os, "sched_getaffinity", None)
    available = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, min(available, _cgroup_quota() or available))


def _cgroup_quota() -> int | None:
    """Return the processors that a container's time quota pays for, rounded up, or None without a quota."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return None if quota == "max" else -(-int(quota) // int(period))
    except (OSError, ValueError):
        return None


def choose_layer() -> str:
    """Return NUMBA_THREADING_LAYER if set, else the cheapest that loads: "omp", "tbb" or "workqueue"."""
    wanted = os.environ.get("NUMBA_THREADING_LAYER")
    if wanted not in (None, "", "omp", "tbb"):
        return wanted
    if wanted != "tbb" and (_load_openmp() or wanted):
        return "omp"
    found = _loads("tbbpool") or (_preload_tbb() and _loads("tbbpool"))
    return "tbb" if found or wanted else "workqueue"


def _load_openmp() -> bool:
    """Load OpenMP, with little patience unless the user has said how its threads wait."""
    if "GOMP_SPINCOUNT" in os.environ or "OMP_WAIT_POLICY" in os.environ:
        return _loads("omppool")
    os.environ["GOMP_SPINCOUNT"] = str(SPIN_ROUNDS)  # read when the library is loaded
    try:
        return _loads("omppool")
    finally:
        del os.environ["GOMP_SPINCOUNT"]


def _loads(module: str) -> bool:
    try:
        importlib.import_module(f"numba.np.ufunc.{module}")
    except ImportError:
        return False
    return True


def _preload_tbb() -> bool:
    """Load the library of the package `tbb`, which pip puts where the dynamic linker does not look."""
    for name in ("lib/libtbb.so.12", "lib/libtbb.12.dylib", "Library/bin/tbb12.dll"):
        library = Path(sys.prefix, name)
        if library.exists():
            try:
                ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
            except OSError:
                continue
            return True
    return False
