"""The training loop and its loss."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from model_core.checkpoint import Checkpoint, Epoch, random_state, set_random_state
from model_core.config import ModelConfig, TrainConfig
from model_core.corpus import Corpus
from model_core.fusion import alignment_loss, modality_dropout
from model_core.item_encoder import ItemEncoder, part_names
from model_core.ranker import EASE, NOT_ELIGIBLE, POPULARITY, Ranker
from model_core.replay import item_batch
from model_core.samples import Samples, Windows
from model_core.signals import Log

ALIGNED = 256  # items a step whose parts are drawn to their ids
AWAY_S = (3_600.0, 90 * 86_400.0)  # how long a user may have been away who is asked about the long run

Report = Callable[[str, float], None]
"""Told the stage's name and how much of it is done, from 0 to 1."""

Watch = Callable[[int, Epoch], None]
"""Told each epoch's number, from 1, and what it came to; may raise to end the training."""


class Model(torch.nn.Module):
    """Both networks of a release, and the inputs of all its items, as training needs them."""

    def __init__(
        self, corpus: Corpus, config: ModelConfig, train: TrainConfig, action_weights: tuple[float, ...]
    ) -> None:
        super().__init__()
        names = corpus.vocabulary
        self.encoder = ItemEncoder(
            config, len(names.item_rows), len(names.entity_rows), len(names.relation_rows)
        )
        self.ranker = Ranker(config, self.encoder.entities, action_weights, train.dropout)
        self.id_dropout = train.id_dropout
        self.newcomers = train.newcomers
        self.modality_dropout = train.modality_dropout
        self.neighbours = train.neighbours
        batch = item_batch(corpus)
        self.modalities = tuple(name for name in part_names(config) if name not in ("id", "links"))
        self.inputs = {
            name: torch.as_tensor(getattr(batch, name))
            for part in self.modalities
            for name in (part, f"{part}_mask")
        } | {
            name: torch.as_tensor(getattr(batch, name))
            for name in ("id_rows", "entities", "relations", "edge_mask")
        }

    def draw_newcomers(self) -> Tensor:
        """Draw which items a step takes for new ones, none outside training: (n_items,) bool."""
        n, device = len(self.inputs["id_rows"]), self.ranker.item_bias.device
        return torch.rand(n, device=device) < (self.newcomers if self.training else 0.0)

    def vectors(self, new: Tensor | None = None) -> Tensor:
        """Vectors of all items: (n_items, dim); the ids of `new` are hidden, in training more."""
        device = self.ranker.item_bias.device
        inputs = {name: value.to(device) for name, value in self.inputs.items()}
        if new is not None:
            inputs["id_rows"] = inputs["id_rows"] * ~new
        if self.training:
            self._hide(inputs)
        vectors: Tensor = self.encoder(**inputs)
        return vectors

    @torch.no_grad()
    def forget_unmet(self, log: Log) -> None:
        """Take back the ids of items that nobody met: they were but examples of what was not wanted."""
        met = np.zeros(log.n_items, np.bool_)
        met[log.items] = True
        self.encoder.items.weight[1:][torch.as_tensor(~met)] = 0.0

    def alignment(self, items: Tensor) -> Tensor:
        """Loss of some items' parts that are far from the items' id vectors: (n,) int64 rows to ()."""
        device = self.ranker.item_bias.device
        inputs = {name: value.to(device)[items] for name, value in self.inputs.items()}
        parts, mask = self.encoder.parts(**inputs)
        aligned = self.encoder.fusion.aligned(parts, mask)
        return alignment_loss(aligned[:, 1:], mask[:, 1:], parts[:, 0])

    def _hide(self, inputs: dict[str, Tensor]) -> None:
        """Leave out some ids, modalities and edges, so that items that lack them are read as well."""
        device = inputs["id_rows"].device
        shown = torch.rand(len(inputs["id_rows"]), device=device) >= self.id_dropout
        inputs["id_rows"] = inputs["id_rows"] * shown
        drawn = torch.rand(inputs["edge_mask"].shape, device=device) + inputs["edge_mask"]
        drawn = drawn.topk(min(self.neighbours, drawn.shape[1]), dim=1).indices
        for name in ("entities", "relations", "edge_mask"):
            inputs[name] = inputs[name].gather(1, drawn)
        names = [f"{name}_mask" for name in self.modalities]
        there = torch.stack([*(inputs[name] for name in names), inputs["edge_mask"].any(1)], 1)
        *kept, linked = modality_dropout(there, self.modality_dropout).unbind(1)
        inputs |= dict(zip(names, kept, strict=True))
        inputs["edge_mask"] = inputs["edge_mask"] & linked.unsqueeze(1)


