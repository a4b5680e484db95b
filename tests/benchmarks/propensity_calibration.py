"""Whether slates occur as often as their logged propensities say, for every policy.

Run `OMP_NUM_THREADS=1 python -m tests.benchmarks.propensity_calibration` from the repository's root.

One request, of five candidates that can be chosen and one that cannot, is answered under many seeds by a
policy that has learned from 30 impressions. Two of the candidates are alike. Exact propensities: each slate
of two positions is expected as often as the product of its propensities. Estimated ones, whose product is
biased: each item is expected at the first position as often as the mean of what was logged for it there, and
at the second, given the first, likewise; (p (S + 1) - 1) / S takes back what keeps a logged p above 0, and
the variance of the estimates (S samples each) is added to that of the counts. Chi-square over what is
expected five times or more; "off by" is the largest difference, as a share of all slates. A p value below
0.001 / policies fails the run.
"""

import platform
from typing import Annotated

import numpy as np
import typer
from scipy.stats import chi2

from online_learning.policies.options import SlateRules
from online_learning.policies.policy import Policy
from online_learning.policies.registry import POLICIES, create_policy
from online_learning.types import Candidates
from tests.benchmarks.inputs import faults_told
from tests.policy_checks import DIM, PRIOR, random_statistics, unit

K, BATCH, SAMPLES = 2, 2_000, 256
RULES = SlateRules(diversity=0.3, cap=1, fresh_share=0.2)

Cells = tuple[np.ndarray, np.ndarray, np.ndarray]  # observed, expected, how much wider than Poisson


def request(n: int) -> Candidates:
    rng = np.random.default_rng(18)
    features = rng.normal(scale=0.15, size=(1, 6, DIM)).astype(np.float32)
    features[..., 0] = 1.0
    features[:, 4] = features[:, 1]
    parts = (
        (features @ PRIOR.weights).astype(np.float32),
        features,
        np.array([[True, True, True, False, True, True]]),
        np.array([[0, 1, 2, 3, 1, 4]], np.uint64) * np.uint64(7919),
        unit(np.abs(rng.normal(size=(1, 6, 3)))),
        np.array([[[0], [1], [0], [0], [1], [2]]], np.int32),
        np.array([[False, True, True, False, False, False]]),
    )
    return Candidates(*(np.repeat(part, n, axis=0) for part in parts))


def slates(policy: Policy, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Index and propensities of n slates of the same request: (n, K) each."""
    many = request(BATCH)
    parts = [
        policy.select(many, k=np.full(BATCH, K), seeds=np.arange(first, first + BATCH, dtype=np.uint64))
        for first in range(0, n, BATCH)
    ]
    index = np.concatenate([part.index for part in parts])
    return index, np.concatenate([part.propensities for part in parts]).astype(np.float64)


def whole_slates(index: np.ndarray, propensities: np.ndarray) -> list[Cells]:
    _, first, observed = np.unique(index, axis=0, return_index=True, return_counts=True)
    expected = len(index) * propensities.prod(axis=1)[first]
    return [(observed, expected, np.ones(len(observed)))]


def position_by_position(index: np.ndarray, propensities: np.ndarray) -> list[Cells]:
    raw = (propensities * (SAMPLES + 1) - 1.0) / SAMPLES
    groups = [(np.full(len(index), True), 0)]
    groups += [(index[:, 0] == item, 1) for item in np.unique(index[:, 0])]
    cells = []
    for rows, position in groups:
        items, chances = index[rows, position], raw[rows, position]
        names, observed = np.unique(items, return_counts=True)
        mean = np.array([chances[items == name].mean() for name in names])
        cells.append((observed, len(items) * mean, 1.0 + 1.0 / (SAMPLES * np.maximum(mean, 1.0 / SAMPLES))))
    return cells


def test(cells: list[Cells]) -> tuple[float, int, float]:
    """Return chi-square, its degrees of freedom and the largest difference in slates."""
    statistic, freedom, error = 0.0, 0, 0.0
    for observed, expected, wider in cells:
        kept = expected >= 5.0
        gap = observed - expected
        statistic += float((gap**2 / (expected * wider))[kept].sum())
        freedom += max(0, int(kept.sum()) - 1)
        error = max(error, float(np.abs(gap).max()))
    return statistic, freedom, error


def main(n: Annotated[int, typer.Option("--slates", help="Of each policy.")] = 100_000) -> None:
    """Print a line for each policy."""
    print(f"{n:,} slates of {K} out of 5 candidates each; {platform.machine()}, seeds 0 to {n - 1:,}")
    columns = ("propensities", "slates seen", "chi-square", "freedom", "p", "off by")
    print(f"{'policy':>18}" + "".join(f"{column:>13}" for column in columns))
    failed = []
    for name in POLICIES:
        exploration = (
            4.0 if name == "thompson-logistic" else 1.0
        )  # log-odds move 4 times as far as p near 1/2
        policy = create_policy(name, PRIOR, exploration=exploration, propensity_samples=SAMPLES, rules=RULES)
        policy.update(random_statistics(policy, 1, n=30))
        index, propensities = slates(policy, n)
        exact = policy.propensity_kind == "exact"
        cells = (whole_slates if exact else position_by_position)(index, propensities)
        statistic, freedom, error = test(cells)
        seen = len(np.unique(index, axis=0))
        # One slate, always: there is nothing to test but that it says so.
        p_value = float(chi2.sf(statistic, freedom)) if freedom else float(error < 1e-6)
        if p_value < 1e-3 / len(POLICIES):
            failed.append(name)
        line = (
            policy.propensity_kind,
            f"{seen}",
            f"{statistic:.1f}",
            f"{freedom}",
            f"{p_value:.3f}",
            f"{error / n:.4f}",
        )
        print(f"{name:>18}" + "".join(f"{cell:>13}" for cell in line), flush=True)
    if failed:
        raise SystemExit(f"not calibrated: {', '.join(failed)}")


if __name__ == "__main__":
    with faults_told():
        typer.run(main)
