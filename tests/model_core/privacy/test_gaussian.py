"""How much noise a promise takes, and what several of them promise together."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_core.privacy.gaussian import composed, gaussian_delta, gaussian_epsilon, gaussian_sigma

# Of dp-accounting 0.6.0: calibrate_dp_mechanism, PLDAccountant, GaussianDpEvent.
KNOWN = [(1.0, 1e-5, 3.7306316), (4.0, 1e-5, 1.0811618), (8.0, 1e-5, 0.6002291), (0.5, 1e-6, 8.0576185)]


@pytest.mark.parametrize(("epsilon", "delta", "sigma"), KNOWN)
def test_the_noise_is_that_of_another_accountant(epsilon: float, delta: float, sigma: float) -> None:
    assert gaussian_sigma(epsilon, delta) == pytest.approx(sigma, rel=1e-6)


@settings(max_examples=50, deadline=None)
@given(st.floats(1e-3, 500.0), st.floats(1e-12, 0.5))
def test_the_noise_spends_delta_and_no_more(epsilon: float, delta: float) -> None:
    sigma = gaussian_sigma(epsilon, delta)
    assert gaussian_delta(epsilon, sigma) == pytest.approx(delta, rel=1e-6)
    assert gaussian_delta(epsilon, 0.99 * sigma) > delta
    assert gaussian_epsilon(sigma, delta) == pytest.approx(epsilon, rel=1e-4, abs=1e-6)


def test_so_much_noise_that_delta_alone_covers_it_costs_nothing() -> None:
    assert gaussian_epsilon(1e9, 1e-5) == 0.0


def test_promises_compose_as_another_accountant_finds() -> None:
    # dp-accounting 0.6.0 composes these two to an epsilon of 4.0000002.
    both = composed([1.0811618 / math.sqrt(0.1), 1.0811618 / math.sqrt(0.9)])
    assert gaussian_epsilon(both, 1e-5) == pytest.approx(4.0000002, rel=1e-6)
    assert composed([3.0] * 9) == pytest.approx(1.0)
