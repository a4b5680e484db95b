"""gobrec and mab2rec on the log given: run by `bandit_speed.py` with the Python of their environment.

`python bandit_speed_peer.py LOG.npz OUT.npz TOP SEED RIDGE UCB_ALPHA TS_ALPHA REPEATS BATCH`
"""

import sys
import time
import warnings
from typing import Any

import gobrec
import numpy as np
import torch
from gobrec.mabs.lin_mabs import LinTS, LinUCB
from mab2rec import BanditRecommender, LearningPolicy

TOP, SEED = int(sys.argv[3]), int(sys.argv[4])
RIDGE, UCB_ALPHA, TS_ALPHA = (float(value) for value in sys.argv[5:8])
REPEATS, BATCH = int(sys.argv[8]), int(sys.argv[9])


class Gobrec:
    def __init__(self, algorithm: str) -> None:
        made = {
            "linucb": lambda: LinUCB(seed=SEED, alpha=UCB_ALPHA, l2_lambda=RIDGE),
            "lints": lambda: LinTS(seed=SEED, alpha=TS_ALPHA, l2_lambda=RIDGE),
        }[algorithm]()
        self.recommender = gobrec.Recommender(mab_algo=made, top_k=TOP)

    def learn(self, contexts: np.ndarray, items: np.ndarray, ratings: np.ndarray) -> None:
        self.recommender.fit(contexts, items, ratings)

    def recommend(self, contexts: np.ndarray) -> Any:
        parts = range(0, len(contexts), BATCH)
        return np.concatenate([self.recommender.recommend(contexts[at : at + BATCH])[0] for at in parts])


class Mab2rec:
    def __init__(self, algorithm: str) -> None:
        policy = {
            "linucb": LearningPolicy.LinUCB(alpha=UCB_ALPHA, l2_lambda=RIDGE),
            "lints": LearningPolicy.LinTS(alpha=TS_ALPHA, l2_lambda=RIDGE),
        }[algorithm]
        self.recommender = BanditRecommender(learning_policy=policy, top_k=TOP, seed=SEED, n_jobs=1)
        self.known: set[int] = set()

    def learn(self, contexts: np.ndarray, items: np.ndarray, ratings: np.ndarray) -> None:
        if not self.known:
            self.recommender.fit(items, ratings, contexts)
        else:
            for arm in sorted(set(items.tolist()) - self.known):
                self.recommender.add_arm(arm)
            self.recommender.partial_fit(items, ratings, contexts)
        self.known |= set(items.tolist())

    def recommend(self, contexts: np.ndarray) -> Any:
        return np.array(self.recommender.recommend(contexts, apply_sigmoid=False))


def run(model: Any, log: Any) -> tuple[float, float, np.ndarray]:
    contexts, items, ratings = log["contexts"], log["items"], log["ratings"]
    learning, recommending, slates = 0.0, 0.0, []
    for number, (first, last) in enumerate(log["edges"].tolist()):
        if number:
            start = time.process_time()
            slates.append(model.recommend(contexts[first:last]))
            recommending += time.process_time() - start
        start = time.process_time()
        model.learn(contexts[first:last], items[first:last], ratings[first:last])
        learning += time.process_time() - start
    return learning, recommending, np.concatenate(slates)


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    log = dict(np.load(sys.argv[1]))
    results: dict[str, np.ndarray] = {}
    for peer, make, repeats in (("gobrec", Gobrec, REPEATS), ("mab2rec", Mab2rec, 1)):
        for algorithm in ("linucb", "lints"):
            runs = [run(make(algorithm), log) for _ in range(repeats)]
            learning, recommending, slates = min(runs, key=lambda found: found[0] + found[1])
            results[f"{peer}/{algorithm}/seconds"] = np.array([learning, recommending])
            results[f"{peer}/{algorithm}/slates"] = slates
    np.savez(sys.argv[2], **results)


if __name__ == "__main__":
    main()
