"""Next-item prediction from ordered histories alone, with the product's own networks.

Item vectors are fused from id and attributes by `ItemEncoder`, where attributes are knowledge-graph
neighbours; `Ranker`'s history transformer and user vector read them. There are no times here and one action,
so those parts add nothing.
"""

import copy
import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from model_core.data.vocabulary import Edges
from model_core.network.config import ModelConfig
from model_core.network.ensemble import EnsembleEncoder, EnsembleRanker
from model_core.network.item_encoder import ItemEncoder
from model_core.network.ranker import Ranker
from model_core.training.checkpoint import Checkpoint
from model_core.training.schedule import pace
from tests.benchmarks.rivals.sampled_softmax import (
    full_softmax_loss,
    popularity_distribution,
    sampled_softmax_loss,
)
from tests.benchmarks.rivals.sequences import (
    Rows,
    Scores,
    Sequences,
    bar_history,
    cut_stretches,
    first_met,
    place_metrics,
    target_ranks,
)

STOPS_BY = "NDCG@20"
ALIKE = 32
"""Batches whose stretches are dealt out by length, so that what is read is hardly padding."""

Report = Callable[[int, float, float], None]
"""Told the epoch from 0, its mean loss and the validation's NDCG@20."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SequentialConfig:
    """How a model of sequences is trained."""

    loss: Literal["full", "sampled", "binary"] = "sampled"
    """Softmax over all items, over drawn ones with logQ correction, or one uniform negative each (SASRec)."""
    negatives: int = 1024
    """Items drawn a step for the sampled softmax."""
    power: float = 0.75
    """Exponent of popularity in the distribution that they are drawn from."""
    overlap: bool = True
    """Train on whole histories, not on each one's latest stretch alone."""
    epochs: int = 60
    """At most; the learning rate falls to zero over so many."""
    patience: int = 5
    """Epochs without a better validation after which training ends."""
    batch: int = 64
    """Stretches per step."""
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    validation_users: int = 4000
    """Users that an epoch is judged on, drawn once."""
    seed: int = 0


class Tokens(NamedTuple):
    """What a model makes of n items: vectors (n, dim) to read and to score, tastes (n, dim) to add up."""

    vectors: Tensor
    tastes: Tensor | None


class SequenceModel(Protocol):
    """What `SequentialTrainer` trains; a `torch.nn.Module` too."""

    length: int
    """Events that it reads."""

    def tokens(self, rows: Tensor) -> Tokens:
        """Make tokens of items (n,) int64."""

    def users(self, tokens: Tokens, place: Tensor) -> Tensor:
        """Read events: place (B, T) int64 rows of `tokens`, -1 = padding on the left; to (B, T, dim)."""


class HistoryModel(nn.Module):
    """The product's item encoder and history transformer, without times and with one action.

    Parameters
    ----------
    edges
        Attributes of all items as neighbours.
    attributes
        False hides them.
    id_dropout
        Share of items whose id is hidden in a step.
    neighbours
        Attributes of an item that a step sees, drawn at random.
    taste_decay
        Weight of the attributes of an event against those of the one after it.
    """

    def __init__(
        self,
        config: ModelConfig,
        edges: Edges,
        *,
        attributes: bool = True,
        dropout: float = 0.5,
        id_dropout: float = 0.0,
        neighbours: int = 10,
        taste_decay: float = 0.9,
    ) -> None:
        super().__init__()
        if not 0 < taste_decay <= 1:
            raise ValueError(f"taste_decay must be in (0, 1], got {taste_decay}")
        self.length = config.history_length
        self.encoder = ItemEncoder(
            config, len(edges.mask), int(edges.entities.max(initial=0)), int(edges.relations.max(initial=0))
        )
        self.ranker = Ranker(config, self.encoder.entities, (1.0,), dropout)
        self.attributes = attributes
        self.id_dropout = id_dropout
        self.neighbours = neighbours
        self.taste_decay = taste_decay
        self.edges = torch.as_tensor(np.stack((edges.entities, edges.relations)))
        lag = torch.arange(self.length + 1).unsqueeze(1) - torch.arange(self.length + 1)
        self.register_buffer("lag", lag.clamp(min=0), persistent=False)
        self.lag: Tensor

    def tokens(self, rows: Tensor) -> Tokens:
        """See `SequenceModel`; in training, some ids and some attributes are hidden."""
        device = self.ranker.item_bias.device
        ids = rows + 1
        edges = self.edges.to(device)[:, rows]
        if not self.attributes:
            edges = torch.zeros_like(edges[:, :, :1])
        if self.training:
            ids = ids * (torch.rand(ids.shape, device=device) >= self.id_dropout)
            drawn = torch.rand(edges.shape[1:], device=device) + (edges[0] > 0)
            drawn = drawn.topk(min(self.neighbours, drawn.shape[1]), dim=1).indices
            edges = edges.gather(2, drawn.expand(2, -1, -1))
        text = torch.zeros(len(ids), self.encoder.config.text_dim, device=device)
        entities, relations = edges
        vectors = self.encoder(ids, text, text[:, 0] > 0, entities, relations, entities > 0)
        tastes = self.ranker.liked(entities, torch.ones(entities.shape, device=device))
        return Tokens(vectors, tastes if self.attributes else None)

    def users(self, tokens: Tokens, place: Tensor) -> Tensor:
        """See `SequenceModel`."""
        length = place.shape[1]
        known = place >= 0
        read = place.clamp(min=0)
        gap = torch.zeros_like(place[:1], dtype=torch.float32)  # of all alike: what it adds is made once
        vectors = tokens.vectors[read] * known.unsqueeze(-1)
        states = self.ranker.states(vectors, known.long(), gap, known)[0][:, 1:]
        liked = torch.zeros_like(states)
        if tokens.tastes is not None:
            weight = self.taste_decay ** self.lag[:length, :length].float()
            weight = weight.tril() * known.unsqueeze(1)  # (B, T, T): of event j in the taste after event i
            liked = weight @ tokens.tastes[read] / (weight.sum(-1, keepdim=True) + 1e-6)
        return self.ranker.match(self.ranker.user_vector(states, gap, gap, liked))


