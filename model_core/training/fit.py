"""The training loop."""

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model_core.network.config import TrainConfig
from model_core.network.model import Model
from model_core.signals.sample_signals import Log
from model_core.training.checkpoint import Checkpoint, Epoch, random_state, set_random_state
from model_core.training.objective import Objective
from model_core.training.samples import SHARED, Samples, Windows
from model_core.training.schedule import pace
from model_core.training.together import ALONE, Together

MIN_REPLAYED = 256
"""Stretches of before that are drawn at least: a pass over a handful would forget all others."""

Report = Callable[[str, float], None]
"""Told the stage's name and how much of it is done, from 0 to 1."""

Watch = Callable[[int, Epoch], None]
"""Told each epoch's number, from 1, and what it came to; may raise to end the training."""


class Trainer:
    """Fits a model to samples, by `Objective`; in several processes together, each takes a part of a step."""

    def __init__(
        self,
        model: Model,
        log: Log,
        windows: Windows,
        samples: Samples,
        train: TrainConfig,
        together: Together = ALONE,
    ) -> None:
        self.model = model
        self._together = together
        self.windows = windows
        self.train = train
        self._most = train.batch_windows
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
        self._objective = Objective(model, log, windows, samples, train, self._rng)

    def fit(
        self,
        epochs: int,
        *,
        before: int,
        since: int = 0,
        report: Report,
        peak: float = 1.0,
        checkpoint: Checkpoint | None = None,
        watch: Watch = lambda number, epoch: None,
    ) -> list[Epoch]:
        """Run epochs over the targets that lie before row `before` of the log; return what each came to.

        With `since`, over stretches that hold a target from that row on, and a draw of as many others.

        The learning rate rises to `peak` times the configured one over the first tenth and falls to zero.
        The weights are in the end those of the epoch with the lowest loss on the rows from `before` on;
        training ends early when that has not fallen for `train.patience` epochs. With a checkpoint, it goes
        on where a former one was killed.
        """
        latest = np.maximum(self.windows.targets, self.windows.wanted)
        targets = np.where(latest < before, self.windows.targets, -1)
        usable = self._draw(targets, since)
        if not len(usable):
            raise ValueError(f"interactions must hold at least one target, got none before row {before}")
        total = epochs * len(self._batches(usable, None))
        history: list[Epoch] = []
        best = self._state()
        together = self._together
        saved = together.told(lambda: None if checkpoint is None else checkpoint.load())
        if saved is not None and saved["model"].keys() == best.keys():  # else another version wrote it
            history = [Epoch(*epoch) for epoch in saved["history"]]
            best = saved["best"]
            self.model.load_state_dict(saved["model"])
            self._optimizer.load_state_dict(saved["optimizer"])
            set_random_state(self._rng, saved["random"])
        while len(history) < epochs and not self._stale(history):
            step = len(history) * (total // epochs)
            losses = []
            self.model.train()
            for batch in together.told(lambda: self._drawn_batches(usable)):
                rate = self.train.learning_rate * peak * pace(step / total)
                for group in self._optimizer.param_groups:
                    group["lr"] = rate * group["pace"]
                losses += self._step(batch.numpy()[together.rank :: together.size], targets)
                step += 1
                report("train", step / total)
            together.match(self.model)
            loss, steps = together.add_up(float(np.sum(losses)), len(losses))
            mean = loss / steps
            if not math.isfinite(mean):
                raise ValueError(f"the training loss must be finite, got {mean}; lower the learning rate")
            self.model.eval()
            history.append(Epoch(mean, self.validate(before)))
            if history[-1].validation <= min(epoch.validation for epoch in history):
                best = self._state()
            if checkpoint is not None and together.leads:
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

    def _step(self, rows: NDArray[np.int64], targets: NDArray[np.int64]) -> list[float]:
        """Take a step by what some windows, this process's, and those of the others say; return the loss."""
        self._optimizer.zero_grad(set_to_none=True)
        losses, weight = [], 0.0
        if len(rows):
            loss, retrieval = self._objective(rows, targets[rows])
            loss.backward()  # type: ignore[no-untyped-call]
            losses, weight = [float(retrieval.detach())], self._objective.weight(rows, targets[rows])
        self._together.average(self.model.parameters(), weight)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self._optimizer.step()
        return losses

    def _draw(self, targets: NDArray[np.int64], since: int) -> NDArray[np.int64]:
        """Return the stretches with targets from row `since` on, and a draw of as many others.

        The others are a replay buffer drawn from the whole log: what was learned of them is not forgotten.
        """
        usable = np.flatnonzero((targets >= 0).any(1))
        fresh = (targets[usable] >= since).any(1)
        n = min(int((~fresh).sum()), max(int(fresh.sum()), MIN_REPLAYED))
        replayed = np.random.default_rng(self.train.seed).choice(usable[~fresh], n, replace=False)
        drawn: NDArray[np.int64] = np.sort(np.concatenate([usable[fresh], replayed]))
        return drawn

    def validate(self, since: int) -> float:
        """Mean retrieval loss of the next items from row `since` of the log on; 0 without any."""
        total, count = 0.0, 0.0
        with torch.inference_mode():
            vectors = self.model.vectors()
            for rows, targets in self._together.part(self._held_out(since)):
                n = int((targets >= 0).sum())
                loss = self._objective(rows, targets, ranking=False, vectors=vectors)[1]
                total += n * float(loss)
                count += n
        total, count = self._together.add_up(total, count)
        return total / max(count, 1)

    def compare(self, since: int, vectors: Tensor, read: Tensor) -> Tensor:
        """`Objective.compare` for the next items from row `since` of the log on: (n, 1 + m)."""
        found = [self._objective.compare(*asked, vectors, read) for asked in self._held_out(since)]
        return torch.cat(found) if found else vectors.new_zeros(0, 1)

    def _batches(
        self, windows: NDArray[np.int64], rng: np.random.Generator | None
    ) -> list[NDArray[np.int64]]:
        """Cut some windows into those of each step, in an order drawn by `rng`; None = as they are.

        In a large catalogue those that share their columns come together, with others of about their length.
        """
        if not self._objective.large:
            order = windows if rng is None else rng.permutation(windows)
            return [order[at : at + self._most] for at in range(0, len(order), self._most)]
        group = windows // SHARED
        firsts = np.flatnonzero(np.diff(group, prepend=-1))
        size = 1 + self.windows.lengths[windows]
        batches, begin, cells = [], 0, self._most * self.windows.targets.shape[1]
        for first, end in zip(firsts, [*firsts[1:], len(windows)], strict=True):
            if first > begin and (end - begin) * size[begin:end].max() > cells:
                batches.append(windows[begin:first])
                begin = int(first)
        batches.append(windows[begin:])
        return batches if rng is None else [batches[at] for at in rng.permutation(len(batches))]

    def _drawn_batches(self, windows: NDArray[np.int64]) -> list[Tensor]:
        return [torch.from_numpy(rows) for rows in self._batches(windows, self._rng)]

    def _held_out(self, since: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Batches of windows, and their targets from row `since` of the log on."""
        own = self.windows.targets == self.windows.wanted
        targets = np.where(own & (self.windows.targets >= since), self.windows.targets, -1)
        usable = np.flatnonzero((targets >= 0).any(1))
        for rows in self._batches(usable, None) if len(usable) else []:
            yield rows, targets[rows]

    def _state(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self.model.state_dict().items()}

    def _stale(self, history: list[Epoch]) -> bool:
        losses = [epoch.validation for epoch in history]
        return bool(losses) and len(losses) - 1 - int(np.argmin(losses)) >= self.train.patience
