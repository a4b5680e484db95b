"""Explains one item's score for one user by contributions that sum to it.

The players are what the user did (each distinct item of the history that the model reads), the entities that
the user is near, the parts that describe the item (text, graph, id, image, audio) and the signals; absent is
what was never there: an event is cut out and the ones around it close up, an item is encoded without the
part, a signal is 0. What is shared out is the logit of the score, where influences add up, from a base:
the logit of an item of which nothing is known for a user of whom nothing is known, without any signal.

Only the release's own graphs are run, forward. Candidates never see each other, so a request whose
candidates are one item with and without each part and each signal values all those coalitions at once:
they are the inner players of `model_core.explanation.shapley`, history and entities the outer ones.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from model_core.data.batches import ItemBatch, ScoreBatch, SparseRows, sparse_signals
from model_core.explanation.shapley import Shapley, shapley
from model_core.release.baseline import BaselineScorer
from model_core.release.scorer import Scorer

Kind = Literal["history", "entity", "modality", "signal"]

SIGNALS = ("covisits", "popularity", "ease")
MODALITIES = ("text", "graph", "id", "image", "audio")
_LEAST, _MOST = float(np.finfo(np.float32).tiny), float(np.nextafter(np.float32(1), np.float32(0)))


@dataclass(frozen=True, slots=True)
class Player:
    """Something that a score is made of.

    key is the item row of a history player, the release's row of an entity, else the name.
    """

    kind: Kind
    key: int | str


@dataclass(frozen=True, slots=True)
class Attribution:
    """Each player's contribution to a score: ``base + contributions.sum()`` is `value` but for `difference`.

    unit : "logit", of the probability `score`; or "level", what the baseline's ``score / (1 - score)`` is
    value : the logit (or level) of `score`, by an ordinary run over the whole catalogue
    contributions, errors : (len(players),) float64; errors are standard errors, 0 where nothing was sampled
    runs : requests that were scored for it
    """

    unit: Literal["logit", "level"]
    score: float
    value: float
    base: float
    players: list[Player]
    contributions: NDArray[np.float64]
    errors: NDArray[np.float64]
    orders: int
    runs: int

    @property
    def difference(self) -> float:
        """The value less base and contributions: rounding, unless the item has changed since."""
        return self.value - self.base - float(self.contributions.sum())

    def of(self, kind: Kind, key: int | str) -> tuple[float, float]:
        """Contribution and standard error of a player; one that is absent adds nothing: (0, 0)."""
        for place, player in enumerate(self.players):
            if player == Player(kind, key):
                return float(self.contributions[place]), float(self.errors[place])
        return 0.0, 0.0


def explain(
    scorer: Scorer | BaselineScorer,
    request: ScoreBatch,
    items: NDArray[np.float32],
    row: int,
    parts: ItemBatch,
    *,
    rng: np.random.Generator,
    tolerance: float = 0.02,
    budget: int = 4096,
) -> Attribution:
    """Explain at once; see `explain_steps`."""
    steps = explain_steps(scorer, request, items, row, parts, rng=rng, tolerance=tolerance, budget=budget)
    return next(done for done in steps if done is not None)


def explain_steps(
    scorer: Scorer | BaselineScorer,
    request: ScoreBatch,
    items: NDArray[np.float32],
    row: int,
    parts: ItemBatch,
    *,
    rng: np.random.Generator,
    tolerance: float = 0.02,
    budget: int = 4096,
    chunk: int = 16,
) -> Iterator[Attribution | None]:
    """Explain the score of item `row`, in steps of one short run of the model each.

    Yields None after each step and the attribution at last, so that others may use the scorer in between.

    Parameters
    ----------
    request : ScoreBatch of one request over the N rows of `items`; what is eligible does not matter
    items : (N, dim) float32, as served
    parts : ItemBatch of the one item; encoded as it is, it must give ``items[row]``
    tolerance
        Standard error of a contribution below which no more orders are drawn, in logits.
    budget
        Coalitions of history and entities at most.
    chunk
        Requests a step.

    Raises
    ------
    ValueError
        If the request or the item is not one, or the row is not one of the matrix.
    """
    if len(request.history) != 1 or len(parts.id_rows) != 1:
        raise ValueError(
            f"request and parts must hold one row each, got {len(request.history)} and {len(parts.id_rows)}"
        )
    if not 0 <= row < len(items):
        raise ValueError(f"row must be in [0, {len(items)}), got {row}")
    if isinstance(scorer, BaselineScorer):
        yield _explain_baseline(scorer, request, items, row)
        return
    score = _score_alone(scorer, request, items, row)
    yield None
    game = _Game(scorer, request, items, row, parts)
    solving = shapley(
        len(game.outer),
        len(game.inner),
        rng=rng,
        tolerance=tolerance,
        budget=budget,
        chunk=max(1, chunk // game.groups),
    )
    asked = next(solving)
    while True:
        values = game.values(asked)
        yield None
        try:
            asked = solving.send(values)
        except StopIteration as end:
            found: Shapley = end.value
            break
    yield Attribution(
        unit="logit",
        score=score,
        value=float(_logit(np.array(score))),
        base=found.base,
        players=[*game.outer, *game.inner],
        contributions=found.values,
        errors=found.errors,
        orders=found.orders,
        runs=1 + found.coalitions * game.groups,
    )


def split_signal(contribution: float, parts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share a signal's contribution out among the summands of the signal.

    The signal enters as ``w * (log(scale + sum of parts) - log(scale))``: its integrated gradients from 0
    (Sundararajan, Taly and Yan 2017, equation 1) are the summands' shares of the sum, exactly; so too where
    the sum is cut at 0, as EASE's is. They sum to the contribution.

    Parameters
    ----------
    parts : (n,) float64, any sign

    Returns
    -------
    contributions : (n,) float64, zeros where the sum is not positive: then the signal adds nothing
    """
    total = float(parts.sum())
    if total <= 0:
        return np.zeros(len(parts))
    shares: NDArray[np.float64] = contribution * parts / total
    return shares


