"""Arrays of observations and of saved sums: their shapes checked, their bytes read."""

from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
"""Numbers of saved sums that go into arrays."""


def unpack(packed: NDArray[np.float64], dim: int) -> NDArray[np.float64]:
    """Return (..., F, F) symmetric matrices from their lower triangles, (..., F (F + 1) / 2)."""
    full = np.empty((*packed.shape[:-1], dim, dim))
    rows, columns = np.tril_indices(dim)
    full[..., rows, columns] = packed
    full[..., columns, rows] = packed
    return full


def check_rows(features: NDArray[Any], dim: int) -> NDArray[np.float64]:
    """Return (n, F) float64, contiguous; raise ValueError on another shape."""
    rows = np.ascontiguousarray(features, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] != dim:
        raise ValueError(f"features must have shape (n, {dim}), got {rows.shape}")
    return rows


def check_each(name: str, numbers: NDArray[Any], n: int) -> NDArray[np.float64]:
    """Return (n,) float64, contiguous; raise ValueError on another shape."""
    values = np.ascontiguousarray(numbers, dtype=np.float64)
    if values.shape != (n,):
        raise ValueError(f"{name} must have shape ({n},) as the features, got {values.shape}")
    return values


def check_weights(weights: NDArray[Any] | None, n: int) -> NDArray[np.float64] | float:
    """Return (n,) float64, or 1 for None; raise ValueError on another shape or a negative weight."""
    if weights is None:
        return 1.0
    values = check_each("weights", weights, n)
    if n and not values.min() >= 0.0:
        raise ValueError(f"weights must be at least 0, got {values.min()}")
    return values


def read_floats(data: bytes, shape: tuple[int, ...], name: str) -> NDArray[np.float64]:
    """Return finite float64 of `shape` from little-endian bytes, or raise ValueError."""
    wanted = 8 * int(np.prod(shape))
    if len(data) != wanted:
        raise ValueError(f"{name} must have {wanted} bytes for shape {shape}, got {len(data)}")
    values = np.frombuffer(data, "<f8").astype(np.float64).reshape(shape)
    if not np.isfinite(values).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity")
    return values
