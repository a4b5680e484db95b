"""How often intervals of off-policy estimates hold what the policy earns when it serves.

Logs of a softmax policy, with the shadow propensities of others as a worker logs them, in a world whose users
differ in how readily they respond. The truth is had by letting each policy serve. Run from the repository's
root: `OMP_NUM_THREADS=1 python -m tests.benchmarks.ope_coverage`.
"""

from typing import Annotated

import numpy as np
import typer

from online_learning.ope.evaluation import Estimate, evaluate
from online_learning.ope.slates import SLATE_ESTIMATORS, LoggedSlates
from online_learning.policies.policy_spec import PolicySpec
from online_learning.statistics.posterior import LinearPrior
from online_learning.types import Candidates
from streams.session.machine import machine
from tests.benchmarks.inputs import faults_told

WEIGHTS = np.array([0.3, 0.15, -0.1, 0.05])
PRIOR = LinearPrior(WEIGHTS, precision=20.0)
N_ITEMS, K = 8, 3
LIVE = "softmax:temperature=0.3"
POLICIES = (
    LIVE,
    "softmax:temperature=0.15",
    "epsilon-greedy:epsilon=0.5",
    "random",
    "thompson:exploration=1,propensity_samples=128",
)
ESTIMATORS = ("rips", "snrips", "snsips")


class World:
    """Visits of users who come `per_user` times, each with a readiness to respond of their own."""

    def __init__(self, n: int, per_user: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.users = np.arange(n) // per_user
        self.readiness = rng.uniform(0.4, 1.6, self.users[-1] + 1)[self.users]
        features = rng.normal(scale=0.5, size=(n, N_ITEMS, len(WEIGHTS))).astype(np.float32)
        features[..., 0] = 1.0
        self.candidates = Candidates(features[..., 1], features, np.ones((n, N_ITEMS), np.bool_))
        self.seeds = rng.integers(0, 2**63, n, dtype=np.uint64)

    def serve(self, policy: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return slates, their propensities, and the chance of a response at each position."""
        made = PolicySpec.parse(policy).create(PRIOR)
        k = np.full(len(self.seeds), K)
        slates = made.select(self.candidates, k=k, seeds=self.seeds)
        chosen = np.take_along_axis(self.candidates.features, slates.index[:, :, None], axis=1)
        chance = np.clip(chosen @ WEIGHTS, 0.02, 0.9) * self.readiness[:, None]
        chance[:, 1:] *= 1.0 - 0.3 * np.clip(chance[:, :-1], 0.0, 1.0)  # a good one takes from the next
        return slates.index, slates.propensities.astype(float), np.clip(chance, 0.0, 1.0)


def truths(n: int) -> dict[str, float]:
    """Return what each policy earns a slate; of n users once, for users differ more than their visits."""
    return {policy: float(World(n, 1, seed=10**6).serve(policy)[2].sum(axis=1).mean()) for policy in POLICIES}


def main(
    logs: Annotated[int, typer.Option(min=10, help="Logs, each judged once.")] = 200,
    slates: Annotated[int, typer.Option(help="Slates of a log.")] = 2000,
    per_user: Annotated[int, typer.Option(help="Slates of a user.")] = 10,
    resamples: int = 300,
) -> None:
    """Coverage of 95 % intervals that draw users, and of those that take slates as independent."""
    truth = truths(200_000)
    shape = (len(ESTIMATORS), len(POLICIES))
    covered, widths = np.zeros((2, *shape)), np.zeros((2, *shape))
    judged, errors = np.zeros(shape), np.zeros((*shape, logs))
    for number in range(logs):
        world = World(slates, per_user, seed=number)
        index, logged, chance = world.serve(LIVE)
        rewards = (np.random.default_rng(number + 10**5).random(chance.shape) < chance).astype(float)
        target = [
            PolicySpec.parse(policy).create(PRIOR).propensities(world.candidates, index, seeds=~world.seeds)
            for policy in POLICIES
        ]
        log = LoggedSlates(rewards, np.stack(target).astype(float), logged)
        for way, clusters in enumerate((world.users, None)):
            found = evaluate(
                log,
                {name: SLATE_ESTIMATORS[name] for name in ESTIMATORS},
                resamples=resamples,
                seed=number,
                clusters=clusters,
            )
            for row, name in enumerate(ESTIMATORS):
                for column, (policy, one) in enumerate(zip(POLICIES, found[name], strict=True)):
                    if isinstance(one, Estimate):
                        covered[way, row, column] += one.low <= truth[policy] <= one.high
                        widths[way, row, column] += one.high - one.low
                        errors[row, column, number] = one.value - truth[policy]
                        judged[row, column] += way == 0
    print(machine())
    print(f"{logs} logs of {slates:,} slates of {K}, {per_user} a user, {N_ITEMS} candidates, live {LIVE}")
    print("truth: each policy serves 200,000 users once; nominal coverage 95 %\n")
    print(
        f"{'policy':>46} {'by':>7} {'truth':>7} {'bias':>8} {'users drawn':>18} {'slates drawn':>18}  refused"
    )
    for column, policy in enumerate(POLICIES):
        for row, name in enumerate(ESTIMATORS):
            n = max(judged[row, column], 1.0)
            cells = [
                f"{covered[way, row, column] / n:.1%} +-{widths[way, row, column] / n / 2:.4f}"
                for way in (0, 1)
            ]
            bias = errors[row, column].sum() / n
            refused = f"{logs - judged[row, column]:.0f} of {logs}"
            print(
                f"{policy:>46} {name:>7} {truth[policy]:>7.4f} {bias:>+8.4f} "
                f"{cells[0]:>18} {cells[1]:>18}  {refused}"
            )


if __name__ == "__main__":
    with faults_told():
        typer.run(main)
