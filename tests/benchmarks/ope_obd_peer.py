"""What obp says of the Open Bandit sample: run by `ope_obd.py` with the Python of an environment with obp.

`python ope_obd_peer.py FOLDER RUNS SIMULATIONS SEED` follows obp's example `examples/obd`: for each run a
bootstrap of the random policy's log (campaign all), a logistic regression cross-fitted in three folds, and
obp's estimates of Bernoulli Thompson sampling. FOLDER gets `log.npz` and, by run, `run-N.npz`.
"""

import argparse
import warnings
from pathlib import Path

import numpy as np
from obp import ope
from obp.dataset import OpenBanditDataset
from obp.policy import BernoulliTS
from ope_obp_peer import action_estimators
from sklearn.linear_model import LogisticRegression

CAMPAIGN = "all"
FOLDS = 3
# Of obp's examples/synthetic/conf/hyperparams.yaml; examples/obd had others, not known, for its figures.
MODEL = {"max_iter": 10_000, "C": 100}
KEPT = ("action", "position", "reward", "pscore")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("runs", type=int)
    parser.add_argument("simulations", type=int)
    parser.add_argument("seed", type=int)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    data = OpenBanditDataset(behavior_policy="random", campaign=CAMPAIGN)
    policy = BernoulliTS(
        n_actions=data.n_actions,
        len_list=data.len_list,
        random_state=arguments.seed,
        is_zozotown_prior=True,
        campaign=CAMPAIGN,
    )
    distribution = policy.compute_batch_action_dist(n_sim=arguments.simulations)[0]
    truth = OpenBanditDataset.calc_on_policy_policy_value_estimate(behavior_policy="bts", campaign=CAMPAIGN)
    whole = data.obtain_batch_bandit_feedback()
    log = {key: whole[key] for key in KEPT} | {"distribution": distribution, "truth": truth}
    np.savez(arguments.folder / "log.npz", **log)
    for run in range(arguments.runs):
        rows = data.sample_bootstrap_bandit_feedback(random_state=run)
        model = ope.RegressionModel(
            n_actions=data.n_actions,
            len_list=data.len_list,
            action_context=data.action_context,
            base_model=LogisticRegression(**MODEL, random_state=arguments.seed),
        )
        predictions = model.fit_predict(
            **{key: rows[key] for key in ("context", *KEPT)}, n_folds=FOLDS, random_state=arguments.seed
        )
        inputs = {key: rows[key] for key in KEPT} | {
            "action_dist": np.tile(distribution, (len(rows["reward"]), 1, 1)),
            "estimated_rewards_by_reg_model": predictions,
        }
        values = {
            f"value/{one.estimator_name}": one.estimate_policy_value(**inputs)
            for one in action_estimators(clip=10.0, shrinkage=100.0)
        }
        at_position = predictions[np.arange(len(rows["reward"])), :, rows["position"]]
        kept = {key: rows[key] for key in KEPT} | {"predictions": at_position}
        np.savez(arguments.folder / f"run-{run}.npz", **kept, **values)
        print(f"run {run} done", flush=True)


if __name__ == "__main__":
    main()
