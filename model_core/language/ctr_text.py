"""Click-through from text: a transformer reads what a user liked and an item, and says if it is clicked.

Both texts share the transformer, so each word sees the other text's. The head compares the means of the two
parts as in Sentence-BERT's classifier (Reimers & Gurevych 2019): u, v, u * v and |u - v|.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from scipy.stats import rankdata
from torch import Tensor, nn

from model_core.language.backbone import Backbone, LoraSettings, mean_of
from model_core.language.loop import Curves, LoopConfig, Report, Row, best_epoch, find_device, run, silent
from model_core.language.text_pairs import Pairs, TextLog, spaced
from model_core.training.checkpoint import Checkpoint

SEPARATOR = "; "


@dataclass(frozen=True, slots=True, kw_only=True)
class CtrConfig:
    """Settings of a fine-tuning."""

    encoder: str = "minilm"
    max_tokens: int = 96
    """Of history and item together; the oldest of the history is cut off first."""
    history: int = 10
    """Liked items whose titles are read."""
    negatives: int = 4
    """Items drawn a click, where the log has no impressions."""
    lora: LoraSettings | None = None
    max_examples: int = 0
    """Training examples per epoch, drawn anew each; 0 takes all."""
    max_validation: int = 4000
    """Held-out examples that are measured, evenly spaced in time; 0 takes all."""
    loop: LoopConfig = field(default_factory=LoopConfig)


@dataclass(frozen=True, slots=True)
class CtrResult:
    """A trained classifier.

    history : one row an epoch: loss, validation_loss, validation_auc, validation_accuracy
    test : loss, auc and accuracy of the best epoch, and auc_popularity, the floor
    """

    classifier: "ClickClassifier"
    history: list[Row]
    test: Row
    best_epoch: int


class ClickClassifier(nn.Module):
    """Logit of a click, given tokens of two texts."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.dropout = nn.Dropout(0.1)
        self.head = nn.Linear(4 * backbone.dim, 1)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, item_mask: Tensor) -> Tensor:
        """Compute logits: (b,) float.

        Parameters
        ----------
        input_ids, attention_mask : (b, t) int64
        item_mask : (b, t) int64, 1 on the tokens of the item's text
        """
        hidden = self.backbone.hidden(input_ids, attention_mask, item_mask)  # (b, t, dim)
        user = mean_of(hidden, attention_mask * (1 - item_mask))
        item = mean_of(hidden, item_mask)
        features = torch.cat((user, item, user * item, (user - item).abs()), -1)
        logits: Tensor = self.head(self.dropout(features)).squeeze(-1)
        return logits

    def tokens(self, histories: Sequence[str], items: Sequence[str]) -> dict[str, Tensor]:
        """Make inputs of texts: (b, t) int64 each, t the longest pair's tokens."""
        return pair_tokens(self.backbone.tokenizer, self.backbone.max_tokens, histories, items)

    def save(self, folder: Path) -> None:
        """Write the encoder, adapters merged in, and the head, as safetensors."""
        self.backbone.save(folder)
        head = {name: value.detach().cpu().contiguous() for name, value in self.head.state_dict().items()}
        save_file(head, folder / "head.safetensors")


def pair_tokens(
    tokenizer: Any, max_tokens: int, histories: Sequence[str], items: Sequence[str]
) -> dict[str, Tensor]:
    """Join texts to pairs: input_ids, attention_mask and item_mask, (b, t) int64 each."""
    found = tokenizer(
        list(histories), list(items), padding=True, truncation="longest_first", max_length=max_tokens,
        return_tensors="pt",
    )  # fmt: skip
    second = [[part == 1 for part in found.sequence_ids(row)] for row in range(len(histories))]
    return {
        "input_ids": found["input_ids"],
        "attention_mask": found["attention_mask"],
        "item_mask": torch.tensor(second, dtype=torch.long),
    }


def history_texts(log: TextLog, history: NDArray[np.integer]) -> list[str]:
    """Titles of histories, the most recent first, so that what is cut off is the oldest."""
    return [SEPARATOR.join(log.titles[row] for row in rows[::-1] if row >= 0) for rows in history.tolist()]


