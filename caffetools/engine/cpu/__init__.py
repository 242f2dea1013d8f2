"""The CPU engine: micro-kernels, matrix products, convolutions and random numbers, compiled by numba."""

from caffetools.engine.cpu import threads

threads.start()
