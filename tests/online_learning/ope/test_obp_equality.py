"""Estimates of obp 0.5.7 on small logs, to which ours must be equal.

Inputs and values were printed by `python -m tests.benchmarks.ope_obp --obp-python PYTHON --fixture`, the
values as obp gave them; the same benchmark compares larger logs.
"""

from functools import partial

import numpy as np
import pytest

from online_learning.ope.estimators import ESTIMATORS, LoggedActions, ips, shrunk_dr, switch_dr
from online_learning.ope.intervals import empirical_bernstein
from online_learning.ope.slates import SLATE_ESTIMATORS, LoggedSlates

REWARD = np.array([0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.5, 1.0])
ACTION = np.array([3, 2, 2, 3, 2, 3, 3, 0])
PSCORE = np.array([0.3, 0.3, 0.4, 0.1, 0.3, 0.35, 0.2, 0.25])
ACTION_DIST = np.array(
    [
        [0.1, 0.2, 0.4, 0.3],
        [0.2, 0.25, 0.1, 0.45],
        [0.35, 0.15, 0.2, 0.3],
        [0.35, 0.2, 0.3, 0.15],
        [0.3, 0.3, 0.1, 0.3],
        [0.25, 0.25, 0.35, 0.15],
        [0.2, 0.3, 0.15, 0.35],
        [0.2, 0.25, 0.2, 0.35],
    ]
)
PREDICTED = np.array(
    [
        [0.3, 0.8, 0.4, 0.3],
        [0.5, 0.9, 0.3, 0.5],
        [0.4, 0.6, 0.4, 0.6],
        [0.5, 0.6, 0.9, 0.1],
        [0.5, 0.4, 0.3, 0.2],
        [0.0, 0.4, 0.8, 0.0],
        [0.4, 0.9, 0.9, 0.2],
        [0.0, 0.6, 0.0, 0.3],
    ]
)
ACTION_VALUES = {
    "dm": 0.45499999999999996,
    "ips": 0.4385416666666666,
    "clipped_ips": 0.4229166666666666,
    "snips": 0.5279469724113222,
    "dr": 0.7435416666666667,
    "sndr": 0.8023665352920101,
    "switch_dr": 0.6779166666666667,
    "dros": 0.6490618425961547,
}
BERNSTEIN = -5.994679938137312
# The dials that obp was given, low enough that they matter here.
DIALS = {
    "clipped_ips": partial(ips, clip=1.5),
    "switch_dr": partial(switch_dr, threshold=1.5),
    "dros": partial(shrunk_dr, shrinkage=4.0),
}

