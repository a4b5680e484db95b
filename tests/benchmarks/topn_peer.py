"""implicit and lenskit on the split given: run by `quality_topn.py` with the Python of their environment.

`python topn_peer.py TRAIN.npz OUT.npz SEED`: reads `train` (n_users, n_items) bool, writes an array of scores
(n_users, n_items) float32 for each configuration, named "model|configuration".
"""

import os
import sys
from collections.abc import Iterator
from itertools import product

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # implicit asks for it: it threads by itself

import numpy as np
import pandas as pd
from implicit.als import AlternatingLeastSquares
from implicit.bpr import BayesianPersonalizedRanking
from lenskit.als import ImplicitMFScorer
from lenskit.data import ItemList, RecQuery, from_interactions_df
from lenskit.knn import EASEScorer, ItemKNNScorer
from lenskit.training import TrainingOptions
from scipy import sparse

ALS = tuple(product((32, 64, 128), (0.1, 10.0), (1.0, 10.0, 40.0)))  # factors, regularization, alpha
BPR = tuple(product((32, 128), (0.02, 0.1), (0.003, 0.03)))  # factors, learning rate, regularization
MF = tuple(product((32, 64), (0.1, 1.0), (5.0, 40.0)))  # features, regularization, weight
KNN = (20, 50, 100, 200)
EASE = (200.0, 300.0, 400.0, 500.0)


def implicit_scores(train: np.ndarray, seed: int) -> Iterator[tuple[str, np.ndarray]]:
    matrix = sparse.csr_matrix(train.astype(np.float32))
    for factors, penalty, alpha in ALS:
        als = AlternatingLeastSquares(
            factors=factors, regularization=penalty, alpha=alpha, iterations=15, random_state=seed
        )
        als.fit(matrix, show_progress=False)
        name = f"implicit ALS|{factors} factors, regularization {penalty:g}, alpha {alpha:g}"
        yield name, als.user_factors @ als.item_factors.T
    for factors, rate, penalty in BPR:
        bpr = BayesianPersonalizedRanking(
            factors=factors, learning_rate=rate, regularization=penalty, iterations=200, random_state=seed
        )
        bpr.fit(matrix, show_progress=False)
        name = f"implicit BPR|{factors} factors, rate {rate:g}, regularization {penalty:g}"
        yield name, bpr.user_factors @ bpr.item_factors.T


def lenskit_scores(train: np.ndarray, seed: int) -> Iterator[tuple[str, np.ndarray]]:
    users, items = np.nonzero(train)
    data = from_interactions_df(pd.DataFrame({"user_id": users, "item_id": items}))
    everything = ItemList(item_ids=np.arange(train.shape[1]))
    models = {
        **{
            f"lenskit ImplicitMF|{features} features, regularization {penalty:g}, weight {weight:g}": (
                ImplicitMFScorer(embedding_size=features, regularization=penalty, weight=weight, epochs=20)
            )
            for features, penalty, weight in MF
        },
        **{f"lenskit ItemKNN|{k} neighbours": ItemKNNScorer(k=k, feedback="implicit") for k in KNN},
        **{f"lenskit EASE|penalty {penalty:g}": EASEScorer(regularization=penalty) for penalty in EASE},
    }
    for name, model in models.items():
        model.train(data, TrainingOptions(rng=seed))
        scores = np.full(train.shape, -np.inf, np.float32)
        for user in range(len(train)):
            query = RecQuery(user_id=user, user_items=data.user_row(user))
            found = np.asarray(model(query, everything).scores(), np.float32)
            scores[user] = np.where(np.isnan(found), -np.inf, found)
        yield name, scores


def main() -> None:
    with np.load(sys.argv[1]) as arrays:
        train = arrays["train"]
    seed = int(sys.argv[3])
    found = dict(implicit_scores(train, seed)) | dict(lenskit_scores(train, seed))
    np.savez(sys.argv[2], **found)


if __name__ == "__main__":
    main()
