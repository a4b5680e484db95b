"""What is left of an erased user in what users share, and what their marks say."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_core.robust.influence import Bound
from streams.durability.digest import fold_batch
from streams.state.erasures import MOST_LIVES, Erasures
from streams.state.rows import Erased, Life, decode, encode, erased_key
from tests.streams.state.test_quarantine import ACTIONS, WINDOW, click, make

BOUNDS = (Bound(), Bound.of(5, kept=497, window=WINDOW))


def counted(covisits, index):
    """Likes of items and how often each was met with others, by their ids; of those that count anything."""
    found = {}
    for row in range(covisits.n_items):
        _, others, counts = covisits.neighbours_of(np.array([row], np.int32))
        met = {index.ids[other]: n for other, n in zip(others.tolist(), counts.tolist(), strict=True)}
        if met or covisits.popularity[row]:
            found[index.ids[row]] = int(covisits.popularity[row]), met
    return found


@given(st.integers(0, 10_000), st.sampled_from(BOUNDS), st.booleans())
def test_the_share_is_what_the_fold_of_the_others_lacks(seed, bound, held):
    """Whatever of it was bounded or held back: what had not been counted is not taken out either."""
    draw = random.Random(seed)
    log = [
        click(n, draw.choice(("a", "b", "gone")), f"i{draw.randrange(9)}", draw.choice(ACTIONS))
        for n in range(draw.randrange(150))
    ]
    profiles, covisits, index = make(bound)
    if held:
        profiles.quarantine.hold("gone", -1, 40, now_ms=1, why="test")
        profiles.quarantine.release("gone", 80)
    fold_batch(profiles, covisits, index, log)
    if (row := profiles.row_of("gone")) >= 0:
        pairs = profiles.pairs_of(row, window=WINDOW, bound=bound)
        covisits.retract(*pairs[:4], pairs.times, through=len(log))
    without, expected, names = make(bound)
    fold_batch(without, expected, names, [one for one in log if one[1].user_id != "gone"])
    assert counted(covisits, index) == counted(expected, names)


def test_of_a_user_with_more_events_than_are_kept_the_kept_ones_are_taken_out():
    profiles, covisits, index = make(Bound())
    log = [click(n, "gone", f"i{n}", "like") for n in range(700)]
    fold_batch(profiles, covisits, index, log)
    stored = int(profiles.history(profiles.row_of("gone"), 512)[0].size)
    pairs = profiles.pairs_of(profiles.row_of("gone"), window=WINDOW)
    covisits.retract(*pairs[:4], pairs.times, through=700)
    liked = {item for item, (likes, _) in counted(covisits, index).items() if likes}
    assert liked == {f"i{n}" for n in range(700 - stored)}


@pytest.mark.parametrize("lives", [1, 3, MOST_LIVES + 2])
def test_a_mark_tells_of_each_erasure_and_is_settled_life_by_life(lives):
    erasures = Erasures()
    for n in range(lives):
        erasures.add("u", Life(10 * n, n, n, False), erased_ms=5)
    key = erased_key("u")
    mark = erasures.marks[key]
    assert erasures.unsettled == {key: mark}
    assert decode(Erased, "user-state", key, encode(mark)) == mark
    assert [step.clicks_offset for step in mark.steps] == [10 * n for n in range(lives)][-MOST_LIVES:]
    assert mark.steps[-1] == mark
    erasures.settle(key, mark.lives[:-1])
    assert bool(erasures.unsettled)
    assert erasures.forget(before_ms=10, now_ms=10) == set()
    erasures.settle(key, mark.lives)
    assert not erasures.unsettled
    assert erasures.forget(before_ms=10, now_ms=10) == {key}


def test_of_a_mark_of_an_earlier_version_nothing_was_taken_out():
    erasures = Erasures()
    old = decode(Erased, "user-state", b"", encode([1, 7, 3, 9]))
    assert (old.settled, old.steps) == (True, [old])
    erasures.put(erased_key("u"), old)
    erasures.add("u", Life(20, 8, 5, True), erased_ms=11)
    assert erasures.marks[erased_key("u")].lives == [Life(7, 3, -1, True), Life(20, 8, 5, True)]