class CtrTask:
    """Binary cross-entropy on pairs; the epoch with the largest AUC on validation is best."""

    criterion, larger_is_better = "auc", True

    def __init__(
        self, classifier: ClickClassifier, log: TextLog, train: Pairs, validation: Pairs, config: CtrConfig
    ) -> None:
        self.module = classifier
        self._log, self._train, self._validation, self._config = log, train, validation, config

    def batches(self, rng: np.random.Generator) -> list[NDArray[np.int64]]:
        """Draw the epoch's examples and group them by like length, so that little of a batch is padding."""
        size, most = self._config.loop.batch_size, self._config.max_examples or len(self._train)
        drawn = rng.permutation(len(self._train))[:most]
        batches = []
        for begin in range(0, len(drawn), 32 * size):
            rows = drawn[begin : begin + 32 * size]
            rows = rows[np.argsort((self._train.history[rows] >= 0).sum(1), kind="stable")]
            batches += [rows[at : at + size] for at in range(0, len(rows), size)]
        return [batches[at] for at in rng.permutation(len(batches))]

    def loss(self, batch: NDArray[np.int64], rng: np.random.Generator) -> Tensor:
        """Mean cross-entropy of some training pairs."""
        pairs = self._train[batch]
        return nn.functional.binary_cross_entropy_with_logits(
            self._logits(pairs), torch.as_tensor(pairs.labels, dtype=torch.float32, device=self._device)
        )

    def validate(self) -> Row:
        """Loss, AUC and accuracy on the validation pairs."""
        return self.measure(self._validation)

    @torch.inference_mode()
    def measure(self, pairs: Pairs) -> Row:
        """Loss, AUC and accuracy on pairs."""
        size = 4 * self._config.loop.batch_size
        parts = [self._logits(pairs[at : at + size]).float().cpu() for at in range(0, len(pairs), size)]
        return click_metrics(torch.cat(parts).numpy(), pairs.labels)

    @property
    def _device(self) -> torch.device:
        return self.module.head.weight.device

    def _logits(self, pairs: Pairs) -> Tensor:
        texts = [self._log.texts[item] for item in pairs.items.tolist()]
        tokens = self.module.tokens(history_texts(self._log, pairs.history), texts)
        logits: Tensor = self.module(**{name: value.to(self._device) for name, value in tokens.items()})
        return logits


def train_ctr(
    log: TextLog,
    parts: tuple[Pairs, Pairs, Pairs],
    config: CtrConfig,
    *,
    device: str = "auto",
    checkpoint: Checkpoint | None = None,
    report: Report = silent,
    curves: Curves = silent,
) -> CtrResult:
    """Train a classifier on the first part, keep the epoch that is best on the second, measure on the third.

    Raises
    ------
    ValueError
        If the encoder cannot be found, or the loss is not finite.
    """
    train = parts[0]
    validation, test = (part[spaced(len(part), config.max_validation)] for part in parts[1:])
    where = find_device(device)
    with torch.random.fork_rng():
        torch.manual_seed(config.loop.seed)
        classifier = ClickClassifier(Backbone(config.encoder, max_tokens=config.max_tokens, lora=config.lora))
    rate = float(train.labels.mean())
    nn.init.constant_(classifier.head.bias, float(np.log(rate / (1 - rate))))
    task = CtrTask(classifier, log, train, validation, config)
    history = run(task, config.loop, device=where, checkpoint=checkpoint, report=report, curves=curves)
    clicks = np.bincount(train.items[train.labels], minlength=len(log.titles)).astype(np.float64)
    row = task.measure(test) | {"auc_popularity": auc(clicks[test.items], test.labels)}
    return CtrResult(classifier, history, row, best_epoch(history, CtrTask.criterion, larger_is_better=True))


def ctr_fingerprint(log: TextLog, config: CtrConfig) -> str:
    """Name everything that a training depends on, for its checkpoint."""
    return repr((log.fingerprint, asdict(config)))


def click_metrics(logits: NDArray[np.floating], labels: NDArray[np.bool_]) -> Row:
    """Mean binary cross-entropy, AUC, and accuracy at a probability of one half."""
    exact = logits.astype(np.float64)
    loss = np.logaddexp(0.0, np.where(labels, -exact, exact)).mean()
    return {
        "loss": float(loss),
        "auc": auc(exact, labels),
        "accuracy": float(((exact > 0) == labels).mean()),
    }


def auc(scores: NDArray[np.floating], labels: NDArray[np.bool_]) -> float:
    """Share of (click, other) pairs in order, ties as half (Mann-Whitney U).

    Raises
    ------
    ValueError
        If one class is missing.
    """
    clicks = int(labels.sum())
    others = len(labels) - clicks
    if not clicks or not others:
        raise ValueError(f"labels must hold clicks and others, got {clicks} clicks and {others} others")
    return float((rankdata(scores)[labels].sum() - clicks * (clicks + 1) / 2) / (clicks * others))
