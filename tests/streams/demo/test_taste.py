import numpy as np
import pytest

from model_core.data.datasets import Dataset, Interactions, Item
from streams.demo.taste import Population, draws, examination, population, react


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """40 users in two camps, each rating the 30 items of its own camp high, and ten of the other's low."""
    rows = []
    rng = np.random.default_rng(3)
    for user in range(40):
        camp = user % 2
        for item in range(60):
            mine = item % 2 == camp
            if mine or item < 20:
                rows.append((f"u{user}", f"i{item}", 5.0 if mine else 2.0, int(rng.integers(10**6))))
    rows.sort(key=lambda row: row[3])
    users, items, ratings, times = zip(*rows, strict=True)
    interactions = Interactions(
        np.array(users), np.array(items), np.array(ratings, np.float32), np.array(times, np.int64)
    )
    return Dataset("camps", interactions, [Item(f"i{i}", f"Item {i}") for i in range(60)], [])


@pytest.fixture(scope="module")
def users(dataset) -> Population:
    return population(dataset, until=0.5, n_users=30, seed=1, rank=2)


def held_out(dataset: Dataset, user_id: str) -> dict[str, float]:
    later = dataset.interactions[len(dataset.interactions) // 2 :]
    return {
        item: float(rating)
        for user, item, rating in zip(later.user_ids, later.item_ids, later.ratings, strict=True)
        if user == user_id
    }


def test_held_out_ratings_decide_the_taste(dataset, users):
    for row, user_id in enumerate(users.user_ids):
        for item_id, rating in held_out(dataset, user_id).items():
            item = users.item_ids.index(item_id)
            assert users.click[row, item] == pytest.approx(0.9 if rating >= 4 else 0.02)
            assert users.dislike[row, item] == pytest.approx(0.0 if rating >= 4 else 0.5)


def test_other_items_of_the_same_camp_attract_more_than_the_other_camps(dataset, users):
    for row, user_id in enumerate(users.user_ids):
        known = {users.item_ids.index(item) for item in held_out(dataset, user_id)}
        camp = int(user_id[1:]) % 2
        mine = [users.click[row, i] for i in range(60) if i % 2 == camp and i not in known]
        other = [users.click[row, i] for i in range(60) if i % 2 != camp and i not in known]
        assert min(mine) > max(other)


def test_probabilities_are_probabilities(users):
    for matrix in (users.click, users.like, users.dislike):
        assert matrix.shape == (len(users.user_ids), 60)
        assert matrix.min() >= 0.0
        assert matrix.max() <= 1.0


def test_the_same_seed_draws_the_same_users(dataset, users):
    again = population(dataset, until=0.5, n_users=30, seed=1, rank=2)
    assert again.user_ids == users.user_ids
    assert np.array_equal(again.click, users.click)
    assert population(dataset, until=0.5, n_users=10, seed=2, rank=2).user_ids != users.user_ids[:10]


def test_only_users_with_held_out_likes_are_drawn(dataset):
    everyone = population(dataset, until=0.5, n_users=1000, seed=0, rank=2)
    likes = [sum(r >= 4 for r in held_out(dataset, u).values()) for u in everyone.user_ids]
    assert min(likes) >= 10


def test_examination_falls_as_dcg_discounts():
    assert examination(3) == pytest.approx([1.0, 0.63093, 0.5], abs=1e-5)


def test_position_bias_shows_in_the_clicks():
    keen = Population(["u"], ["i"] * 10, *(np.full((1, 10), p, np.float32) for p in (1.0, 0.0, 0.0)))
    slate = np.arange(10)
    clicks = np.zeros(10)
    for visit in range(3000):
        luck = draws(seed=0, user=0, visit=visit, k=10, n_items=10)
        clicks[react(keen, 0, slate, luck).clicked] += 1
    assert clicks / 3000 == pytest.approx(examination(10), abs=0.03)


def test_a_visit_is_the_same_for_every_slate_it_judges(users):
    luck = draws(seed=5, user=2, visit=7, k=10, n_items=60)
    again = draws(seed=5, user=2, visit=7, k=10, n_items=60)
    slate = np.array([3, 8, 21, 40])
    assert react(users, 2, slate, luck) == react(users, 2, slate, again)
    other = draws(seed=5, user=2, visit=8, k=10, n_items=60)
    assert not np.array_equal(luck.clicked, other.clicked)


def test_likes_follow_clicks_and_dislikes_do_not(users):
    slate = np.arange(10)
    seen = {"clicked": 0, "liked": 0, "disliked": 0}
    for visit in range(200):
        for user in range(5):
            reaction = react(users, user, slate, draws(seed=0, user=user, visit=visit, k=10, n_items=60))
            assert set(reaction.liked) <= set(reaction.clicked)
            assert not set(reaction.disliked) & set(reaction.clicked)
            for name in seen:
                seen[name] += len(getattr(reaction, name))
    assert min(seen.values()) > 50
