import numpy as np
import pytest

from streams.bench.references import (
    CoVisits,
    Decayed,
    Ease,
    LastLikes,
    Popularity,
    RecentCoVisits,
    prequential_hits,
)


def test_popularity_counts_likes():
    reference = Popularity(3)
    for item in (1, 1, 2):
        reference.learn(0, item)
    assert reference.scores(7).tolist() == [0.0, 2.0, 1.0]


def test_co_visits_bring_together_what_the_same_users_like():
    reference = CoVisits(6)
    for user in range(4):
        for item in (0, 1) if user % 2 else (4, 5):
            reference.learn(user, item)
    reference.learn(9, 0)
    assert np.argmax(reference.scores(9)) == 1
    reference.learn(8, 5)
    assert np.argmax(reference.scores(8)) == 4


def test_co_visits_fall_back_to_popularity_for_a_new_user():
    reference = CoVisits(4)
    for user in range(3):
        reference.learn(user, 2)
    assert np.argmax(reference.scores(99)) == 2


def test_co_visits_look_at_the_last_fifty_likes_only():
    reference = CoVisits(60)
    for user, item in ((0, 55), (0, 56)):
        reference.learn(user, item)
    reference.learn(1, 55)
    assert np.argmax(reference.scores(1)) == 56
    for item in range(50):
        reference.learn(1, item)
    assert reference.scores(1)[56] < 0.01


def test_ease_recommends_the_rest_of_a_bundle():
    reference = Ease(40, 8)
    for user in range(40):
        for item in (0, 1, 2) if user % 2 else (5, 6, 7):
            reference.learn(user, item)
    reference._likes[3] = 0
    reference._likes[3, [0, 1]] = 1
    assert np.argmax(np.where([1, 1, 0, 0, 0, 0, 0, 0], -np.inf, reference.scores(3))) == 2


def test_only_likes_after_the_warm_up_ask_and_seen_items_are_never_offered():
    users = np.array([0, 1, 0, 1, 0])
    items = np.array([0, 0, 1, 1, 2])
    positive = np.array([True, True, True, False, True])
    hits = prequential_hits(Popularity(4), users, items, positive, warm_up=2, n_users=2, n_items=4, k=1)
    # Item 0 is the most popular, but user 0 has seen it: the first offer is 1, 2 or 3, all without likes.
    assert len(hits) == 2
    certain = prequential_hits(Popularity(4), users, items, positive, warm_up=2, n_users=2, n_items=4, k=3)
    assert certain.tolist() == [True, True]


def test_a_view_removes_an_item_without_teaching():
    users = np.array([0, 0, 1])
    items = np.array([0, 1, 1])
    positive = np.array([False, True, True])
    hits = prequential_hits(Popularity(2), users, items, positive, warm_up=0, n_users=2, n_items=2, k=1)
    assert hits.tolist() == [True, True]


@pytest.mark.parametrize("seed", [0, 1])
def test_personal_references_beat_popularity_where_tastes_differ(seed):
    rng = np.random.default_rng(seed)
    events = []
    for user in range(120):
        camp = user % 4
        events += [(user, int(item) * 4 + camp) for item in rng.permutation(15)[:10]]
    order = rng.permutation(len(events))
    users, items = np.array(events)[order].T
    positive = np.ones(len(users), bool)
    sizes = {"n_users": 120, "n_items": 60, "k": 5, "warm_up": 600}
    rate = {
        reference.name: prequential_hits(reference, users, items, positive, **sizes).mean()
        for reference in (Popularity(60), CoVisits(60), Ease(120, 60))
    }
    assert rate["co-visitation"] > 1.5 * rate["popularity"]
    assert rate["EASE"] > 1.5 * rate["popularity"]


def test_the_last_likes_forget_what_came_before_them():
    reference = LastLikes(4, 2)
    for item in (3, 1, 2):
        reference.learn(0, item)
    assert reference.scores(0).tolist() == [0, 1, 1, 0]


def test_a_decayed_like_is_worth_half_after_a_half_life():
    reference = Decayed(3, 3_600_000)
    reference.learn(0, 0, 0)
    reference.learn(0, 1, 3_600_000)
    assert reference.scores(0).tolist() == [0.5, 1.0, 0.0]
    assert reference.name == "half-life 1 h"


def test_recent_co_visits_want_both():
    reference = RecentCoVisits(5, 3)
    for user, item in ((0, 0), (0, 1), (1, 2), (1, 3), (1, 3)):
        reference.learn(user, item)
    reference.learn(2, 2)
    assert np.argmax(reference.scores(2)) == 3