def side_by_side(members: Sequence[HistoryModel]) -> HistoryModel:
    """Return what scores by the mean of several trained models, made as a release makes an ensemble."""
    whole = copy.deepcopy(members[0])
    whole.encoder = EnsembleEncoder([member.encoder for member in members])
    whole.ranker = EnsembleRanker([member.ranker for member in members])
    return whole


class SequentialTrainer:
    """Fits a model to the next items of histories, and keeps the weights of its best epoch.

    Parameters
    ----------
    model
        A `SequenceModel` that is a `torch.nn.Module`; it is trained where its parameters lie.
    train : histories
    validation : (n_users,) the item after each history

    Attributes
    ----------
    spent
        Seconds that its epochs took, by the clock and of the processor, those of a former process included.
    """

    def __init__(
        self, model: SequenceModel, train: Sequences, validation: Rows, config: SequentialConfig
    ) -> None:
        if not isinstance(model, nn.Module):
            raise ValueError(f"model must be a torch.nn.Module, got {type(model).__name__}")
        self.model = model
        self.module: nn.Module = model
        self.train = train
        self.validation = validation
        self.config = config
        self.device = next(model.parameters()).device
        self.events, self.targets = cut_stretches(train, model.length, overlap=config.overlap)
        self._sizes = (self.events >= 0).sum(1)
        self._q = popularity_distribution(train.popularity(), power=config.power)
        self._log_q = torch.as_tensor(np.log(self._q), dtype=torch.float32, device=self.device)
        self._rng = np.random.default_rng(config.seed)  # another one each epoch
        users = np.random.default_rng(config.seed).permutation(len(train))
        self._judged = np.sort(users[: config.validation_users])
        self.spent = (0.0, 0.0)
        matrices = [p for p in model.parameters() if p.dim() > 1]
        vectors = [p for p in model.parameters() if p.dim() <= 1]
        groups: list[dict[str, Any]] = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
        self._optimizer = torch.optim.AdamW(
            groups, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )

    def fit(self, *, report: Report, checkpoint: Checkpoint | None = None) -> list[float]:
        """Train until the validation's NDCG@20 gets no better; return it epoch by epoch.

        With a checkpoint, training goes on where a former one was killed: the draws of an epoch depend on
        its number and the seed alone.

        Raises
        ------
        ValueError
            If the loss is not finite.
        """
        history: list[float] = []
        best = self._state()
        if checkpoint is not None and (saved := checkpoint.load()) is not None:
            history, best, self.spent = list(saved["history"]), saved["best"], saved["spent"]
            self.module.load_state_dict(saved["model"])
            self._optimizer.load_state_dict(saved["optimizer"])
        while len(history) < self.config.epochs and not self._stale(history):
            begun, busy = time.perf_counter(), time.process_time()
            loss = self._epoch(len(history))
            if not math.isfinite(loss):
                raise ValueError(f"the training loss must be finite, got {loss}; lower the learning rate")
            history.append(self.validate())
            taken = time.perf_counter() - begun, time.process_time() - busy
            self.spent = self.spent[0] + taken[0], self.spent[1] + taken[1]
            report(len(history) - 1, loss, history[-1])
            if history[-1] >= max(history):
                best = self._state()
            if checkpoint is not None:
                checkpoint.save(
                    {
                        "history": history,
                        "spent": self.spent,
                        "best": best,
                        "model": self.module.state_dict(),
                        "optimizer": self._optimizer.state_dict(),
                    }
                )
        self.module.load_state_dict(best)
        self.module.eval()
        return history

    def validate(self) -> float:
        """NDCG@20 of the item after each judged user's history."""
        scores = score_users(self.model, self.train, self._judged)
        places = [target_ranks(part, self.validation[users]) for users, part in scores]
        return float(place_metrics(np.concatenate(places))[STOPS_BY].mean())

    def _epoch(self, epoch: int) -> float:
        self.module.train()
        self._rng = np.random.default_rng((self.config.seed, epoch))
        torch.manual_seed(int(self._rng.integers(2**31)))
        losses = []
        batches = self._batches()
        for number, rows in enumerate(batches, start=epoch * len(batches)):
            for group in self._optimizer.param_groups:
                group["lr"] = self.config.learning_rate * pace(number / (self.config.epochs * len(batches)))
            loss = self._loss(rows)
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()
            losses.append(float(loss.detach()))
        return float(np.mean(losses))

    def _batches(self) -> list[Rows]:
        """Stretches in random order, those of a batch about as long as each other."""
        size = self.config.batch
        order = self._rng.permutation(len(self.events))
        chunks = [order[begin : begin + ALIKE * size] for begin in range(0, len(order), ALIKE * size)]
        order = np.concatenate([chunk[np.argsort(self._sizes[chunk], kind="stable")] for chunk in chunks])
        batches = [order[begin : begin + size] for begin in range(0, len(order), size)]
        return [batches[number] for number in self._rng.permutation(len(batches))]

    def _loss(self, rows: Rows) -> Tensor:
        length = int(self._sizes[rows].max())
        events, targets = self.events[rows, -length:], self.targets[rows, -length:]
        window, place = np.nonzero(targets >= 0)
        wanted = targets[window, place]
        drawn = self._draw(len(wanted))
        n_items = self.train.n_items
        if self.config.loss == "full":
            needed = np.arange(n_items)
        else:
            needed = np.unique(np.concatenate((events[events >= 0], wanted, drawn)))
        column = np.full(n_items + 1, -1, np.int64)  # the last one is that of padding, -1
        column[needed] = np.arange(len(needed))
        tokens = self.model.tokens(self._tensor(needed))
        users = self.model.users(tokens, self._tensor(column[events]))
        user = users[self._tensor(window), self._tensor(place)]
        own, others = self._tensor(column[wanted]), self._tensor(column[drawn])
        if self.config.loss == "binary":
            met = (events[window] == drawn[:, None]) | (targets[window] == drawn[:, None])
            counts = self._tensor(~met.any(1))
            return _binary_loss(user, tokens.vectors[own], tokens.vectors[others], counts)
        met = first_met(column[events], len(needed))
        if self.config.loss == "full":
            barred = self._tensor(met[window] <= place[:, None])
            return full_softmax_loss(user @ tokens.vectors.T, own, barred)
        return sampled_softmax_loss(
            (user * tokens.vectors[own]).sum(-1),
            user @ tokens.vectors[others].T,
            own,
            others,
            self._log_q[self._tensor(needed)],
            self._tensor(met[:, column[drawn]][window] <= place[:, None]),
        )

    def _draw(self, n_targets: int) -> Rows:
        if self.config.loss == "binary":
            return self._rng.integers(self.train.n_items, size=n_targets)
        if self.config.loss == "sampled":
            return self._rng.choice(self.train.n_items, self.config.negatives, p=self._q)
        return np.zeros(0, np.int64)

    def _state(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self.module.state_dict().items()}

    def _stale(self, history: list[float]) -> bool:
        return bool(history) and len(history) - 1 - int(np.argmax(history)) >= self.config.patience

    def _tensor(self, array: "NDArray[Any]") -> Tensor:
        return torch.as_tensor(array).to(self.device)


