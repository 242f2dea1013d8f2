"""A hint to the processor that memory will be read soon, for walks that it does not foresee by itself."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

#: Arguments of LLVM's intrinsic: the address is going to be read, and be kept in all caches; it holds data.
READ, KEEP, DATA = 0, 3, 1


@intrinsic
def prefetch(typing_context, pointer):
    """Fetch the cache line at `pointer`, made by `simd.at`; it need not be valid."""

    def emit(context, builder, signature, values):
        address = builder.bitcast(values[0], cgutils.voidptr_t)
        hints = [ir.Constant(ir.IntType(32), hint) for hint in (READ, KEEP, DATA)]
        kind = ir.FunctionType(ir.VoidType(), [address.type, *(hint.type for hint in hints)])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [address, *hints])
        return context.get_dummy_value()

    return types.void(pointer), emit
