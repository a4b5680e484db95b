"""What compiled loops share: how to compile what they call, prefetching, vectors of 16, and a logarithm."""

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

# Numba counts who refers to an array by atomic operations, several for each array of each call, unless told
# not to. What a kernel calls again and again, on arrays that are there until it returns, needs no counts; it
# must not make arrays. The option is numba's own, not a documented one: the tests of kernels hold it.
inner: Any = numba.njit(cache=True, nogil=True, _nrt=False)  # type: ignore[call-overload]  # not in its stubs
# The same for what is called several times an event: arrays are passed as seven numbers each.
inlined: Any = numba.njit(cache=True, nogil=True, _nrt=False, forceinline=True)  # type: ignore[call-overload]

LANES = 16  # int32 in a vector of 64 bytes, as those read that look for one of them


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


def _lanes(context: Any, builder: Any, array: Any, kind: Any, at: Any) -> Any:
    """Load 16 int32 from index `at` on: LLVM makes of it what the processor has."""
    data = context.make_array(kind)(context, builder, array).data
    vector = ir.VectorType(ir.IntType(32), LANES)
    place = builder.bitcast(builder.gep(data, [at]), vector.as_pointer())
    return builder.load(place, align=4)


def _first(builder: Any, vector: Any, value: Any) -> Any:
    """Index of the first lane that equals a value, 16 if none does."""
    every = ir.Constant(vector.type, ir.Undefined)
    one = builder.insert_element(every, value, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    same = builder.icmp_signed("==", vector, builder.shuffle_vector(one, every, zeros))
    bits = builder.zext(builder.bitcast(same, ir.IntType(LANES)), ir.IntType(64))
    beyond = builder.or_(bits, ir.Constant(ir.IntType(64), 1 << LANES))
    return builder.cttz(beyond, ir.Constant(ir.IntType(1), 1))


def _lane_of(typing_context: Any, array: Any, at: Any, value: Any) -> Any:

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = _lanes(context, builder, arguments[0], signature.args[0], arguments[1])
        return _first(builder, vector, arguments[2])

    return types.int64(array, types.int64, types.int32), code


def _least_lane(typing_context: Any, array: Any, at: Any) -> Any:

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = _lanes(context, builder, arguments[0], signature.args[0], arguments[1])
        of_vector = ir.FunctionType(ir.IntType(32), [vector.type])
        least = builder.module.declare_intrinsic(f"llvm.vector.reduce.smin.v{LANES}i32", (), of_vector)
        return _first(builder, vector, builder.call(least, [vector]))

    return types.int64(array, types.int64), code


# Of the 16 elements of a contiguous int32 array from flat index `at` on, which must be there: the index among
# them of the first that is `value`, 16 if none is; and of the first that is the smallest.
lane_of: Any = intrinsic(_lane_of)  # lane_of(array, at, value)
least_lane: Any = intrinsic(_least_lane)  # least_lane(array, at)


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
