"""The contract of every policy, as checks to run over a policy: `check(make)`, with `make()` a new one."""

import pickle
from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np

from online_learning.policies.policy import Policy
from online_learning.policies.registry import Learning
from online_learning.statistics.posterior import LinearPrior
from online_learning.statistics.sums import Statistics
from online_learning.types import Candidates, Slates

DIM = 6
FEATURE_SPACE = "release-1"
PRIOR = LinearPrior(np.array([0.4, *np.arange(1, DIM) / DIM]), precision=2.0, feature_space=FEATURE_SPACE)

Make = Callable[[], Policy]


def random_candidates(seed: int, n: int = 5, n_candidates: int = 30, valid: float = 0.7) -> Candidates:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, n_candidates, DIM)).astype(np.float32)
    features[..., 0] = 1.0
    return Candidates(
        scores=rng.normal(size=(n, n_candidates)).astype(np.float32),
        features=features,
        valid=rng.random((n, n_candidates)) < valid,
        arms=arms_of(n, n_candidates),
        vectors=unit(rng.normal(size=(n, n_candidates, 3))),
        groups=rng.integers(-1, 12, (n, n_candidates, 2)).astype(np.int32),
        fresh=rng.random((n, n_candidates)) < 0.2,
    )


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def part_of(candidates: Candidates, rows: slice | np.ndarray) -> Candidates:
    columns = ((field.name, getattr(candidates, field.name)) for field in fields(candidates))
    return Candidates(**{name: None if column is None else column[rows] for name, column in columns})


def arms_of(n: int, n_candidates: int) -> np.ndarray:
    """The same items in every request, the last of them never shown before."""
    return np.tile(np.arange(n_candidates, dtype=np.uint64) * np.uint64(7919), (n, 1))


def learning(policy: Policy, half_life_ms: int | None = None) -> Learning:
    return Learning.of(policy.name, PRIOR, half_life_ms=half_life_ms)


