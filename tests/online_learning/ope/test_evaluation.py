from dataclasses import replace

import numpy as np
import pytest

from online_learning.ope.diagnostics import Limits
from online_learning.ope.estimators import ESTIMATORS, LoggedActions, ips
from online_learning.ope.evaluation import Estimate, Refusal, evaluate
from online_learning.ope.slates import SLATE_ESTIMATORS, LoggedSlates

N, N_ACTIONS = 4000, 4
CHANCE = np.array([0.1, 0.2, 0.3, 0.4])
LOGGING = np.array([0.4, 0.3, 0.2, 0.1])
CANDIDATES = np.array([[0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]])


def draw(**settings: object) -> LoggedActions:
    rng = np.random.default_rng(0)
    actions = rng.choice(N_ACTIONS, N, p=LOGGING)
    given = {
        "propensities": LOGGING[actions],
        "predictions": np.full((N, N_ACTIONS), 0.25),
        "max_weight": 4.0,
    }
    rewards = (rng.random(N) < CHANCE[actions]).astype(float)
    return LoggedActions.from_distributions(rewards, actions, CANDIDATES[:, None], **given | settings)


def draw_slates(candidate: np.ndarray, *, n: int = N, length: int = 3) -> LoggedSlates:
    """Return slates whose positions are chosen alone, each worth its item's chance."""
    rng = np.random.default_rng(1)
    items = rng.choice(N_ACTIONS, (n, length), p=LOGGING)
    rewards = (rng.random((n, length)) < CHANCE[items]).astype(float)
    target, logged = candidate[items][None], LOGGING[items]
    return LoggedSlates(
        rewards,
        target,
        logged,
        target_marginal=target,
        marginal=logged,
        predicted=np.zeros((n, length)),
        expected=np.zeros((1, n, length)),
    )


@pytest.mark.parametrize("name", sorted(set(ESTIMATORS) - {"dm"}))
def test_every_weighted_estimator_covers_the_true_values(name: str) -> None:
    for truth, found in zip(CANDIDATES @ CHANCE, evaluate(draw(), ESTIMATORS)[name], strict=True):
        assert isinstance(found, Estimate)
        assert found.low <= truth <= found.high
        assert found.low <= found.value <= found.high
        assert found.high - found.low < 0.1
        assert found.diagnostics.n == N


@pytest.mark.parametrize("name", SLATE_ESTIMATORS)
def test_every_slate_estimator_covers_the_true_value(name: str) -> None:
    candidate = np.array([0.3, 0.3, 0.2, 0.2])
    (found,) = evaluate(draw_slates(candidate), SLATE_ESTIMATORS)[name]
    assert found.low <= 3 * candidate @ CHANCE <= found.high


def test_a_log_without_propensities_leaves_the_direct_method() -> None:
    results = evaluate(draw(propensities=None), ESTIMATORS)
    assert [found.value for found in results.pop("dm")] == pytest.approx([0.25, 0.25])
    for refusals in results.values():
        for refusal in refusals:
            assert refusal.reason.startswith("propensities must be logged for importance weights, got none")
            assert "direct method" in refusal.reason


def test_one_bad_propensity_is_not_passed_over() -> None:
    propensities = draw().propensities.copy()
    propensities[17] = 0.0
    refusal = evaluate(draw(propensities=propensities), {"ips": ips})["ips"][1]
    assert "propensities must be in (0, 1], got 0.0 at (17,) and 1 such of 4000" in refusal.reason


def test_a_log_without_a_model_leaves_ips_and_snips() -> None:
    results = evaluate(draw(predictions=None), ESTIMATORS)
    refused = {name for name, found in results.items() if isinstance(found[0], Refusal)}
    assert refused == {"dm", "dr", "sndr", "switch_dr", "dros"}
    assert "ips and snips need no model" in results["dr"][0].reason


def test_candidates_are_refused_one_by_one() -> None:
    log = draw()
    target = log.target.copy()
    target[1] = np.where(np.arange(N) < 30, 0.5, 0.0)
    kept, refused = evaluate(LoggedActions(log.rewards, target, log.propensities), {"ips": ips})["ips"]
    assert isinstance(kept, Estimate)
    assert refused.reason.startswith("effective sample size must be at least 100, got 2")
    assert refused.diagnostics.unchosen == pytest.approx(1 - 30 / N)


def test_no_reward_is_not_taken_for_a_certain_nothing() -> None:
    log = draw()
    nothing = LoggedActions(np.zeros(N), log.target, log.propensities)
    refusal = evaluate(nothing, {"ips": ips})["ips"][0]
    assert "effective rewarded rows must be at least 5, got 0" in refusal.reason
    # The bound that holds at any n does not believe it either: its interval has a width.
    limits = Limits(effective_rewards=0.0)
    bounded = LoggedActions(np.zeros(N), log.target, log.propensities, max_weight=4.0)
    found = evaluate(bounded, {"ips": ips}, limits=limits, interval="bernstein")["ips"][0]
    assert found.low < -0.001 < 0.001 < found.high


