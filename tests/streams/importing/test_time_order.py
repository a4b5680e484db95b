import random

from streams.importing.time_order import TimeOrder


def test_records_come_back_by_time_and_those_of_one_time_in_their_order() -> None:
    rng = random.Random(0)
    given = [(rng.randrange(50), f"u{n}", b"%d" % n) for n in range(1_000)]
    order = TimeOrder(part=64)
    for record in given:
        order.add(record)
    assert list(order.ordered()) == sorted(given, key=lambda record: record[0])
    order.close()


def test_no_more_than_a_part_is_held() -> None:
    order = TimeOrder(part=10)
    for n in range(95):
        order.add((95 - n, "u", b"v"))
        assert len(order._held) < 10
    assert [time for time, _, _ in order.ordered()] == list(range(1, 96))
    order.close()
