"""What a shard's slates and clicks leave in the policy's statistics, and what its rows bring back."""

from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import numpy as np
import pytest

from model_core.signals.co_visitation import CoVisitation
from online_learning.attribution.pending_slates import PendingSlates
from online_learning.attribution.rewards import Shaping
from online_learning.policies.registry import Learning
from online_learning.statistics.position_bias import PositionStatistics, power_law
from online_learning.statistics.posterior import LinearPrior
from online_learning.statistics.sums import Statistics
from streams.decoding.clicks import ClickColumns, click_columns
from streams.events import Click, Recommendation, SlateItem
from streams.kafka.columns import Record
from streams.metrics import Metrics
from streams.settings import Settings
from streams.state.feature_spaces import Spaces
from streams.state.item_index import ItemIndex, key_of, keys_of
from streams.state.log_bases import LogBases
from streams.state.policy_row import ARM_PREFIX, arm_key, decode_policy_row, encode_policy_row
from streams.state.profiles import Profiles
from streams.state.release_statistics import ReleaseStatistics
from streams.state.shard import Shard
from streams.state.slate_learning import SlateLearning

BEGIN_MS = 10**12
ACTIONS = ("view", "click")
SHAPING = Shaping({"view": 0.2, "click": 1.0})
PRIOR = LinearPrior(np.array([0.3, 0.1, 0.0]), feature_space="release-1")


def shard(
    learning: Learning,
    *,
    shaping: Shaping = SHAPING,
    blank: Callable[[str, int], Statistics] | None = None,
    **settings: Any,
) -> Shard:
    profiles = Profiles(3, history_limit=16, actions=ACTIONS, positive=frozenset({"click"}))
    slates = PendingSlates(window_ms=60_000, shaping=shaping)
    statistics = ReleaseStatistics(3, "release-1", learning.empty(), blank=blank)
    logs = LogBases()
    return Shard(
        partition=3,
        profiles=profiles,
        covisits=CoVisitation(neighbours=8, window=5),
        statistics=statistics,
        slates=slates,
        learning=SlateLearning(profiles, slates, statistics, logs=logs, **settings),
        logs=logs,
    )


def slate(number: int) -> tuple[Recommendation, np.ndarray]:
    rng = np.random.default_rng(number)
    items = [
        SlateItem(item_id=f"i{item}", position=position, score=0.5, propensity=1.0, reasons=[])
        for position, item in enumerate(rng.permutation(6)[:3].tolist())
    ]
    features = rng.normal(size=(3, 3)).astype(np.float32)
    record = Recommendation(
        request_id=f"r{number}",
        user_id=f"u{number % 3}",
        slate=items,
        policy="any",
        policy_version=0,
        propensity_kind="exact",
        model_version="release-1",
        features=features.tobytes(),
        feature_dim=3,
        timestamp_ms=BEGIN_MS + 1_000 * number,
        latency_ms=1.0,
        clicks_offset=-1,
    )
    return record, features


def taps(offsets: list[int]) -> ClickColumns:
    """Click number n takes the second item of slate n."""
    records = [slate(offset)[0] for offset in offsets]
    return columns(
        Click(
            event_id=f"e{record.request_id}",
            user_id=record.user_id,
            item_id=record.slate[1].item_id,
            action="click",
            timestamp_ms=record.timestamp_ms + 10,
            request_id=record.request_id,
        )
        for record in records
    )


def columns(clicks: Iterable[Click], first_offset: int = 0) -> ClickColumns:
    records = [
        Record("clicks", 3, offset, click.timestamp_ms, click.user_id.encode(), msgspec.json.encode(click))
        for offset, click in enumerate(clicks, first_offset)
    ]
    return click_columns(records, {name: code for code, name in enumerate(ACTIONS)}, 0)


def serve(live: Shard, numbers: range) -> None:
    for number in numbers:
        record, features = slate(number)
        live.learning.open(record, features)
        live.learning.count([(record, features, number)])


