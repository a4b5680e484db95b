"""Our off-policy evaluation beside obp's: the same inputs, the estimates' differences and the times.

Run from the repository's root, with the Python of an environment that has obp 0.5.7:
`OMP_NUM_THREADS=1 python -m tests.benchmarks.ope_obp --obp-python /path/to/venv/bin/python`. Without it only
our own speed is measured. `--fixture` prints the small logs, with obp's estimates, that the tests carry.
obp 0.5.7 asks for a PyYAML that can no longer be built, so it is installed in two steps: `uv pip install
--no-deps obp==0.5.7`, then `uv pip install 'numpy<2' 'pandas<2.2' 'scikit-learn<1.5' 'scipy<1.13'
'matplotlib<3.9' 'seaborn<0.13' torch tqdm pyyaml mypy-extensions`.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from online_learning.ope.estimators import ESTIMATORS, LoggedActions
from online_learning.ope.evaluation import Refusal, evaluate
from online_learning.ope.intervals import bootstrap
from online_learning.ope.slates import SLATE_ESTIMATORS, LoggedSlates
from tests.benchmarks.inputs import faults_told
from tests.benchmarks.policies import best_seconds

PEER = Path(__file__).with_name("ope_obp_peer.py")
RESAMPLES, CANDIDATES, TOLERANCE = 1000, 10, 1e-6
Arrays = dict[str, np.ndarray]


def peer_results(python: str, *, fixture: bool) -> Arrays:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "obp.npz"
        environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        command = [python, str(PEER), str(out), *(["--fixture"] if fixture else [])]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"obp's side failed: {' '.join(command)}\n{done.stderr[-2000:]}")
        with np.load(out) as results:
            return dict(results)


def part(results: Arrays, prefix: str) -> Arrays:
    return {key.removeprefix(prefix): value for key, value in results.items() if key.startswith(prefix)}


def candidates(one: np.ndarray, copies: int) -> np.ndarray:
    """Return (copies, ...) arrays of one candidate, in memory of their own where there are several."""
    return one[None] if copies == 1 else np.repeat(one[None], copies, axis=0)


def actions_log(inputs: Arrays, *, copies: int = 1) -> LoggedActions:
    """Return our log from obp's arrays; the time this takes counts as ours."""
    rows = np.arange(len(inputs["reward"]))

    def at_position(cube: np.ndarray) -> np.ndarray:
        return cube[rows, :, inputs["position"]] if "position" in inputs else cube[:, :, 0]

    return LoggedActions.from_distributions(
        inputs["reward"],
        inputs["action"],
        candidates(at_position(inputs["action_dist"]), copies),
        propensities=inputs["pscore"],
        predictions=at_position(inputs["estimated_rewards_by_reg_model"]),
    )


def slates_log(inputs: Arrays, *, copies: int = 1) -> LoggedSlates:
    """Return our log from obp's arrays; the time this takes counts as ours."""
    length = int(inputs["position"].max()) + 1

    def by_slate(key: str) -> np.ndarray:
        return inputs[key].reshape(-1, length)

    def conditional(key: str) -> np.ndarray:
        joint = by_slate(key)
        return np.concatenate([joint[:, :1], joint[:, 1:] / joint[:, :-1]], axis=1)

    predictions = inputs["q_hat"].reshape(*by_slate("reward").shape, -1)
    distribution = inputs["evaluation_policy_action_dist"].reshape(predictions.shape)
    chosen = np.take_along_axis(predictions, by_slate("action")[:, :, None], axis=2)[:, :, 0]

    return LoggedSlates(
        by_slate("reward"),
        candidates(conditional("evaluation_policy_pscore_cascade"), copies),
        conditional("pscore_cascade"),
        target_marginal=candidates(by_slate("evaluation_policy_pscore_item_position"), copies),
        marginal=by_slate("pscore_item_position"),
        predicted=chosen,
        expected=candidates(np.vecdot(distribution, predictions), copies),
    )


def values(log: Any, estimators: dict[str, Any]) -> dict[str, np.ndarray]:
    return {name: estimator(log).values() for name, estimator in estimators.items()}


def intervals(log: Any, estimators: dict[str, Any]) -> list[tuple[np.ndarray, np.ndarray]]:
    return bootstrap([estimator(log) for estimator in estimators.values()], resamples=RESAMPLES)


