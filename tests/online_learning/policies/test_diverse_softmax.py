from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest

from online_learning.policies.diverse_softmax import DiverseSoftmaxPolicy
from online_learning.policies.options import SlateRules
from online_learning.policies.pinning import others
from online_learning.policies.pinning import pinned as pinned_columns
from online_learning.policies.softmax import conditional_propensities
from online_learning.statistics.posterior import LinearPrior
from online_learning.types import Candidates
from tests.policy_checks import DIM, PRIOR, random_candidates, request, unit

TEMPERATURE = 0.3


def one_request(seed: int, n_candidates: int = 5) -> Candidates:
    rng = np.random.default_rng(seed)
    return Candidates(
        scores=np.zeros((1, n_candidates), np.float32),
        features=rng.normal(scale=0.4, size=(1, n_candidates, DIM)).astype(np.float32),
        valid=np.ones((1, n_candidates), bool),
        vectors=unit(rng.normal(size=(1, n_candidates, 3))),
        groups=np.array([[[0, -1], [0, 1], [1, -1], [2, -1], [-1, -1]]], np.int32)[:, :n_candidates],
        fresh=np.array([[True, False, True, False, False]])[:, :n_candidates],
    )


def by_the_book(candidates: Candidates, rules: SlateRules, slate: tuple[int, ...]) -> list[float]:
    """Propensities of a slate, one position and one candidate at a time."""
    utility = candidates.features[0].astype(float) @ PRIOR.weights
    propensities: list[float] = []
    for position, item in enumerate(slate):
        before = slate[:position]
        left = [c for c in range(len(utility)) if c not in before]
        taken = [group for c in before for group in candidates.groups[0, c] if group >= 0]
        within = [
            c for c in left if all(taken.count(g) < rules.cap for g in candidates.groups[0, c] if g >= 0)
        ]
        left = within or left
        weight = {}
        for c in left:
            alike = [float(candidates.vectors[0, c] @ candidates.vectors[0, other]) for other in before]
            weight[c] = np.exp((utility[c] - rules.diversity * max([0.0, *alike])) / TEMPERATURE)
        fresh = [c for c in left if candidates.fresh[0, c]]
        share = rules.fresh_share if fresh else 0.0
        chance = (1.0 - share) * weight[item] / sum(weight.values()) if item in left else 0.0
        if item in fresh:
            chance += share * weight[item] / sum(weight[c] for c in fresh)
        propensities.append(chance)
    return propensities


@pytest.mark.parametrize("seed", range(4))
def test_propensities_are_those_of_the_rules_and_slates_sum_to_one(seed: int) -> None:
    candidates, rules = one_request(seed), SlateRules(diversity=0.8, cap=1, fresh_share=0.3)
    policy = DiverseSoftmaxPolicy(PRIOR, temperature=TEMPERATURE, rules=rules)
    many = Candidates(
        *(np.repeat(getattr(candidates, name), 400, axis=0) for name in ("scores", "features", "valid")),
        **{
            name: np.repeat(getattr(candidates, name), 400, axis=0) for name in ("vectors", "groups", "fresh")
        },
    )
    slates = policy.select(many, **request(400, 3))
    for index, propensities in zip(slates.index, slates.propensities, strict=True):
        expected = by_the_book(candidates, rules, tuple(index.tolist()))
        np.testing.assert_allclose(propensities, expected, rtol=1e-5)
    total = sum(np.prod(by_the_book(candidates, rules, slate)) for slate in permutations(range(5), 3))
    assert total == pytest.approx(1.0)


def test_without_rules_propensities_are_plackett_luces() -> None:
    candidates, asked = random_candidates(0), request(5, 6)
    diverse = DiverseSoftmaxPolicy(PRIOR, temperature=TEMPERATURE).select(candidates, **asked)
    logits = np.where(candidates.valid, candidates.features @ PRIOR.weights / TEMPERATURE, -np.inf)
    expected = conditional_propensities(logits, diverse.index)
    np.testing.assert_allclose(diverse.propensities, expected, rtol=1e-4)


