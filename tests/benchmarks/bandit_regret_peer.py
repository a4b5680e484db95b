"""mab2rec's, obp's and river's bandits: run by `bandit_regret.py` with the Python of their environment.

`python bandit_regret_peer.py OUT.npz SEEDS`
"""

import os
import sys
import warnings
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
from bandit_worlds import BATCH, DIM, N_ACTIONS, measure
from mab2rec import BanditRecommender, LearningPolicy
from obp.policy import LinTS, LinUCB, LogisticTS
from river.bandit import LinUCBDisjoint


class Mab2rec:
    def __init__(self, policy: Any, seed: int) -> None:
        self.model = BanditRecommender(policy, top_k=1, seed=seed, n_jobs=1)
        self.rng = np.random.default_rng([seed, 8])
        self.fitted = False

    def choose(self, contexts: np.ndarray) -> np.ndarray:
        if not self.fitted:  # it cannot be asked before it has been fitted
            return self.rng.integers(0, N_ACTIONS, len(contexts))
        return np.array(self.model.recommend(contexts, apply_sigmoid=False))[:, 0]

    def learn(self, contexts: np.ndarray, actions: np.ndarray, rewards: np.ndarray) -> None:
        if self.fitted:
            self.model.partial_fit(actions, rewards, contexts)
            return
        # All arms must be there from the first fit on; it leaves those without data at their prior.
        self.model.set_arms(list(range(N_ACTIONS)))
        self.model.fit(actions, rewards, contexts)
        self.fitted = True


class Obp:
    def __init__(self, policy: Any) -> None:
        self.policy = policy

    def choose(self, contexts: np.ndarray) -> np.ndarray:
        return np.array([self.policy.select_action(row[None])[0] for row in contexts])

    def learn(self, contexts: np.ndarray, actions: np.ndarray, rewards: np.ndarray) -> None:
        # Its logistic loss is that of outcomes -1 and 1.
        outcomes = 2 * rewards - 1 if isinstance(self.policy, LogisticTS) else rewards
        for row, action, reward in zip(contexts, actions, outcomes, strict=True):
            self.policy.update_params(action=int(action), reward=float(reward), context=row[None])


class River:
    def __init__(self, seed: int) -> None:
        self.policy = LinUCBDisjoint(seed=seed)

    def choose(self, contexts: np.ndarray) -> list[int]:
        return [self.policy.pull(range(N_ACTIONS), context=dict(enumerate(row))) for row in contexts]

    def learn(self, contexts: np.ndarray, actions: np.ndarray, rewards: np.ndarray) -> None:
        for row, action, reward in zip(contexts, actions, rewards, strict=True):
            self.policy.update(int(action), dict(enumerate(row)), reward)


OBP = {"dim": 1 + DIM, "n_actions": N_ACTIONS, "batch_size": BATCH}
ALPHAS = (0.05, 0.1, 0.3, 1.0)
LEARNERS = {
    "mab2rec LinGreedy": (
        lambda x, s: Mab2rec(LearningPolicy.LinGreedy(epsilon=x), s),
        (0.01, 0.02, 0.05, 0.1),
    ),
    "mab2rec LinUCB": (lambda x, s: Mab2rec(LearningPolicy.LinUCB(alpha=x), s), ALPHAS),
    "mab2rec LinTS": (lambda x, s: Mab2rec(LearningPolicy.LinTS(alpha=x), s), ALPHAS),
    "obp LinUCB": (lambda x, s: Obp(LinUCB(**OBP, random_state=s, epsilon=x)), ALPHAS),
    "obp LinTS": (lambda x, s: Obp(LinTS(**OBP, random_state=s)), (1.0,)),
    "obp LogisticTS": (lambda x, s: Obp(LogisticTS(**OBP, random_state=s, alpha_=x)), ALPHAS),
    "river LinUCBDisjoint": (lambda x, s: River(s), (1.0,)),
}


def main() -> None:
    warnings.simplefilter("ignore")
    out, seeds = sys.argv[1], int(sys.argv[2])
    results = {}
    for name, (make, grid) in LEARNERS.items():
        for world, (setting, regrets) in measure(make, grid, seeds).items():
            results[f"{world}/{name}/setting"] = np.array(setting)
            results[f"{world}/{name}/regret"] = regrets
    np.savez(out, **results)


if __name__ == "__main__":
    main()
