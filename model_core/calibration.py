"""Turns ranking scores into probabilities by Platt scaling (Platt 1999) on the latest interactions."""

import numpy as np
import torch
from numpy.typing import NDArray

from model_core.corpus import Corpus
from model_core.evaluate import future
from model_core.fit import Model
from model_core.replay import Replay
from model_core.signals import Log, SignalConfig

MIN_POSITIVE = 20


def platt(scores: NDArray[np.float64], labels: NDArray[np.bool_], *, steps: int = 50) -> tuple[float, float]:
    """Slope and intercept that make sigmoid(slope * score + intercept) the likeliest.

    The slope is kept positive, so calibration never changes an order; with fewer than `MIN_POSITIVE`
    positive or negative labels nothing can be learned and the answer is (1, 0).
    """
    positive = int(labels.sum())
    if min(positive, len(labels) - positive) < MIN_POSITIVE:
        return 1.0, 0.0
    x = np.stack((scores, np.ones_like(scores)), 1)
    # Platt's targets: a little off 0 and 1, so that separable data have a finite answer.
    target = np.where(labels, (positive + 1) / (positive + 2), 1 / (len(labels) - positive + 2))
    weight = np.array([1.0, 0.0])
    for _ in range(steps):
        p = 1.0 / (1.0 + np.exp(-np.clip(x @ weight, -30, 30)))
        hessian = (x * (p * (1 - p))[:, None]).T @ x + 1e-6 * np.eye(2)
        step = np.linalg.solve(hessian, x.T @ (p - target))
        weight -= step * min(1.0, 2.0 / (np.abs(step).max() + 1e-12))
        if np.abs(step).max() < 1e-8:
            break
    return max(float(weight[0]), 1e-3), float(weight[1])


@torch.inference_mode()
def calibrate(model: Model, corpus: Corpus, log: Log, since: int, signals: SignalConfig) -> int:
    """Fit the probability on what warm users do from row `since` of the log on; return the labels used.

    A candidate's label says whether the user responds to it at any time until the log ends.
    """
    truth = future(log, since)
    ranker, config = model.ranker, model.ranker.config
    replay = Replay(
        log,
        corpus.edges,
        history_length=config.history_length,
        n_affinities=config.n_affinities,
        signals=signals,
    )
    replay.advance(since)
    device = ranker.item_bias.device
    vectors = model.vectors()
    missing = max(0, config.n_candidates - len(vectors))
    vectors = torch.cat((vectors, vectors.new_zeros(missing, config.dim)))
    scores, labels = [np.zeros(0)], [np.zeros(0, np.bool_)]
    for begin in range(0, len(truth.users), 64):
        users = truth.users[begin : begin + 64]
        batch = replay.requests(users, np.full(len(users), log.times_ms[since]))
        inputs = {name: getattr(batch, name) for name in batch.__dataclass_fields__}
        inputs["signals"] = np.pad(inputs["signals"], ((0, 0), (0, 0), (0, missing)))
        inputs["eligible"] = np.pad(inputs["eligible"], ((0, 0), (0, missing)))
        outputs = ranker(vectors, **{name: torch.as_tensor(v).to(device) for name, v in inputs.items()})
        rows, valid, probability = (value.cpu().numpy() for value in outputs[:3])
        relevant = np.pad(truth.relevant[begin : begin + 64], ((0, 0), (0, missing)))
        p = np.clip(probability[valid].astype(np.float64), 1e-7, 1 - 1e-7)
        scores.append(np.log(p / (1 - p)))
        labels.append(np.take_along_axis(relevant, rows, 1)[valid])
    slope, intercept = platt(np.concatenate(scores), np.concatenate(labels))
    ranker.platt.copy_(torch.tensor([slope, intercept]))
    return sum(map(len, labels))
