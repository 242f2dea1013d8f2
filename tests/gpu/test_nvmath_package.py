"""The real bindings of cuBLAS take what the stand-in takes; that needs no device."""

from __future__ import annotations

import inspect

import pytest

from tests.gpu import fake_nvmath


@pytest.fixture(scope="module")
def cublas():
    pytest.importorskip("nvmath")
    from nvmath.bindings import cublas

    return cublas


@pytest.mark.parametrize(
    "name", ["sgemm", "dgemm", "sgemm_strided_batched", "dgemm_strided_batched", "gemm_strided_batched_ex"]
)
def test_arguments(name, cublas):
    text = getattr(cublas, name).__doc__.partition("(")[2].partition(")")[0]
    theirs = [argument.split()[-1] for argument in text.split(",")]
    stand_in = getattr(fake_nvmath.modules()["nvmath.bindings.cublas"], name)
    ours = list(inspect.signature(stand_in).parameters)
    assert len(theirs) == len(ours)
    if name.endswith("_ex"):
        assert theirs == ours


@pytest.mark.parametrize("name", ["Operation", "Math", "ComputeType", "GemmAlgo"])
def test_constants(name, cublas):
    for member in getattr(fake_nvmath, name):
        assert int(getattr(cublas, name)[member.name]) == member


def test_types_of_numbers(cublas):
    from nvmath import CudaDataType

    assert {member.name: int(CudaDataType[member.name]) for member in fake_nvmath.CudaDataType} == {
        member.name: int(member) for member in fake_nvmath.CudaDataType
    }
