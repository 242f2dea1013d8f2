"""The GPU engine: arrays on an NVIDIA device and kernels written with numba.cuda.

`device` picks the GPU, `memory` keeps arrays on both sides of the bus, `launch` compiles and starts kernels, `lag`
brings small results back without waiting, `vector`, `reduce`, `gemm` and `rng` are what layers are made of. Nothing
outside this package and the `_cu.py` twins imports numba.cuda, and nothing does so before a GPU is asked for.
"""
