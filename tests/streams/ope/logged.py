"""A log as a worker writes it: slates of a real policy, shadow propensities of others, users who respond."""

from dataclasses import dataclass

import numpy as np

from online_learning.policies.policy_spec import PolicySpec
from online_learning.statistics.posterior import LinearPrior
from online_learning.types import Candidates
from streams.events import Feedback, SlateItem, encode

N_ITEMS, DIM, K = 8, 4, 3
WEIGHTS = np.array([0.3, 0.15, -0.1, 0.05])
PRIOR = LinearPrior(WEIGHTS, precision=50.0)
POSITIVE = frozenset({"click", "like"})
LIVE = "softmax:temperature=0.3"
CANDIDATES = ("softmax:temperature=0.15", "random", "epsilon-greedy:epsilon=0.5", "greedy")


@dataclass(frozen=True)
class World:
    """n requests of n / 10 users."""

    n: int
    seed: int = 0

    def candidates(self) -> Candidates:
        rng = np.random.default_rng(self.seed)
        features = rng.normal(scale=0.5, size=(self.n, N_ITEMS, DIM)).astype(np.float32)
        features[..., 0] = 1.0
        return Candidates(features[..., 1], features, np.ones((self.n, N_ITEMS), np.bool_))

    def slates(self, policy: str, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
        seeds = np.arange(self.n, dtype=np.uint64) + np.uint64(seed * self.n)
        made = PolicySpec.parse(policy).create(PRIOR)
        chosen = made.select(self.candidates(), k=np.full(self.n, K), seeds=seeds)
        return chosen.index, chosen.propensities

    def chances(self, index: np.ndarray) -> np.ndarray:
        chosen = np.take_along_axis(self.candidates().features, index[:, :, None], axis=1)
        return np.clip(chosen @ WEIGHTS, 0.02, 0.98)

    def worth(self, policy: str) -> float:
        """Responses a slate when the policy serves."""
        return float(
            np.mean([self.chances(self.slates(policy, seed)[0]).sum(axis=1) for seed in range(2, 6)])
        )

    def feedback(self, live: str, candidates: tuple[str, ...], prefix: str) -> list[Feedback]:
        index, propensities = self.slates(live)
        seeds = np.arange(self.n, dtype=np.uint64)
        shadow = {
            name: PolicySpec.parse(name).create(PRIOR).propensities(self.candidates(), index, seeds=seeds)
            for name in candidates
        }
        taken = np.random.default_rng(self.seed + 1).random(index.shape) < self.chances(index)
        return [
            Feedback(
                request_id=f"{prefix}{row}",
                user_id=f"u{row % (self.n // 10)}",
                slate=[
                    SlateItem(f"i{item}", position, 0.5, float(propensities[row, position]))
                    for position, item in enumerate(index[row])
                ],
                rewards=(2.0 * taken[row]).tolist(),
                actions=[["view", "like"] if one else ["view"] for one in taken[row]],
                policy=live.partition(":")[0],
                policy_version=0,
                propensity_kind="exact",
                model_version="test",
                features=b"",
                feature_dim=0,
                timestamp_ms=1_764_000_000_000 + row,
                closed_ms=1_764_000_001_000 + row,
                candidate_propensities={name: column[row].tolist() for name, column in shadow.items()},
            )
            for row in range(self.n)
        ]

    def records(
        self, live: str = LIVE, candidates: tuple[str, ...] = CANDIDATES, *, prefix: str = "r"
    ) -> list[bytes]:
        return [encode(one) for one in self.feedback(live, candidates, prefix)]
