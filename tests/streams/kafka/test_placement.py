"""Records on a partition that their user does not hash to."""

import logging

import pytest

from streams.kafka.partitioner import partition_of
from streams.kafka.placement import Placement
from streams.metrics import Metrics

USERS = [f"u{number}" for number in range(96)]


@pytest.mark.parametrize("at_once", [1, 96])
def test_every_record_is_counted_and_its_producer_told_once_a_while(
    at_once: int, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = Metrics(process=False)
    placement = Placement(4, metrics)
    with caplog.at_level(logging.WARNING):
        for start in range(0, len(USERS), at_once):
            placement.check("requests", 1, USERS[start : start + at_once])
    wrong = sum(partition_of(user, 4) != 1 for user in USERS)
    assert f'wrong_partition_total{{topic="requests"}} {float(wrong)}'.encode() in metrics.render()[0]
    assert len(caplog.messages) == 1
    assert "partitioner=murmur2_random" in caplog.messages[0]