@pytest.mark.parametrize("policy", ["thompson", "thompson-logistic", "thompson-disjoint"])
@pytest.mark.parametrize("half_life", [None, 5_000])
def test_slates_that_are_counted_together_are_in_the_sums_as_one_by_one(
    policy: str, half_life: int | None
) -> None:
    learning = Learning.of(policy, PRIOR, half_life_ms=half_life)
    one_by_one, together = shard(learning), shard(learning)
    serve(one_by_one, range(9))
    serve(together, range(3))
    slates = [(*slate(number), number) for number in range(1, 9)]  # the first two are in the sums already
    for record, features, _ in slates:
        together.learning.open(record, features)
    together.learning.count(slates)
    together.learning.count([])
    together.learning.count([(slates[-1][0], slates[-1][1][:0], 9)])  # of another feature space
    one_by_one.learning.count([(slates[-1][0], slates[-1][1][:0], 9)])

    rows = [shard.policy_row() for shard in (one_by_one, together)]
    assert rows[0] == rows[1]


@pytest.mark.parametrize("policy", ["thompson", "thompson-logistic", "thompson-disjoint"])
@pytest.mark.parametrize("half_life", [None, 5_000])
def test_slates_and_clicks_reach_the_statistics_with_their_items_and_times(
    policy: str, half_life: int | None
) -> None:
    learning = Learning.of(policy, PRIOR, half_life_ms=half_life)
    live = shard(learning)
    serve(live, range(8))
    live.fold(taps(list(range(8))), ItemIndex(), frozenset({"click"}), Metrics())
    expected = learning.empty()
    for number in range(8):
        record, features = slate(number)
        arms = np.array([key_of(item.item_id) for item in record.slate], np.uint64)
        expected.add_impressions(features, arms=arms, times_ms=record.timestamp_ms, offsets=number)
    for number in range(8):
        record, features = slate(number)
        arms = np.array([key_of(record.slate[1].item_id)], np.uint64)
        expected.add_rewards(
            features[1:2], np.ones(1), arms=arms, times_ms=record.timestamp_ms, offsets=number
        )
    assert live.statistics.serving.to_bytes() == expected.to_bytes()


def part_rows(live: Shard) -> list[tuple[bytes, bytes]]:
    return [(arm_key(live.partition, part), row) for part, row in live.statistics.serving.take_rows()]


def test_rows_of_items_and_what_is_read_again_after_them_give_the_same_statistics() -> None:
    learning = Learning.of("linucb-disjoint", PRIOR)
    live = shard(learning)
    changelog: dict[bytes, bytes] = {}
    serve(live, range(4))
    changelog.update(part_rows(live))
    assert live.policy_row().statistics == b""
    serve(live, range(4, 8))
    changelog.update(part_rows(live)[:2])  # a crash in the middle of a flush
    restored = learning.empty()
    for key, row in changelog.items():
        assert key.startswith(ARM_PREFIX + b"\0\3")
        assert restored.load_row(row)
    again = shard(learning)
    again.statistics.serving = restored
    serve(again, range(8))
    assert again.statistics.serving.to_bytes() == live.statistics.serving.to_bytes()


def test_positions_looked_at_less_often_count_less() -> None:
    learning = Learning.of("thompson", PRIOR)
    live = shard(learning, examination=power_law(1.0, 5))
    serve(live, range(1))
    _, features = slate(0)
    x = features.astype(np.float64)
    np.testing.assert_allclose(
        live.statistics.serving.gram, (x / np.array([[1], [2], [3]])).T @ x, rtol=1e-12
    )


def test_logistic_statistics_are_developed_elsewhere_from_a_saved_row_on() -> None:
    learning = Learning.of("thompson-logistic", PRIOR)
    live = shard(learning)
    live.statistics.next_reference = np.array([0.1, 0.2, 0.3])
    serve(live, range(2))
    assert not live.statistics.serving.reference.any()
    saved = learning.read(live.policy_row().statistics)
    np.testing.assert_array_equal(saved.reference, [0.1, 0.2, 0.3])