def _score_alone(
    scorer: Scorer | BaselineScorer, request: ScoreBatch, items: NDArray[np.float32], row: int
) -> float:
    """Score an item as it is served, whatever else is: the only eligible one is a candidate."""
    alone = replace(request.only(SparseRows.of([np.array([row])])), eligible=np.ones(len(items), np.bool_))
    return float(scorer.score(alone, items).scores[0, 0])


def _logit(probability: NDArray[np.float32] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Logits; what rounds to 0 or 1 in float32 is taken for its neighbour inside."""
    p = np.clip(probability.astype(np.float64), _LEAST, _MOST)
    logits: NDArray[np.float64] = np.log(p) - np.log1p(-p)
    return logits


def _explain_baseline(
    scorer: BaselineScorer, request: ScoreBatch, items: NDArray[np.float32], row: int
) -> Attribution:
    """The baseline's level, or logit, is a sum already: co-visits, and what is left without them."""
    score = _score_alone(scorer, request, items, row)
    rest = _score_alone(scorer, request.without_signals(), items, row)
    if request.moments is not None:
        value, left = _logit(np.array([score, rest]))
        return Attribution(
            unit="logit",
            score=score,
            value=float(value),
            base=0.0,
            players=[Player("signal", name) for name in SIGNALS[:2]],
            contributions=np.array([value - left, left]),
            errors=np.zeros(2),
            orders=0,
            runs=2,
        )
    added = np.array([request.signals_of(0, row)[0], rest / (1 - rest)], np.float64)
    return Attribution(
        unit="level",
        score=score,
        value=score / (1 - score),
        base=0.0,
        players=[Player("signal", name) for name in SIGNALS[:2]],
        contributions=added,
        errors=np.zeros(2),
        orders=0,
        runs=2,
    )


class _Game:
    """Coalitions of one score: which events and entities a request keeps, and which of the item is there.

    The request runs over a small item matrix of its own: one row for each subset of inner players, then the
    history's items.
    """

    def __init__(
        self,
        scorer: Scorer,
        request: ScoreBatch,
        items: NDArray[np.float32],
        row: int,
        parts: ItemBatch,
    ) -> None:
        release = scorer.release
        self._scorer, self._request = scorer, request
        events = request.history[0]
        met = list(dict.fromkeys(events[events >= 0][::-1].tolist()))  # the latest first
        near = np.flatnonzero((request.user_entities[0] > 0) & (request.user_entity_weights[0] > 0)).tolist()
        self.outer = [Player("history", item) for item in met]
        self.outer += [Player("entity", int(request.user_entities[0, at])) for at in near]
        self._of_event = np.array([met.index(item) if item >= 0 else -1 for item in events.tolist()])
        self._of_entity = np.full(request.user_entities.shape[1], -1)
        self._of_entity[near] = len(met) + np.arange(len(near))
        described = _described(parts)
        signals = request.signals_of(0, row)
        present = np.flatnonzero(signals > 0)
        self.inner = [Player("modality", name) for name in described]
        self.inner += [Player("signal", SIGNALS[s]) for s in present.tolist()]

        subsets = np.arange(1 << len(self.inner))
        vectors = scorer.encode_items(_variants(parts, described))
        self._items = np.concatenate((vectors[subsets & (1 << len(described)) - 1], items[met]))
        self._history = np.where(events >= 0, len(subsets) + self._of_event, -1)
        self._signals = np.zeros((release.n_signals, len(self._items)), np.float32)
        for bit, s in enumerate(present.tolist(), len(described)):
            self._signals[s, : len(subsets)] = np.where(subsets >> bit & 1, signals[s], 0)
        # A run ranks so many candidates and no more: the subsets take turns.
        self.groups = -(-len(subsets) // release.n_candidates)
        self._eligible = np.zeros((self.groups, len(self._items)), np.bool_)
        self._eligible[subsets // release.n_candidates, subsets] = True
        self._n_subsets = len(subsets)

    def values(self, coalitions: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Logits of coalitions (c, len(outer)) of events and entities: (c, 2**len(inner)) float64."""
        n, request = len(coalitions), self._request
        # A last column stands for padding, which is never there.
        there = np.concatenate((coalitions, np.zeros((n, 1), np.bool_)), axis=1)
        events = there[:, self._of_event]  # (n, L)
        order = np.argsort(events, axis=1, kind="stable")  # those that stay close up at the right end
        kept = np.take_along_axis(events, order, axis=1)
        near = there[:, self._of_entity]
        popularity, signals, signal_values = sparse_signals(np.repeat(self._signals[None], n, axis=0))
        batch = ScoreBatch(
            history=np.where(kept, self._history[order], -1),
            history_actions=np.where(kept, request.history_actions[0][order], 0),
            history_age_s=np.where(kept, request.history_age_s[0][order], np.float32(0)),
            user_entities=np.where(near, request.user_entities[0], 0),
            user_entity_weights=np.where(near, request.user_entity_weights[0], np.float32(0)),
            popularity=popularity,
            signals=signals,
            signal_values=signal_values,
            eligible=self._eligible[0],
            excluded=SparseRows.none(n),
        )
        out = np.zeros((n, self._n_subsets))
        for group in self._eligible:
            scores = self._scorer.score(replace(batch, eligible=group), self._items)
            of, at = np.nonzero(scores.valid)
            out[of, scores.rows[of, at]] = _logit(scores.scores[of, at])
        return out


def _described(parts: ItemBatch) -> list[str]:
    """Modalities that an item has."""
    has = {
        "text": parts.text_mask[0],
        "graph": parts.edge_mask[0].any(),
        "id": parts.id_rows[0] > 0,
        "image": parts.image_mask[0] and parts.image.shape[1],
        "audio": parts.audio_mask[0] and parts.audio.shape[1],
    }
    return [name for name in MODALITIES if has[name]]


def _variants(parts: ItemBatch, described: Sequence[str]) -> ItemBatch:
    """The item with each subset of its modalities, in the order of the subsets' numbers."""
    subsets = np.arange(1 << len(described))
    kept = dict.fromkeys(MODALITIES, np.zeros(len(subsets), np.bool_))
    kept |= {name: (subsets >> bit & 1).astype(np.bool_) for bit, name in enumerate(described)}

    def repeated(values: NDArray[Any]) -> NDArray[Any]:
        return np.repeat(values, len(subsets), axis=0)

    return ItemBatch(
        text=repeated(parts.text),
        text_mask=kept["text"],
        image=repeated(parts.image),
        image_mask=kept["image"],
        audio=repeated(parts.audio),
        audio_mask=kept["audio"],
        entities=repeated(parts.entities),
        relations=repeated(parts.relations),
        edge_mask=repeated(parts.edge_mask) & kept["graph"][:, None],
        id_rows=np.where(kept["id"], parts.id_rows[0], 0),
    )
