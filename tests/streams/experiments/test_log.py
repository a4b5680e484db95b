import numpy as np

from streams.experiments.log import ExperimentLog
from tests.streams.experiments.records import POSITIVE, closed, experiment, shown


def test_a_slate_counts_once_however_often_its_records_come_and_in_whatever_order() -> None:
    records = [
        (shown("r1", "ann", "control", latency_ms=7.0, fallback="all_seen"), 50),
        (shown("r2", "bob", "b"), 20),
        (closed("r1", "ann", "control", [["click", "like"], ["view"], []]), 90),
        (shown("r1", "ann", "control", latency_ms=7.0, fallback="all_seen"), 60),
    ]
    for order in (records, records[::-1]):
        log = ExperimentLog(experiment(), POSITIVE)
        for value, broker_ms in order:
            log.add(value, broker_ms)
        found = log.columns()
        assert found.variants.tolist() == [1, 0]  # as they were shown
        assert found.users.tolist() == [0, 1]
        assert found.closed.tolist() == [False, True]
        assert found.rewards.tolist() == [0.0, 3.0]
        assert found.responses.tolist() == [0.0, 1.0]
        assert found.latency_ms.tolist() == [5.0, 7.0]
        assert found.fallback.tolist() == [False, True]


def test_a_correction_takes_the_place_of_what_was_said() -> None:
    log = ExperimentLog(experiment(), POSITIVE)
    log.add(closed("r1", "ann", "b", [["click"], []]), 90)
    log.add(closed("r1", "ann", "b", [["click"], ["like"]], correction=True), 95)
    assert log.columns().responses.tolist() == [2.0]


def test_what_only_feedback_remembers_has_no_latency() -> None:
    log = ExperimentLog(experiment(), POSITIVE)
    log.add(closed("r1", "ann", "b", [["click"]]), 90)
    assert np.isnan(log.columns().latency_ms).all()


def test_an_empty_slate_has_earned_nothing_for_good() -> None:
    log = ExperimentLog(experiment(), POSITIVE)
    log.add(shown("r1", "ann", "b", k=0), 5)
    found = log.columns()
    assert (found.empty.tolist(), found.closed.tolist(), found.rewards.tolist()) == ([True], [True], [0.0])


def test_records_of_others_and_what_is_no_record_say_nothing() -> None:
    log = ExperimentLog(experiment(), POSITIVE)
    other = [
        shown("r1", "ann", "b", name="cold"),
        shown("r2", "ann", None, name=None),
        b"{",
        b"",
        b"\xff",
        None,
    ]
    for value in [*other, shown("r3", "ann", "gone")]:
        log.add(value, 5)
    assert len(log.columns().users) == 0


def test_an_interleaved_slate_speaks_for_the_team_whose_items_were_taken() -> None:
    log = ExperimentLog(experiment(kind="interleaving"), POSITIVE)
    teams = ("b", "control", None, "b")  # the third was pinned: it speaks for nobody
    for number, actions in enumerate(
        ([["click"], [], [], []], [[], ["like"], [], []], [[], ["view"], ["click"], []], [["click"]] * 4)
    ):
        log.add(shown(f"r{number}", "ann", None, teams=teams), number)
        log.add(closed(f"r{number}", "ann", None, actions, teams=teams), 50)
    columns, speaks_for = log.interleaved()
    assert speaks_for.tolist() == [1, -1, 0, 1]
    assert columns.responses.tolist() == [1.0, 1.0, 1.0, 4.0]
    assert columns.closed.all()
