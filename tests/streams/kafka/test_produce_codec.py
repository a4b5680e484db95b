"""The quick form of produce requests and responses is aiokafka's own, byte for byte."""

from io import BytesIO

import pytest
from aiokafka.protocol.produce import ProduceRequest, ProduceResponse_v7

from streams.kafka.produce_codec import VERSION, Answer, QuickProduceRequest

TOPICS = [("recommendations", [(0, b"one"), (3, bytearray(b"another"))]), ("käufe", [(12, b"")])]
PRODUCE = ProduceRequest.API_KEY


@pytest.mark.parametrize("transactional_id", [None, "wörker-1"])
def test_a_request_is_encoded_as_aiokafka_does(transactional_id: str | None) -> None:
    arguments = {
        "transactional_id": transactional_id,
        "required_acks": -1,
        "timeout": 40_000,
        "topics": TOPICS,
    }
    theirs = ProduceRequest(**arguments).prepare({PRODUCE: (0, VERSION)})
    ours = QuickProduceRequest(**arguments).prepare({PRODUCE: (3, 13)})
    assert theirs.API_VERSION == ours.API_VERSION == VERSION
    assert ours.encode() == theirs.encode()


@pytest.mark.parametrize("known", [(0, 6), (0, 2)])
def test_a_broker_that_does_not_know_the_version_is_left_to_aiokafka(known: tuple[int, int]) -> None:
    request = QuickProduceRequest(None, -1, 1, TOPICS)
    assert known[1] == request.prepare({PRODUCE: known}).API_VERSION


def test_a_response_says_what_aiokafka_reads_in_it() -> None:
    topics = [("recommendations", [(0, 0, 17, -1, 0), (3, 6, -1, -1, -1)]), ("käufe", [])]
    data = BytesIO(b"head" + ProduceResponse_v7(topics, 0).encode())
    data.seek(4)
    ours = Answer.decode(data)
    assert ours.API_VERSION == VERSION
    assert ours.topics == topics
