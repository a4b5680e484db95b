"""Compiles small functions that other compiled loops call, and prefetches memory for them."""

from typing import Any

import numba
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

# Numba counts who refers to an array by atomic operations, several for each array of each call, unless told
# not to. What a kernel calls again and again, on arrays that are there until it returns, needs no counts; it
# must not make arrays. The option is numba's own, not a documented one: the tests of kernels hold it.
inner: Any = numba.njit(cache=True, nogil=True, _nrt=False)  # type: ignore[call-overload]  # not in its stubs


def _prefetch(typing_context: Any, array: Any, byte: Any) -> Any:

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        pointer, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        of_array = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
        ask = builder.module.declare_intrinsic("llvm.prefetch", [pointer], of_array)
        place = builder.gep(builder.bitcast(data, pointer), [arguments[1]])
        builder.call(ask, [place, number(0), number(3), number(1)])  # to read; to keep; data
        return context.get_constant(types.intp, 0)

    return types.intp(array, types.intp), code


# prefetch(array, byte) asks for the cache line with a byte of an array, and does not wait for it. A place
# outside of the array is no error. Reading ahead holds up what comes after it as soon as a few hundred
# instructions wait for memory; this does not.
prefetch: Any = intrinsic(_prefetch)
