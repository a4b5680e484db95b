"""Reading users over frozen text vectors: attention over the history against the items of an impression.

After NRMS (Wu et al. 2019) with the text encoder left as it is, so that an epoch takes seconds on a CPU. The
score also has a part that is the item's alone, and a part for each place an item was shown at; the latter
takes up that the first place is clicked most and is left out when scoring.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model_core.language.loop import LoopConfig, Row, run
from model_core.language.user_reader import UserReader

Ints = NDArray[np.integer]
NEVER = -1e9


@dataclass(frozen=True, slots=True)
class Shown:
    """Impressions over items with vectors.

    history : (n, length) item rows, most recent last, -1 before the first
    items : (n, m) item rows by place, -1 after the last
    clicked : (n,) place of the click
    """

    history: Ints
    items: Ints
    clicked: Ints

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, rows: Ints) -> "Shown":
        return Shown(self.history[rows], self.items[rows], self.clicked[rows])


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderConfig:
    """What is trained and how."""

    width: int = 64
    """Of the vectors that are compared."""
    loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(epochs=4, batch_size=128, learning_rate=2e-3, weight_decay=0.1)
    )


class NewsReader(nn.Module):
    """Scores items for users: a user's reading against the item, and the item by itself."""

    def __init__(self, vectors: NDArray[np.floating], places: int, width: int) -> None:
        super().__init__()
        self.register_buffer("vectors", torch.as_tensor(vectors, dtype=torch.float32))
        self.narrow = nn.Linear(vectors.shape[1], width)
        self.dropout = nn.Dropout(0.2)
        self.reader = UserReader(width, heads=4, width=width)
        self.sharpness = nn.Parameter(torch.ones(1))
        self.item = nn.Linear(width, 1)
        self.place = nn.Parameter(torch.zeros(places))

    def forward(self, history: Tensor, items: Tensor) -> Tensor:
        """Score items without their place: (b, m), from item rows (b, length) and (b, m), -1 for none."""
        vectors = self.get_buffer("vectors")
        past = self.narrow(vectors[history.clamp(min=0)])
        listed = self.narrow(vectors[items.clamp(min=0)])  # (b, m, width)
        user = self.reader(self.dropout(past), history >= 0)
        match = (nn.functional.normalize(listed, dim=-1) @ user.unsqueeze(-1)).squeeze(-1)
        alone = self.item(self.dropout(torch.tanh(listed))).squeeze(-1)
        scores: Tensor = self.sharpness * match + alone
        return scores


class ReaderTask:
    """Softmax over an impression's items; the epoch with the lowest loss on validation is best."""

    criterion, larger_is_better = "loss", False

    def __init__(self, module: NewsReader, train: Shown, validation: Shown, batch_size: int) -> None:
        self.module = module
        self._train, self._validation, self._size = train, validation, batch_size

    def batches(self, rng: np.random.Generator) -> Sequence[Ints]:
        """Draw an epoch's impressions."""
        order = rng.permutation(len(self._train))
        return [order[at : at + self._size] for at in range(0, len(order), self._size)]

    def loss(self, batch: Ints, rng: np.random.Generator) -> Tensor:
        """Mean cross-entropy of the clicked place."""
        return self._loss(self._train[batch])

    def validate(self) -> Row:
        """The same on validation."""
        return {"loss": float(self._loss(self._validation))}

    def _loss(self, shown: Shown) -> Tensor:
        items = torch.as_tensor(shown.items)
        logits = self.module(torch.as_tensor(shown.history), items) + self.module.place[: items.shape[1]]
        logits = logits.masked_fill(items < 0, NEVER)
        return nn.functional.cross_entropy(logits, torch.as_tensor(shown.clicked).long())


def train_reader(
    vectors: NDArray[np.floating], train: Shown, validation: Shown, config: ReaderConfig
) -> NewsReader:
    """Train a reader on a CPU.

    Parameters
    ----------
    vectors : (n_items, dim), frozen
    """
    with torch.random.fork_rng():
        torch.manual_seed(config.loop.seed)
        module = NewsReader(vectors, train.items.shape[1], config.width)
    counts = np.bincount(train.clicked, minlength=train.items.shape[1]) + 1.0
    with torch.no_grad():  # what the places alone would come to; the items' part starts from there
        module.place.copy_(torch.as_tensor(np.log(counts / counts.sum())))
    task = ReaderTask(module, train, validation, config.loop.batch_size)
    run(task, config.loop, device=torch.device("cpu"))
    return module


@torch.inference_mode()
def reader_scores(module: NewsReader, history: Ints, items: Ints) -> NDArray[np.float32]:
    """Score items by place: (n, m) float32, without the places' own part."""
    scores: NDArray[np.float32] = module(torch.as_tensor(history), torch.as_tensor(items)).numpy()
    return scores