def compare(
    name: str, peer: Arrays, make: Callable[..., Any], registry: dict[str, Callable[[Any], Any]]
) -> tuple[float, float, float]:
    """Print obp's and our estimates of one log; return the largest difference and the two speed-ups."""
    inputs, theirs = part(peer, "input/"), part(peer, "value/")
    estimators = {key: registry[key] for key in theirs}
    ours = values(make(inputs), estimators)
    ends = dict(zip(estimators, intervals(make(inputs), estimators), strict=True))
    verdicts = evaluate(make(inputs), estimators, resamples=2)
    print(f"\n{name}: {len(inputs['reward']):,} rows")
    print(f"{'':>12} {'obp':>11} {'ours':>11} {'difference':>11}   obp's and our 95 % interval")
    for key in theirs:
        difference = abs(float(ours[key][0]) - float(theirs[key]))
        low, high = (float(end[0]) for end in ends[key])
        obp_low, obp_high = peer[f"interval/{key}"]
        verdict = verdicts[key][0]
        note = f"  refused: {verdict.reason.partition(';')[0]}" if isinstance(verdict, Refusal) else ""
        print(
            f"{key:>12} {float(theirs[key]):>11.6f} {ours[key][0]:>11.6f} {difference:>11.1e}   "
            f"[{obp_low:.5f}, {obp_high:.5f}] [{low:.5f}, {high:.5f}]{note}"
        )
    worst = max(abs(float(ours[key][0]) - float(theirs[key])) for key in theirs)
    gains = []
    for what, work in (("values", values), ("intervals", intervals)):
        obp_seconds = float(peer[f"seconds/{what}"])
        one, many = (
            best_seconds(lambda work=work, n=n: work(make(inputs, copies=n), estimators), repeats=3)
            for n in (1, CANDIDATES)
        )
        gains.append(obp_seconds / one)
        print(
            f"{what:>12}: obp {obp_seconds * 1e3:,.1f} ms, ours {one * 1e3:,.2f} ms, {gains[-1]:.0f}x; "
            f"{CANDIDATES} candidates {many * 1e3:,.1f} ms, {CANDIDATES * obp_seconds / many:.0f}x"
        )
    return worst, *gains


def own_speed() -> None:
    rng = np.random.default_rng(0)
    n, n_actions = 100_000, 30
    logging = rng.dirichlet(np.ones(n_actions), n) * 0.9 + 0.1 / n_actions
    candidates = rng.dirichlet(np.ones(n_actions), (CANDIDATES, n))
    actions = (logging.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    predictions = rng.random((n, n_actions)) * 0.1
    rewards = (rng.random(n) < 0.05).astype(float)

    def log() -> LoggedActions:
        return LoggedActions.from_distributions(
            rewards,
            actions,
            candidates,
            propensities=logging[np.arange(n), actions],
            predictions=predictions,
        )

    print(f"ours: {n:,} rows, {n_actions} actions, {CANDIDATES} candidates, {len(ESTIMATORS)} estimators")
    seconds = best_seconds(lambda: values(log(), dict(ESTIMATORS)), repeats=3)
    print(f"{'values':>12}: {seconds:.3f} s, {n * CANDIDATES / seconds:,.0f} rows of a candidate a second")
    seconds = best_seconds(lambda: evaluate(log(), ESTIMATORS, resamples=200), repeats=1)
    print(f"{'evaluate':>12}: {seconds:.3f} s with 200 resamples and diagnostics")


def print_fixture(results: Arrays) -> None:
    """Print obp's inputs and estimates as Python, in the rows that the tests carry."""
    for key, value in results.items():
        print(f"{key!r}: {value.tolist()!r},")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--obp-python", help="Python of an environment that has obp")
    parser.add_argument("--fixture", action="store_true", help="print the tests' numbers and stop")
    arguments = parser.parse_args()
    if not arguments.obp_python:
        own_speed()
        print("skipped: obp, for want of --obp-python")
        return
    peer = peer_results(arguments.obp_python, fixture=arguments.fixture)
    if arguments.fixture:
        print_fixture(peer)
        return
    own_speed()
    found = [
        compare(name, part(peer, f"{name}/"), make, dict(registry))
        for name, make, registry in (
            ("synthetic", actions_log, ESTIMATORS),
            ("obd-all", actions_log, ESTIMATORS),
            ("obd-men", actions_log, ESTIMATORS),
            ("obd-women", actions_log, ESTIMATORS),
            ("slates", slates_log, SLATE_ESTIMATORS),
        )
    ]
    worst = max(row[0] for row in found)
    print(f"\nlargest difference {worst:.1e} (at most {TOLERANCE:g} wanted)")
    for column, what in ((1, "values"), (2, "intervals")):
        print(f"speed-up of {what}: {min(row[column] for row in found):.0f}x at least (10x wanted)")
    sys.exit(worst > TOLERANCE)


if __name__ == "__main__":
    with faults_told():
        main()
