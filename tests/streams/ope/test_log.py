import json
from typing import Any

import msgspec
import numpy as np
import pytest

from streams.ope.log import MALFORMED, MalformedError, SlateLog, read_slate
from tests.streams.ope.logged import CANDIDATES, POSITIVE, K, World

GOOD: dict[str, Any] = json.loads(World(10).records()[0])


def changed(**fields: Any) -> bytes:
    return json.dumps(GOOD | fields).encode()


def with_propensities(*values: float | None) -> list[dict[str, Any]]:
    return [item | {"propensity": value} for item, value in zip(GOOD["slate"], values, strict=True)]


@pytest.mark.parametrize(
    ("value", "reason", "message"),
    [
        (None, "undecodable", "value must be a JSON object, got null"),
        (b"", "undecodable", "data was truncated"),
        (b"\xff\xfe", "undecodable", "malformed"),
        (b"[1, 2]", "undecodable", "Expected `object`, got `array`"),
        (changed(request_id=""), "undecodable", r"length >= 1 - at `\$.request_id`"),
        (changed(rewards="many"), "undecodable", r"Expected `array`, got `str` - at `\$.rewards`"),
        (
            changed(slate=[], rewards=[], actions=[]),
            "lengths",
            "as long as a slate of 1 or more, got 0 for 0",
        ),
        (changed(rewards=[1.0]), "lengths", "rewards must be as long as a slate of 1 or more, got 1 for 3"),
        (changed(actions=[["click"]]), "lengths", "actions must be as long as"),
        (changed(candidate_propensities={"greedy": [1.0]}), "lengths", "greedy must be as long as"),
        (changed(slate=with_propensities(0.5, 0.0, 0.5)), "propensity", r"must be in \(0, 1\] at all .* 0.0"),
        (changed(slate=with_propensities(0.5, 1.7, 0.5)), "propensity", r"must be in \(0, 1\] at all .* 1.7"),
        (changed(slate=with_propensities(0.5, None, 0.5)), "propensity", "at all positions or none"),
        (
            changed(candidate_propensities={"greedy": [1, 0, 2]}),
            "propensity",
            r"'greedy' must be in \[0, 1\]",
        ),
    ],
)
def test_a_record_that_says_nothing_is_refused_with_the_rule_it_breaks(
    value: bytes | None, reason: str, message: str
) -> None:
    with pytest.raises(MalformedError, match=message) as refused:
        read_slate(value)
    assert refused.value.reason == reason
    assert reason in MALFORMED


def test_malformed_records_are_counted_and_the_others_kept() -> None:
    log = SlateLog(POSITIVE)
    for value in (b"{", changed(), changed(request_id="r1", rewards=[]), None, changed(request_id="r2")):
        log.add(value)
    assert (len(log), log.read, log.malformed) == (2, 5, {"undecodable": 2, "lengths": 1})
    assert log.first_malformed == "Input data was truncated"


def test_a_later_record_of_a_request_takes_the_place_of_the_earlier() -> None:
    log = SlateLog(POSITIVE)
    log.add(changed(actions=[[], [], []]))
    log.add(changed(actions=[["click"], [], ["like", "click"]], correction=True))
    assert (len(log), log.repeated) == (1, 1)
    assert log.columns().rewards.tolist() == [[1.0, 0.0, 1.0]]


def test_only_the_latest_slates_are_kept() -> None:
    log = SlateLog(POSITIVE, capacity=3)
    for n in range(5):
        log.add(changed(request_id=f"r{n}", user_id=f"u{n}"))
    log.add(changed(request_id="r2", user_id="again"))
    log.add(changed(request_id="r5", user_id="u5"))
    assert log.columns().users.tolist() == ["u4", "again", "u5"]


def test_a_response_is_a_positive_action_and_a_weight_what_the_record_says() -> None:
    record = changed(actions=[["view"], ["view", "click", "like"], []], rewards=[0.2, 3.2, -1.0])
    responses, weights = SlateLog(POSITIVE), SlateLog(POSITIVE, reward="weights")
    for log in (responses, weights):
        log.add(record)
    assert responses.columns().rewards.tolist() == [[0.0, 1.0, 0.0]]
    assert weights.columns().rewards.tolist() == [[0.2, 3.2, -1.0]]
    without = json.dumps({k: v for k, v in GOOD.items() if k != "actions"}).encode()
    for log in (responses, weights):
        log.add(without.replace(b'"r0"', b'"r9"'))
    assert (len(responses), len(weights)) == (1, 2)
    assert (
        responses.first_malformed == "actions must be given to count responses; reward 'weights' reads none"
    )


def test_slates_of_any_length_and_with_any_candidates_share_the_columns() -> None:
    log = SlateLog(POSITIVE)
    log.add(changed(candidate_propensities={"a": [0.5, 0.25, 1.0]}))
    short = {"slate": GOOD["slate"][:1], "rewards": [1.0], "actions": [["like"]]}
    log.add(changed(request_id="r1", **short, candidate_propensities={"b": [0.0]}))
    log.add(changed(request_id="r2", slate=with_propensities(None, None, None), candidate_propensities={}))
    columns = log.columns()
    assert columns.shown.tolist() == [[True] * 3, [True, False, False], [True] * 3]
    assert columns.rewards[1].tolist() == [1.0, 0.0, 0.0]
    nan = np.nan
    np.testing.assert_array_equal(columns.candidates["a"], [[0.5, 0.25, 1.0], [nan, 1.0, 1.0], [nan] * 3])
    np.testing.assert_array_equal(columns.candidates["b"], [[nan] * 3, [0.0, 1.0, 1.0], [nan] * 3])
    assert columns.without_propensities == 1
    begun = columns.first(2)
    assert begun.rewards.shape == begun.shown.shape == begun.candidates["a"].shape == (3, 2)
    last = columns.rows(np.array([False, False, True]))
    assert (len(last), last.without_propensities, last.candidates["b"].shape) == (1, 1, (1, 3))


def test_what_a_worker_writes_is_read() -> None:
    log = SlateLog(POSITIVE)
    world = World(50)
    for record in world.records():
        log.add(record)
    columns = log.columns()
    assert columns.rewards.shape == (50, K)
    assert set(columns.candidates) == set(CANDIDATES)
    np.testing.assert_allclose(columns.propensities, world.slates("softmax:temperature=0.3")[1], rtol=1e-6)
    assert not log.malformed


def test_an_empty_log_has_no_rows() -> None:
    columns = SlateLog(POSITIVE).columns()
    assert len(columns) == 0
    assert columns.rewards.shape == (0, 1)
    assert msgspec.json.encode(columns.candidates) == b"{}"
