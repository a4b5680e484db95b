"""Sixteen numbers or bytes at once, for compiled loops: LLVM makes of them what the processor has.

Each reads `LANES` elements of a contiguous array from a flat index on, all of which must be there.
"""

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

LANES = 16

_NUMBER, _BYTE = ir.IntType(32), ir.IntType(8)


def _load(context: Any, builder: Any, array: Any, kind: Any, at: Any, element: Any) -> Any:
    data = context.make_array(kind)(context, builder, array).data
    place = builder.bitcast(builder.gep(data, [at]), ir.VectorType(element, LANES).as_pointer())
    return builder.load(place, align=element.width // 8)


def _all(builder: Any, vector: Any, value: Any) -> Any:
    """A vector like another one, of one value."""
    one = builder.insert_element(ir.Constant(vector.type, ir.Undefined), value, ir.Constant(_NUMBER, 0))
    first = ir.Constant(ir.VectorType(_NUMBER, LANES), [0] * LANES)
    return builder.shuffle_vector(one, one, first)


def _first(builder: Any, flags: Any) -> Any:
    """Index of the first flag that is set, LANES if none is."""
    bits = builder.zext(builder.bitcast(flags, ir.IntType(LANES)), ir.IntType(64))
    beyond = builder.or_(bits, ir.Constant(ir.IntType(64), 1 << LANES))
    return builder.cttz(beyond, ir.Constant(ir.IntType(1), 1))


def _lane_of(typing_context: Any, array: Any, at: Any, value: Any) -> Any:

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = _load(context, builder, arguments[0], signature.args[0], arguments[1], _NUMBER)
        return _first(builder, builder.icmp_signed("==", vector, _all(builder, vector, arguments[2])))

    return types.int64(array, types.int64, types.int32), code


def _least_lane(typing_context: Any, array: Any, at: Any) -> Any:

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = _load(context, builder, arguments[0], signature.args[0], arguments[1], _NUMBER)
        of_vector = ir.FunctionType(_NUMBER, [vector.type])
        smallest = builder.module.declare_intrinsic(f"llvm.vector.reduce.smin.v{LANES}i32", (), of_vector)
        least = _all(builder, vector, builder.call(smallest, [vector]))
        return _first(builder, builder.icmp_signed("==", vector, least))

    return types.int64(array, types.int64), code


def _agreeing(typing_context: Any, one: Any, at: Any, other: Any, there: Any) -> Any:

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        left = _load(context, builder, arguments[0], signature.args[0], arguments[1], _BYTE)
        right = _load(context, builder, arguments[2], signature.args[2], arguments[3], _BYTE)
        return _first(builder, builder.icmp_unsigned("!=", left, right))

    return types.int64(one, types.int64, other, types.int64), code


def _plain(typing_context: Any, data: Any, at: Any) -> Any:

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        text = _load(context, builder, arguments[0], signature.args[0], arguments[1], _BYTE)

        def is_(how: str, byte: int) -> Any:
            return builder.icmp_signed(how, text, ir.Constant(text.type, [byte] * LANES))

        special = is_("<", 32)  # bytes from 128 on are negative
        for byte in b'"\\\x7f':
            special = builder.or_(special, is_("==", byte))
        return _first(builder, special)

    return types.int64(data, types.int64), code


# lane_of(array, at, value): index among the int32 of the first that is `value`, LANES if none is.
lane_of: Any = intrinsic(_lane_of)
# least_lane(array, at): index among the int32 of the first that is the smallest.
least_lane: Any = intrinsic(_least_lane)
# agreeing(one, at, other, there): how many bytes are the same up to the first that differs.
agreeing: Any = intrinsic(_agreeing)
# plain(data, at): how many bytes are printable ASCII, and neither a quote nor a backslash, up to the first
# that is not.
plain: Any = intrinsic(_plain)
