"""Candidate policies: they serve nobody, and say of every slate how probable it would be under them."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import xxhash
from numpy.typing import NDArray

from online_learning.policies.pinning import others, standing, where_standing
from online_learning.policies.policy import Policy
from online_learning.policies.policy_spec import PolicySpec
from online_learning.policies.registry import Learning
from online_learning.types import Candidates
from streams.errors import ConfigurationError


class ShadowPolicies:
    """The policies of `candidate_policies`, by the text that names them in records.

    Parameters
    ----------
    texts : as of `PolicySpec.parse`
    make : makes a policy that learns from `learning`
    live : name of the live policy, for messages

    Raises
    ------
    ConfigurationError
        A text is no policy, is there twice, or names a policy that does not learn from these statistics.
    """

    def __init__(
        self, texts: Sequence[str], make: Callable[[PolicySpec], Policy], learning: Learning, live: str
    ) -> None:
        self._policies: dict[str, Policy] = {}
        try:
            for text in texts:
                spec = PolicySpec.parse(text)
                if text in self._policies:
                    raise ValueError(f"policies must be different, got {text!r} twice")
                spec.check_served_with(learning, live)
                self._policies[text] = make(spec)
        except ValueError as error:
            raise ConfigurationError(f"Bad configuration:\n  candidate_policies: {error}") from None

    def __iter__(self) -> Iterator[Policy]:
        return iter(self._policies.values())

    @property
    def by_text(self) -> Mapping[str, Policy]:
        """The policies by the text that names them."""
        return self._policies

    def propensities(
        self, candidates: Candidates, index: NDArray[np.int64], *, seeds: NDArray[np.uint64]
    ) -> dict[str, NDArray[np.float32]]:
        """Return by policy how probable each position of the slates is under it (`Policy.propensities`).

        What is pinned or on trial is there whatever the policy.

        Parameters
        ----------
        seeds : (B,) uint64, those that chose the slates; each policy estimates with others of its own
        """
        if not self._policies:
            return {}
        stand = standing(candidates, (index >= 0).sum(axis=1))
        anyway = where_standing(index, stand)
        rest = others(candidates, stand) if anyway.any() else candidates
        found = {}
        for text, policy in self._policies.items():
            own = seeds ^ np.uint64(xxhash.xxh3_64_intdigest(text.encode()))
            found[text] = policy.propensities(rest, index, seeds=own)
            found[text][anyway] = 1.0
        return found
