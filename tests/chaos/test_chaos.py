"""Whatever goes wrong, state is the fold of the log, and every request has its slate.

CHAOS_RUNS and CHAOS_SEED (`make chaos`) make more runs, with other seeds.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.broker.embedded import EmbeddedBroker
from streams.kafka.topic_admin import create_topics
from streams.settings import load_settings
from tests.chaos.runs import FAULTS, Run

RUNS = int(os.environ.get("CHAOS_RUNS", "0"))
SEED = int(os.environ.get("CHAOS_SEED", "1"))
LENGTH = 6  # faults of a run


@pytest.fixture(scope="module")
def own_broker() -> Iterator[EmbeddedBroker]:
    """A broker that may be stopped."""
    with EmbeddedBroker() as broker:
        yield broker


def run(broker: EmbeddedBroker, directory: Path, *, seed: int, faults: list[str | None]) -> None:
    name = f"chaos{seed}"
    settings = load_settings(
        bootstrap_servers=broker.bootstrap_servers, topic_prefix=f"{name}.", group_id=name, partitions=4
    )
    create_topics(settings)
    with Run(settings, broker, seed=seed, directory=directory) as chaos:
        for fault in faults:
            chaos.traffic()
            chaos.fault(fault)
        chaos.check()


@pytest.mark.timeout(600)
def test_after_one_fault_of_each_kind_nothing_is_lost_doubled_or_unanswered(
    own_broker: EmbeddedBroker, tmp_path: Path
) -> None:
    run(own_broker, tmp_path, seed=0, faults=[name for name in FAULTS if name != "stop"])


@pytest.mark.skipif(not RUNS, reason="make chaos")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(SEED, SEED + RUNS))
def test_after_faults_by_a_seed_nothing_is_lost_doubled_or_unanswered(
    own_broker: EmbeddedBroker, tmp_path: Path, seed: int
) -> None:
    run(own_broker, tmp_path, seed=seed, faults=[None] * LENGTH)
