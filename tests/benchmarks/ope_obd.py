"""The Open Bandit sample by obp's own protocol: relative errors of every estimator, ours beside obp's.

Campaign all: the random policy's log says what Bernoulli Thompson sampling would earn, and what that earned
when it served is taken for the truth. 30 bootstraps, each with a logistic regression cross-fitted in three
folds; relative error = |estimate - truth| / truth. Both sides have the same rows, predictions and action
distribution. Run from the repository's root with the Python of an environment that has obp 0.5.7 (see
`ope_obp.py` for how to make one): `python -m tests.benchmarks.ope_obd --obp-python /path/to/venv/bin/python`.
"""

import csv
import gzip
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from online_learning.ope.estimators import ESTIMATORS, LoggedActions
from online_learning.ope.evaluation import Refusal, evaluate
from streams.session.machine import machine
from tests.benchmarks.inputs import faults_told

PEER = Path(__file__).with_name("ope_obd_peer.py")
DATA = Path(__file__).parents[2].parent / "shared" / "data" / "obd-sample"
TOLERANCE = 1e-6
# obp's examples/obd/README.md, 30 runs with logistic regression, another version of obp and of scikit-learn.
PUBLISHED = {"dm": 0.156876, "ips": 0.311082, "snips": 0.311795, "dr": 0.292464, "sndr": 0.302407}


def peer_runs(python: str, folder: Path, runs: int, simulations: int, seed: int) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [python, str(PEER), str(folder), str(runs), str(simulations), str(seed)]
    done = subprocess.run(command, env=environment, stdout=sys.stderr, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"obp's side failed: {' '.join(command)}\n{done.stderr[-2000:]}")


def estimates(log: dict[str, np.ndarray], run: dict[str, np.ndarray]) -> dict[str, tuple[float, bool]]:
    """Return by estimator what bts is worth, and whether our limits would refuse it."""
    distributions = log["distribution"].T[run["position"]][None]  # (1, n, A)
    ours = LoggedActions.from_distributions(
        run["reward"],
        run["action"],
        distributions,
        propensities=run["pscore"],
        predictions=run["predictions"],
    )
    verdicts = evaluate(ours, ESTIMATORS, resamples=1)
    return {
        name: (float(estimator(ours).values()[0]), isinstance(verdicts[name][0], Refusal))
        for name, estimator in ESTIMATORS.items()
    }


def check_rows(log: dict[str, np.ndarray], data: Path) -> str:
    """Say whether obp's sample is that of the folder."""
    if not data.is_dir():
        return f"rows: those that obp carries ({data} is not there to compare)"
    with gzip.open(data / "random_all.csv.gz", "rt") as lines:
        rows = sorted(csv.DictReader(lines), key=lambda row: row["timestamp"])
    wanted = (("action", "item_id"), ("reward", "click"), ("pscore", "propensity_score"))
    for key, column in wanted:
        ours = np.sort(np.array([float(row[column]) for row in rows]))
        if not np.array_equal(ours, np.sort(log[key])):
            sys.exit(f"{column} of {data} must be obp's {key}, got others")
    return f"rows: {len(rows):,} of {data.name}, the same as obp carries"


def main(
    obp_python: Annotated[str, typer.Option(help="Python of an environment that has obp.")] = "",
    runs: Annotated[int, typer.Option(min=2, help="Bootstraps.")] = 30,
    simulations: Annotated[
        int, typer.Option(help="Draws that estimate the action distribution.")
    ] = 1_000_000,
    seed: int = 12345,
    data: Annotated[Path, typer.Option(help="The sample, to compare obp's rows with.")] = DATA,
) -> None:
    """Relative errors of off-policy estimates on the Open Bandit sample, ours beside obp's."""
    if not obp_python:
        sys.exit("ope_obd needs --obp-python PYTHON: the protocol's policy and regression model are obp's")
    with tempfile.TemporaryDirectory() as folder:
        peer_runs(obp_python, Path(folder), runs, simulations, seed)
        log = dict(np.load(Path(folder) / "log.npz"))
        truth = float(log["truth"])
        errors = {name: np.empty((2, runs)) for name in ESTIMATORS}
        refused = dict.fromkeys(ESTIMATORS, 0)
        largest = 0.0
        for number in range(runs):
            with np.load(Path(folder) / f"run-{number}.npz") as loaded:
                run = dict(loaded)
            for name, (value, refuses) in estimates(log, run).items():
                theirs = float(run[f"value/{name}"])
                largest = max(largest, abs(value - theirs))
                errors[name][:, number] = np.abs(np.array([value, theirs]) - truth) / truth
                refused[name] += refuses
    print(f"{machine()}\n{check_rows(log, data)}")
    print(
        f"campaign all, random -> bts, {runs} bootstraps, {simulations:,} draws, logistic regression, seed "
        f"{seed}; truth {truth:.6f} (click rate of bts), random {log['reward'].mean():.6f}"
    )
    print(f"\n{'':>12} {'ours':>20} {'obp':>20} {'published':>10}  refused by our limits")
    for name, (ours, theirs) in errors.items():
        cells = [f"{of.mean():.6f} +- {of.std(ddof=1):.6f}" for of in (ours, theirs)]
        published = f"{PUBLISHED[name]:.6f}" if name in PUBLISHED else ""
        print(f"{name:>12} {cells[0]:>20} {cells[1]:>20} {published:>10}  {refused[name]} of {runs}")
    floor = abs(float(log["reward"].mean()) - truth) / truth
    print(f"{'floor':>12} {floor:.6f}: the random policy's own click rate taken for that of bts")
    print(f"\nlargest difference of a value {largest:.1e} (at most {TOLERANCE:g} wanted)")
    sys.exit(largest > TOLERANCE)


if __name__ == "__main__":
    with faults_told():
        typer.run(main)
