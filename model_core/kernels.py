"""How the small functions are compiled that other compiled loops call."""

from typing import Any

import numba

# Numba counts who refers to an array by atomic operations, several for each array of each call, unless told
# not to. What a kernel calls again and again, on arrays that are there until it returns, needs no counts; it
# must not make arrays. The option is numba's own, not a documented one: the tests of kernels hold it.
inner: Any = numba.njit(cache=True, nogil=True, _nrt=False)  # type: ignore[call-overload]  # not in its stubs
