"""The training loop of language models: schedule, accumulation, mixed precision, resuming, early stopping."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from model_core.training.checkpoint import Checkpoint

Report = Callable[[str, float], None]
"""Told the stage's name and how much of it is done, from 0 to 1."""
Curves = Callable[[str, float, int], None]
"""Told a curve's name, its value and the step or epoch, counted from 1."""
Row = dict[str, float]
"""What an epoch came to, by name."""


def silent(*_: object) -> None:
    """Ignore a report or a curve's point."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopConfig:
    """Settings of a language model's training loop: epochs, batches and learning rate."""

    epochs: int = 3
    patience: int = 2
    """Epochs without a better validation after which training ends."""
    seed: int = 0
    batch_size: int = 16
    accumulate: int = 1
    """Batches whose gradients are summed into one step."""
    learning_rate: float = 2e-5
    weight_decay: float = 0.01
    """AdamW's, on matrices only: norms and biases keep their scale."""
    warm_up: float = 0.1
    """Share of the steps in which the learning rate rises to its peak."""
    schedule: Literal["cosine", "linear"] = "linear"
    """How it then falls to zero."""
    clip: float = 1.0
    """Largest norm of the gradient of a step."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Of the arithmetic on a GPU; on a CPU it is always fp32. "auto" takes bf16 where the GPU has it."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulate"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("learning_rate", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if not 0.0 <= self.warm_up < 1.0:
            raise ValueError(f"warm_up must be in [0, 1), got {self.warm_up}")


class Task(Protocol):
    """The model and the data of a training loop.

    `criterion` names the value of `validate` that says which epoch is best; `larger_is_better` which way.
    """

    criterion: str
    larger_is_better: bool

    @property
    def module(self) -> nn.Module:
        """All that is trained, and the encoder it may be part of."""

    def batches(self, rng: np.random.Generator) -> Sequence[Any]:
        """One epoch's batches."""

    def loss(self, batch: Any, rng: np.random.Generator) -> Tensor:
        """Mean loss of a batch, a scalar."""

    def validate(self) -> Row:
        """Values on what is held out."""


def run(
    task: Task,
    config: LoopConfig,
    *,
    device: torch.device,
    checkpoint: Checkpoint | None = None,
    report: Report = silent,
    curves: Curves = silent,
) -> list[Row]:
    """Train; leave the best epoch's weights in `task.module`, and return what each epoch came to.

    Every epoch draws from generators seeded by (seed, epoch), so a run that goes on from its checkpoint ends
    with the weights of one that was never interrupted (on a CPU bit for bit).

    Raises
    ------
    ValueError
        If the loss is not finite, nothing can be trained, or the checkpoint cannot be read.
    """
    steps = _Steps(task, config, device)
    history: list[Row] = []
    best = steps.weights()
    if checkpoint is not None and (saved := checkpoint.load()) is not None:
        history, best = saved["history"], saved["best"]
        steps.restore(saved)
    while len(history) < config.epochs and not _stale(task, config, history):
        epoch = len(history)
        row = {"loss": steps.epoch(epoch, report, curves)}
        task.module.eval()
        with torch.inference_mode(), steps.autocast():
            row |= {f"validation_{name}": value for name, value in task.validate().items()}
        history.append(row)
        for name, value in row.items():
            curves(f"epoch/{name}", value, epoch + 1)
        if _best(task, history) == epoch:
            best = steps.weights()
        if checkpoint is not None:
            checkpoint.save({"history": history, "best": best, **steps.state()})
    steps.set_weights(best)
    task.module.eval()
    return history


def best_epoch(history: Sequence[Row], criterion: str, *, larger_is_better: bool) -> int:
    """Row of the best epoch; the earliest of equals."""
    values = [row[f"validation_{criterion}"] for row in history]
    return int(np.argmax(values) if larger_is_better else np.argmin(values))


