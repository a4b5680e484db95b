"""What obp says: run by `ope_obp.py` with the Python of an environment that has obp, not with ours.

`python ope_obp_peer.py OUT.npz [--fixture]` makes obp's synthetic logs and reads the Open Bandit sample that
obp carries (byte for byte that of shared/data/obd-sample), estimates and times, and writes inputs and
results. With --fixture: two logs of a few rows and round numbers instead, estimates only.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from obp import ope
from obp.dataset import (
    OpenBanditDataset,
    SyntheticBanditDataset,
    SyntheticSlateBanditDataset,
    linear_behavior_policy_logit,
    logistic_reward_function,
)
from obp.ope.helper import estimate_bernstein_lower_bound
from obp.policy import BernoulliTS
from obp.utils import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeRegressor

RESAMPLES, ALPHA = 1000, 0.05
Results = dict[str, Any]


def action_estimators(*, clip: float, shrinkage: float) -> list[Any]:
    return [
        ope.DirectMethod(estimator_name="dm"),
        ope.InverseProbabilityWeighting(estimator_name="ips"),
        ope.InverseProbabilityWeighting(lambda_=clip, estimator_name="clipped_ips"),
        ope.SelfNormalizedInverseProbabilityWeighting(estimator_name="snips"),
        ope.DoublyRobust(estimator_name="dr"),
        ope.SelfNormalizedDoublyRobust(estimator_name="sndr"),
        ope.SwitchDoublyRobust(lambda_=clip, estimator_name="switch_dr"),
        ope.DoublyRobustWithShrinkage(lambda_=shrinkage, estimator_name="dros"),
    ]


def slate_estimators(length: int, n_actions: int) -> list[Any]:
    return [
        ope.SlateStandardIPS(len_list=length, estimator_name="sips"),
        ope.SlateIndependentIPS(len_list=length, estimator_name="iips"),
        ope.SlateRewardInteractionIPS(len_list=length, estimator_name="rips"),
        ope.SelfNormalizedSlateStandardIPS(len_list=length, estimator_name="snsips"),
        ope.SelfNormalizedSlateIndependentIPS(len_list=length, estimator_name="sniips"),
        ope.SelfNormalizedSlateRewardInteractionIPS(len_list=length, estimator_name="snrips"),
        ope.SlateCascadeDoublyRobust(len_list=length, n_unique_action=n_actions, estimator_name="cascade_dr"),
    ]


def best_seconds(work: Callable[[], object], *, repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def judge(name: str, estimators: list[Any], inputs: Results, *, timed: bool = True) -> Results:
    """Return inputs, estimates, intervals and seconds on one log, under keys `name/...`."""
    results: Results = {f"{name}/input/{key}": value for key, value in inputs.items() if value is not None}
    for estimator in estimators:
        results[f"{name}/value/{estimator.estimator_name}"] = estimator.estimate_policy_value(**inputs)
    if not timed:
        return results

    def values() -> None:
        for estimator in estimators:
            estimator.estimate_policy_value(**inputs)

    def intervals() -> None:
        for estimator in estimators:
            found = estimator.estimate_interval(
                **inputs, alpha=ALPHA, n_bootstrap_samples=RESAMPLES, random_state=0
            )
            ends = [found[f"{100 * (1.0 - ALPHA)}% CI ({end})"] for end in ("lower", "upper")]
            results[f"{name}/interval/{estimator.estimator_name}"] = ends

    results[f"{name}/seconds/values"] = best_seconds(values, repeats=5)
    results[f"{name}/seconds/intervals"] = best_seconds(intervals, repeats=3)
    return results


def actions(name: str, log: Results, distribution: np.ndarray, predictions: np.ndarray) -> Results:
    inputs = {
        "reward": log["reward"],
        "action": log["action"],
        "pscore": log["pscore"],
        "position": log["position"],
        "action_dist": distribution,
        "estimated_rewards_by_reg_model": predictions,
    }
    return judge(name, action_estimators(clip=10.0, shrinkage=100.0), inputs)


def synthetic(n: int, n_actions: int) -> Results:
    data = SyntheticBanditDataset(
        n_actions=n_actions,
        dim_context=5,
        beta=-3.0,
        reward_function=logistic_reward_function,
        random_state=12345,
    )
    log = data.obtain_batch_bandit_feedback(n_rounds=n)
    distribution = softmax(3.0 * log["expected_reward"])[:, :, None]
    model = ope.RegressionModel(
        n_actions=n_actions, base_model=LogisticRegression(max_iter=1000, random_state=0)
    )
    predictions = model.fit_predict(
        context=log["context"], action=log["action"], reward=log["reward"], n_folds=3, random_state=0
    )
    return actions("synthetic", log, distribution, predictions)


def open_bandit(campaign: str) -> Results:
    data = OpenBanditDataset(behavior_policy="random", campaign=campaign)
    log = data.obtain_batch_bandit_feedback()
    thompson = BernoulliTS(
        n_actions=data.n_actions,
        len_list=data.len_list,
        is_zozotown_prior=True,
        campaign=campaign,
        random_state=12345,
    )
    distribution = thompson.compute_batch_action_dist(n_sim=10_000, n_rounds=log["n_rounds"])
    model = ope.RegressionModel(
        n_actions=data.n_actions,
        len_list=data.len_list,
        action_context=log["action_context"],
        base_model=LogisticRegression(C=100, max_iter=1000, random_state=0),
    )
    predictions = model.fit_predict(
        context=log["context"],
        action=log["action"],
        reward=log["reward"],
        pscore=log["pscore"],
        position=log["position"],
        n_folds=3,
        random_state=0,
    )
    return actions(f"obd-{campaign}", log, distribution, predictions)


def slates(n: int, n_actions: int, length: int) -> Results:
    data = SyntheticSlateBanditDataset(
        n_unique_action=n_actions,
        len_list=length,
        dim_context=2,
        reward_type="binary",
        reward_structure="cascade_additive",
        click_model="cascade",
        random_state=12345,
        base_reward_function=logistic_reward_function,
        behavior_policy_function=linear_behavior_policy_logit,
    )
    log = data.obtain_batch_bandit_feedback(n_rounds=n, return_pscore_item_position=True)
    logits = np.random.default_rng(1).normal(size=(n, n_actions))
    whole, marginal, cascade = data.obtain_pscore_given_evaluation_policy_logit(
        action=log["action"], evaluation_policy_logit_=logits
    )
    distribution = data.calc_evaluation_policy_action_dist(
        action=log["action"], evaluation_policy_logit_=logits
    )
    model = ope.SlateRegressionModel(
        base_model=DecisionTreeRegressor(max_depth=3, random_state=0),
        len_list=length,
        n_unique_action=n_actions,
        fitting_method="iw",
    )
    predictions = model.fit_predict(
        context=log["context"],
        action=log["action"],
        reward=log["reward"],
        pscore_cascade=log["pscore_cascade"],
        evaluation_policy_pscore_cascade=cascade,
        evaluation_policy_action_dist=distribution,
    )
    inputs = {
        "slate_id": log["slate_id"],
        "action": log["action"],
        "reward": log["reward"],
        "position": log["position"],
        "pscore": log["pscore"],
        "pscore_item_position": log["pscore_item_position"],
        "pscore_cascade": log["pscore_cascade"],
        "evaluation_policy_pscore": whole,
        "evaluation_policy_pscore_item_position": marginal,
        "evaluation_policy_pscore_cascade": cascade,
        "q_hat": predictions,
        "evaluation_policy_action_dist": distribution,
    }
    return judge("slates", slate_estimators(length, n_actions), inputs)


def fixture() -> Results:
    """Return two small logs; every probability is a multiple of 1/20 and every reward one of 1/2."""
    rng = np.random.default_rng(7)
    n_actions, length = 4, 3

    def probabilities(*shape: int) -> np.ndarray:
        return (1 + rng.multinomial(20 - n_actions, np.ones(n_actions) / n_actions, shape)) / 20.0

    n = 8
    action = rng.integers(n_actions, size=n)
    inputs = {
        "reward": rng.integers(3, size=n) / 2.0,
        "action": action,
        "pscore": probabilities(n)[np.arange(n), action],
        "action_dist": probabilities(n)[:, :, None],
        "estimated_rewards_by_reg_model": rng.integers(10, size=(n, n_actions, 1)) / 10.0,
    }
    results = judge("actions", action_estimators(clip=1.5, shrinkage=4.0), inputs, timed=False)
    weights = inputs["action_dist"][np.arange(n), action, 0] / inputs["pscore"]
    lower = estimate_bernstein_lower_bound(inputs["reward"] * weights, x_max=4.0, delta=0.025)
    results["actions/bernstein"] = lower
    n = 5
    action = rng.permuted(np.tile(np.arange(n_actions), (n, 1)), axis=1)[:, :length]
    cells = n, length
    logged, marginal, target_marginal = rng.integers(5, 20, (3, *cells)) / 20.0
    distribution = probabilities(*cells)
    chosen = np.take_along_axis(distribution, action[:, :, None], axis=2)[:, :, 0]
    inputs = {
        "slate_id": np.repeat(np.arange(n), length),
        "action": action.ravel(),
        "reward": rng.integers(3, size=n * length) / 2.0,
        "position": np.tile(np.arange(length), n),
        "pscore": np.repeat(logged.prod(axis=1), length),
        "pscore_item_position": marginal.ravel(),
        "pscore_cascade": logged.cumprod(axis=1).ravel(),
        "evaluation_policy_pscore": np.repeat(chosen.prod(axis=1), length),
        "evaluation_policy_pscore_item_position": target_marginal.ravel(),
        "evaluation_policy_pscore_cascade": chosen.cumprod(axis=1).ravel(),
        "q_hat": (rng.integers(10, size=(*cells, n_actions)) / 10.0).ravel(),
        "evaluation_policy_action_dist": distribution.ravel(),
    }
    return results | judge("slates", slate_estimators(length, n_actions), inputs, timed=False)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out")
    parser.add_argument("--fixture", action="store_true")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    if arguments.fixture:
        results = fixture()
    else:
        results = synthetic(10_000, 30) | slates(2_000, 5, 3)
        for campaign in ("all", "men", "women"):
            results |= open_bandit(campaign)
    np.savez(arguments.out, **results)


if __name__ == "__main__":
    main()
