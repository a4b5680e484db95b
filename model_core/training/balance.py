"""Chooses the weights of a score's parts by what ranks best.

Training minimises a likelihood, over all items and on rows that the networks learn by heart, early ones
among them, when little had been counted yet. A slate shows ten items, to users who are mostly in the middle
of something, and by then much has been counted. So once the networks stand, the parts of the score (each
signal, the match, the head) are weighed anew on later rows that they have not learned from: stacking
(Wolpert 1992, "Stacked generalization"), by NDCG@10; not by the one best weighing but by an average of all
that are about as good, as in Yao et al. 2018, "Using stacking to average Bayesian predictive distributions".
It is done twice, for users who are here and for those who come back after long: before each such event.
Where few come back, likes of these rows are held back instead, and asked for at the end (Liang et al. 2018,
"Variational autoencoders for collaborative filtering", section 4.2). Users of whom too few can be asked have
the other ones' gains: other gains put all of a user's items on another level, and a few such users would
spoil the calibration of everyone's probabilities. Parts that do not pay are left out: popularity or EASE
alone, the signals without the networks, and all without the head, in this order, count where the average of
all is not surely above. What is new stands where training put it beside the parts as they were, and would
stand in the way of any weighing that leaves out the match: so with each it is lowered as far as ranks best.
"""

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model_core.evaluation.evaluate import Truth
from model_core.inputs.corpus import Corpus
from model_core.inputs.replay import Replay, item_features
from model_core.network.ensemble import Ensemble
from model_core.network.model import Model
from model_core.network.ranker import AWAY_S, HERE_S, is_new
from model_core.release.served import dense_inputs
from model_core.signals.config import SignalConfig
from model_core.signals.sample_signals import Log, fit_log

POPULARITY_ALONE = (0.0, 1.0, 0.0, 0.0, 0.0)
EASE_ALONE = (0.0, 0.1, 1.0, 0.0, 0.0)  # items that it says nothing of are in the order of popularity
GAINS = (
    *product((0.0, 0.5, 1.0, 2.0), (0.0, 1.0), (0.25, 0.5, 1.0, 2.0), (0.0, 0.5, 1.0), (0.0, 0.5, 1.0)),
    POPULARITY_ALONE,
    EASE_ALONE,
)
"""Of co-visits, popularity, EASE, the match and the head."""
SIMPLER = (
    (EASE_ALONE,),
    (POPULARITY_ALONE,),
    tuple(one for one in GAINS if one[3] == one[4] == 0.0),
    tuple(one for one in GAINS if one[4] == 0.0),
)
"""Gains without some of the parts."""
LOWERED = (0.0, -1.0, -2.0, -4.0, -8.0, -16.0)
"""What is added to the scores of items that nobody has responded to. Like the gains it is no part of what
training minimises, or a later pass would take it back."""
BACK_S = (HERE_S * AWAY_S) ** 0.5
"""Whose last event is as long ago is nearer to being away than to being here."""
RETURNING = 0.1
"""Share of the responses that users who come back must have for them to be the ones to ask."""
HELD_BACK = 0.2
"""Share of a user's later events that are held back; of so many users all are."""
TOP, COMPARED = 10, 256
MAX_EVENTS, MAX_SCORES = 2000, 4_000_000
MIN_EVENTS, MIN_USERS = 100, 30
BATCH = 32
BATCH_CELLS = BATCH * 8192
"""Users times items that the networks read at once."""


class Asked(NamedTuple):
    """Users asked on later rows: the parts of the scores of all N items, and what was wanted.

    parts : (n, S + 2, N), signals, match and head
    level : (n, N), what is added, -inf for items met; 0 for those that somebody has responded to
    wanted : (n, N) bool
    """

    parts: Tensor
    level: Tensor
    wanted: Tensor


@torch.inference_mode()
def balance(model: Model | Ensemble, corpus: Corpus, log: Log, since: int, signals: SignalConfig) -> None:
    """Choose `Ranker.gains_here` and `gains_away` by the rows of the log from `since` on.

    Where only one of them can be chosen, and they were the same before, they stay the same.
    """
    ranker = model.ranker
    ease = fit_log(log.first(since), signals, item_features(corpus))

    def start(some: Log) -> Replay:
        return Replay(
            some,
            corpus.edges,
            corpus.stated,
            history_length=ranker.config.history_length,
            n_affinities=ranker.config.n_affinities,
            signals=signals,
            ease=ease,
        )

    def ask_before(rows: NDArray[np.int64]) -> Asked:
        wanted = np.zeros((len(rows), log.n_items), np.bool_)
        wanted[np.arange(len(rows)), log.items[rows]] = True
        return _ask(model, start(log), rows, log.users[rows], log.times_ms[rows], wanted)

    def ask_for_held_back() -> Asked | None:
        kept, back = hold_back(log, since)
        if (n := len(back.users)) < MIN_USERS:
            return None
        moment = log.times_ms[-1] + int(1000 * AWAY_S)
        return _ask(model, start(kept), np.full(n, len(kept)), back.users, np.full(n, moment), back.relevant)

    here, returning = asked_rows(log, since)
    alike = torch.equal(ranker.gains_here, ranker.gains_away)
    chosen = []
    for gains, asked in (
        (ranker.gains_away, ask_before(returning) if len(returning) else ask_for_held_back()),
        (ranker.gains_here, ask_before(here) if len(here) >= MIN_EVENTS else None),
    ):
        if asked is not None:
            gains.copy_(average(asked))
            chosen.append((asked, gains))
    if alike and len(chosen) == 1:
        for gains in (ranker.gains_away, ranker.gains_here):
            gains.copy_(chosen[0][1])
    if chosen:
        ranker.lowered.fill_(lowered(chosen))


