import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from streams.experiments.definition import Variant
from streams.experiments.log import ExperimentLog
from streams.experiments.report import Report, make_report
from streams.experiments.show import as_json, duration, plot, show, trajectory
from tests.streams.experiments.records import POSITIVE, duel_of, experiment, log_of, shown

DAY_MS = 86_400_000


def text_of(report: Report) -> str:
    console = Console(width=240, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        show(report, console)
        return console.export_text()


def test_a_lift_is_said_in_a_sentence_that_says_what_to_do() -> None:
    one = experiment(plan=4_000)
    report = make_report(one, log_of(one, users=4_000, rates={"control": 0.1, "b": 0.2}), DAY_MS)
    assert report.alarms == []
    assert report.verdict.startswith("b earns more than control: +0.")
    assert "slatestream experiment stop hot" in report.verdict
    shown_text = text_of(report)
    assert "hot (ab), running for 23 h 59 min, share 1: 4,000 users, 4,000 slates" in shown_text
    assert "greedy" in shown_text
    worse = make_report(one, log_of(one, users=4_000, rates={"control": 0.2, "b": 0.1}), DAY_MS)
    assert "b earns less than control" in worse.verdict


def test_no_difference_and_too_few_users_are_told_apart() -> None:
    one = experiment()
    equal = make_report(one, log_of(one, users=1_000, rates={"control": 0.1, "b": 0.1}), 9_000)
    assert equal.verdict.startswith("No difference between b and control is shown: it lies between -0.")
    few = make_report(one, log_of(one, users=40, rates={"control": 0.1, "b": 0.1}), 9_000)
    assert "Too early: a variant has" in few.verdict


def test_users_who_leave_no_record_raise_the_alarm_before_any_difference_is_believed() -> None:
    one = experiment()
    report = make_report(one, log_of(one, users=6_000, rates={"control": 0.1, "b": 0.2}, lost=0.2), 9_000)
    (alarm,) = report.alarms
    assert alarm.startswith("Sample ratio mismatch: users (control ")
    assert report.verdict.startswith("Look at the alarm first")
    assert "alarm Sample ratio mismatch" in text_of(report)


def test_a_guardrail_raises_the_alarm_for_the_variant_that_breaks_it() -> None:
    one = experiment(guardrails={"latency_p99_ms": 100.0, "empty_share": 0.5})
    log = log_of(one, users=200, rates={"control": 0.1, "b": 0.1})
    for number in range(20):
        log.add(shown(f"slow{number}", "u1", "b", latency_ms=900.0), 5_000)
    report = make_report(one, log, 9_000)
    guardrails = [alarm for alarm in report.alarms if "Guardrail" in alarm]
    assert guardrails == ["Guardrail: latency_p99_ms of b is 900, above 100."]
    assert [variant.broken for variant in report.variants] == [[], ["latency_p99_ms"]]


def test_a_user_of_two_variants_raises_the_alarm() -> None:
    log = ExperimentLog(experiment(), POSITIVE)
    log.add(shown("r1", "ann", "b"), 5)
    log.add(shown("r2", "ann", "control"), 6)
    assert "1 users were served by more than one variant." in make_report(experiment(), log, 9_000).alarms


def test_a_policy_of_a_segment_is_compared_with_nothing() -> None:
    one = experiment(kind="policy", variants=[Variant("all", "greedy")], segment="events<20", share=0.5)
    log = ExperimentLog(one, POSITIVE)
    log.add(shown("r1", "ann", "all"), 5)
    report = make_report(one, log, 9_000)
    assert report.sample_ratio_p is None
    assert report.verdict.startswith("greedy serves 50 % of users with events<20. To end that:")
    assert "users with events<20" in text_of(report)


def test_a_preference_is_found_and_a_tie_is_not() -> None:
    one = experiment(kind="interleaving")
    won = make_report(one, duel_of(one, wins=90, losses=30, ties=50), 9_000)
    assert won.preference is not None
    assert (won.preference.variant, won.preference.control, won.preference.undecided) == (90, 30, 50)
    assert won.verdict.startswith("b is preferred to control, 90 slates to 30: it wins 75.0 % of the decided")
    assert "for neither: 50" in text_of(won)
    lost = make_report(one, duel_of(one, wins=30, losses=90, ties=50), 9_000)
    assert lost.verdict.startswith("control is preferred to b")
    even = make_report(one, duel_of(one, wins=60, losses=62, ties=50), 9_000)
    assert even.verdict.startswith("No preference is shown, 60 slates to 62")


@pytest.mark.parametrize("kind", ["ab", "interleaving"])
def test_who_has_stopped_an_experiment_is_not_told_to(kind: str) -> None:
    for stopped_ms in (None, 8_000):
        one = experiment(kind=kind, stopped_ms=stopped_ms)
        log = (
            duel_of(one, wins=90, losses=30, ties=0)
            if kind == "interleaving"
            else log_of(one, users=1_000, rates={"control": 0.1, "b": 0.1})
        )
        assert ("stop" in make_report(one, log, 9_000).verdict) == (stopped_ms is None)


def test_an_experiment_without_a_slate_can_be_shown_and_drawn(tmp_path: Path) -> None:
    for one in (experiment(), experiment(kind="interleaving"), experiment(stopped_ms=61_000)):
        log = ExperimentLog(one, POSITIVE)
        report = make_report(one, log, 3_000)
        assert report.slates == 0
        assert "0 users, 0 slates" in text_of(report)
        plot(one, log, tmp_path / "nothing.png")
    assert "stopped; ran for 1 min 0 s" in text_of(report)


def test_the_json_has_all_the_figures_and_null_where_nothing_is_known() -> None:
    one = experiment()
    found = json.loads(as_json(make_report(one, ExperimentLog(one, POSITIVE), 3_000)))
    assert found["experiment"]["variants"][1]["policy"] == "greedy"
    assert found["variants"][1]["low"] is None
    assert found["variants"][1]["guardrails"]["latency_p99_ms"] is None


def test_the_picture_shows_what_was_known_at_each_look(tmp_path: Path) -> None:
    one = experiment(plan=2_000)
    log = log_of(one, users=2_000, rates={"control": 0.1, "b": 0.2})
    names, looks, bands = trajectory(one, log)
    assert (names, looks[-1], bands.shape) == (["b"], 2_000, (1, 60, 3))
    last = make_report(one, log, 9_000).variants[1]
    assert bands[0, -1].tolist() == [last.delta, last.low, last.high]
    assert (np.diff(bands[0, 5:, 2] - bands[0, 5:, 1]) < 0).mean() > 0.8
    plot(one, log, tmp_path / "deep" / "hot.png")
    assert (tmp_path / "deep" / "hot.png").stat().st_size > 5_000
    duel = experiment(kind="interleaving")
    bands = trajectory(duel, duel_of(duel, wins=90, losses=30, ties=0))[2]
    assert bands[0, -1, 0] == 0.75


@pytest.mark.parametrize(
    ("ms", "text"),
    [(5_900, "5 s"), (65_000, "1 min 5 s"), (7_500_000, "2 h 5 min"), (180_000_000, "2 d 2 h")],
)
def test_a_duration_is_said_in_its_largest_units(ms: int, text: str) -> None:
    assert duration(ms) == text