def _binary_loss(user: Tensor, own: Tensor, other: Tensor, counts: Tensor) -> Tensor:
    """Kang & McAuley 2018, section 3.5: a target against one item, which `counts` if it is not the user's."""
    good, bad = (user * own).sum(-1), (user * other).sum(-1)
    return functional.softplus(-good).mean() + (functional.softplus(bad) * counts).mean()


@torch.inference_mode()
def score_users(
    model: SequenceModel, sequences: Sequences, users: Rows, *, batch: int = 512
) -> Iterator[tuple[Rows, Scores]]:
    """Score all items after the histories of some users, in batches: the users, and (n, n_items).

    What they met has -inf.
    """
    module = cast(nn.Module, model)
    module.eval()
    device = next(module.parameters()).device
    tokens = model.tokens(torch.arange(sequences.n_items, device=device))
    for begin in range(0, len(users), batch):
        some = users[begin : begin + batch]
        read = model.users(tokens, torch.as_tensor(sequences.recent(some, model.length)).to(device))
        scores = (read[:, -1] @ tokens.vectors.T).cpu().numpy()
        yield some, bar_history(scores, sequences, some)


def fingerprint(
    train: Sequences, validation: Rows, config: SequentialConfig, model: nn.Module, name: str
) -> str:
    """Hash of what a training depends on: data, config, the model's shapes and what else it is called by."""
    shapes = [(key, tuple(value.shape)) for key, value in model.state_dict().items()]
    digest = hashlib.sha256(repr((name, asdict(config), shapes)).encode())
    for array in (train.items, train.bounds, validation):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