class Trainer:
    """Fits a model to samples.

    The loss is a softmax over a target and the items it is told apart from, met ones left out, twice: for
    the retrieval score, and for the ranker among the best by that score. The actions are binary.
    """

    def __init__(
        self, model: Model, log: Log, windows: Windows, samples: Samples, train: TrainConfig
    ) -> None:
        self.model = model
        self.log = log
        self.windows = windows
        self.samples = samples
        self.train = train
        self.device = model.ranker.item_bias.device
        self._weight = torch.as_tensor(target_weights(log, train))
        # How signals are weighed is few numbers that have far to go.
        named = dict(model.named_parameters())
        signal = [p for name, p in named.items() if name.startswith("ranker.signal_")]
        rest = [p for name, p in named.items() if not name.startswith("ranker.signal_")]
        self._optimizer = torch.optim.AdamW(
            [
                {"params": [p for p in rest if p.dim() > 1], "pace": 1.0},
                {"params": [p for p in rest if p.dim() <= 1], "pace": 1.0, "weight_decay": 0.0},
                {"params": signal, "pace": train.signal_pace, "weight_decay": 0.0},
            ],
            lr=train.learning_rate,
            weight_decay=train.weight_decay,
            fused=True,
        )
        self._rng = np.random.default_rng(train.seed)
        self._aligned = model.encoder.config.fusion == "joint" and train.alignment > 0
        self._known = self._tensor(np.unique(log.items[log.positive])).long()

    def fit(
        self,
        epochs: int,
        *,
        before: int,
        report: Report,
        peak: float = 1.0,
        checkpoint: Checkpoint | None = None,
        watch: Watch = lambda number, epoch: None,
    ) -> list[Epoch]:
        """Run epochs over the targets that lie before row `before` of the log; return what each came to.

        The learning rate rises to `peak` times the configured one over the first tenth and falls to zero.
        The weights are in the end those of the epoch with the lowest loss on the rows from `before` on;
        training ends early when that has not fallen for `train.patience` epochs. With a checkpoint, it goes
        on where a former one was killed.
        """
        latest = np.maximum(self.windows.targets, self.windows.wanted)
        targets = np.where(latest < before, self.windows.targets, -1)
        usable = np.flatnonzero((targets >= 0).any(1))
        if not len(usable):
            raise ValueError(f"interactions must hold at least one target, got none before row {before}")
        steps_per_epoch = math.ceil(len(usable) / self.train.batch_windows)
        total = epochs * steps_per_epoch
        history: list[Epoch] = []
        best = self._state()
        if checkpoint is not None and (saved := checkpoint.load()) is not None:
            history = [Epoch(*epoch) for epoch in saved["history"]]
            best = saved["best"]
            self.model.load_state_dict(saved["model"])
            self._optimizer.load_state_dict(saved["optimizer"])
            set_random_state(self._rng, saved["random"])
        while len(history) < epochs and not self._stale(history):
            step = len(history) * steps_per_epoch
            losses = []
            self.model.train()
            order = self._rng.permutation(usable)
            for begin in range(0, len(order), self.train.batch_windows):
                rate = self.train.learning_rate * peak * _schedule(step / total)
                for group in self._optimizer.param_groups:
                    group["lr"] = rate * group["pace"]
                rows = order[begin : begin + self.train.batch_windows]
                loss, retrieval = self._loss(rows, targets[rows])
                self._optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
                self._optimizer.step()
                losses.append(float(retrieval.detach()))
                step += 1
                report("train", step / total)
            mean = float(np.mean(losses))
            if not math.isfinite(mean):
                raise ValueError(f"the training loss must be finite, got {mean}; lower the learning rate")
            self.model.eval()
            history.append(Epoch(mean, self.validate(before)))
            if history[-1].validation <= min(epoch.validation for epoch in history):
                best = self._state()
            if checkpoint is not None:
                checkpoint.save(
                    {
                        "history": [(epoch.loss, epoch.validation) for epoch in history],
                        "best": best,
                        "model": self.model.state_dict(),
                        "optimizer": self._optimizer.state_dict(),
                        "random": random_state(self._rng),
                    }
                )
            watch(len(history), history[-1])
        self.model.load_state_dict(best)
        self.model.eval()
        report("train", 1.0)
        return history

    @torch.inference_mode()
    def validate(self, since: int) -> float:
        """Mean retrieval loss of the next items from row `since` of the log on; 0 without any."""
        own = self.windows.targets == self.windows.wanted
        targets = np.where(own & (self.windows.targets >= since), self.windows.targets, -1)
        usable = np.flatnonzero((targets >= 0).any(1))
        total, count = 0.0, 0
        for begin in range(0, len(usable), self.train.batch_windows):
            rows = usable[begin : begin + self.train.batch_windows]
            n = int((targets[rows] >= 0).sum())
            total += n * float(self._loss(rows, targets[rows], ranking=False)[1])
            count += n
        return total / max(count, 1)

    def _state(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self.model.state_dict().items()}

    def _stale(self, history: list[Epoch]) -> bool:
        losses = [epoch.validation for epoch in history]
        return bool(losses) and len(losses) - 1 - int(np.argmin(losses)) >= self.train.patience

    def _loss(
        self, rows: NDArray[np.int64], targets: NDArray[np.int64], *, ranking: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Loss of some windows' targets, and the part of it that is retrieval's."""
        log, ranker = self.log, self.model.ranker
        events = self.windows.events[rows]  # (w, L)
        mask = events >= 0
        history = self._tensor(log.items[events] * mask).long()
        times = log.times_ms[events] / 1000.0
        gap = np.maximum(np.diff(times, axis=1, prepend=times[:, :1]), 0.0) * mask
        new = self.model.draw_newcomers()
        vectors = self.model.vectors(new)
        tokens = vectors[history] * self._tensor(mask).unsqueeze(-1)
        states, known = ranker.states(
            tokens, self._tensor(log.actions[events] * mask), self._tensor(gap.astype(np.float32)),
            self._tensor(mask),
        )  # fmt: skip
        # From here on one row per target: window w, state j, log row t, which is the row wanted.
        w, j = np.nonzero(targets >= 0)
        sample = self.samples.index[targets[w, j]]
        t = self.windows.wanted[rows][w, j]
        stranger = self._rng.random(len(t)) < (self.train.new_users if self.model.training else 0.0)
        j = np.where(stranger, 0, j)
        last = np.where(j > 0, times[w, np.maximum(j - 1, 0)], 0.0)
        idle = np.maximum(log.times_ms[t] / 1000.0 - last, 0.0)
        shortest, longest = AWAY_S
        away = shortest * (longest / shortest) ** self._rng.random(len(t))
        idle = np.where(t == self.samples.rows[sample], idle, np.maximum(idle, away)) * (j > 0)
        # Requests come at other moments than events do: the time since the last one is often left out.
        told = torch.rand(len(t), device=self.device) < (0.7 if self.model.training else 1.0)
        idle_known = self._tensor((j > 0).astype(np.float32)) * told
        at, place = self._tensor(w), self._tensor(j)
        liked = self._liked(sample, stranger)
        user = ranker.user_vector(states[at, place], self._tensor(idle.astype(np.float32)), idle_known, liked)
        columns = self._tensor(self.windows.columns[rows]).long()  # (w, m)
        target = self._tensor(log.items[t]).long()
        seen = self._tensor(self.samples.seen[sample])
        barred = seen[:, 1:] | (columns[at] == target.unsqueeze(1))
        compared = torch.cat((target.unsqueeze(1), columns[at]), 1)  # (n, 1 + m)
        signals = self._signals(sample, new[compared], self._tensor(stranger))
        match = ranker.match(user)
        # A target's stretch shares its columns, so their vectors are gathered once a stretch.
        column = self._tensor(np.nonzero(targets >= 0)[1])
        wide = torch.zeros(*targets.shape, match.shape[-1], device=self.device)
        wide = wide.index_put((at, column), match)
        against = (wide @ vectors[columns].transpose(1, 2))[at, column]  # (n, m)
        own = (match * vectors[target]).sum(-1, keepdim=True)
        base = torch.cat((own, against), 1) + ranker.prior(user, signals)
        barred = torch.cat((torch.zeros_like(barred[:, :1]), barred), 1)
        masked = base.masked_fill(barred, NOT_ELIGIBLE)
        weight = self._tensor(self._weight[t])
        # Uniform sampling: each column stands for (n - 1) / m items (Bengio & Senecal 2008).
        correction = math.log(max(1.0, (log.n_items - 1) / columns.shape[1]))
        shift = torch.full_like(masked[:1], correction)
        shift[:, 0] = 0.0
        retrieval = _softmax_loss(masked + shift, weight)
        if not ranking:
            return retrieval, retrieval

        few = torch.randperm(len(t), device=self.device)[: max(1, int(self.train.ranked * len(t)))]
        at, place, user, masked = at[few], place[few], user[few], masked[few]
        # As it will serve: the best by the retrieval score, the target only where it is one of them.
        chosen = masked.detach().topk(min(self.train.ranked_items, masked.shape[1]), dim=1).indices
        items = compared[few].gather(1, chosen)
        picked = masked.gather(1, chosen)
        allowed = known[at] & (torch.arange(known.shape[1], device=self.device) <= place.unsqueeze(1))
        hidden = ranker.hidden(user, vectors[items], states[at], allowed.unsqueeze(1))
        rank = picked + ranker.rank(hidden).squeeze(-1)
        is_target = chosen == 0
        present = picked > 0.5 * NOT_ELIGIBLE
        actions = self._actions(
            rank.detach(), hidden.detach(), is_target, present, self._tensor(log.actions[t])[few] - 1
        )
        order = torch.logsumexp(rank, 1) - (rank * is_target).sum(1)
        share = weight[few] * is_target.any(1)
        loss: Tensor = retrieval + (order * share).sum() / (share.sum() + 1e-6) + 0.2 * actions
        if self._aligned:
            some = self._known[torch.randperm(len(self._known), device=self.device)[:ALIGNED]]
            loss = loss + self.train.alignment * self.model.alignment(some)
        return loss, retrieval

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


def _schedule(done: float) -> float:
    return min(1.0, done / 0.1 + 0.02) * 0.5 * (1.0 + math.cos(math.pi * max(0.0, (done - 0.1) / 0.9)))
