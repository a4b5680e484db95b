"""Training that survives a kill: what goes on after the last whole epoch, in one file."""

import hashlib
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from model_core.inputs.corpus import Corpus
from model_core.network.config import ModelConfig, TrainConfig
from model_core.signals.config import SignalConfig


@dataclass(frozen=True, slots=True)
class Epoch:
    """Result of an epoch: mean retrieval loss in training and on later interactions, lower is better."""

    loss: float
    validation: float


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A file for the state of a training of one kind; `fingerprint` says which.

    It is read as tensors and plain values only, so a foreign file can do no more than be refused.
    """

    path: Path
    fingerprint: str

    def save(self, state: dict[str, Any]) -> None:
        """Write a state; a kill meanwhile leaves the former one."""
        partial = self.path.with_name(self.path.name + ".partial")
        torch.save({"fingerprint": self.fingerprint, **state}, partial)
        os.replace(partial, self.path)

    def load(self) -> dict[str, Any] | None:
        """Return the state, None without a file or with one of another training."""
        if not self.path.is_file():
            return None
        try:
            state: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch's own types differ by what is wrong with the file
            raise ValueError(f"checkpoint {str(self.path)!r} cannot be read, delete it: {error}") from error
        return state if state.get("fingerprint") == self.fingerprint else None

    def of_member(self, number: int) -> "Checkpoint":
        """Return that of one of several networks that are trained one after the other."""
        path = self.path.with_name(f"{self.path.name}.{number}") if number else self.path
        return replace(self, path=path)

    def delete(self) -> None:
        """Remove the file: the training is complete."""
        self.path.unlink(missing_ok=True)


def fingerprint(
    corpus: Corpus,
    split: int,
    config: ModelConfig,
    train: TrainConfig,
    signals: SignalConfig,
    *,
    start: str = "",
) -> str:
    """Hash of everything that a training depends on; `start` is the version that it goes on from."""
    digest = hashlib.sha256(repr((split, asdict(config), asdict(train), asdict(signals), start)).encode())
    log = corpus.log
    for array in (
        np.zeros(0) if log.positions is None else log.positions,
        log.users,
        log.items,
        log.actions,
        log.times_ms,
        corpus.text,
        corpus.edges.entities,
        corpus.stated,
    ):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def random_state(rng: np.random.Generator) -> dict[str, Any]:
    """State of numpy's and torch's generators as plain values."""
    numpy_state = rng.bit_generator.state
    return {
        "numpy": {key: _plain(value) for key, value in numpy_state.items()},
        "torch": torch.get_rng_state(),
    }


def set_random_state(rng: np.random.Generator, state: dict[str, Any]) -> None:
    """Go on drawing where `random_state` was taken."""
    rng.bit_generator.state = {key: _parsed(value) for key, value in state["numpy"].items()}
    torch.set_rng_state(state["torch"])


def _plain(value: Any) -> Any:
    """Integers of more than 64 bits as text."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return str(value) if isinstance(value, int) else value


def _parsed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _parsed(inner) for key, inner in value.items()}
    return int(value) if isinstance(value, str) and value.isdigit() else value