SLATE_SHAPE = 5, 3
SLATE_ACTION = [0, 3, 1, 1, 3, 2, 0, 3, 2, 0, 1, 2, 1, 3, 0]
SLATE_REWARD = [0.0, 0.5, 0.5, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.5, 1.0]
MARGINAL = [0.95, 0.55, 0.4, 0.4, 0.75, 0.25, 0.95, 0.9, 0.65, 0.6, 0.8, 0.65, 0.6, 0.45, 0.55]
# fmt: off
CASCADE = [
    0.35, 0.27999999999999997, 0.252, 0.4, 0.26, 0.065, 0.35, 0.175, 0.1575,
    0.95, 0.6649999999999999, 0.43224999999999997, 0.65, 0.1625, 0.08125,
]
TARGET_MARGINAL = [0.8, 0.25, 0.25, 0.75, 0.5, 0.85, 0.25, 0.9, 0.3, 0.55, 0.95, 0.3, 0.7, 0.75, 0.55]
Q_HAT = [
    0.9, 0.2, 0.3, 0.6, 0.3, 0.7, 0.2, 0.1, 0.0, 0.4, 0.2, 0.2, 0.9, 0.8, 0.8, 0.5, 0.1, 0.7, 0.6, 0.9,
    0.4, 0.1, 0.5, 0.4, 0.6, 0.3, 0.3, 0.1, 0.9, 0.7, 0.4, 0.2, 0.6, 0.4, 0.6, 0.0, 0.1, 0.7, 0.0, 0.6,
    0.4, 0.0, 0.7, 0.6, 0.8, 0.8, 0.7, 0.8, 0.1, 0.9, 0.9, 0.6, 0.8, 0.7, 0.8, 0.8, 0.5, 0.8, 0.9, 0.2,
]
SLATE_DIST = [
    0.25, 0.35, 0.2, 0.2, 0.25, 0.3, 0.2, 0.25, 0.25, 0.3, 0.3, 0.15, 0.15, 0.4, 0.05, 0.4, 0.3, 0.3,
    0.15, 0.25, 0.25, 0.3, 0.1, 0.35, 0.25, 0.3, 0.25, 0.2, 0.3, 0.15, 0.2, 0.35, 0.2, 0.2, 0.25, 0.35,
    0.4, 0.2, 0.15, 0.25, 0.2, 0.4, 0.2, 0.2, 0.45, 0.2, 0.2, 0.15, 0.35, 0.25, 0.2, 0.2, 0.25, 0.35,
    0.2, 0.2, 0.4, 0.1, 0.25, 0.25,
]
# fmt: on
SLATE_VALUES = {
    "sips": 0.26321139386928866,
    "iips": 1.6035348423506317,
    "rips": 0.7563366750208855,
    "snsips": 1.9147524008428807,
    "sniips": 1.5272939463501038,
    "snrips": 2.0767034570645064,
    "cascade_dr": 1.0316456927575348,
}


@pytest.fixture
def actions() -> LoggedActions:
    return LoggedActions.from_distributions(
        REWARD, ACTION, ACTION_DIST[None], propensities=PSCORE, predictions=PREDICTED
    )


@pytest.fixture
def slates() -> LoggedSlates:
    cumulative = np.reshape(CASCADE, SLATE_SHAPE)
    distribution = np.reshape(SLATE_DIST, (*SLATE_SHAPE, 4))
    predictions = np.reshape(Q_HAT, distribution.shape)
    chosen = np.reshape(SLATE_ACTION, (*SLATE_SHAPE, 1))
    return LoggedSlates(
        np.reshape(SLATE_REWARD, SLATE_SHAPE),
        np.take_along_axis(distribution, chosen, axis=2)[None, :, :, 0],
        cumulative / np.concatenate([np.ones((5, 1)), cumulative[:, :-1]], axis=1),
        target_marginal=np.reshape(TARGET_MARGINAL, (1, *SLATE_SHAPE)),
        marginal=np.reshape(MARGINAL, SLATE_SHAPE),
        predicted=np.take_along_axis(predictions, chosen, axis=2)[:, :, 0],
        expected=np.vecdot(distribution, predictions)[None],
    )


@pytest.mark.parametrize("name", ACTION_VALUES)
def test_estimates_of_single_actions_equal_those_of_obp(actions: LoggedActions, name: str) -> None:
    estimator = DIALS.get(name, ESTIMATORS[name])
    np.testing.assert_allclose(estimator(actions).values(), [ACTION_VALUES[name]], rtol=0.0, atol=1e-12)


@pytest.mark.parametrize("name", SLATE_VALUES)
def test_estimates_of_slates_equal_those_of_obp(slates: LoggedSlates, name: str) -> None:
    values = SLATE_ESTIMATORS[name](slates).values()
    np.testing.assert_allclose(values, [SLATE_VALUES[name]], rtol=0.0, atol=1e-12)


def test_the_lower_bernstein_bound_equals_that_of_obp(actions: LoggedActions) -> None:
    low, _ = empirical_bernstein(ips(actions).plain, low=0.0, high=4.0, level=0.95)
    np.testing.assert_allclose(low, [BERNSTEIN], rtol=0.0, atol=1e-12)
