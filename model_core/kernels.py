"""What compiled loops share: how to compile what they call, prefetching, copying bytes, and a logarithm."""

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

# Numba counts who refers to an array by atomic operations, several for each array of each call, unless told
# not to. What a kernel calls again and again, on arrays that are there until it returns, needs no counts; it
# must not make arrays. The option is numba's own, not a documented one: the tests of kernels hold it.
inner: Any = numba.njit(cache=True, nogil=True, _nrt=False)  # type: ignore[call-overload]  # not in its stubs
# The same for what is called several times an event: arrays are passed as seven numbers each.
inlined: Any = numba.njit(cache=True, nogil=True, _nrt=False, forceinline=True)  # type: ignore[call-overload]


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


def _copy_bytes(typing_context: Any, out: Any, at: Any, source: Any, there: Any, size: Any) -> Any:

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        places: list[Any] = []
        for k in (0, 2):
            data = context.make_array(signature.args[k])(context, builder, arguments[k]).data
            places.append(builder.gep(builder.bitcast(data, ir.IntType(8).as_pointer()), [arguments[k + 1]]))
        cgutils.raw_memcpy(builder, places[0], places[1], arguments[4], 1)  # type: ignore[no-untyped-call]
        return context.get_constant(types.intp, 0)

    return types.intp(out, types.intp, source, types.intp, types.intp), code


# copy_bytes(out, at, source, there, size) copies bytes of a contiguous array into another one; positions and
# size are in bytes. All of them must be there. A size that is a constant is a move or two.
copy_bytes: Any = intrinsic(_copy_bytes)


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})
def log_of(x: Any) -> Any:
    """Natural logarithm of a positive float32, off by less than one in its last place.

    Without branches or calls, so that loops over it become vector instructions. Moshier, Cephes, `logf`.
    """
    bits = np.float32(x).view(np.int32)
    exponent = (bits - np.int32(0x3F3504F3)) >> np.int32(23)  # so that the rest is in [1 / sqrt 2, sqrt 2)
    m = np.int32(bits - (exponent << np.int32(23))).view(np.float32) - np.float32(1)
    series = np.float32(7.0376836292e-2)
    series = series * m - np.float32(1.1514610310e-1)
    series = series * m + np.float32(1.1676998740e-1)
    series = series * m - np.float32(1.2420140846e-1)
    series = series * m + np.float32(1.4249322787e-1)
    series = series * m - np.float32(1.6668057665e-1)
    series = series * m + np.float32(2.0000714765e-1)
    series = series * m - np.float32(2.4999993993e-1)
    series = series * m + np.float32(3.3333331174e-1)
    e, square = np.float32(exponent), m * m
    rest = series * m * square - e * np.float32(2.12194440e-4) - np.float32(0.5) * square
    return m + rest + e * np.float32(0.693359375)