def decay_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Trainable parameters in two groups: matrices with weight decay, norms and biases without."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if not trained:
        raise ValueError("the model must have weights to train, got none")
    return [
        {"params": [p for p in trained if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
    ]


def rate(done: float, config: LoopConfig) -> float:
    """Factor of the learning rate when this share of the steps is done."""
    if done < config.warm_up:
        return done / config.warm_up
    left = min(1.0, (1.0 - done) / (1.0 - config.warm_up))
    return left if config.schedule == "linear" else 0.5 * (1.0 - math.cos(math.pi * left))


def find_device(name: str) -> torch.device:
    """Turn "auto", "cpu" or "cuda" into a device; "auto" takes CUDA when present.

    Raises
    ------
    ValueError
        If the name is another, or CUDA is asked for and absent.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device must be 'auto', 'cpu' or 'cuda', got {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device 'cuda' needs a CUDA GPU, none is visible; leave it at 'auto'")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


class _Steps:
    """Optimiser, schedule and arithmetic of one training."""

    def __init__(self, task: Task, config: LoopConfig, device: torch.device) -> None:
        self._task, self._config, self._device = task, config, device
        task.module.to(device)
        self._optimizer = torch.optim.AdamW(
            decay_groups(task.module, config.weight_decay), lr=config.learning_rate
        )
        self._dtype = _dtype(config, device)
        self._scaler = torch.amp.GradScaler(device.type, enabled=self._dtype == torch.float16)

    def autocast(self) -> torch.autocast:
        return torch.autocast(
            self._device.type, dtype=self._dtype or torch.bfloat16, enabled=self._dtype is not None
        )

    def epoch(self, epoch: int, report: Report, curves: Curves) -> float:
        """Run one epoch; return its mean loss."""
        config = self._config
        rng = np.random.default_rng([config.seed, epoch])
        with torch.random.fork_rng():
            torch.manual_seed(int(rng.integers(2**62)))
            self._task.module.train()
            batches = self._task.batches(rng)
            groups = [
                batches[at : at + config.accumulate] for at in range(0, len(batches), config.accumulate)
            ]
            losses: list[float] = []
            for number, group in enumerate(groups):
                done = (epoch + (number + 1) / len(groups)) / config.epochs
                # The step that is taken belongs to the share done before it, but must not be of rate zero.
                factor = rate(done - 0.5 / (len(groups) * config.epochs), config)
                losses += self._step(group, config.learning_rate * factor, rng)
                step = epoch * len(groups) + number + 1
                curves("step/loss", losses[-1], step)
                curves("step/learning_rate", config.learning_rate * factor, step)
                report("train", done)
        return float(np.mean(losses))

    def _step(self, group: Sequence[Any], learning_rate: float, rng: np.random.Generator) -> list[float]:
        for parameters in self._optimizer.param_groups:
            parameters["lr"] = learning_rate
        self._optimizer.zero_grad(set_to_none=True)
        losses = []
        for batch in group:
            with self.autocast():
                loss = self._task.loss(batch, rng)
            losses.append(float(loss.detach()))
            if not math.isfinite(losses[-1]):
                raise ValueError(
                    f"the training loss must be finite, got {losses[-1]}; lower the learning rate"
                )
            self._scaler.scale(loss / len(group)).backward()  # type: ignore[no-untyped-call]
        self._scaler.unscale_(self._optimizer)
        nn.utils.clip_grad_norm_(self._task.module.parameters(), self._config.clip)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        return losses

    def weights(self) -> dict[str, Tensor]:
        """Copy what is trained; what is frozen comes with the encoder."""
        return {name: value.detach().clone() for name, value in self._trained()}

    def set_weights(self, weights: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, value in self._trained():
                value.copy_(weights[name])

    def state(self) -> dict[str, Any]:
        return {
            "weights": self.weights(),
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
        }

    def restore(self, saved: dict[str, Any]) -> None:
        self.set_weights(saved["weights"])
        self._optimizer.load_state_dict(saved["optimizer"])
        self._scaler.load_state_dict(saved["scaler"])

    def _trained(self) -> list[tuple[str, nn.Parameter]]:
        return [(name, value) for name, value in self._task.module.named_parameters() if value.requires_grad]


def _dtype(config: LoopConfig, device: torch.device) -> torch.dtype | None:
    if device.type != "cuda" or config.precision == "fp32":
        return None
    if config.precision == "auto":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return torch.bfloat16 if config.precision == "bf16" else torch.float16


def _best(task: Task, history: Sequence[Row]) -> int:
    return best_epoch(history, task.criterion, larger_is_better=task.larger_is_better)


def _stale(task: Task, config: LoopConfig, history: Sequence[Row]) -> bool:
    return bool(history) and len(history) - 1 - _best(task, history) >= config.patience
