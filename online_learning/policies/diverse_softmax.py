"""Softmax, position after position, with rules between the positions and exact propensities."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from online_learning.policies.options import DiverseSoftmaxOptions, SlateRules
from online_learning.policies.posterior_policy import PosteriorPolicy
from online_learning.policies.ranking import check_request, check_slates, slate_lengths, utilities
from online_learning.policies.slate_kernels import diverse_softmax
from online_learning.sampling import uniforms
from online_learning.statistics.posterior import LinearPosterior, LinearPrior, infer
from online_learning.types import Candidates, PropensityKind, Slates

_FRESH, _WHICH = 1, 2


class DiverseSoftmaxPolicy(PosteriorPolicy[LinearPosterior]):
    """Draws each position from a softmax over what is left, given what stands before it.

    A candidate's utility is the posterior mean of its reward, less `diversity` times its highest cosine
    similarity to a position before, if that is above 0: maximal marginal relevance (Carbonell & Goldstein,
    "The use of MMR, diversity-based reranking", SIGIR 1998), drawn from instead of maximised. With
    probability `fresh_share` the draw is among the fresh candidates only, so that
    propensity = fresh_share x softmax among the fresh + (1 - fresh_share) x softmax among all
    that the cap allows: exact, given the positions before. Pinned candidates, which come before all others
    (`online_learning.policies.pinning`), count for the cap and for similarity.

    A rule whose column is not in the candidates is not applied.

    Parameters
    ----------
    prior : belief about the weights before the first update
    options : see `DiverseSoftmaxOptions`
    """

    name = "diverse-softmax"
    Options = DiverseSoftmaxOptions
    propensity_kind: PropensityKind = "exact"

    def __init__(self, prior: LinearPrior, **options: Any) -> None:
        told = self.Options(**options)
        self.temperature = told.temperature
        self.rules = told.rules or SlateRules()
        super().__init__(prior, infer)

    def select(self, candidates: Candidates, *, k: NDArray[np.int64], seeds: NDArray[np.uint64]) -> Slates:
        """See `Policy.select`."""
        check_request(candidates, k, seeds)
        posterior = self._posterior
        lengths, width = np.minimum(k, candidates.valid.shape[1]), int(k.max(initial=0))
        index = np.full((len(k), width), -1, np.int64)
        for_fresh = uniforms(seeds, int(lengths.max(initial=0)), stream=_FRESH)
        which = uniforms(seeds, for_fresh.shape[1], stream=_WHICH)
        propensities = self._run(candidates, posterior, k, for_fresh, which, index, choosing=True)
        return Slates(index, propensities, posterior.version)

    def propensities(
        self, candidates: Candidates, index: NDArray[np.int64], *, seeds: NDArray[np.uint64]
    ) -> NDArray[np.float32]:
        """See `Policy.propensities`."""
        check_slates(candidates, index, seeds)
        nothing, no_k = np.zeros((len(index), 0)), np.zeros(len(index), np.int64)
        slates = np.ascontiguousarray(index, np.int64)
        return self._run(candidates, self._posterior, no_k, nothing, nothing, slates, choosing=False)

    def _run(
        self,
        candidates: Candidates,
        posterior: LinearPosterior,
        k: NDArray[np.int64],
        for_fresh: NDArray[np.float64],
        which: NDArray[np.float64],
        index: NDArray[np.int64],
        *,
        choosing: bool,
    ) -> NDArray[np.float32]:
        utility, usable = utilities(candidates, posterior)
        n, rules, pinned = len(usable), self.rules, candidates.pinned
        placed = np.zeros_like(usable) if pinned is None else (pinned >= 0) & ~candidates.valid
        vectors = candidates.vectors if rules.diversity else None
        groups = candidates.groups if rules.cap is not None else None
        fresh = candidates.fresh if rules.fresh_share else None
        propensities = np.zeros(index.shape, np.float32)
        diverse_softmax(
            utility, usable, placed,
            np.zeros((n, 0, 1), np.float32) if vectors is None else np.ascontiguousarray(vectors, np.float32),
            np.zeros((n, 0, 1), np.int32) if groups is None else np.ascontiguousarray(groups, np.int32),
            np.zeros((n, 0), np.bool_) if fresh is None else np.ascontiguousarray(fresh),
            (float(self.temperature), float(rules.diversity), rules.cap or 0, float(rules.fresh_share)),
            slate_lengths(usable, k), for_fresh, which, index, propensities, choosing,
        )  # fmt: skip
        return propensities
