"""Assigns users to variants of an experiment by hashing, so that no assignment has to be kept."""

from collections.abc import Sequence

import numpy as np
import xxhash
from numpy.typing import NDArray

from online_learning.sampling import mix

OUTSIDE = -1


def assign(
    keys: NDArray[np.uint64],
    experiment: str,
    variants: Sequence[str],
    weights: Sequence[float],
    *,
    share: float = 1.0,
) -> NDArray[np.int64]:
    """Return the variant of each user: (n,) int64, `OUTSIDE` (-1) for those that do not take part.

    A function of the arguments alone, so it is the same in every process and after every restart. Each
    user has one number per experiment, which decides whether they take part, and one per variant; the
    variant whose number, divided by its weight, comes first is theirs (weighted rendezvous hashing; Thaler &
    Ravishankar, "Using name-based mappings to increase hit rates", IEEE/ACM Trans. Networking 1998). So a
    larger share adds users and moves none, and a larger weight moves users to its variant and nowhere else.

    Parameters
    ----------
    keys : (n,) uint64, hashes of user ids
    experiment : name, the salt: users are split anew, and independently, by each experiment
    variants : names, at least one
    weights : one for each variant, above 0; they need not sum to 1
    share : of all users that take part, in [0, 1]
    """
    check_weights(variants, weights)
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"share must be in [0, 1], got {share}")
    mixed = mix(np.asarray(keys, np.uint64))
    # Exponential waiting times with the weights for rates: each is the first with probability weight / sum.
    waits = np.stack(
        [
            -np.log(_uniforms(mixed, f"{experiment}\0{variant}")) / weight
            for variant, weight in zip(variants, weights, strict=True)
        ]
    )
    return np.where(takes_part(keys, experiment, share), waits.argmin(axis=0), OUTSIDE)


def takes_part(keys: NDArray[np.uint64], experiment: str, share: float) -> NDArray[np.bool_]:
    """Return which users take part in an experiment, as of `assign`: (n,) bool."""
    return _uniforms(mix(np.asarray(keys, np.uint64)), experiment) < share


def check_weights(variants: Sequence[str], weights: Sequence[float]) -> None:
    """Raise ValueError unless the variants have names of their own and a weight above 0 each."""
    if not variants or len(set(variants)) != len(variants):
        raise ValueError(f"variants must have names, each its own, got {list(variants)}")
    if len(weights) != len(variants):
        raise ValueError(f"weights must be {len(variants)}, one for each variant, got {len(weights)}")
    for variant, weight in zip(variants, weights, strict=True):
        if not 0.0 < weight < np.inf:
            raise ValueError(f"weights must be finite and above 0, got {weight} for {variant!r}")


def _uniforms(mixed: NDArray[np.uint64], salt: str) -> NDArray[np.float64]:
    # In the open interval (0, 1), on a grid of 2**-52.
    salted = mix(mixed ^ np.uint64(xxhash.xxh3_64_intdigest(salt.encode())))
    return ((salted >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
