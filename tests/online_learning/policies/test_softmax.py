from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from online_learning.policies.greedy import GreedyPolicy
from online_learning.policies.softmax import SoftmaxPolicy, conditional_propensities
from online_learning.statistics.posterior import LinearPrior
from tests.policy_checks import DIM, random_candidates, request

PRIOR = LinearPrior(np.linspace(-1.0, 1.0, DIM))


def in_long_double(logits: np.ndarray, slate: list[int]) -> list[float]:
    weights = np.exp(logits.astype(np.longdouble) - logits.max())
    left = list(range(len(logits)))
    probabilities = []
    for item in slate:
        probabilities.append(float(weights[item] / weights[left].sum()))
        left.remove(item)
    return probabilities


@given(logits=st.lists(st.floats(-30, 30), min_size=2, max_size=8), order=st.randoms(use_true_random=False))
def test_propensities_follow_the_formula(logits: list[float], order) -> None:
    slate = order.sample(range(len(logits)), len(logits) - 1)
    row = np.array(logits)
    result = conditional_propensities(row[None], np.array([[*slate, -1]]))[0]
    np.testing.assert_allclose(result, [*in_long_double(row, slate), 0.0], rtol=1e-6)


def test_slate_probabilities_sum_to_one() -> None:
    logits = np.random.default_rng(0).normal(size=5) * 3
    slates = np.array(list(permutations(range(5), 3)))
    each = conditional_propensities(np.tile(logits, (len(slates), 1)), slates)
    assert each.astype(np.float64).prod(axis=1).sum() == pytest.approx(1.0, abs=1e-5)


def test_propensities_keep_their_digits_once_a_dominant_candidate_is_taken() -> None:
    logits = np.array([[5_000.0, 1.0, 0.0, -np.inf]])
    result = conditional_propensities(logits, np.array([[0, 1, 2, -1]]))[0]
    np.testing.assert_allclose(result, [1.0, 1.0 / (1.0 + np.exp(-1.0)), 1.0, 0.0], rtol=1e-6)


def test_temperature_divides_the_utility() -> None:
    candidates = random_candidates(1, valid=1.0)
    slates = SoftmaxPolicy(PRIOR, temperature=0.4).select(candidates, **request(5, 1))
    weights = np.exp(candidates.features @ PRIOR.weights / 0.4)
    expected = np.take_along_axis(weights / weights.sum(axis=1, keepdims=True), slates.index, axis=1)
    np.testing.assert_allclose(slates.propensities, expected, rtol=1e-4)


def test_temperature_goes_from_greedy_to_uniform() -> None:
    candidates, asked = random_candidates(0, valid=1.0), request(5, 10)
    cold = SoftmaxPolicy(PRIOR, temperature=1e-6).select(candidates, **asked)
    greedy = GreedyPolicy(PRIOR).select(candidates, **asked)
    assert np.array_equal(cold.index, greedy.index)
    np.testing.assert_allclose(cold.propensities, 1.0)
    hot = SoftmaxPolicy(PRIOR, temperature=1e9).select(candidates, **asked)
    np.testing.assert_allclose(hot.propensities, np.tile(1.0 / (30 - np.arange(10)), (5, 1)), rtol=1e-5)


@pytest.mark.parametrize("temperature", [0.0, -1.0, np.nan, np.inf])
def test_temperature_must_be_a_positive_number(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature must be finite and above 0, got"):
        SoftmaxPolicy(PRIOR, temperature=temperature)
