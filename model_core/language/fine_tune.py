"""A text encoder fine-tuned to recommend: the vector of a history's texts must find the next item's text.

The loss is a softmax over the target and negatives: the targets of the batch's other examples and items
drawn uniformly, each weighed by one over its chance of being there (logQ correction: Bengio & Senecal 2008;
the target itself is always there and takes none, Khrylchenko et al. 2025). Where what was shown is known,
the softmax is over the impression instead (NRMS, Wu et al. 2019).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model_core.language.backbone import Backbone, LoraSettings
from model_core.language.loop import Curves, LoopConfig, Report, Row, best_epoch, find_device, run, silent
from model_core.language.text_pairs import Ints, TextLog, histories, spaced
from model_core.language.user_reader import UserReader
from model_core.training.checkpoint import Checkpoint

NEVER = -1e9
"""Logit of an item that is no negative: the user liked it too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FineTuneConfig:
    """Settings of a fine-tuning."""

    encoder: str = "minilm"
    max_tokens: int = 64
    lora: LoraSettings | None = None
    history: int = 10
    """Liked items that a user is read from."""
    negatives: int = 64
    """Items drawn uniformly a batch, beside the batch's other targets."""
    temperature: float = 0.05
    """The cosine is divided by it."""
    max_examples: int = 0
    """Training examples per epoch, drawn anew each; 0 takes all."""
    max_validation: int = 4000
    """Held-out examples that are measured, evenly spaced in time; 0 takes all."""
    loop: LoopConfig = field(default_factory=LoopConfig)

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"temperature must be positive, got {self.temperature}")


@dataclass(frozen=True, slots=True)
class Examples:
    """Training examples: a user's liked items, the item liked next, and the items shown beside it.

    users : (n,) int32
    history : (n, length) int32 item rows, most recent last, -1 before the first
    targets : (n,) int32
    shown : (n, m) int32 items shown without a click, -1 where fewer; m is 0 where that is not known
    """

    users: Ints
    history: Ints
    targets: Ints
    shown: Ints

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, rows: "NDArray[np.integer] | slice") -> "Examples":
        return Examples(self.users[rows], self.history[rows], self.targets[rows], self.shown[rows])


@dataclass(frozen=True, slots=True)
class FineTuned:
    """A fine-tuned encoder; history : one row an epoch: loss, validation_loss and validation_mrr."""

    backbone: Backbone
    reader: UserReader
    history: list[Row]
    best_epoch: int

    def save(self, folder: Path) -> None:
        """Write a folder that can be exported; adapters are merged in."""
        self.backbone.save(folder)


