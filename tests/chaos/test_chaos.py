"""Whatever goes wrong, state is the fold of the log, and every request has its slate.

Ten short runs take turns by the day: each kind of fault comes once in two days. CHAOS_DAY, 0 or 1, chooses.
CHAOS_RUNS and CHAOS_SEED (`make chaos`) make more runs, with other seeds; CHAOS_FAULTS, names with commas
between them, lets them be of some kinds alone.
"""

import os
import random
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, count
from pathlib import Path
from typing import Any

import pytest

from streams.kafka.topic_admin import create_topics
from streams.settings import load_settings
from tests.chaos.cluster import Cluster
from tests.chaos.faults import FAULTS, OF_THE_BROKER
from tests.chaos.network import Wire
from tests.chaos.runs import MAX_WORKERS, Run
from tests.once import once_a_run
from tests.streams.releases.made import train_tiny, variant

RUNS = int(os.environ.get("CHAOS_RUNS", "0"))
SEED = int(os.environ.get("CHAOS_SEED", "1"))
KINDS = tuple(os.environ.get("CHAOS_FAULTS", ",".join(FAULTS)).split(","))
LENGTH = 6  # faults of a run
POLICIES = ("greedy", "thompson", "thompson-disjoint", "thompson-logistic")

DAYS = (
    (
        ("time_out",), ("kill",), ("kill_in_flush",), ("freeze",), ("join", "leave"), ("jump_clock",),
        ("compact",), ("trim_clicks",), ("lose_offsets",), ("restart_broker", "freeze_broker"),
    ),
    (
        ("kill_all",), ("stop",), ("cut_off",), ("deliver_late",), ("fill_disk",), ("lose_answers",),
        ("abort_clicks",), ("erase_users",), ("kill_broker",), ("fill_broker_disk",),
    ),
)  # fmt: skip
"""The faults of each short run of a day."""
DAY = int(os.environ.get("CHAOS_DAY", time.time() // 86_400))
SIDE_BY_SIDE = 4  # runs that share a broker
ERASE_HOURS = 10 / 3600  # what erased users taught leaves the sums within a run
WIRES = 2  # workers that a short run may have


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A broker that may be stopped."""
    with Cluster(wires=MAX_WORKERS) as running:
        yield running


def possible(cluster: Cluster) -> list[str]:
    """Faults that can be done here."""
    return [name for name in KINDS if name != "fill_broker_disk" or cluster.disk is not None]


def run_of(cluster: Cluster, directory: Path, *, seed: int, partitions: int = 4, **values: Any) -> Run:
    """A run on topics of its own, which exist."""
    name = f"chaos{seed}"
    settings = load_settings(
        bootstrap_servers=cluster.broker.bootstrap_servers,
        topic_prefix=f"{name}.",
        group_id=name,
        partitions=partitions,
    )
    create_topics(settings)
    return Run(settings, cluster, seed=seed, directory=directory, erase_share_hours=ERASE_HOURS, **values)


def suffer(chaos: Run, faults: Iterable[str]) -> None:
    """Faults, one after the other and each under load, and the check in the end."""
    for fault in faults:
        chaos.traffic()
        with chaos.doing(fault):
            FAULTS[fault](chaos)
    with chaos.doing("check"):
        chaos.check()


def test_every_kind_of_fault_comes_in_two_days_of_ten_short_runs() -> None:
    assert sorted(chain.from_iterable(chain.from_iterable(DAYS))) == sorted(FAULTS)
    assert [len(runs) for runs in DAYS] == [10, 10]


@pytest.mark.timeout(1_200)  # where others have the processors; else two minutes
def test_after_the_faults_of_a_day_nothing_is_lost_doubled_or_unanswered(tmp_path: Path) -> None:
    """Runs whose faults are not the broker's share one; the others have one that nobody else needs."""
    numbers = count()

    def run(on: Cluster, wires: list[Wire], faults: Iterable[str]) -> None:
        number = next(numbers)
        directory = tmp_path / str(number)
        directory.mkdir()
        values = {"policy": POLICIES[number % len(POLICIES)], "wires": wires, "quick": True}
        with run_of(on, directory, seed=number, partitions=2, **values) as chaos:
            suffer(chaos, faults)

    with (
        Cluster(wires=SIDE_BY_SIDE * WIRES) as shared,
        Cluster(wires=WIRES) as own,
        ThreadPoolExecutor(SIDE_BY_SIDE) as pool,
    ):
        runs = DAYS[DAY % len(DAYS)]
        alone = [faults for faults in runs if set(faults) & set(OF_THE_BROKER)]
        beside = [faults for faults in runs if faults not in alone]
        parts = [shared.wires[at : at + WIRES] for at in range(0, len(shared.wires), WIRES)]
        free = list(parts)

        def next_run(faults: Iterable[str]) -> None:
            wires = free.pop()
            try:
                run(shared, wires, faults)
            finally:
                free.append(wires)

        with shared.kept_if_it_fails(tmp_path / "shared"), own.kept_if_it_fails(tmp_path / "own"):
            done = [pool.submit(next_run, faults) for faults in beside]
            for faults in alone:
                run(own, own.wires, [one for one in faults if one in possible(own)])
            for one in done:
                one.result()


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
    faults = draw.choices(possible(cluster), k=LENGTH)
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
