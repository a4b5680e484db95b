from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from online_learning.ope.estimators import (
    ESTIMATORS,
    LoggedActions,
    direct_method,
    doubly_robust,
    ips,
    self_normalised_dr,
    shrunk_dr,
    snips,
    switch_dr,
)

seeds = st.integers(0, 10_000)


def probabilities(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Return distributions over the last axis, none of their entries 0."""
    weights = rng.random(shape) + 0.05
    return weights / weights.sum(axis=-1, keepdims=True)


def random_log(seed: int, *, n: int = 40, n_actions: int = 5, policies: int = 3) -> LoggedActions:
    rng = np.random.default_rng(seed)
    actions = rng.integers(n_actions, size=n)
    return LoggedActions.from_distributions(
        rng.normal(size=n),
        actions,
        probabilities(rng, policies, n, n_actions),
        propensities=probabilities(rng, n, n_actions)[np.arange(n), actions],
        predictions=rng.normal(size=(n, n_actions)),
    )


def changed(log: LoggedActions, **changes: object) -> LoggedActions:
    fields = ("rewards", "target", "propensities", "predicted", "expected", "max_weight")
    return LoggedActions(**{name: getattr(log, name) for name in fields} | changes)


@given(seed=seeds, estimator=st.sampled_from([ips, doubly_robust]))
def test_ips_and_dr_are_unbiased_over_every_context_and_action(seed, estimator) -> None:
    rng = np.random.default_rng(seed)
    contexts, n_actions, policies = 3, 4, 2
    context, action = (part.ravel() for part in np.indices((contexts, n_actions)))
    logging = probabilities(rng, contexts, n_actions)
    target = probabilities(rng, policies, contexts, n_actions)
    rewards = rng.normal(size=(contexts, n_actions))
    share = probabilities(rng, contexts)
    log = LoggedActions.from_distributions(
        rewards[context, action],
        action,
        target[:, context],
        propensities=logging[context, action],
        predictions=rng.normal(size=(contexts, n_actions))[context],  # as wrong as a model can be
    )
    chance = share[context] * logging[context, action]
    truth = (target * rewards).sum(axis=2) @ share
    np.testing.assert_allclose(estimator(log).plain @ chance, truth, atol=1e-12)


@given(seed=seeds, shift=st.floats(-10.0, 10.0))
def test_snips_moves_with_the_rewards_and_stays_among_them(seed, shift) -> None:
    log = random_log(seed)
    values = snips(log).values()
    assert (values >= log.rewards.min() - 1e-12).all()
    assert (values <= log.rewards.max() + 1e-12).all()
    np.testing.assert_allclose(snips(changed(log, rewards=log.rewards + shift)).values(), values + shift)


@given(seed=seeds)
def test_a_perfect_model_leaves_nothing_for_the_weights(seed) -> None:
    log = random_log(seed)
    log = changed(log, predicted=log.rewards)
    dm = direct_method(log)
    for estimator in (doubly_robust, partial(switch_dr, threshold=2.0), partial(shrunk_dr, shrinkage=3.0)):
        np.testing.assert_array_equal(estimator(log).plain, dm.plain)
    np.testing.assert_array_equal(self_normalised_dr(log).values(), dm.values())


@given(seed=seeds)
def test_dr_is_the_direct_method_where_weights_vanish(seed) -> None:
    log = random_log(seed)
    never = changed(log, target=np.zeros_like(log.target))
    np.testing.assert_array_equal(doubly_robust(never).plain, direct_method(log).plain)
    for estimator in (partial(switch_dr, threshold=0.0), partial(shrunk_dr, shrinkage=0.0)):
        np.testing.assert_array_equal(estimator(log).plain, direct_method(log).plain)
        np.testing.assert_array_equal(estimator(never).plain, direct_method(log).plain)


@given(seed=seeds)
def test_dials_turned_off_give_plain_dr_and_ips(seed) -> None:
    log = random_log(seed)
    dr = doubly_robust(log).values()
    largest = float(log.weights.max())
    for estimator in (
        partial(doubly_robust, clip=largest),
        partial(switch_dr, threshold=largest),
        partial(shrunk_dr, shrinkage=np.inf),
    ):
        np.testing.assert_allclose(estimator(log).values(), dr)
    np.testing.assert_allclose(shrunk_dr(log, shrinkage=1e12).values(), dr, atol=1e-6)
    np.testing.assert_array_equal(ips(log, clip=largest).values(), ips(log).values())


@given(seed=seeds)
def test_a_model_that_says_nothing_makes_dr_ips_and_sndr_snips(seed) -> None:
    log = random_log(seed)
    silent = changed(log, predicted=np.zeros_like(log.rewards), expected=np.zeros_like(log.target))
    np.testing.assert_allclose(doubly_robust(silent).values(), ips(log).values())
    np.testing.assert_allclose(self_normalised_dr(silent).values(), snips(log).values())


@given(seed=seeds, name=st.sampled_from(sorted(set(ESTIMATORS) - {"dm"})))
def test_no_weight_exceeds_what_the_estimator_promises(seed, name) -> None:
    contributions = ESTIMATORS[name](random_log(seed))
    assert contributions.weights is not None
    assert contributions.weights.max() <= contributions.largest_weight


@given(seed=seeds, low=st.floats(-2.0, 1.0), span=st.floats(0.1, 3.0))
def test_contributions_stay_within_their_bounds(seed, low, span) -> None:
    rng = np.random.default_rng(seed)
    log = random_log(seed)
    edges = low + span * rng.integers(2, size=(2, len(log.rewards)))  # the worst: all at the ends
    expected = low + span * rng.integers(2, size=log.target.shape)
    log = changed(log, rewards=edges[0], predicted=edges[1], expected=expected)
    log = changed(log, max_weight=float(log.weights.max()))
    for name in ("dm", "ips", "clipped_ips", "dr", "switch_dr", "dros"):
        contributions = ESTIMATORS[name](log)
        least, most = contributions.bounds((low, low + span))
        assert least - 1e-9 <= contributions.plain.min()
        assert contributions.plain.max() <= most + 1e-9
    assert direct_method(log).bounds((low, low + span)) == (low, low + span)


def test_bounds_are_no_wider_than_weights_and_rewards_make_them() -> None:
    log = changed(random_log(1), max_weight=4.0)
    assert ips(log).bounds((0.5, 2.0)) == (0.0, 8.0)
    assert ips(log).bounds((-1.0, 2.0)) == (-4.0, 8.0)
    assert ips(log, clip=3.0).bounds((-2.0, -1.0)) == (-6.0, 0.0)
    assert doubly_robust(log).bounds((0.5, 2.0)) == (-5.5, 8.0)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_policies_evaluated_together_get_what_each_gets_alone(name: str) -> None:
    log = random_log(5)
    together = ESTIMATORS[name](log).values()
    for policy, value in enumerate(together):
        row = slice(policy, policy + 1)
        alone = changed(log, target=log.target[row], expected=log.expected[row])
        np.testing.assert_allclose(ESTIMATORS[name](alone).values(), [value], rtol=1e-12)


@pytest.mark.parametrize("name", ["ips", "snips", "clipped_ips"])
def test_the_logging_policy_is_worth_its_mean_reward(name: str) -> None:
    log = random_log(6)
    itself = changed(log, target=log.propensities[None], expected=None)
    np.testing.assert_allclose(ESTIMATORS[name](itself).values(), [log.rewards.mean()])


def test_a_policy_without_context_is_given_once_for_all_rows() -> None:
    rng = np.random.default_rng(8)
    one, actions, predictions = probabilities(rng, 2, 1, 5), rng.integers(5, size=9), rng.random((9, 5))
    short, long = (
        LoggedActions.from_distributions(np.zeros(9), actions, given, predictions=predictions)
        for given in (one, np.repeat(one, 9, axis=1))
    )
    np.testing.assert_array_equal(short.target, long.target)
    np.testing.assert_allclose(short.expected, long.expected)


def test_the_log_keeps_its_inputs_as_they_are() -> None:
    log = random_log(9)
    before = [getattr(log, name).copy() for name in ("rewards", "target", "propensities", "expected")]
    for estimator in ESTIMATORS.values():
        estimator(log)
    after = [log.rewards, log.target, log.propensities, log.expected]
    for left, right in zip(before, after, strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rewards": np.array([0.0, np.nan])}, r"rewards must be finite, got nan at \(1,\)"),
        ({"rewards": np.zeros((2, 1))}, r"rewards must have shape \(any\), got \(2, 1\)"),
        ({"rewards": np.zeros(0)}, "rewards must have at least 1 row, got 0"),
        ({"target": np.zeros(2)}, r"target must have shape \(any, 2\), got \(2,\)"),
        ({"target": np.array([[0.5, 1.5]])}, r"target must be in \[0, 1\], got 0.5 to 1.5"),
        ({"target": np.array([[0.5, np.inf]])}, r"target must be finite, got inf at \(0, 1\)"),
        ({"propensities": np.ones(3)}, r"propensities must have shape \(2,\), got \(3,\)"),
        ({"predicted": np.array([np.nan, 0.0])}, r"predicted must be finite, got nan at \(0,\)"),
        ({"expected": np.zeros((2, 2))}, r"expected must have shape \(1, 2\), got \(2, 2\)"),
    ],
)
def test_a_log_that_is_none_is_refused(changes: dict[str, np.ndarray], message: str) -> None:
    good = {"rewards": np.zeros(2), "target": np.full((1, 2), 0.5), "propensities": np.full(2, 0.5)}
    with pytest.raises(ValueError, match=message):
        LoggedActions(**good | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"distributions": np.full((1, 2, 3), 0.5)}, "distributions must sum to 1, got sums 1.5 to 1.5"),
        ({"distributions": np.full((1, 4, 2), 0.5)}, r"distributions must have shape \(P, 2 or 1, A\)"),
        ({"actions": np.array([0, 2])}, r"actions must be \(2,\) columns in \[0, 2\)"),
        ({"actions": np.array([-1, 0])}, r"actions must be \(2,\) columns in \[0, 2\)"),
        ({"predictions": np.zeros((2, 3))}, r"predictions must have shape \(2, 2\), got \(2, 3\)"),
    ],
)
def test_distributions_that_are_none_are_refused(changes: dict[str, np.ndarray], message: str) -> None:
    good = {"actions": np.array([0, 1]), "distributions": np.full((1, 2, 2), 0.5)}
    with pytest.raises(ValueError, match=message):
        LoggedActions.from_distributions(np.zeros(2), **good | changes)


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (partial(ips, clip=0.0), "clip must be above 0, got 0.0"),
        (partial(doubly_robust, clip=np.nan), "clip must be above 0, got nan"),
        (partial(switch_dr, threshold=-1.0), "threshold must be at least 0, got -1.0"),
        (partial(shrunk_dr, shrinkage=np.nan), "shrinkage must be at least 0, got nan"),
    ],
)
def test_a_dial_out_of_range_is_refused(estimator, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        estimator(random_log(1))
