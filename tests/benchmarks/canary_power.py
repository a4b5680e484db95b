"""How many slates of a canary it takes to decide on it, by how much better or worse it is.

`python -m tests.benchmarks.canary_power [--click-through 0.1] [--share 0.05]` takes half a minute.
"""

import argparse
from collections import Counter

import numpy as np

from streams.releases.changes import ReleaseChange, Trial
from streams.releases.comparison import CANARY, GROUPS, LIVE, Comparison
from streams.settings import Settings
from tests.benchmarks.inputs import faults_told

LEADS = (-0.25, -0.1, 0.0, 0.1)
AT_ONCE = 250  # slates of the canary between two looks
MOST = 400_000


def decided(trial: Trial, lead: float, click_through: float, seed: int) -> tuple[str, int]:
    """What becomes of a canary whose click-through is `lead` of the live one's above it, after how many."""
    rng = np.random.default_rng(seed)
    comparison = Comparison(ReleaseChange("canary", "b" * 12, "", 0, trial=trial), "a" * 12)
    others = int(AT_ONCE * (1 / trial.share - 1))
    for slates in range(AT_ONCE, MOST, AT_ONCE):
        for side, n, rate in ((LIVE, others, click_through), (CANARY, AT_ONCE, click_through * (1 + lead))):
            groups = rng.integers(0, GROUPS, n)
            comparison.slates[side] += np.bincount(groups, minlength=GROUPS)
            comparison.earned[side] += np.bincount(groups, rng.random(n) < rate, minlength=GROUPS)
        if (outcome := comparison.outcome(0)) is not None:
            return "promoted" if outcome.promote else "rolled back", slates
    return "open", MOST


def main() -> None:
    """Print a line for each lead."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--click-through", type=float, default=0.1)
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--seeds", type=int, default=30)
    given = parser.parse_args()
    settings = Settings()
    trial = Trial(given.share, settings.canary_least_slates, 86_400.0, settings.canary_harm)
    for lead in LEADS:
        found = [decided(trial, lead, given.click_through, seed) for seed in range(given.seeds)]
        outcomes = Counter(outcome for outcome, _ in found)
        print(f"{lead:+.0%}: {np.median([n for _, n in found]):,.0f} slates of the canary, {dict(outcomes)}")


if __name__ == "__main__":
    with faults_told():
        main()
