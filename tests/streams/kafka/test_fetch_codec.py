"""The quick form of fetch requests and responses is aiokafka's own, byte for byte."""

from io import BytesIO

import pytest
from aiokafka.protocol.fetch import FetchRequest, FetchResponse_v11

from streams.kafka.fetch_codec import VERSION, Answer, QuickFetchRequest

TOPICS = [("clicks", [(0, 7, 1000), (3, 2**40, 1000)]), ("käufe", [(12, 0, 5)])]


@pytest.mark.parametrize("rack", ["", "a"])
def test_a_request_is_encoded_as_aiokafka_does(rack: str) -> None:
    arguments = (500, 1, 2**20, 1, TOPICS)
    versions = {FetchRequest.API_KEY: (0, VERSION)}
    theirs = FetchRequest(*arguments, rack_id=rack).prepare(versions)
    ours = QuickFetchRequest(*arguments, rack_id=rack).prepare(versions)
    assert ours.encode() == theirs.encode()
    for one in (ours, theirs):
        header = one.build_request_header(correlation_id=5, client_id="me").encode()
        assert header == theirs.build_request_header(correlation_id=5, client_id="me").encode()


@pytest.mark.parametrize("known", [(0, 10), (12, 17)])
def test_a_broker_that_does_not_know_the_version_is_left_to_aiokafka(known: tuple[int, int]) -> None:
    request = QuickFetchRequest(500, 1, 2**20, 1, TOPICS)
    if known[0] > VERSION:
        with pytest.raises(NotImplementedError):
            request.prepare({FetchRequest.API_KEY: known})
    else:
        assert known[1] == request.prepare({FetchRequest.API_KEY: known}).API_VERSION


def test_a_response_says_what_aiokafka_reads_in_it() -> None:
    partitions = [
        (0, 0, 100, 90, 3, [(7, 50), (8, 60)], -1, b"records"),
        (3, 6, -1, -1, -1, None, -1, None),
        (4, 0, 5, 5, 0, [], 2, b""),
    ]
    theirs = FetchResponse_v11(0, 0, 0, [("clicks", partitions), ("käufe", [])])
    data = BytesIO(b"head" + theirs.encode())
    data.seek(4)
    ours = Answer.decode(data, asked_s=0.0)
    assert ours.API_VERSION == theirs.API_VERSION
    assert [(topic, [(*front, fetched.data) for *front, fetched in rows]) for topic, rows in ours.topics] == [
        ("clicks", [(*row[:5], row[5] or [], row[6], row[7] or b"") for row in partitions]),
        ("käufe", []),
    ]


def test_what_is_fetched_knows_where_all_partitions_of_the_response_end_that_could_be_read() -> None:
    rows = [(0, 0, 100, 90, 3, [], -1, b"records"), (3, 6, -1, -1, -1, None, -1, None)]
    response = FetchResponse_v11(0, 0, 0, [("requests", rows), ("clicks", [(0, 0, 7, 7, 0, [], -1, b"")])])
    answer = Answer.decode(BytesIO(response.encode()), asked_s=5.0)
    fetched = [row[-1] for _, partitions in answer.topics for row in partitions]
    for one in fetched:
        assert one.ends == {("requests", 0): 90, ("clicks", 0): 7}
        assert one.ends.asked_s == 5.0