def lowered(chosen: "list[tuple[Asked, Tensor]]") -> float:
    """One of `LOWERED`, by which new items rank best with the gains that were chosen."""
    some = [(_candidates(asked), gains) for asked, gains in chosen]

    def reached(by: float) -> float:
        return sum(float(_ndcg(asked, gains, [by])[0].mean()) for asked, gains in some)

    return max(LOWERED, key=reached)


def hold_back(log: Log, since: int) -> tuple[Log, Truth]:
    """Hold back some of the rows from `since` on: the log without them, and some users' likes among them."""
    rng = np.random.default_rng(0)
    later = np.arange(len(log)) >= since
    away = rng.random(log.n_users) < HELD_BACK
    back = later & (away[log.users] | (rng.random(len(log)) < HELD_BACK))
    pairs = log.users.astype(np.int64) * log.n_items + log.items
    wanted = np.setdiff1d(pairs[back & log.positive], pairs[~back])
    every = np.unique(wanted // log.n_items)
    users = spread(every, most_rows(log)) if len(every) else every
    wanted = wanted[np.isin(wanted // log.n_items, users)]
    owner = np.searchsorted(users, wanted // log.n_items)
    relevant = np.zeros((len(users), log.n_items), np.bool_)
    relevant[owner, wanted % log.n_items] = True
    return log.part(~back), Truth(users.astype(np.int32), relevant)


def unmet(log: Log) -> NDArray[np.bool_]:
    """Return which events are responses to an item that is new to the user: (n,) bool by row of the log."""
    _, first = np.unique(log.users.astype(np.int64) * log.n_items + log.items, return_index=True)
    there = np.zeros(len(log), np.bool_)
    there[first] = True
    return there & log.positive


def most_rows(log: Log) -> int:
    """Return the number of events to evaluate for a catalogue of that size."""
    return max(1, min(MAX_EVENTS, MAX_SCORES // max(log.n_items, 1)))


def spread(rows: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Some of the rows, spread evenly."""
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(np.int64))]


def asked_rows(log: Log, since: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows from `since` on, spread evenly, where a user responds to an item that they had not met.

    Returns
    -------
    here : of users who are here
    returning : of users who come back; none where these are few
    """
    order = np.argsort(log.users, kind="stable")
    idle = np.full(len(log), np.inf)
    same = log.users[order[1:]] == log.users[order[:-1]]
    idle[order[1:]] = np.where(same, np.diff(log.times_ms[order]) / 1000.0, np.inf)
    rows = np.flatnonzero(unmet(log))
    rows = rows[rows >= since]
    here, returning = rows[idle[rows] < HERE_S], rows[(idle[rows] >= BACK_S) & np.isfinite(idle[rows])]
    if len(returning) < max(MIN_EVENTS, RETURNING * len(rows)):
        returning = returning[:0]
    return spread(here, most_rows(log)), spread(returning, most_rows(log))


def _ask(
    model: Model | Ensemble,
    replay: Replay,
    rows: NDArray[np.int64],
    users: NDArray[np.int32],
    times_ms: NDArray[np.int64],
    wanted: NDArray[np.bool_],
) -> Asked:
    """Ask for n users, each before a row of the log; rows ascend."""
    ranker, device = model.ranker, model.ranker.item_bias.device
    model.eval()
    vectors = model.vectors()
    parts, levels = [], []
    batch = max(1, min(BATCH, BATCH_CELLS // len(vectors)))
    for begin in range(0, len(rows), batch):
        each = []
        for at in range(begin, min(begin + batch, len(rows))):
            replay.advance(int(rows[at]))
            each.append(dense_inputs(replay.requests(users[at : at + 1], times_ms[at : at + 1]), device))
        asked = {name: torch.cat([one[name] for one in each]) for name in each[0]}
        given, eligible, history = (asked.pop(name) for name in ("signals", "eligible", "history"))
        user, states, known, _ = ranker.read(vectors[history.clamp(min=0)], history >= 0, **asked)
        weighed = ranker.signal_weights(user).unsqueeze(-1) * ranker.transform_signals(given, 1)
        match = ranker.match(user) @ vectors.T
        everything = vectors.expand(len(user), -1, -1)
        head = ranker.rank(ranker.hidden(user, everything, states, known.unsqueeze(1))).transpose(1, 2)
        new = is_new(given)
        networks = torch.cat((match.unsqueeze(1), head), 1) * (1.0 - new).unsqueeze(1)
        parts.append(torch.cat((weighed, networks), 1))
        level = (ranker.newcomer(user) + match) * new
        levels.append(level.masked_fill(~eligible, -torch.inf))
    return Asked(torch.cat(parts), torch.cat(levels), torch.as_tensor(wanted, device=device))


def average(asked: Asked) -> Tensor:
    """Mean of `GAINS`, each weighing ``exp(-z**2 / 2)``, z = standard errors that it ranks below the best.

    The first of `SIMPLER` that this mean ranks less than a standard error above counts instead: the rule of
    one standard error (Breiman et al. 1984, "Classification and regression trees", section 3.4.3).
    """
    # One winner among many is mostly luck where events are few; what the good ones have in common is not.
    some = _candidates(asked)
    gains = torch.tensor(GAINS, device=asked.parts.device)
    reached = torch.stack([_reached(some, one) for one in gains])  # (g, n)
    whole = _mean(gains, reached)
    best = _reached(some, whole)
    for these in SIMPLER:
        at = torch.tensor([GAINS.index(one) for one in these], device=gains.device)
        simple = _mean(gains[at], reached[at])
        ahead = best - _reached(some, simple)
        if ahead.mean() <= ahead.std() / len(ahead) ** 0.5:
            return simple
    return whole


def _mean(gains: Tensor, reached: Tensor) -> Tensor:
    """Mean of some gains by how surely they rank below the best of them: (g, P) and (g, n) to (P,)."""
    below = reached[reached.mean(1).argmax()] - reached
    error = (below.std(1) / below.shape[1] ** 0.5).clamp(min=1e-9)
    weights = torch.exp(-0.5 * (below.mean(1) / error) ** 2)
    mean: Tensor = weights @ gains / weights.sum()
    return mean


def _candidates(asked: Asked) -> Asked:
    """Keep what is wanted, and what can come into the ten: the best by all parts together, and by each.

    New items and others have theirs apart: by one part new ones may be in front of all others, and yet stand
    behind them once they are lowered. If others were missing then, what is wanted would be ten places ahead.
    """
    barred, every = asked.level == -torch.inf, asked.parts.sum(1)
    kept = asked.wanted & ~barred
    for score, most in ((every, COMPARED), *((part, TOP) for part in asked.parts.unbind(1))):
        for new in (False, True):
            other = barred | ((asked.level != 0) != new)
            best = (score + asked.level).masked_fill(other, -torch.inf).topk(min(most, score.shape[1]), dim=1)
            kept |= torch.zeros_like(kept).scatter(1, best.indices, best.values != -torch.inf)
    at = kept.to(torch.int8).topk(int(kept.sum(1).max()), dim=1).indices  # the rest of a row is barred
    level = asked.level.masked_fill(~kept, -torch.inf).gather(1, at)
    of_parts = at.unsqueeze(1).expand(-1, asked.parts.shape[1], -1)
    return Asked(asked.parts.gather(2, of_parts), level, asked.wanted.gather(1, at))


def _reached(asked: Asked, gains: Tensor) -> Tensor:
    """NDCG@10 of each, with new items lowered as far as is best on average: (n,)."""
    found = _ndcg(asked, gains, LOWERED)
    return found[found.mean(1).argmax()]


def _ndcg(asked: Asked, gains: Tensor, lowered: Sequence[float]) -> Tensor:
    """NDCG@10 of each with new items lowered: (L, n). Of items that tie what is wanted comes last."""
    scores = torch.einsum("npi,p->ni", asked.parts, gains) + asked.level
    scores = torch.where(asked.wanted, torch.nextafter(scores, scores.new_tensor(-torch.inf)), scores)
    # Lowering keeps the order within the new items and within the others: ten of each will do.
    most, new = min(TOP, scores.shape[1]), asked.level != 0
    known, fresh = (scores.masked_fill(barred, -torch.inf).topk(most, dim=1) for barred in (new, ~new))
    wanted = asked.wanted.gather(1, torch.cat((known.indices, fresh.indices), 1))
    gain = 1.0 / torch.log2(2.0 + torch.arange(most, device=scores.device))
    ideal = gain.cumsum(0)[asked.wanted.sum(1).clamp(1, most) - 1]
    found = []
    for by in lowered:
        best, ranked = torch.cat((known.values, fresh.values + by), 1).topk(most, dim=1)
        listed = wanted.gather(1, ranked) & (best != -torch.inf)
        found.append((listed * gain).sum(1) / ideal)
    return torch.stack(found)