def random_statistics(policy: Policy, seed: int, n: int = 200) -> Statistics:
    rng = np.random.default_rng(seed)
    statistics = learning(policy).empty()
    shown = rng.normal(size=(n, DIM)).astype(np.float32)
    arms = rng.integers(0, 25, n).astype(np.uint64) * np.uint64(7919)
    statistics.add_impressions(shown, arms=arms)
    statistics.add_rewards(shown[: n // 3], np.ones(n // 3), arms=arms[: n // 3])
    return statistics


def request(n: int, k: int) -> dict[str, np.ndarray]:
    return {"k": np.full(n, k), "seeds": np.arange(1, n + 1, dtype=np.uint64) * 7919}


def same(a: Slates, b: Slates) -> bool:
    return (
        np.array_equal(a.index, b.index)
        and np.array_equal(a.propensities, b.propensities)
        and a.version == b.version
    )


def selecting_changes_neither_policy_nor_inputs(make: Make) -> None:
    policy, candidates, asked = make(), random_candidates(0), request(5, 8)
    before = pickle.dumps((candidates, asked, policy))
    policy.select(candidates, **asked)
    assert pickle.dumps((candidates, asked, policy)) == before


def updating_does_not_change_the_statistics(make: Make) -> None:
    policy = make()
    statistics = random_statistics(policy, 1)
    before = statistics.to_bytes()
    policy.update(statistics)
    assert statistics.to_bytes() == before


def later_changes_to_adopted_statistics_do_not_reach_the_policy(make: Make) -> None:
    policy = make()
    statistics = random_statistics(policy, 1)
    policy.update(statistics)
    before = policy.select(random_candidates(0), **request(5, 8))
    rows, arms = 9.0 * np.ones((25, DIM)), np.arange(25, dtype=np.uint64) * np.uint64(7919)
    statistics.add_impressions(rows, arms=arms)
    statistics.add_rewards(rows[:3], np.ones(3), arms=arms[:3])
    assert same(policy.select(random_candidates(0), **request(5, 8)), before)


def the_same_seed_gives_the_same_slate(make: Make) -> None:
    candidates, asked = random_candidates(2), request(5, 8)
    assert same(make().select(candidates, **asked), make().select(candidates, **asked))


def a_slate_does_not_depend_on_the_rest_of_its_batch(make: Make) -> None:
    policy, candidates, asked = make(), random_candidates(3, n=7), request(7, 8)
    together = policy.select(candidates, **asked)
    for row in range(7):
        part = slice(row, row + 1)
        alone = policy.select(
            part_of(candidates, part),
            k=asked["k"][part],
            seeds=asked["seeds"][part],
        )
        assert np.array_equal(alone.index[0], together.index[row])
        assert np.array_equal(alone.propensities[0], together.propensities[row])


def a_smaller_slate_is_the_beginning_of_a_larger_one(make: Make) -> None:
    policy, candidates = make(), random_candidates(4)
    large = policy.select(candidates, **request(5, 9))
    small = policy.select(candidates, **request(5, 4))
    assert np.array_equal(small.index, large.index[:, :4])


def each_request_gets_its_own_slate_size(make: Make) -> None:
    sizes = np.array([0, 1, 3, 10, 2])
    slates = make().select(random_candidates(5, valid=1.0), k=sizes, seeds=np.arange(5, dtype=np.uint64))
    assert slates.index.shape == (5, 10)
    assert (slates.index >= 0).sum(axis=1).tolist() == sizes.tolist()


def only_valid_candidates_are_chosen_and_none_twice(make: Make) -> None:
    candidates = random_candidates(6, n=50, valid=0.3)
    index = make().select(candidates, **request(50, 6)).index
    for row, slate in enumerate(index):
        chosen = slate[slate >= 0]
        assert candidates.valid[row, chosen].all()
        assert len(set(chosen.tolist())) == len(chosen)
        assert len(chosen) == min(6, candidates.valid[row].sum())


def a_slate_ends_where_the_candidates_do(make: Make) -> None:
    candidates = random_candidates(7, n=4, n_candidates=9, valid=0.5)
    slates = make().select(candidates, **request(4, 40))
    assert slates.index.shape == (4, 40)
    for row, slate in enumerate(slates.index):
        n_valid = int(candidates.valid[row].sum())
        assert set(slate[:n_valid].tolist()) == set(np.flatnonzero(candidates.valid[row]).tolist())
        assert (slate[n_valid:] == -1).all()


def without_a_valid_candidate_the_slate_is_empty(make: Make) -> None:
    slates = make().select(random_candidates(8, valid=0.0), **request(5, 3))
    assert (slates.index == -1).all()
    assert (slates.propensities == 0.0).all()


def an_empty_batch_gives_no_slates(make: Make) -> None:
    slates = make().select(random_candidates(9, n=0), **request(0, 3))
    assert len(slates.index) == len(slates.propensities) == 0


def what_is_not_finite_is_not_chosen(make: Make) -> None:
    candidates = random_candidates(10, n=3, n_candidates=12, valid=1.0)
    for column, value in enumerate((np.nan, np.inf, -np.inf)):
        candidates.features[:, column, 2] = value
        candidates.scores[:, column] = value
    slates = make().select(candidates, **request(3, 12))
    assert ((slates.index >= 0) == (slates.propensities > 0)).all()
    if make().name != "random":  # it reads neither scores nor features
        assert not np.isin(slates.index, (0, 1, 2)).any()
        assert ((slates.index >= 0).sum(axis=1) == 9).all()


def propensities_are_probabilities_of_the_filled_positions(make: Make) -> None:
    slates = make().select(random_candidates(11, n=50), **request(50, 25))
    filled = slates.index >= 0
    assert slates.propensities.dtype == np.float32
    assert (slates.propensities[filled] > 0).all()
    assert (slates.propensities[filled] <= 1).all()
    assert (slates.propensities[~filled] == 0).all()


def the_last_candidate_left_has_propensity_one(make: Make) -> None:
    candidates = random_candidates(12, n_candidates=6, valid=1.0)
    slates = make().select(candidates, **request(5, 6))
    np.testing.assert_allclose(slates.propensities[:, -1], 1.0)


def a_boost_moves_a_candidate_up(make: Make) -> None:
    candidates = random_candidates(19, valid=1.0)
    boosts = np.zeros(candidates.valid.shape, np.float32)
    plain = make().select(candidates, **request(5, 8))
    assert same(make().select(replace(candidates, boosts=boosts), **request(5, 8)), plain)
    boosts[:, 7] = 1_000.0
    slates = make().select(replace(candidates, boosts=boosts), **request(5, 8))
    if make().name != "random":
        certain = slates.index[:, 0] == 7
        likely = 1.0 - {"epsilon-greedy": 0.1, "diverse-softmax": 0.25}.get(make().name, 0.0)
        assert (slates.propensities[certain, 0] >= likely - 1e-6).all()
        assert certain.mean() >= 0.4
        own = make().propensities(
            replace(candidates, boosts=boosts), slates.index[:, :1], seeds=request(5, 1)["seeds"]
        )
        np.testing.assert_allclose(own, slates.propensities[:, :1], atol=0.01)


def the_version_counts_what_was_learned_from(make: Make) -> None:
    policy = make()
    statistics = random_statistics(policy, 13)
    assert policy.version == 0
    policy.update(statistics)
    learned = statistics.impressions + statistics.rewards
    assert policy.version == (0 if policy.name in ("random", "popularity", "rl") else learned)
    assert policy.select(random_candidates(0), **request(5, 2)).version == policy.version


def saved_statistics_give_the_same_policy(make: Make) -> None:
    live, resumed = make(), make()
    statistics = random_statistics(live, 14)
    live.update(statistics)
    resumed.update(learning(live).read(statistics.to_bytes()))
    candidates, asked = random_candidates(15), request(5, 8)
    assert same(live.select(candidates, **asked), resumed.select(candidates, **asked))


def a_pickled_policy_chooses_the_same(make: Make) -> None:
    policy = make()
    policy.update(random_statistics(policy, 16))
    copy = pickle.loads(pickle.dumps(policy))
    candidates, asked = random_candidates(17), request(5, 8)
    assert same(policy.select(candidates, **asked), copy.select(candidates, **asked))


CHECKS: tuple[Callable[[Make], None], ...] = (
    selecting_changes_neither_policy_nor_inputs,
    updating_does_not_change_the_statistics,
    later_changes_to_adopted_statistics_do_not_reach_the_policy,
    the_same_seed_gives_the_same_slate,
    a_slate_does_not_depend_on_the_rest_of_its_batch,
    a_smaller_slate_is_the_beginning_of_a_larger_one,
    each_request_gets_its_own_slate_size,
    only_valid_candidates_are_chosen_and_none_twice,
    a_slate_ends_where_the_candidates_do,
    without_a_valid_candidate_the_slate_is_empty,
    an_empty_batch_gives_no_slates,
    what_is_not_finite_is_not_chosen,
    propensities_are_probabilities_of_the_filled_positions,
    the_last_candidate_left_has_propensity_one,
    a_boost_moves_a_candidate_up,
    the_version_counts_what_was_learned_from,
    saved_statistics_give_the_same_policy,
    a_pickled_policy_chooses_the_same,
)
