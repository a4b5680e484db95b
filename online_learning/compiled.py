"""Compiles loops: sequential arithmetic, cached on disk."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

_Function = TypeVar("_Function", bound=Callable[..., Any])


def compiled(function: _Function) -> _Function:
    """Compile a function as it stands, every operation rounded by itself."""
    # Without the lock: neither a policy nor an update of sums holds up the event loop's thread.
    return cast(_Function, njit(cache=True, nogil=True)(function))


def brief(function: _Function) -> _Function:
    """Compile what takes microseconds: it keeps the interpreter, as to have it again takes longer."""
    return cast(_Function, njit(cache=True)(function))


def contracted(function: _Function) -> _Function:
    """Compile a function whose products and sums may be fused: rounded once, and faster.

    Which are fused is fixed when it is compiled, so that a result depends neither on the batch nor on the
    thread; it may differ in the last bit between kinds of processors.
    """
    return cast(_Function, njit(cache=True, nogil=True, fastmath={"contract"})(function))
