from dataclasses import replace

import numpy as np
import pytest

from online_learning.policies.pinning import others, standing, where_standing
from online_learning.policies.registry import POLICIES, create_policy
from online_learning.policies.trial import inserted, on_trial
from online_learning.types import Candidates
from streams.learning.routes import Route, choose
from tests.policy_checks import PRIOR, part_of, random_candidates, request


def with_trials(candidates: Candidates, *trials: tuple[int, int]) -> Candidates:
    """Candidates of which each request tries a column at a position; -1 is none."""
    columns, positions = (np.array(column, np.int64) for column in zip(*trials, strict=True))
    return replace(candidates, trial=columns, trial_at=positions)


NONE = (-1, 0)


def test_on_trial_is_what_may_be_given_is_not_pinned_and_has_room() -> None:
    candidates = random_candidates(0, n=4, valid=1.0)
    candidates.valid[1, 5] = False
    candidates = with_trials(candidates, (7, 3), (5, 3), (6, 1), NONE)
    pinned = np.full(candidates.valid.shape, -1)
    pinned[2, 6] = 0
    assert on_trial(replace(candidates, pinned=pinned), np.full(4, 5)).tolist() == [7, -1, -1, -1]
    assert on_trial(candidates, np.array([0, 5, 5, 5])).tolist() == [-1, -1, 6, -1]
    assert on_trial(random_candidates(0), np.full(5, 3)).tolist() == [-1] * 5


def test_it_stands_where_it_was_drawn_or_last_where_a_slate_ends_before() -> None:
    index = np.array([[1, 2, 3, -1], [1, -1, -1, -1], [1, 2, 3, -1], [1, 2, 3, 4]])
    chances = np.where(index < 0, 0.0, 0.5).astype(np.float32)
    teams = np.where(index < 0, -1, 1).astype(np.int8)
    tried, at, above = np.array([[9, 8, 7, -1], [1, 3, 0, 0], [0, 0, 1, 0]])
    found, propensities, in_teams, positions = inserted(tried, at, above, index, chances, teams, 4)
    assert found.tolist() == [[1, 9, 2, 3], [1, 8, -1, -1], [1, 7, 2, 3], [1, 2, 3, 4]]
    assert propensities.tolist()[:2] == [[0.5, 1.0, 0.5, 0.5], [0.5, 1.0, 0.0, 0.0]]
    assert in_teams.tolist()[:2] == [[1, -1, 1, 1], [1, -1, -1, -1]]
    assert positions.tolist() == [1, 1, 1, -1]


@pytest.mark.parametrize("name", POLICIES)
def test_whatever_the_policy_it_is_there_and_the_policy_fills_the_rest(name: str) -> None:
    policy = create_policy(name, PRIOR, propensity_samples=16)
    plain = random_candidates(2, valid=1.0)
    plain.scores[:, 29] = plain.scores.min() - 5.0
    asked = request(5, 6)
    candidates = with_trials(plain, (29, 4), NONE, (29, 0), (3, 5), NONE)
    found = choose(candidates, [Route((policy,))] * 5, **asked)
    assert [found.index[0, 4], found.index[2, 0], found.index[3, 5]] == [29, 29, 3]
    assert [found.propensities[0, 4], found.propensities[2, 0], found.propensities[3, 5]] == [1.0] * 3
    assert found.index.shape == (5, 6)
    assert found.tried is not None
    assert found.tried.tolist() == [4, -1, 0, 5, -1]
    for slate in found.index:
        assert len(set(slate.tolist())) == 6
    without = choose(plain, [Route((policy,))] * 5, **asked)
    np.testing.assert_array_equal(found.index[[1, 4]], without.index[[1, 4]])
    np.testing.assert_array_equal(found.propensities[[1, 4]], without.propensities[[1, 4]])
    # The others are as likely as if the policy had chosen five from what is left, in that order.
    rest = np.delete(found.index[0], 4)[None]
    first = part_of(plain, slice(0, 1))
    first.valid[0, 29] = False
    alone = policy.select(first, k=np.array([5]), seeds=asked["seeds"][:1])
    np.testing.assert_array_equal(rest[0], alone.index[0])


def test_a_slate_that_is_too_short_ends_with_it() -> None:
    policy = create_policy("greedy", PRIOR)
    plain = random_candidates(3, n=1, valid=0.0)
    plain.valid[0, [4, 8, 11]] = True
    found = choose(with_trials(plain, (11, 9)), [Route((policy,))], **request(1, 10))
    assert found.index[0].tolist()[2:] == [11] + [-1] * 7
    assert found.propensities[0].tolist() == [1.0] * 3 + [0.0] * 7


def test_it_comes_after_what_is_pinned_and_has_no_place_beside_too_much_of_it() -> None:
    policy = create_policy("greedy", PRIOR)
    candidates = with_trials(random_candidates(4, n=2, valid=1.0), (9, 0), (9, 1))
    pinned = np.full(candidates.valid.shape, -1)
    pinned[:, [1, 2]] = [0, 1]
    candidates = replace(candidates, pinned=pinned)
    found = choose(candidates, [Route((policy,))] * 2, k=np.array([4, 2]), seeds=request(2, 1)["seeds"])
    assert found.index[0, :3].tolist() == [1, 2, 9]
    assert found.index[1].tolist() == [1, 2, -1, -1]
    stand = standing(candidates, np.array([4, 2]))
    assert stand.tolist() == [[1, 2, 9], [1, 2, -1]]
    assert where_standing(found.index, stand).tolist() == [
        [True, True, True, False],
        [True, True, False, False],
    ]
    assert not others(candidates, stand).valid[0, [1, 2, 9]].any()
