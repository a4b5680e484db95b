from streams.kafka.lags import KEPT, Waiting


def test_a_record_waits_since_the_first_look_that_found_it() -> None:
    waiting = Waiting()
    assert waiting.seconds(10.0, processed=5, end=5) == 0
    assert waiting.seconds(11.0, processed=5, end=9) == 0
    assert waiting.seconds(14.0, processed=5, end=20) == 3
    assert waiting.seconds(15.0, processed=8, end=20) == 4
    assert waiting.seconds(16.0, processed=9, end=20) == 2
    assert waiting.seconds(17.0, processed=20, end=20) == 0


def test_what_is_processed_between_two_looks_never_waited() -> None:
    waiting = Waiting()
    assert [waiting.seconds(float(t), processed=100 * t, end=100 * t) for t in range(5)] == [0] * 5


def test_a_long_wait_is_told_from_few_looks() -> None:
    waiting = Waiting()
    for t in range(10 * KEPT):
        longest = waiting.seconds(float(t), processed=0, end=t + 1)
    assert longest == 10 * KEPT - 1
    assert len(waiting._seen) <= KEPT
    # Half of it processed: right to a few looks.
    assert abs(waiting.seconds(float(10 * KEPT), processed=5 * KEPT, end=10 * KEPT) - 5 * KEPT) < 50
