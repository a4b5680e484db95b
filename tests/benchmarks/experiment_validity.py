"""How often experiments cry wolf when one looks all the time, and how soon they find what is there.

    python -m tests.benchmarks.experiment_validity

Streams of slates are simulated, `runs` at a time, and judged every 20 slates from the 200th on: by the
always-valid interval of `difference_of_means` (alpha 5 %, planned for a quarter of the slates), and by the
ordinary 95 % interval for one look. An alarm is a look at which 0 lies outside. Populations:

new        every slate is a new user's; a click with probability 0.1
returning  400 users come back again and again; their own click rates are Beta(1, 9)
spenders   every slate is a new user's; 2 % buy, for a lognormal amount (sigma 1): a heavy tail
satiating  400 users who each like 5 things and do not click a thing twice, so whoever has earned more earns
           less from then on: the case that the argument for growing totals does not cover

Then real lifts, the sample-ratio alarm at 1 % with users lost, and interleaving against an A/B split. Rates
are given with their standard error. One seed makes every figure again.
"""

import platform
import time
from collections.abc import Iterator
from typing import Annotated

import numpy as np
import typer
from scipy.stats import chi2, norm

from online_learning.experiments.sequential import difference_of_means
from online_learning.experiments.srm import log_evidence
from tests.benchmarks.inputs import faults_told

FIRST, EVERY, USERS, LIKED = 200, 20, 400, 5
POPULATIONS = ("new", "returning", "spenders", "satiating")
Z = norm.isf(0.025)


def rewards_of(
    population: str, rng: np.random.Generator, rates: np.ndarray, before: np.ndarray, factor: np.ndarray
) -> np.ndarray:
    """Reward of one slate in each run: (runs,) float64; factor lifts the probability of one."""
    luck = rng.random(len(factor))
    if population == "spenders":
        return np.where(luck < 0.02 * factor, rng.lognormal(size=len(factor)), 0.0)
    chance = {"new": 0.1, "returning": rates, "satiating": 0.4 * (1.0 - before / LIKED)}[population]
    return (luck < chance * factor).astype(float)