def test_a_policy_that_chooses_what_was_never_logged_is_refused() -> None:
    rng = np.random.default_rng(0)
    actions = rng.choice(2, N, p=[0.5, 0.5])  # of 4, two are never logged
    log = LoggedActions.from_distributions(
        rng.random(N), actions, CANDIDATES[:, None], propensities=np.full(N, 0.5)
    )
    for found, mass in zip(evaluate(log, {"ips": ips})["ips"], (0.7, 0.3), strict=True):
        assert "mean weight must be within 0.1 of 1" in found.reason
        assert found.diagnostics.mean_weight == pytest.approx(mass, abs=0.02)


def test_slates_too_long_for_the_log_are_refused_by_slate_and_borne_by_position() -> None:
    candidate = LOGGING[::-1]
    results = evaluate(draw_slates(candidate, n=500, length=6), SLATE_ESTIMATORS)
    assert results["sips"][0].reason.startswith("effective sample size must be at least 100")
    assert isinstance(results["iips"][0], Estimate)


def test_bernstein_intervals_are_valid_wide_and_only_for_means_of_bounded_weights() -> None:
    results = evaluate(draw(), ESTIMATORS, interval="bernstein")
    narrow = evaluate(draw(), ESTIMATORS)
    for name in ("ips", "clipped_ips", "dr", "switch_dr", "dros"):
        for wide, usual, truth in zip(results[name], narrow[name], CANDIDATES @ CHANCE, strict=True):
            assert wide.low < usual.low < truth < usual.high < wide.high
            assert wide.value == usual.value
    for name in ("snips", "sndr"):
        assert "self-normalised estimate is no mean of rows; use the bootstrap" in results[name][0].reason
    unknown = evaluate(draw(max_weight=np.inf), ESTIMATORS, interval="bernstein")
    assert "largest weight must be known" in unknown["ips"][0].reason
    assert isinstance(unknown["clipped_ips"][0], Estimate)


def test_users_are_drawn_whole_and_too_few_of_them_are_refused() -> None:
    users = np.arange(N) // 40
    (apart, _), (together, _) = (
        evaluate(draw(), {"ips": ips}, clusters=clusters)["ips"] for clusters in (None, users)
    )
    assert (together.value, together.diagnostics.n) == (apart.value, N)
    assert together.diagnostics.effective_clusters == pytest.approx(100, abs=1)
    assert (together.low, together.high) != (apart.low, apart.high)
    for refused in evaluate(draw(), {"ips": ips}, clusters=np.arange(N) // 400)["ips"]:
        assert refused.reason.startswith("effective clusters must be at least 30, got")
    with pytest.raises(ValueError, match="clusters must be None for interval 'bernstein'"):
        evaluate(draw(), {"ips": ips}, interval="bernstein", clusters=users)


def test_only_weights_known_to_be_bounded_have_a_bernstein_interval_for_slates() -> None:
    log = draw_slates(np.array([0.3, 0.3, 0.2, 0.2]))
    bounded = replace(log, max_weight=8.0)
    for name, known in (("sips", True), ("rips", True), ("pseudo_inverse", False), ("cascade_dr", False)):
        estimator = {name: SLATE_ESTIMATORS[name]}
        for given, borne in ((log, False), (bounded, known)):
            (found,) = evaluate(given, estimator, interval="bernstein", reward_range=(0.0, 3.0))[name]
            assert isinstance(found, Estimate if borne else Refusal)


def test_the_seed_decides_the_interval_and_not_the_value() -> None:
    first, again, other = (evaluate(draw(), {"ips": ips}, seed=seed)["ips"][0] for seed in (0, 0, 1))
    assert first == again
    assert first.value == other.value
    assert first.low != other.low


def test_a_policy_that_shares_no_action_with_the_log_is_refused_and_the_others_are_not() -> None:
    log = draw()
    target = log.target * np.array([[1.0], [0.0]])
    results = evaluate(LoggedActions(log.rewards, target, log.propensities), {"snips": ESTIMATORS["snips"]})
    kept, refused = results["snips"]
    assert isinstance(kept, Estimate)
    assert refused.reason.startswith("effective sample size must be at least 100, got 0 of 4000")


def test_results_come_in_the_order_asked_for() -> None:
    names = ["snips", "dm", "ips"]
    results = evaluate(draw(propensities=None), {name: ESTIMATORS[name] for name in names})
    assert list(results) == names


def test_rewards_outside_their_range_void_a_bernstein_interval() -> None:
    with pytest.raises(ValueError, match=r"contributions must be in \[0.0, 0.4\], got 0.0 to 4.0"):
        evaluate(draw(), {"ips": ips}, interval="bernstein", reward_range=(0.0, 0.1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"interval": "student"}, "interval must be 'bootstrap' or 'bernstein', got 'student'"),
        (
            {"interval": "bernstein", "reward_range": (1.0, 1.0)},
            r"reward_range must be \(low, high\) with low < high, got \(1.0, 1.0\)",
        ),
    ],
)
def test_settings_that_are_none_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(draw(), {"ips": ips}, **settings)