class Recommender(nn.Module):
    """The encoder of texts and the reader of users, as they are trained together."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.reader = UserReader(backbone.dim)


def next_likes(log: TextLog, length: int) -> Examples:
    """Make an example of every click whose user has an earlier one, in time order."""
    history = histories(log, length)
    rows = np.flatnonzero(log.clicked & (history[:, -1] >= 0))
    shown = np.full((len(rows), 0), -1, np.int32)
    return Examples(log.users[rows], history[rows], log.items[rows], shown)


def split_examples(examples: Examples, validation: float = 0.1) -> tuple[Examples, Examples]:
    """Split examples in time order into training and validation.

    Raises
    ------
    ValueError
        If a part would be empty.
    """
    first = int(len(examples) * (1 - validation))
    if first < 2 or first == len(examples):
        raise ValueError(
            f"the log must hold at least 3 clicks of users with an earlier click, got {len(examples)}"
        )
    return examples[:first], examples[first:]


def softmax_loss(logits: Tensor, chance: Tensor, never: Tensor, place: Tensor) -> Tensor:
    """Sampled softmax, one loss a row: (b,).

    Parameters
    ----------
    logits : (b, c) of the batch's candidates
    chance : (c,) probability that a candidate that is not a row's target is among the candidates
    never : (b, c) bool, candidates that are no negatives of a row
    place : (b,) column of each row's target
    """
    own = nn.functional.one_hot(place, logits.shape[1]).bool()
    corrected = torch.where(own, logits, logits - chance.log()).masked_fill(never & ~own, NEVER)
    return torch.logsumexp(corrected, 1) - logits.gather(1, place.unsqueeze(1)).squeeze(1)


def candidate_chance(
    frequency: NDArray[np.floating], n_items: int, batch: int, drawn: int
) -> NDArray[np.float64]:
    """Probability that items are among a batch's other targets, or the items drawn uniformly.

    Parameters
    ----------
    frequency : (c,) share of the examples whose target the item is
    """
    missed = (1.0 - frequency) ** (batch - 1) * (1.0 - 1.0 / n_items) ** drawn
    return np.asarray(np.maximum(1.0 - missed, 1e-9), np.float64)


class FineTuneTask:
    """The recommendation loss; the epoch with the lowest one on validation is best."""

    criterion, larger_is_better = "loss", False

    def __init__(
        self, module: Recommender, log: TextLog, train: Examples, validation: Examples, config: FineTuneConfig
    ) -> None:
        self.module = module
        self._texts, self._config = log.texts, config
        self._train, self._validation = train, validation
        self._frequency = np.bincount(train.targets, minlength=len(log.texts)) / len(train)
        self._pool = np.flatnonzero([bool(text) for text in log.texts])
        self._liked = _liked((train, validation), len(log.texts))

    def batches(self, rng: np.random.Generator) -> list[NDArray[np.int64]]:
        """Draw the epoch's examples."""
        most, size = self._config.max_examples or len(self._train), self._config.loop.batch_size
        drawn = rng.permutation(len(self._train))[:most]
        return [drawn[at : at + size] for at in range(0, len(drawn), size)]

    def loss(self, batch: NDArray[np.int64], rng: np.random.Generator) -> Tensor:
        """Mean loss of some training examples."""
        return self._losses(self._train[batch], rng)[0].mean()

    def validate(self) -> Row:
        """Mean loss and mean reciprocal rank of the target among candidates, the same in every epoch."""
        rng, size = np.random.default_rng(self._config.loop.seed), self._config.loop.batch_size
        parts = [
            self._losses(self._validation[at : at + size], rng)
            for at in range(0, len(self._validation), size)
        ]
        losses, ranks = (torch.cat(values).float() for values in zip(*parts, strict=True))
        return {"loss": float(losses.mean()), "mrr": float((1.0 / ranks).mean())}

    def _losses(self, examples: Examples, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Loss and rank of each example's target: (b,) each."""
        if examples.shown.shape[1]:
            return self._impressions(examples)
        drawn = rng.choice(self._pool, self._config.negatives)
        candidates = np.unique(np.concatenate([examples.targets, drawn]))
        users, vectors = self._read(examples, candidates)
        logits = users @ vectors.T / self._config.temperature  # (b, c)
        chance = candidate_chance(
            self._frequency[candidates], len(self._pool), len(examples), self._config.negatives
        )
        key = examples.users.astype(np.int64)[:, None] * len(self._texts) + candidates
        place = torch.as_tensor(np.searchsorted(candidates, examples.targets), device=logits.device)
        never = torch.as_tensor(np.isin(key, self._liked), device=logits.device)
        loss = softmax_loss(
            logits, torch.as_tensor(chance, dtype=logits.dtype, device=logits.device), never, place
        )
        own = logits.gather(1, place.unsqueeze(1))
        ahead = ((logits > own) & ~never).sum(1)
        return loss, ahead + 1

    def _impressions(self, examples: Examples) -> tuple[Tensor, Tensor]:
        listed = np.concatenate([examples.targets[:, None], examples.shown], 1)  # (b, 1 + m), target first
        candidates = np.unique(listed[listed >= 0])
        users, vectors = self._read(examples, candidates)
        rows = torch.as_tensor(
            np.searchsorted(candidates, np.maximum(listed, candidates[0])), device=users.device
        )
        logits = (vectors[rows] @ users.unsqueeze(-1)).squeeze(-1) / self._config.temperature
        logits = logits.masked_fill(torch.as_tensor(listed < 0, device=logits.device), NEVER)
        return torch.logsumexp(logits, 1) - logits[:, 0], (logits[:, 1:] > logits[:, :1]).sum(1) + 1

    def _read(self, examples: Examples, candidates: NDArray[np.integer]) -> tuple[Tensor, Tensor]:
        """Encode each text of a batch once: users (b, dim), candidates (c, dim)."""
        known = examples.history >= 0
        needed = np.unique(np.concatenate([candidates, examples.history[known]]))
        vectors = self.module.backbone.encode([self._texts[item] for item in needed.tolist()], batch_size=256)

        def rows(items: NDArray[np.integer]) -> Tensor:
            return torch.as_tensor(np.searchsorted(needed, items), device=vectors.device)

        past = vectors[rows(np.where(known, examples.history, needed[0]))]  # (b, length, dim)
        users: Tensor = self.module.reader(past, torch.as_tensor(known, device=vectors.device))
        return users, vectors[rows(candidates)]


def _liked(parts: Sequence[Examples], n_items: int) -> NDArray[np.int64]:
    """Sorted keys user * n_items + item of all that users liked."""
    keys = []
    for part in parts:
        listed = np.concatenate([part.targets[:, None], part.history], 1)
        key = part.users.astype(np.int64)[:, None] * n_items + listed
        keys.append(key[listed >= 0])
    return np.unique(np.concatenate(keys))


def fine_tune(
    log: TextLog,
    parts: tuple[Examples, Examples],
    config: FineTuneConfig,
    *,
    device: str = "auto",
    checkpoint: Checkpoint | None = None,
    report: Report = silent,
    curves: Curves = silent,
) -> FineTuned:
    """Fine-tune an encoder on the first part; keep the epoch that is best on the second.

    Raises
    ------
    ValueError
        If the encoder cannot be found, or the loss is not finite.
    """
    where = find_device(device)
    with torch.random.fork_rng():
        torch.manual_seed(config.loop.seed)
        backbone = Backbone(config.encoder, max_tokens=config.max_tokens, lora=config.lora)
        module = Recommender(backbone)
    train, validation = parts
    validation = validation[spaced(len(validation), config.max_validation)]
    task = FineTuneTask(module, log, train, validation, config)
    history = run(task, config.loop, device=where, checkpoint=checkpoint, report=report, curves=curves)
    best = best_epoch(history, task.criterion, larger_is_better=task.larger_is_better)
    return FineTuned(backbone, module.reader, history, best)


def fine_tune_fingerprint(log: TextLog, config: FineTuneConfig) -> str:
    """Name everything that a training depends on, for its checkpoint."""
    return repr((log.fingerprint, asdict(config)))
