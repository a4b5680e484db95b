import numpy as np
import pytest
from scipy.stats import chisquare

from online_learning.experiments.interleaving import (
    draft_propensities,
    other_seeds,
    preferences,
    team_draft,
)
from online_learning.policies.greedy import GreedyPolicy
from online_learning.policies.policy import Policy
from online_learning.policies.softmax import SoftmaxPolicy
from online_learning.statistics.posterior import LinearPrior
from online_learning.types import Candidates

A = np.array([[0, 1, 2, 3]])
B = np.array([[3, 1, 4, 0]])


def many(ranking: np.ndarray, n: int) -> np.ndarray:
    return np.repeat(ranking, n, axis=0)


def test_each_round_gives_each_team_its_best_item_left_and_a_coin_says_who_is_first() -> None:
    draft = team_draft(many(A, 4000), many(B, 4000), seeds=np.arange(4000, dtype=np.uint64))
    found = {
        (tuple(slate), tuple(teams))
        for slate, teams in zip(draft.index.tolist(), draft.teams.tolist(), strict=True)
    }
    assert found == {
        ((0, 3, 1, 4), (0, 1, 0, 1)),
        ((0, 3, 1, 2), (0, 1, 1, 0)),
        ((3, 0, 1, 4), (1, 0, 0, 1)),
        ((3, 0, 1, 2), (1, 0, 1, 0)),
    }
    assert chisquare(np.bincount(draft.teams[:, 0])).pvalue > 1e-3
    assert (draft.teams.sum(axis=1) == 2).all()


def test_a_draft_is_a_function_of_its_own_request() -> None:
    seeds = np.arange(50, dtype=np.uint64)
    together = team_draft(many(A, 50), many(B, 50), seeds=seeds)
    alone = team_draft(many(A, 1), many(B, 1), seeds=seeds[17:18])
    assert np.array_equal(alone.index[0], together.index[17])
    shorter = team_draft(many(A, 50)[:, :2], many(B, 50)[:, :2], seeds=seeds)
    assert np.array_equal(shorter.index, together.index[:, :2])


def test_a_slate_ends_where_the_team_whose_turn_it_is_has_nothing_left() -> None:
    draft = team_draft(np.array([[0, 1, -1]]), np.array([[1, 0, -1]]), seeds=np.zeros(1, np.uint64))
    assert sorted(draft.index[0, :2].tolist()) == [0, 1]
    assert (draft.index[0, 2], draft.teams[0, 2]) == (-1, -1)
    nothing = np.full((2, 3), -1)
    assert (team_draft(nothing, nothing, seeds=np.zeros(2, np.uint64)).index == -1).all()
    assert (
        team_draft(np.zeros((0, 3), int), np.zeros((0, 3), int), seeds=np.zeros(0, np.uint64)).index.size == 0
    )


def test_a_slate_is_as_long_as_its_rankings_whatever_others_of_the_batch_are() -> None:
    first, second = np.array([[0, -1, -1], [0, 1, 2]]), np.array([[1, -1, -1], [3, 4, 5]])
    draft = team_draft(first, second, seeds=np.arange(2, dtype=np.uint64))
    assert (draft.index >= 0).sum(axis=1).tolist() == [1, 3]
    assert (draft.teams >= 0).sum(axis=1).tolist() == [1, 3]


def test_rankings_of_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"rankings must have one shape .* got \(1, 4\) and \(1, 3\)"):
        team_draft(A, B[:, :3], seeds=np.zeros(1, np.uint64))


@pytest.mark.parametrize("with_greedy", [False, True])
def test_slates_of_two_policies_occur_as_often_as_their_propensities_say(with_greedy: bool) -> None:
    n, k = 60_000, 3
    prior = LinearPrior(np.array([1.0, 0.5]))
    one: Policy = SoftmaxPolicy(prior, temperature=0.5)
    two: Policy = GreedyPolicy(prior) if with_greedy else SoftmaxPolicy(prior, temperature=2.0)
    features = np.random.default_rng(1).normal(size=(1, 4, 2)).astype(np.float32)
    candidates = Candidates(
        np.zeros((n, 4), np.float32), np.repeat(features, n, axis=0), np.ones((n, 4), np.bool_)
    )
    seeds = np.arange(n, dtype=np.uint64)
    sizes = np.full(n, k)
    draft = team_draft(
        one.select(candidates, k=sizes, seeds=seeds).index,
        two.select(candidates, k=sizes, seeds=other_seeds(seeds)).index,
        seeds=seeds,
    )
    propensities = draft_propensities(
        *(policy.propensities(candidates, draft.index, seeds=seeds) for policy in (one, two))
    )
    _, first, observed = np.unique(draft.index, axis=0, return_index=True, return_counts=True)
    expected = n * propensities[first].astype(np.float64).prod(axis=1)
    assert len(observed) >= 12
    np.testing.assert_allclose(expected.sum(), n, rtol=1e-3)
    assert chisquare(observed, expected * n / expected.sum()).pvalue > 1e-3


def test_a_slate_speaks_for_the_team_whose_items_were_taken() -> None:
    teams = np.array([[0, 1, 1, 0], [0, 1, 1, 0], [1, 0, 1, 0], [0, 1, -1, -1]], np.int8)
    credit = np.array([[1, 0, 0, 1], [0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]], float)
    assert preferences(teams, credit).tolist() == [-1, 1, 0, 0]
    with pytest.raises(ValueError, match=r"credit must have the teams' shape \(4, 4\), got \(4, 3\)"):
        preferences(teams, credit[:, :3])
