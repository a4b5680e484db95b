"""Workers of an earlier version and of this one in one group: an upgrade one by one, and a step back.

The earlier version is the commit before one that changed the rows of state; git has its files.
"""

import io
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pytest

from streams.kafka.topic_admin import create_topics
from streams.settings import load_settings
from streams.verify.compare import COMPARED
from tests.chaos.cluster import Cluster
from tests.chaos.runs import MAX_WORKERS, Run, of_tree
from tests.chaos.test_chaos import RUNS

ROOT = Path(__file__).resolve().parents[2]
ROWS = "streams/state/rows.py"
FIELD = r"^    [a-z_]+: [^,(]*( = [^,]*)?(  #.*)?$|^class \w+\(msgspec"
"""What a commit touches that changes what rows have."""
COUNTED_ALIKE = 2
"""How many changes ago items and policies were counted by the rules of today."""


def git(*arguments: str) -> bytes:
    """What git says of this tree; skips the test where there is no history."""
    try:
        return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no git history with an earlier version")


def earlier_commit(changes: int) -> str:
    """Return the commit before the rows changed for so many times."""
    found = git("log", "--follow", "--format=%H", f"-G{FIELD}", "--", ROWS).decode().split()
    if len(found) < changes:
        pytest.skip("no git history with an earlier version")
    return git("rev-parse", "--verify", f"{found[changes - 1]}^").decode().strip()


def tree_of(commit: str) -> Path:
    """Return a folder with the files of a commit and its kernels, compiled; it is kept for the next run."""
    folder = ROOT / "build" / "versions" / commit
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=folder.parent))
        with tarfile.open(fileobj=io.BytesIO(git("archive", commit))) as files:
            files.extractall(partial, filter="data")
        partial.rename(folder)
    variables = os.environ | of_tree(folder)
    subprocess.run([sys.executable, "-m", "streams.worker.warm_kernels"], env=variables, check=True)
    taken = [sys.executable, "-c", "import streams; print(streams.__file__)"]
    found = subprocess.run(taken, env=variables, check=True, capture_output=True, text=True).stdout
    assert Path(found.strip()).is_relative_to(folder)
    return folder


@pytest.mark.skipif(not RUNS, reason="make chaos")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("changes", [1, 2, 3])
def test_workers_of_two_versions_in_one_group_lose_nothing_and_answer_nothing_twice(
    tmp_path: Path, changes: int
) -> None:
    earlier = tree_of(earlier_commit(changes))
    with Cluster(wires=MAX_WORKERS) as cluster:
        settings = load_settings(
            bootstrap_servers=cluster.broker.bootstrap_servers,
            topic_prefix="upgrade.",
            group_id="upgrade",
            partitions=4,
        )
        create_topics(settings)
        kinds = COMPARED if changes <= COUNTED_ALIKE else ("users", "slates")
        with Run(
            settings, cluster, seed=changes, directory=tmp_path, tree=earlier, kinds=kinds,
            policy="thompson-disjoint",
        ) as run:  # fmt: skip
            replace(run, 0, None)
            replace(run, 1, earlier, signal.SIGKILL)  # a step back: it restores what the later one wrote
            for _ in range(2):
                replace(run, 0, None)
            run.check()


def replace(run: Run, at: int, tree: Path | None, how: signal.Signals = signal.SIGTERM) -> None:
    """End a worker under load, and start one of another version in its place; the others go on meanwhile."""
    run.traffic()
    run.end(run.workers[at], how)
    run.traffic()
    run.tree = tree
    run.done.append(f"{how.name} of {at}, and {'this' if tree is None else 'an earlier'} version")
    run.start()
    run.traffic()
