"""States of histories are kept: what has been read before is not read again, and says the same."""

from dataclasses import replace

import numpy as np

from model_core.data.batches import ScoreBatch, SparseRows
from model_core.release import histories
from model_core.release.histories import Histories, KnownStates, from_the_left

DIM, LENGTH, ITEMS = 4, 6, 20


class Reading:
    """Reads histories by sums, as a graph would by attention, and counts those it has read."""

    def __init__(self) -> None:
        self.read = 0

    def __call__(self, given: Histories) -> np.ndarray:
        self.read += len(given.sizes)
        moved = given.tokens + given.actions[..., None] + given.gap_s[..., None]
        states = np.zeros((len(moved), 1 + moved.shape[1], DIM), np.float32)
        states[:, 1:] = np.cumsum(moved, axis=1)
        return states


def asked(sizes: list[int], *, seed: int = 0) -> ScoreBatch:
    rng = np.random.default_rng(seed)
    shape = (len(sizes), LENGTH)
    there = np.arange(LENGTH) >= LENGTH - np.array(sizes)[:, None]
    return ScoreBatch(
        history=np.where(there, rng.integers(0, ITEMS, shape), -1),
        history_actions=np.where(there, rng.integers(1, 4, shape), 0),
        history_age_s=(rng.random(shape, np.float32).cumsum(1)[:, ::-1] * there).astype(np.float32),
        user_entities=np.zeros((len(sizes), 1), np.int64),
        user_entity_weights=np.zeros((len(sizes), 1), np.float32),
        popularity=np.zeros(ITEMS, np.float32),
        signals=SparseRows.none(len(sizes)),
        signal_values=np.zeros((0, 1), np.float32),
        eligible=np.ones(ITEMS, np.bool_),
        excluded=SparseRows.none(len(sizes)),
    )


def vectors(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((ITEMS, DIM), np.float32)


def assert_as_read(states: np.ndarray, given: Histories) -> None:
    wanted = Reading()(given)
    for b, size in enumerate(given.sizes):
        np.testing.assert_array_equal(states[b, : 1 + size], wanted[b, : 1 + size])
        assert not states[b, 1 + size :].any()


def test_a_history_is_read_once_whatever_batch_it_comes_in() -> None:
    reading = Reading()
    known = KnownStates(reading)
    given = from_the_left(asked([3, 0, 6, 3]), vectors())
    assert_as_read(known.of(given), given)
    assert reading.read == 4
    for again in (given, given.take([1]), given.take([3, 0])):
        assert_as_read(known.of(again), again)
    assert reading.read == 4


def test_the_time_of_a_request_changes_no_state() -> None:
    reading = Reading()
    known = KnownStates(reading)
    batch = asked([5, 2])
    quarters = replace(batch, history_age_s=np.round(batch.history_age_s * 4) / 4)
    later = replace(quarters, history_age_s=quarters.history_age_s + np.float32(64) * (batch.history >= 0))
    known.of(from_the_left(quarters, vectors()))
    known.of(from_the_left(later, vectors()))
    assert reading.read == 2


def test_a_history_is_read_again_when_an_item_is_described_anew() -> None:
    reading = Reading()
    known = KnownStates(reading)
    batch, items = asked([4, 1]), vectors()
    known.of(from_the_left(batch, items))
    items[batch.history[0, -1]] += 1
    given = from_the_left(batch, items)
    assert_as_read(known.of(given), given)
    assert reading.read == 3


def test_two_users_who_did_the_same_are_read_once() -> None:
    reading = Reading()
    batch = asked([4])
    twice = from_the_left(batch.take(np.array([0, 0])), vectors())
    assert_as_read(KnownStates(reading).of(twice), twice)
    assert reading.read == 1


def test_states_used_least_recently_are_given_up_for_new_ones(monkeypatch) -> None:
    reading = Reading()
    known = KnownStates(reading)
    one, two, three = (from_the_left(asked([5], seed=seed), vectors()) for seed in range(3))
    monkeypatch.setattr(histories, "STATES_BYTES", 2 * 6 * DIM * 4)
    for given in (one, two, one, three):
        assert_as_read(known.of(given), given)
    assert reading.read == 3
    known.of(one)
    assert reading.read == 3
    known.of(two)
    assert reading.read == 4
