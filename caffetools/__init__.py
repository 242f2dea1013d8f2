"""The toolchain of Caffe 1.0.0 in Python: the same commands, files and log lines, on a numba engine."""

from __future__ import annotations

__version__ = "1.0.0"