def moments(
    population: str, runs: int, slates: int, seed: int, lift: float = 0.0
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield, at each look, users, totals and squares of both variants: (3, 2, runs)."""
    rng = np.random.default_rng(seed)
    every = np.arange(runs)
    back = population in ("returning", "satiating")
    variants = rng.integers(0, 2, (runs, USERS))
    rates = rng.beta(1, 9, (runs, USERS))
    totals, seen = np.zeros((runs, USERS)), np.zeros((runs, USERS), bool)
    found = np.zeros((3, 2, runs))
    for slate in range(1, slates + 1):
        user = rng.integers(0, USERS, runs)
        variant = variants[every, user] if back else rng.integers(0, 2, runs)
        before = totals[every, user] if back else np.zeros(runs)
        factor = 1.0 + lift * variant
        reward = rewards_of(population, rng, rates[every, user], before, factor)
        first = ~seen[every, user] if back else np.ones(runs, bool)
        found[0, variant, every] += first
        found[1, variant, every] += reward
        found[2, variant, every] += (before + reward) ** 2 - before**2
        totals[every, user], seen[every, user] = before + reward, True
        if slate >= FIRST and slate % EVERY == 0:
            yield slate, found


def detections(
    population: str, runs: int, slates: int, seed: int, lift: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Slates at the first alarm, inf without: always-valid, ordinary at every look, ordinary at the end."""
    valid, ordinary, end = (np.full(runs, np.inf) for _ in range(3))
    for slate, (users, total, squares) in moments(population, runs, slates, seed, lift):
        pairs = [(users[one], total[one], squares[one]) for one in (0, 1)]
        difference = difference_of_means(*pairs, slate, alpha=0.05, plan=slates / 4)
        alarm = (difference.low > 0) | (difference.high < 0)
        valid[alarm & np.isinf(valid)] = slate
        means = total / users
        error = np.sqrt(((squares / users - means**2) / (users - 1)).sum(axis=0))
        outside = np.abs(means[1] - means[0]) > Z * error
        ordinary[outside & np.isinf(ordinary)] = slate
        if slate > slates - EVERY:
            end[outside] = slate
    return valid, ordinary, end


def rate(found: np.ndarray) -> str:
    """Share of runs that ended, with its standard error."""
    share = np.isfinite(found).mean()
    return f"{share:6.1%} ± {np.sqrt(share * (1 - share) / len(found)):.1%}"


def median(found: np.ndarray) -> str:
    """Median slates at the first alarm over all runs."""
    middle = np.median(found)
    return f"{middle:,.0f}" if np.isfinite(middle) else "never"


def sample_ratio(runs: int, users: int, seed: int, lost: float) -> tuple[np.ndarray, np.ndarray]:
    """Users at the first alarm, at every 100th: by the evidence at 1 %, and by a chi-square at 1 %."""
    rng = np.random.default_rng(seed)
    evident, ordinary = np.full(runs, np.inf), np.full(runs, np.inf)
    counts = np.zeros((runs, 2))
    chance = (1 - lost) / (2 - lost)
    for n in range(100, users + 1, 100):
        b = rng.binomial(100, chance, runs)
        counts += np.stack((100 - b, b), axis=1)
        evident[(log_evidence(counts, [0.5, 0.5]) > np.log(100)) & np.isinf(evident)] = n
        statistic = ((counts - n / 2) ** 2 / (n / 2)).sum(axis=1)
        ordinary[(statistic > chi2.isf(0.01, 1)) & np.isinf(ordinary)] = n
    return evident, ordinary


def duels(runs: int, slates: int, seed: int, chance: float, lift: float) -> tuple[np.ndarray, np.ndarray]:
    """Slates of 10 at the first alarm: interleaved, and of an A/B split of the same users.

    Users differ in how much they click (a gamma factor of shape 1): a slate of both policies cancels that.
    """
    rng = np.random.default_rng(seed)
    drafted, split = np.full(runs, np.inf), np.full(runs, np.inf)
    wins, losses = np.zeros(runs, int), np.zeros(runs, int)
    sums = np.zeros((3, 2, runs))
    every = np.arange(runs)
    for slate in range(1, slates + 1):
        activity = np.minimum(rng.gamma(1.0, size=runs), 4.0)
        clicks = [rng.binomial(5, chance * activity * (1 + lift * team)) for team in (0, 1)]
        wins += clicks[1] > clicks[0]
        losses += clicks[1] < clicks[0]
        variant = rng.integers(0, 2, runs)
        reward = rng.binomial(10, chance * activity * (1 + lift * variant))
        for row, value in enumerate((1.0, reward, reward**2)):
            sums[row, variant, every] += value
        if slate < FIRST or slate % (5 * EVERY):
            continue
        # 1/2 is outside of `win_rate_interval` exactly when the evidence against it is above 1 / alpha.
        evidence = log_evidence(np.stack((wins, losses), axis=1), [0.5, 0.5])
        drafted[(evidence > np.log(20)) & np.isinf(drafted)] = slate
        pairs = [tuple(sums[:, one]) for one in (0, 1)]
        found = difference_of_means(*pairs, slate, alpha=0.05, plan=slates / 4)
        split[((found.low > 0) | (found.high < 0)) & np.isinf(split)] = slate
    return drafted, split


def main(
    runs: Annotated[int, typer.Option(min=10, help="Simulated experiments of each kind.")] = 500,
    slates: Annotated[int, typer.Option(min=1_000, help="Slates of one experiment.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Of everything.")] = 0,
) -> None:
    """Measure false alarms and power; half a minute of one core."""
    started = time.perf_counter()
    print(f"{runs:,} runs of {slates:,} slates, seed {seed}, {platform.machine()}, numpy {np.__version__}\n")
    print("A/A: experiments with a false alarm, looked at every 20 slates")
    print(f"{'population':12}{'always valid':>17}{'ordinary, all looks':>23}{'ordinary, last look':>23}")
    for population in POPULATIONS:
        found = detections(population, runs, slates, seed)
        print(f"{population:12}{rate(found[0]):>17}{rate(found[1]):>23}{rate(found[2]):>23}", flush=True)
    print("\nA/B: experiments in which a real lift was found, and slates until then (median)")
    print(f"{'population':12}{'lift':>6}{'always valid':>17}{'slates':>9}{'ordinary, last look':>23}")
    for population, lift in (("new", 0.1), ("new", 0.2), ("new", 0.4), ("returning", 0.4), ("spenders", 0.4)):
        valid, _, end = detections(population, runs, slates, seed + 1, lift)
        print(f"{population:12}{lift:6.0%}{rate(valid):>17}{median(valid):>9}{rate(end):>23}", flush=True)
    print("\nSample-ratio alarm at 1 %, looked at every 100 users, by share of one variant's users lost")
    print(f"{'lost':12}{'always valid':>17}{'users':>9}{'chi-square, all looks':>23}")
    for lost in (0.0, 0.02, 0.05, 0.1):
        evident, ordinary = sample_ratio(runs, slates, seed + 2, lost)
        print(f"{lost:<12.0%}{rate(evident):>17}{median(evident):>9}{rate(ordinary):>23}", flush=True)
    print("\nInterleaving and A/B on users of different activity, always valid, slates of 10")
    print(f"{'clicks':>6}{'lift':>6}{'interleaved':>17}{'slates':>9}{'A/B':>17}{'slates':>9}")
    for chance, lift in ((0.05, 0.0), (0.05, 0.1), (0.2, 0.0), (0.2, 0.1)):
        drafted, split = duels(runs, slates // 2, seed + 3, chance, lift)
        found = f"{rate(drafted):>17}{median(drafted):>9}{rate(split):>17}{median(split):>9}"
        print(f"{chance:6.0%}{lift:6.0%}{found}", flush=True)
    print(f"\n{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    with faults_told():
        typer.run(main)