def similarity(index: np.ndarray, vectors: np.ndarray) -> float:
    shown = np.take_along_axis(vectors, index[..., None], axis=1).astype(float)
    alike = shown @ shown.swapaxes(1, 2)
    upper = np.triu_indices(index.shape[1], 1)
    return float(alike[:, upper[0], upper[1]].mean())


def test_more_diversity_makes_slates_less_alike() -> None:
    candidates = random_candidates(1, n=200, valid=1.0)
    found = [
        similarity(
            DiverseSoftmaxPolicy(PRIOR, rules=SlateRules(diversity=diversity))
            .select(candidates, **request(200, 5))
            .index,
            candidates.vectors,
        )
        for diversity in (0.0, 1.0, 4.0)
    ]
    assert found[0] > found[1] > found[2]


def test_no_group_is_shown_more_often_than_its_cap_while_others_are_left() -> None:
    candidates = random_candidates(2, n=100, valid=1.0)
    rules = SlateRules(cap=2)
    index = (
        DiverseSoftmaxPolicy(PRIOR, temperature=0.01, rules=rules).select(candidates, **request(100, 8)).index
    )
    for row, slate in enumerate(index):
        groups = [set(candidates.groups[row, c][candidates.groups[row, c] >= 0].tolist()) for c in slate]
        for group in range(12):
            assert sum(group in of for of in groups) <= 2


def test_a_cap_that_leaves_nothing_does_not_shorten_the_slate() -> None:
    candidates = random_candidates(3, valid=1.0)
    alike = replace(candidates, groups=np.zeros((5, 30, 1), np.int32))
    slates = DiverseSoftmaxPolicy(PRIOR, rules=SlateRules(cap=1)).select(alike, **request(5, 6))
    assert (slates.index >= 0).all()


def test_fresh_candidates_get_their_share_of_the_positions() -> None:
    candidates = random_candidates(4, n=2_000, valid=1.0)
    poor = candidates.features.copy()
    poor[candidates.fresh] = -5.0  # nothing but the share would show them
    rules = SlateRules(fresh_share=0.2)
    index = (
        DiverseSoftmaxPolicy(PRIOR, temperature=0.01, rules=rules)
        .select(replace(candidates, features=poor), **request(2_000, 1))
        .index[:, 0]
    )
    share = candidates.fresh[np.arange(2_000), index].mean()
    assert share == pytest.approx(0.2, abs=4 * np.sqrt(0.2 * 0.8 / 2_000))


def test_pinned_candidates_count_for_the_cap_and_for_similarity() -> None:
    candidates = random_candidates(5, valid=1.0)
    pinned = np.full((5, 30), -1)
    pinned[:, 7], pinned[2] = 0, -1
    rules = SlateRules(cap=1, diversity=0.5)
    whole = replace(candidates, pinned=pinned)
    rest = others(whole, top := pinned_columns(whole, np.full(5, 4)))
    policy = DiverseSoftmaxPolicy(PRIOR, rules=rules)
    slates = policy.select(rest, **request(5, 3))
    after = np.full((5, 1), 7)  # the same, had the policy itself put it there
    after[2] = -1
    own = policy.propensities(
        candidates, np.concatenate([after, slates.index], axis=1), seeds=request(5, 1)["seeds"]
    )
    rows = [0, 1, 3, 4]
    np.testing.assert_allclose(own[rows, 1:], slates.propensities[rows], rtol=1e-6)
    assert (top[rows, 0] == 7).all()
    group = candidates.groups[:, 7]
    for row in rows:
        shown = candidates.groups[row, slates.index[row]]
        assert not np.isin(shown[shown >= 0], group[row][group[row] >= 0]).any()


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"diversity": -1.0}, "diversity must be finite and at least 0, got -1.0"),
        ({"cap": 0}, "cap must be at least 1, got 0"),
        ({"fresh_share": 1.5}, r"fresh_share must be in \[0, 1\], got 1.5"),
    ],
)
def test_bad_rules_are_refused(rules: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SlateRules(**rules)


def test_temperature_must_be_a_positive_number() -> None:
    with pytest.raises(ValueError, match="temperature must be finite and above 0, got 0.0"):
        DiverseSoftmaxPolicy(LinearPrior(np.zeros(2)), temperature=0.0)
