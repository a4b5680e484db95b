"""Turns ranking scores into probabilities by Platt scaling (Platt 1999) on the latest interactions."""

import numpy as np
import torch
from numpy.typing import NDArray

from model_core.evaluation.evaluate import future
from model_core.inputs.corpus import Corpus
from model_core.network.ensemble import Ensemble
from model_core.network.model import Model
from model_core.release.served import serve
from model_core.signals.config import SignalConfig
from model_core.signals.sample_signals import Log

MIN_POSITIVE = 20


def platt(
    scores: NDArray[np.float64],
    labels: NDArray[np.bool_],
    users: NDArray[np.int64],
    *,
    steps: int = 50,
) -> tuple[float, float]:
    """Slope and intercept that make sigmoid(slope * score + intercept) the likeliest.

    The slope is that within users (each with an intercept of their own): scores of a softmax say which item
    of a user's is likelier, and their level differs between users for no reason. The intercept is then that
    of all together. The slope is kept positive, so calibration never changes an order. With fewer than
    `MIN_POSITIVE` positive or negative labels nothing can be learned and the answer is (1, 0).

    Parameters
    ----------
    scores : (n,) float64, labels : (n,) bool, users : (n,) int64
    """
    positive = int(labels.sum())
    if min(positive, len(labels) - positive) < MIN_POSITIVE:
        return 1.0, 0.0
    target = labels.astype(np.float64)
    slope = max(_slope_within(scores, target, users, steps), 1e-3)
    intercept = 0.0
    for _ in range(steps):
        p = _sigmoid(slope * scores + intercept)
        step = (p - target).sum() / ((p * (1 - p)).sum() + 1e-9)
        intercept -= float(np.clip(step, -2.0, 2.0))
        if abs(step) < 1e-8:
            break
    return slope, intercept


def _slope_within(
    scores: NDArray[np.float64], target: NDArray[np.float64], users: NDArray[np.int64], steps: int
) -> float:
    """Newton's method for one slope and an intercept a user; who said only yes or only no tells nothing."""
    _, user = np.unique(users, return_inverse=True)
    size, yes = np.bincount(user), np.bincount(user, target)
    telling = ((yes > 0) & (yes < size))[user]
    _, user = np.unique(user[telling], return_inverse=True)
    x, y = scores[telling], target[telling]
    if not len(x):
        return 1.0
    x = x - x.mean()
    slope, level = 1.0, np.zeros(int(user.max()) + 1)
    for _ in range(steps):
        p = _sigmoid(slope * x + level[user])
        w = p * (1 - p) + 1e-12
        per_user, cross = np.bincount(user, w), np.bincount(user, w * x)
        of_user, of_slope = np.bincount(user, p - y), float(((p - y) * x).sum())
        curvature = float((w * x * x).sum()) - float((cross**2 / per_user).sum()) + 1e-9
        step = (of_slope - float((cross * of_user / per_user).sum())) / curvature
        step = float(np.clip(step, -1.0, 1.0))
        level -= np.clip((of_user - cross * step) / per_user, -2.0, 2.0)
        slope -= step
        if abs(step) < 1e-8:
            break
    return slope


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(x, -30, 30))))


def calibrate(model: Model | Ensemble, corpus: Corpus, log: Log, since: int, signals: SignalConfig) -> int:
    """Fit the probability on what warm users do from row `since` of the log on; return the labels used.

    A candidate's label says whether the user responds to it at any time until the log ends.
    """
    truth = future(log, since)
    row_of = np.zeros(log.n_users, np.int64)
    row_of[truth.users] = np.arange(len(truth.users))
    scores, labels, owners = [np.zeros(0)], [np.zeros(0, np.bool_)], [np.zeros(0, np.int64)]
    for served in serve(model, corpus, log, since, truth.users, signals):
        at, column = np.nonzero(served.valid)
        p = np.clip(served.probability[at, column].astype(np.float64), 1e-7, 1 - 1e-7)
        scores.append(np.log(p / (1 - p)))
        labels.append(truth.relevant[row_of[served.users[at]], served.rows[at, column]])
        owners.append(served.users[at].astype(np.int64))
    slope, intercept = platt(np.concatenate(scores), np.concatenate(labels), np.concatenate(owners))
    model.ranker.platt.copy_(torch.tensor([slope, intercept]))
    return sum(map(len, labels))
