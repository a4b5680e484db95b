"""The gates: what a release must be before it may serve, by what was measured of it and of the live one."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model_core.evaluation.topn import paired_difference
from streams.releases.changes import Gate

MIN_USERS = 20
"""Users with a response both before and in the held-out hours, of whom fewer say too little."""
BINS = 10
CALIBRATION = 0.05  # more that a probability may be off, in mean absolute difference
COVERAGE = 0.5  # share of the items that the live release lists that must still be listed
POPULARITY = 2.0  # times as popular, or as rare, as what the live release lists
EXPOSURE = 0.5  # share of all lists by which one item's may rise
SLOWER, SLOWER_MS = 1.5, 2.0  # times the live release's latency, and milliseconds beyond that
LARGER = 2.0  # times the live release's bytes


@dataclass(frozen=True, slots=True)
class Measured:
    """A release on the held-out hours.

    Attributes
    ----------
    top : (n, 10) int64 items listed for each user; ndcg : (n,) float64 of these lists
    probability, relevant : (c,) float32 and bool, of all candidates of all users
    nbytes : of its files
    """

    top: NDArray[np.int64]
    ndcg: NDArray[np.float64]
    probability: NDArray[np.float32]
    relevant: NDArray[np.bool_]
    nbytes: int


def held_out(ours: NDArray[np.float64], theirs: NDArray[np.float64], *, than: str, margin: float) -> Gate:
    """Judge by NDCG@10 of the same users: better on average, or surely not worse by more than `margin`.

    Parameters
    ----------
    ours, theirs : (n,) NDCG of each user
    margin : share of their mean
    """
    n = len(ours)
    if n < MIN_USERS:
        return Gate("held out", False, f"at least {MIN_USERS} users must have responded, got {n}")
    found, mean = paired_difference(ours[None], theirs[None]), float(theirs.mean())
    interval = f"[{found.low:+.4f}, {found.high:+.4f}]"
    said = f"NDCG@10 {ours.mean():.4f}, {found.mean:+.4f} {interval} to {than} on {n} users"
    passed = found.mean >= 0 or found.low >= -margin * mean
    figures = {"ndcg": float(ours.mean()), "lead": found.mean, "low": found.low, "high": found.high}
    return Gate("held out", passed, said, figures | {"users": float(n)})


def calibration(ours: Measured, live: Measured | None) -> Gate:
    """Judge whether probabilities are numbers, and about as far from what happens as the live release's."""
    if not np.isfinite(ours.probability).all():
        return Gate("calibration", False, "probabilities must be finite")
    off = miscalibration(ours)
    most = CALIBRATION + (0.0 if live is None else miscalibration(live))
    said = f"probabilities are off by {off:.3f}, at most {most:.3f}"
    return Gate("calibration", off <= most, said, {"off": off, "most": most})


def miscalibration(one: Measured) -> float:
    """Mean absolute difference of probability and frequency, over groups of like probability."""
    order = np.argsort(one.probability, kind="stable")
    off, n = 0.0, len(order)
    for rows in np.array_split(order, min(BINS, max(n, 1))):
        if len(rows):
            off += len(rows) / n * abs(float(one.probability[rows].mean()) - float(one.relevant[rows].mean()))
    return off


def coverage(ours: Measured, live: Measured) -> Gate:
    """Judge how many items are listed for anybody."""
    now, before = len(np.unique(ours.top)), len(np.unique(live.top))
    said = f"{now} items are listed, {before} by the live release"
    return Gate("coverage", now >= COVERAGE * before, said, {"items": now, "live": before})


def popularity(ours: Measured, live: Measured, counts: NDArray[np.float64]) -> Gate:
    """Judge how popular what is listed is, by the geometric mean of the items' responses."""
    now, before = (math.exp(float(np.log1p(counts[one.top]).mean())) for one in (ours, live))
    said = f"listed items have {now:.1f} responses, {before:.1f} with the live release"
    passed = before / POPULARITY <= now <= before * POPULARITY
    return Gate("popularity", passed, said, {"responses": now, "live": before})


def exposure(ours: Measured, live: Measured, names: list[str]) -> Gate:
    """Judge whether one item is pushed into the lists of many."""
    n = len(names)
    now, before = (np.bincount(one.top.ravel(), minlength=n)[:n] / len(one.top) for one in (ours, live))
    most = int(np.argmax(now - before))
    rise = float(now[most] - before[most])
    said = f"no item is in more of the lists by over {EXPOSURE:.0%}"
    if rise > EXPOSURE:
        said = (
            f"{names[most]!r} is in {now[most]:.0%} of the lists, in {before[most]:.0%} with the live release"
        )
    return Gate("exposure", rise <= EXPOSURE, said, {"rise": rise})


def latency(ours_ms: float, live_ms: float) -> Gate:
    """Judge how long a batch of requests takes, measured in turns with the live release."""
    most = SLOWER * live_ms + SLOWER_MS
    said = f"a batch takes {ours_ms:.1f} ms, {live_ms:.1f} with the live release"
    return Gate("latency", ours_ms <= most, said, {"ms": ours_ms, "live": live_ms, "most": most})


def size(ours: Measured, live: Measured) -> Gate:
    """Judge the bytes of the files."""
    said = f"{ours.nbytes / 1e6:.1f} MB, {live.nbytes / 1e6:.1f} of the live release"
    figures = {"bytes": float(ours.nbytes), "live": float(live.nbytes)}
    return Gate("size", ours.nbytes <= LARGER * live.nbytes, said, figures)