def taken(number: int, position: int, action: str = "click", **fields: Any) -> Click:
    record, _ = slate(number)
    values = {
        "event_id": f"{action} {number} {position}",
        "user_id": record.user_id,
        "item_id": record.slate[position].item_id,
        "action": action,
        "timestamp_ms": record.timestamp_ms + 10,
        "request_id": record.request_id,
    }
    return Click(**(values | fields))


def fold(live: Shard, *clicks: Click, first_offset: int = 0) -> None:
    live.fold(columns(clicks, first_offset), ItemIndex(), frozenset({"click"}), Metrics())


def test_closed_slates_tell_how_often_positions_are_looked_at_and_a_row_brings_it_back() -> None:
    learning = Learning.of("thompson", PRIOR)
    live = shard(learning, positions=PositionStatistics())
    serve(live, range(4))
    fold(live, taken(0, 1), taken(1, 0), taken(1, 2, "view"))
    live.watermark.ms = BEGIN_MS + 3_000 + 60_000  # the last slate closes too
    assert len(live.close_slates(frozenset({"click"}))) == 4
    assert live.learning.positions is not None
    assert live.learning.positions.shown.sum(axis=1)[:4].tolist() == [4, 4, 4, 0]
    assert live.learning.positions.taken.sum(axis=1)[:4].tolist() == [1, 1, 0, 0]
    assert live.close_slates(frozenset({"click"})) == []
    live.learning.next_examination = np.linspace(1.0, 0.1, len(live.learning.examination))
    row = decode_policy_row(encode_policy_row(live.policy_row()))
    again = shard(learning, positions=PositionStatistics())
    again.statistics.serving = learning.read(row.statistics)
    again.learning.load_positions(row)
    for one in (live, again):  # what comes after the row is weighed alike
        serve(one, range(4, 8))
    assert again.learning.positions == live.learning.positions
    assert again.statistics.serving == live.statistics.serving


def test_a_row_from_before_positions_were_learned_is_read() -> None:
    live = shard(Learning.of("thompson", PRIOR))
    serve(live, range(2))
    old = msgspec.msgpack.encode(msgspec.msgpack.decode(encode_policy_row(live.policy_row()))[:7])
    row = decode_policy_row(old)
    again = shard(Learning.of("thompson", PRIOR), positions=PositionStatistics())
    again.learning.load_positions(row)
    assert again.learning.positions == PositionStatistics()
    assert (again.learning.examination == 1.0).all()


def test_a_policy_learns_responses_by_their_quality_or_all_rewards() -> None:
    learning = Learning.of("thompson", PRIOR)
    shaping = Shaping({"view": 0.2, "click": 1.0}, dwell_half_ms={"click": 1_000})
    clicks = (taken(0, 1, dwell_ms=3_000.0), taken(0, 1, "view"), taken(0, 2, "view"), taken(0, 1))
    features = slate(0)[1].astype(np.float64)
    for learn_from, earned in (("response", (0.75, 0.0)), ("reward", (0.95, 0.2))):
        live = shard(learning, shaping=shaping, learn_from=learn_from)
        serve(live, range(1))
        fold(live, *clicks)
        expected = earned[0] * features[1] + earned[1] * features[2]
        np.testing.assert_allclose(live.statistics.serving.moment, expected, rtol=1e-12)


