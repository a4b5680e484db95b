"""Whatever goes wrong, state is the fold of the log, and every request has its slate.

CHAOS_RUNS and CHAOS_SEED (`make chaos`) make more runs, with other seeds; CHAOS_FAULTS, names with commas
between them, lets them be of some kinds alone.
"""

import os
import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from streams.kafka.topic_admin import create_topics
from streams.settings import load_settings
from tests.chaos.cluster import Cluster
from tests.chaos.faults import FAULTS
from tests.chaos.runs import MAX_WORKERS, Run
from tests.once import once_a_run
from tests.streams.releases.made import train_tiny, variant

RUNS = int(os.environ.get("CHAOS_RUNS", "0"))
SEED = int(os.environ.get("CHAOS_SEED", "1"))
KINDS = tuple(os.environ.get("CHAOS_FAULTS", ",".join(FAULTS)).split(","))
LENGTH = 6  # faults of a run
POLICIES = ("greedy", "thompson", "thompson-disjoint", "thompson-logistic")
QUICK = ("kill_in_flush", "deliver_late", "abort_clicks", "restart_broker", "lose_offsets")


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A broker that may be stopped."""
    with Cluster(wires=MAX_WORKERS) as running:
        yield running


def run_of(cluster: Cluster, directory: Path, *, seed: int, **values: Any) -> Run:
    """A run on topics of its own, which exist."""
    name = f"chaos{seed}"
    settings = load_settings(
        bootstrap_servers=cluster.broker.bootstrap_servers,
        topic_prefix=f"{name}.",
        group_id=name,
        partitions=4,
    )
    create_topics(settings)
    return Run(settings, cluster, seed=seed, directory=directory, **values)


def suffer(chaos: Run, faults: Iterable[str]) -> None:
    """Faults, one after the other and each under load, and the check in the end."""
    for fault in faults:
        chaos.traffic()
        with chaos.doing(fault):
            FAULTS[fault](chaos)
    with chaos.doing("check"):
        chaos.check()


@pytest.mark.timeout(600)
def test_after_several_kinds_of_faults_nothing_is_lost_doubled_or_unanswered(
    cluster: Cluster, tmp_path: Path
) -> None:
    with run_of(cluster, tmp_path, seed=0, policy="thompson-disjoint") as chaos:
        suffer(chaos, QUICK)


@pytest.mark.skipif(not RUNS, reason="make chaos")
@pytest.mark.timeout(3_600)
# The run's own producer, given up because the broker's disk was full, cannot close when it is thrown away.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <function KafkaProducer.__del__")
@pytest.mark.parametrize("seed", range(SEED, SEED + RUNS))
def test_after_faults_by_a_seed_nothing_is_lost_doubled_or_unanswered(
    cluster: Cluster,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    record_property: Callable[[str, object], None],
    seed: int,
) -> None:
    draw = random.Random(seed)
    kinds = [name for name in KINDS if name != "fill_broker_disk" or cluster.disk is not None]
    faults = draw.choices(kinds, k=LENGTH)
    values: dict[str, Any] = {"policy": draw.choice(POLICIES)}
    if draw.random() < 0.5:
        trained = once_a_run(tmp_path_factory, "tiny-release", train_tiny)
        values["release"] = str(variant(trained, tmp_path / "release"))
    record_property(
        "settings", ", ".join([f"policy {values['policy']}", *(["a release"] * ("release" in values))])
    )
    record_property("evidence", str(tmp_path))
    with cluster.kept_if_it_fails(tmp_path), run_of(cluster, tmp_path, seed=seed, **values) as chaos:
        try:
            suffer(chaos, faults)
        finally:
            slates = ", ".join(f"{seconds:.1f}" for seconds in chaos.first_slates)
            record_property("faults, each with its seconds", ", ".join(chaos.done))
            record_property("first slates after kill -9, s", slates)
