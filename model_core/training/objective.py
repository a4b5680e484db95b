"""The loss of a training step: what is asked of the model, and how far its answers are off."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from model_core.data.batches import EASE, POPULARITY
from model_core.network.config import TrainConfig
from model_core.network.model import Model
from model_core.network.ranker import NOT_ELIGIBLE
from model_core.signals.sample_signals import Log
from model_core.training.adversarial import worst_step
from model_core.training.samples import Samples, Windows

ALIGNED = 256  # items a step whose parts are drawn to their ids
AWAY_S = (3_600.0, 90 * 86_400.0)  # how long a user may have been away who is asked about the long run


@dataclass(frozen=True, slots=True)
class _Some:
    """Vectors of some of the items, to be asked for as those of all are.

    vectors : (k, dim); place : (n_items,) int64, where each stands, -1 = not among them
    """

    vectors: Tensor
    place: Tensor

    def __getitem__(self, items: Tensor) -> Tensor:
        return self.vectors[self.place[items]]


Vectors = Tensor | _Some


@dataclass(frozen=True, slots=True)
class _Step:
    """Inputs of a training step: w of the `Windows`, and those of their targets that count."""

    events: NDArray[np.int64]
    targets: NDArray[np.int64]
    wanted: NDArray[np.int64]
    columns: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class _Asked:
    """The n targets of a step, and the states that predict them.

    rows : (n,) int64 rows of the log whose items are wanted
    sample : (n,) int64 rows of the samples; stranger : (n,) bool, whose past is not read
    at, column : (n,) int64, window of the step and where in it the target stands
    place : (n,) int64, the state that answers: the target's own, or a stranger's, which is the first
    idle, idle_known : (n,) float32 seconds since the last event, and 1 where they are told
    """

    rows: NDArray[np.int64]
    sample: NDArray[np.int64]
    stranger: NDArray[np.bool_]
    at: Tensor
    column: Tensor
    place: Tensor
    idle: Tensor
    idle_known: Tensor


class Objective:
    """The loss that a model's training minimises.

    A softmax over a target and the items it is told apart from, met ones left out, twice: for the retrieval
    score, and for the ranker among the best by that score. The actions are binary.

    Parameters
    ----------
    rng : draws who is taken for a stranger and for how long away; torch's own draws what is hidden
    """

    def __init__(
        self,
        model: Model,
        log: Log,
        windows: Windows,
        samples: Samples,
        train: TrainConfig,
        rng: np.random.Generator,
    ) -> None:
        self.model = model
        self.log = log
        self.windows = windows
        self.samples = samples
        self.train = train
        self.device = model.ranker.item_bias.device
        self._rng = rng
        self._weight = torch.as_tensor(target_weights(log, train))
        self._aligned = model.encoder.config.fusion == "joint" and train.alignment > 0
        self._known = self._tensor(np.unique(log.items[log.positive])).long()
        expected = windows.expected
        self._rare = None if expected is None else -torch.log(self._tensor(expected))

    @property
    def large(self) -> bool:
        """Whether a step encodes only the items that it reads."""
        return self.log.n_items > self.train.whole_catalogue

    def __call__(
        self,
        rows: NDArray[np.int64],
        targets: NDArray[np.int64],
        *,
        ranking: bool = True,
        vectors: Vectors | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Loss of some windows' targets, and the part of it that is retrieval's.

        Parameters
        ----------
        rows : (w,) int64, the windows
        targets : (w, 1 + L) int64 rows of the log, -1 = not asked here, as of `Windows`
        ranking : whether the ranker's part is wanted; without it, both losses are retrieval's
        vectors : of all items where they are known already, as outside training
        """
        new = self.model.draw_newcomers()
        step = self._step(rows, targets)
        if vectors is None and self.train.adversarial and self.model.training:
            loss, retrieval = self._hardened(step, new)
        else:
            vectors = self._encode(step, new) if vectors is None else vectors
            loss, retrieval, _ = self._loss(step, vectors, new, ranking=ranking)
        if ranking and self._aligned:
            some = self._known[torch.randperm(len(self._known), device=self.device)[:ALIGNED]]
            loss = loss + self.train.alignment * self.model.alignment(some)
        return loss, retrieval

    def weight(self, rows: NDArray[np.int64], targets: NDArray[np.int64]) -> float:
        """What the targets of some windows weigh together; for arguments as of a call."""
        return float(self._weight[self.windows.wanted[rows][targets >= 0]].sum())

    def _hardened(self, step: _Step, new: Tensor) -> tuple[Tensor, Tensor]:
        """Loss as it is, and under the step of items' parts that raises it the most, weighed together."""
        read = self._read_items(step)
        parts, mask = self.model.parts(new, None if read is None else read[0])

        def fused(parts: Tensor) -> Vectors:
            vectors = self.model.encoder.fuse(parts, mask)
            return vectors if read is None else _Some(vectors, read[1])

        plain, retrieval, asked = self._loss(step, fused(parts), new)
        (gradient,) = torch.autograd.grad(plain, parts, retain_graph=True)
        moved = parts + worst_step(parts, gradient, self.train.adversarial)
        hard, _, _ = self._loss(step, fused(moved), new, asked=asked)
        share = self.train.adversarial_weight
        return (1.0 - share) * plain + share * hard, retrieval

    def _loss(
        self,
        step: _Step,
        vectors: Vectors,
        new: Tensor,
        *,
        ranking: bool = True,
        asked: _Asked | None = None,
    ) -> tuple[Tensor, Tensor, _Asked]:
        """Loss of a step, the part of it that is retrieval's, and how its targets were asked for."""
        asked, user, states, known = self._ask(step, vectors, asked)
        compared, scores = self._compare(step, asked, user, vectors, new)
        weight = self._tensor(self._weight[asked.rows])
        shift = self._shift(compared)
        retrieval = _softmax_loss(scores + shift, weight)
        if not ranking:
            return retrieval, retrieval, asked
        few = torch.randperm(len(user), device=self.device)[: max(1, int(self.train.ranked * len(user)))]
        loss = retrieval + self._rank_loss(
            user[few], compared[few], scores[few], weight[few], states[asked.at[few]],
            self._allowed(known, asked, few), vectors, self._tensor(self.log.actions[asked.rows])[few] - 1,
        )  # fmt: skip
        return loss, retrieval, asked

    def _shift(self, compared: Tensor) -> Tensor:
        """Return what is added to scores, so that each column stands for the items that it was drawn from.

        The correction of sampled softmax (Bengio & Senecal 2008): minus the logarithm of how often an item is
        expected among the columns. For (n, 1 + m) items, () or (n,) + (1 + m,); 0 of the targets.
        """
        if self._rare is not None:
            shift = self._rare[compared]
        else:
            count = max(1.0, (self.log.n_items - 1) / (compared.shape[1] - 1))
            shift = torch.full((1, compared.shape[1]), math.log(count), device=self.device)
        shift[:, 0] = 0.0
        return shift

    def _step(self, rows: NDArray[np.int64], targets: NDArray[np.int64]) -> _Step:
        """Windows of a step; where they are of about one length, without the padding of all."""
        windows = self.windows
        events = windows.events[rows]
        most = int((events >= 0).sum(1).max()) if self.large else events.shape[1]
        return _Step(
            events[:, :most], targets[:, : most + 1], windows.wanted[rows, : most + 1], windows.columns[rows]
        )

    def _encode(self, step: _Step, new: Tensor) -> Vectors:
        """Encode the items that a step reads; all of them where the catalogue is small."""
        read = self._read_items(step)
        return self.model.vectors(new) if read is None else _Some(self.model.vectors(new, read[0]), read[1])

    def _read_items(self, step: _Step) -> tuple[Tensor, Tensor] | None:
        """Items that a step reads, and the place of each of all among them; None where all are encoded."""
        if not self.large:
            return None
        rows = np.concatenate((step.events[step.events >= 0], step.wanted[step.targets >= 0]))
        items = self._tensor(np.unique(np.concatenate((self.log.items[rows], step.columns.ravel())))).long()
        place = torch.full((self.log.n_items,), -1, device=self.device)
        place[items] = torch.arange(len(items), device=self.device)
        return items, place

    @torch.inference_mode()
    def compare(
        self, rows: NDArray[np.int64], targets: NDArray[np.int64], vectors: Tensor, read: Tensor
    ) -> Tensor:
        """Scores were all items new: of some windows' n targets, and of what these are told apart from.

        Parameters
        ----------
        rows, targets : as for a step
        vectors : (n_items, dim) of the items as new ones; read : (n_items, dim), by which histories are read

        Returns
        -------
        scores : (n, 1 + m), the targets' in column 0
        """
        step = self._step(rows, targets)
        asked, user, _, _ = self._ask(step, read, None)
        new = torch.ones(len(vectors), dtype=torch.bool, device=self.device)
        return self._compare(step, asked, user, vectors, new)[1]

    def _ask(
        self, step: _Step, vectors: Vectors, asked: _Asked | None
    ) -> tuple[_Asked, Tensor, Tensor, Tensor]:
        """Draw how n targets are asked for, unless it is known, and read who asks, by the vectors of items.

        Returns
        -------
        asked, user (n, dim), states (w, 1 + L, dim), known (w, 1 + L) bool
        """
        times = self.log.times_ms[step.events] / 1000.0
        states, known = self._read(step.events, times, vectors)
        asked = asked or self._asked(step.wanted, times, step.targets)
        liked = self._liked(asked.sample, asked.stranger)
        user = self.model.ranker.user_vector(
            states[asked.at, asked.place], asked.idle, asked.idle_known, liked
        )
        return asked, user, states, known

    def _read(
        self, events: NDArray[np.int64], times: NDArray[np.float64], vectors: Vectors
    ) -> tuple[Tensor, Tensor]:
        """Read some windows: states (w, 1 + L, dim), and which of them there are, (w, 1 + L) bool."""
        mask = events >= 0
        gap = np.maximum(np.diff(times, axis=1, prepend=times[:, :1]), 0.0) * mask
        history = self._tensor(self.log.items[events] * mask).long()
        return self.model.ranker.states(
            vectors[history] * self._tensor(mask).unsqueeze(-1),
            self._tensor(self.log.actions[events] * mask),
            self._tensor(gap.astype(np.float32)),
            self._tensor(mask),
        )

    def _asked(
        self, wanted: NDArray[np.int64], times: NDArray[np.float64], targets: NDArray[np.int64]
    ) -> _Asked:
        """Draw how each of some windows' targets is asked for: by whom, and how long after the last event."""
        w, column = np.nonzero(targets >= 0)
        sample = self.samples.index[targets[w, column]]
        wanted = wanted[w, column]
        stranger = self._rng.random(len(w)) < (self.train.new_users if self.model.training else 0.0)
        j = np.where(stranger, 0, column)
        last = np.where(j > 0, times[w, np.maximum(j - 1, 0)], 0.0)
        idle = np.maximum(self.log.times_ms[wanted] / 1000.0 - last, 0.0)
        shortest, longest = AWAY_S
        away = shortest * (longest / shortest) ** self._rng.random(len(w))
        idle = np.where(wanted == self.samples.rows[sample], idle, np.maximum(idle, away)) * (j > 0)
        # Requests come at other moments than events do: the time since the last one is often left out.
        told = torch.rand(len(w), device=self.device) < (0.7 if self.model.training else 1.0)
        return _Asked(
            wanted, sample, stranger, self._tensor(w), self._tensor(column), self._tensor(j),
            self._tensor(idle.astype(np.float32)), self._tensor((j > 0).astype(np.float32)) * told,
        )  # fmt: skip

    def _compare(
        self,
        step: _Step,
        asked: _Asked,
        user: Tensor,
        vectors: Vectors,
        new: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Targets and the m others that they are told apart from: items (n, 1 + m), and their scores."""
        ranker = self.model.ranker
        columns = self._tensor(step.columns).long()
        target = self._tensor(self.log.items[asked.rows]).long()
        compared = torch.cat((target.unsqueeze(1), columns[asked.at]), 1)
        signals = self._signals(asked.sample, new[compared], self._tensor(asked.stranger))
        match = ranker.match(user)
        # A target's stretch shares its columns, so their vectors are gathered once a stretch.
        place = (asked.at, asked.column)
        wide = torch.zeros(*step.targets.shape, match.shape[-1], device=self.device)
        against = (wide.index_put(place, match) @ vectors[columns].transpose(1, 2))[place]  # (n, m)
        own = (match * vectors[target]).sum(-1, keepdim=True)
        scores = torch.cat((own, against), 1) + ranker.prior(user, signals)
        barred = self._tensor(self.samples.seen[asked.sample]) | (compared == target.unsqueeze(1))
        barred[:, 0] = False
        return compared, scores.masked_fill(barred, NOT_ELIGIBLE)

    def _rank_loss(
        self,
        user: Tensor,
        compared: Tensor,
        scores: Tensor,
        weight: Tensor,
        states: Tensor,
        allowed: Tensor,
        vectors: Vectors,
        action: Tensor,
    ) -> Tensor:
        """Loss of the ranker and of the action heads, for n targets."""
        ranker = self.model.ranker
        # As it will serve: the best by the retrieval score, the target only where it is one of them.
        chosen = scores.detach().topk(min(self.train.ranked_items, scores.shape[1]), dim=1).indices
        picked = scores.gather(1, chosen)
        hidden = ranker.hidden(user, vectors[compared.gather(1, chosen)], states, allowed.unsqueeze(1))
        rank = picked + ranker.rank(hidden).squeeze(-1)
        is_target = chosen == 0
        present = picked > 0.5 * NOT_ELIGIBLE
        actions = self._actions(rank.detach(), hidden.detach(), is_target, present, action)
        order = torch.logsumexp(rank, 1) - (rank * is_target).sum(1)
        share = weight * is_target.any(1)
        loss: Tensor = (order * share).sum() / (share.sum() + 1e-6) + 0.2 * actions
        return loss

    def _allowed(self, known: Tensor, asked: _Asked, few: Tensor) -> Tensor:
        """States that a target may look at: those up to its own, (n, 1 + L) bool."""
        before = torch.arange(known.shape[1], device=self.device) <= asked.place[few].unsqueeze(1)
        return known[asked.at[few]] & before

    def _signals(self, sample: NDArray[np.int64], new: Tensor, stranger: Tensor) -> Tensor:
        """Signals of samples, (n, S, 1 + m).

        Those of new items, (n, 1 + m) bool, are what EASE makes of their kind; to strangers, (n,) bool, items
        are popular or not and no more.
        """
        signals = self._tensor(self.samples.signals[sample]).float()
        known, as_new = signals[:, :-1] * ~new.unsqueeze(1), signals[:, -1] * new
        known[:, EASE] += as_new
        popularity = known[:, POPULARITY].clone()
        known = known * ~stranger.view(-1, 1, 1)
        known[:, POPULARITY] = popularity
        return known

    def _liked(self, sample: NDArray[np.int64], stranger: NDArray[np.bool_]) -> Tensor:
        """Mean of the entities that users are near; strangers are near what they state."""
        entities, weights = self.samples.entities[sample], self.samples.weights[sample]
        said = np.arange(entities.shape[1]) < self.samples.stated[sample][:, None]
        kept = said | ~stranger[:, None]
        return self.model.ranker.liked(self._tensor(entities * kept), self._tensor(weights * kept))

    def _actions(
        self, rank: Tensor, hidden: Tensor, is_target: Tensor, present: Tensor, code: Tensor
    ) -> Tensor:
        """Loss of the action heads. They move alone: an action that no row has would flatten the rest."""
        logits = rank.unsqueeze(-1) + self.model.ranker.act(hidden)
        did = functional.one_hot(code, logits.shape[-1]).unsqueeze(1) * is_target.unsqueeze(-1).float()
        loss = functional.binary_cross_entropy_with_logits(logits, did, reduction="none").sum(-1)
        mean: Tensor = (loss * present).sum() / present.sum()
        return mean

    def _tensor(self, array: "NDArray[Any] | Tensor") -> Tensor:
        return torch.as_tensor(array).to(self.device)


def target_weights(log: Log, train: TrainConfig) -> NDArray[np.float32]:
    """Weigh each event as a target: by its action, and by how seldom its position is looked at: (n,)."""
    weights = np.where(log.positive, 1.0, train.other_weight)
    if log.positions is not None:
        looked = np.maximum(log.positions, 0) + 1.0
        weights = weights * np.minimum(looked**train.position_bias, train.most_clicks)
    return weights.astype(np.float32)


def _softmax_loss(logits: Tensor, weight: Tensor) -> Tensor:
    """Cross entropy of column 0."""
    loss = torch.logsumexp(logits, 1) - logits[:, 0]
    return (loss * weight).sum() / weight.sum()