def test_a_conversion_after_the_slate_has_closed_is_learned_once_and_corrects_it() -> None:
    shaping = Shaping({"view": 0.2, "click": 1.0}, windows_ms={"click": 600_000})
    live = shard(Learning.of("thompson", PRIOR), shaping=shaping, learn_from="reward")
    serve(live, range(1))
    live.watermark.ms = BEGIN_MS + 60_000
    (closed,) = live.close_slates(frozenset())
    assert (closed.correction, closed.rewards.tolist()) == (False, [0.0, 0.0, 0.0])
    late = taken(0, 2, timestamp_ms=BEGIN_MS + 500_000)
    fold(live, late, msgspec.structs.replace(late, event_id="told again"), first_offset=7)
    fold(live, late, first_offset=7)  # read again after a restart
    (corrected,) = live.close_slates(frozenset())
    assert (corrected.correction, corrected.rewards.tolist()) == (True, [0.0, 0.0, 1.0])
    np.testing.assert_allclose(live.statistics.serving.moment, slate(0)[1][2], rtol=1e-6)
    assert live.close_slates(frozenset()) == []


@pytest.mark.parametrize("policy", ["thompson", "linucb-disjoint"])
def test_in_a_cascade_positions_below_the_last_response_were_not_looked_at(policy: str) -> None:
    learning = Learning.of(policy, PRIOR, half_life_ms=5_000)
    live = shard(learning, cascade=True)
    serve(live, range(3))
    fold(live, taken(0, 0), taken(1, 1), taken(0, 0, "view"), taken(0, 1), first_offset=3)
    serve(live, range(3))  # read again, as are the clicks
    fold(live, taken(0, 0), taken(1, 1), taken(0, 0, "view"), taken(0, 1), first_offset=3)
    expected = learning.empty()
    for number, looked_at in ((0, 2), (1, 2), (2, 3)):
        record, features = slate(number)
        arms = keys_of(item.item_id for item in record.slate)[:looked_at]
        expected.add_impressions(features[:looked_at], arms=arms, times_ms=record.timestamp_ms)
    order = [
        np.argsort(one.arms) if policy == "linucb-disjoint" else ...
        for one in (live.statistics.serving, expected)
    ]
    seen = live.statistics.serving.gram[order[0]], expected.gram[order[1]]
    np.testing.assert_allclose(*seen, rtol=1e-9, atol=1e-12)
    assert live.statistics.serving.impressions == 9  # shown, looked at or not


def test_amendments_that_are_read_again_after_a_row_are_left_out() -> None:
    learning = Learning.of("linucb-disjoint", PRIOR)
    live = shard(learning, cascade=True)
    serve(live, range(2))
    fold(live, taken(0, 0), taken(1, 1), first_offset=2)
    again = shard(learning, cascade=True)
    again.statistics.serving = learning.read(live.statistics.serving.to_bytes())
    serve(again, range(2))
    fold(again, taken(0, 0), taken(1, 1), first_offset=2)
    assert again.statistics.serving == live.statistics.serving


def test_slates_of_another_release_are_rewarded_and_not_learned_from() -> None:
    live = shard(Learning.of("thompson", PRIOR), cascade=True, positions=PositionStatistics())
    record, features = slate(0)
    live.learning.open(msgspec.structs.replace(record, model_version="release-0"), features)
    fold(live, taken(0, 1))
    live.watermark.ms = BEGIN_MS + 60_000
    (closed,) = live.close_slates(frozenset({"click"}))
    assert closed.rewards.tolist() == [0.0, 1.0, 0.0]
    assert live.statistics.serving == Learning.of("thompson", PRIOR).empty()
    assert live.learning.positions == PositionStatistics()


def test_a_slate_with_fewer_features_than_any_release_has_is_learned_from_by_nobody() -> None:
    live = shard(Learning.of("thompson", PRIOR), blank=Spaces(Settings()).blank)
    record, features = slate(0)
    for number, (version, dim) in enumerate((("0" * 12, 3), ("1" * 12, 1))):
        one = msgspec.structs.replace(record, model_version=version)
        live.learning.count([(one, features[:, :dim], number)])
    assert {version: one.impressions for version, one in live.statistics.others.items()} == {"0" * 12: 3}
    assert live.learning.recommended_offset == 1
