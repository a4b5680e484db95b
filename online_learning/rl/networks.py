"""The networks that learners train, and the scorer that they become."""

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from online_learning.policies.rl_policy import Scorer
from online_learning.rl.steps import Steps

NOW, LATER = 0, 1
"""Outputs of what estimates values: reward of the slate itself, and discounted reward of those after it.

They have errors of very different size, and learning them apart keeps the noise of the second out of the
first (van Seijen et al., "Hybrid reward architecture for reinforcement learning", NeurIPS 2017)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnerConfig:
    """Settings that all learners share.

    Attributes
    ----------
    discount : of the reward of the next slate, in [0, 1]
    hidden : outputs of each hidden layer
    learning_rate : of Adam
    batch_size, passes : slates of a gradient step, and passes over what `learn` is given
    largest_gradient : norm to which a gradient is cut
    seed : of weights and batches
    device : "auto", "cpu" or "cuda"
    """

    discount: float = 0.9
    hidden: tuple[int, ...] = (32, 32)
    learning_rate: float = 3e-3
    batch_size: int = 512
    passes: int = 2
    largest_gradient: float = 1.0
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        if not 0.0 <= self.discount <= 1.0:
            raise ValueError(f"discount must be in [0, 1], got {self.discount}")
        for name in ("batch_size", "passes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("learning_rate", "largest_gradient"):
            if not 0.0 < getattr(self, name) < np.inf:
                raise ValueError(f"{name} must be finite and above 0, got {getattr(self, name)}")
        if self.device not in ("auto", "cpu", "cuda"):
            raise ValueError(f"device must be 'auto', 'cpu' or 'cuda', got {self.device!r}")

    def torch_device(self) -> torch.device:
        """Return the device, CUDA where there is one and nothing else is asked for."""
        name = self.device
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        return torch.device(name)


class Network(nn.Module):
    """Each row of features by itself, through tanh layers."""

    def __init__(self, dim: int, hidden: tuple[int, ...], *, outputs: int) -> None:
        super().__init__()
        widths = (dim, *hidden)
        layers: list[nn.Module] = []
        for inputs, width in zip(widths, hidden, strict=False):
            layers += [nn.Linear(inputs, width), nn.Tanh()]
        last = nn.Linear(widths[-1], outputs)
        nn.init.zeros_(last.weight)  # nothing is preferred before anything is learned
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(*layers, last)
        self.mean: Tensor
        self.scale: Tensor
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))

    def forward(self, features: Tensor) -> Tensor:
        """Return (..., outputs) from (..., F)."""
        values: Tensor = self.layers((features - self.mean) / self.scale)
        return values

    def normalise(self, features: NDArray[np.float32]) -> None:
        """Take mean and deviation from (n, F) features; one that is constant enters as it is."""
        mean, scale = features.mean(axis=0), features.std(axis=0)
        constant = scale < 1e-6
        self.mean.copy_(torch.from_numpy(np.where(constant, 0.0, mean).astype(np.float32)))
        self.scale.copy_(torch.from_numpy(np.where(constant, 1.0, scale).astype(np.float32)))

    def scorer(self) -> Scorer:
        """Return what is served, on its own memory."""
        linear = [layer for layer in self.layers if isinstance(layer, nn.Linear)]
        return Scorer(
            _numpy(self.mean),
            _numpy(self.scale),
            tuple((_numpy(layer.weight.T), _numpy(layer.bias)) for layer in linear),
        )


@dataclass(frozen=True, slots=True)
class Batch:
    """Slates as tensors on the learner's device; shapes as in `Steps`, index 0 where a slate has ended.

    `weights` are (b,) or (b, K) columns of the learner's own, by name.
    """

    features: Tensor
    valid: Tensor
    index: Tensor
    shown: Tensor
    rewards: Tensor
    propensities: Tensor
    complete: bool
    columns: dict[str, Tensor] = field(default_factory=dict)

    def of_shown(self, values: Tensor) -> Tensor:
        """Return (b, K) of (b, C): the values of what was shown."""
        return torch.gather(values, 1, self.index)

    def state(self) -> Tensor:
        """Return (b, F): the mean features of the candidates, all that a critic sees."""
        weights = self.valid.float().unsqueeze(-1)
        return (self.features * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1.0)


def to_batch(
    steps: Steps, rows: NDArray[np.int64], device: torch.device, **columns: NDArray[np.float64]
) -> Batch:
    """Return some slates as tensors, and the same rows of further columns."""
    index = steps.index[rows]
    return Batch(
        torch.from_numpy(steps.features[rows]).to(device),
        torch.from_numpy(steps.valid[rows]).to(device),
        torch.from_numpy(np.maximum(index, 0)).to(device),
        torch.from_numpy(index >= 0).to(device),
        torch.from_numpy(np.where(index >= 0, steps.rewards[rows], 0.0).astype(np.float32)).to(device),
        torch.from_numpy(steps.propensities[rows].astype(np.float32)).to(device),
        steps.complete,
        {
            name: torch.from_numpy(column[rows].astype(np.float32)).to(device)
            for name, column in columns.items()
        },
    )


def _numpy(tensor: Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(tensor.detach().cpu().numpy(), np.float32).copy()
