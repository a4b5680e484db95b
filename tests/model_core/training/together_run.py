"""`torchrun ... -m tests.model_core.training.together_run FOLDER` trains a tiny model, and a release.

Each process writes into the folder what each epoch came to, the trained weights, and the gradient of a step;
the first one also the release.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from model_core.inputs.corpus import Corpus
from model_core.inputs.replay import item_features
from model_core.network.config import ModelConfig, TrainConfig
from model_core.network.model import Model
from model_core.signals.config import SignalConfig
from model_core.training.checkpoint import Checkpoint, Epoch
from model_core.training.fit import Watch
from model_core.training.networks import fit_model, fit_widths
from model_core.training.objective import Objective
from model_core.training.samples import collect_samples, cut_windows
from model_core.training.together import Together, joined
from model_core.training.train import help_training, train_release
from tests.model_core import tiny

# Only when users ask is drawn at random, so a step comes to the same in any number of processes.
TRAIN = TrainConfig(
    epochs=2, threads=1, batch_windows=7, dropout=0.0, id_dropout=0.0, newcomers=0.0, new_users=0.0,
    modality_dropout=0.0, alignment=0.0, horizon=0.0, ranked=1.0,
)  # fmt: skip
SPLIT = 810


def gradient(data: Corpus, config: ModelConfig, together: Together) -> list[torch.Tensor]:
    """Return that of a step with nothing drawn at random, of which each process has a part."""
    log, rng = data.log.first(SPLIT), np.random.default_rng(0)
    windows = cut_windows(log, config, TRAIN, rng)
    samples = collect_samples(
        log, windows, data.edges, data.stated, item_features(data), config, SignalConfig()
    )
    torch.manual_seed(0)
    model = Model(data, config, TRAIN, tuple(tiny.WEIGHTS.values())).eval()
    objective = Objective(model, log, windows, samples, TRAIN, rng)
    rows = np.arange(5)[together.rank :: together.size]
    targets = windows.targets[rows]
    objective(rows, targets, ranking=False)[0].backward()
    together.average(model.parameters(), objective.weight(rows, targets))
    return [one.grad for one in model.parameters() if one.grad is not None]


class Killed(Exception):
    """What ends a training as a kill does."""


def kill_after(epochs: int) -> Watch:
    """End a training after some epochs; 0 = never."""

    def watch(number: int, epoch: Epoch) -> None:
        if number == epochs:
            raise Killed

    return watch


def main(out: Path, killed_after: int = 0) -> None:
    """Train, and write what came of it in this process."""
    data = tiny.corpus(tiny.dataset())
    config, weights = fit_widths(tiny.CONFIG, data), tuple(tiny.WEIGHTS.values())
    with joined("cpu") as together:
        step = gradient(data, config, together)
        # Only the first process sees the checkpoint, as where each runs on a machine of its own.
        folder = out / str(together.rank)
        folder.mkdir(parents=True, exist_ok=True)
        model, history = fit_model(
            data, SPLIT, weights, config, TRAIN, SignalConfig(), device="cpu", together=together,
            checkpoint=Checkpoint(folder / "checkpoint", "tiny"), watch=kill_after(killed_after),
        )  # fmt: skip
        torch.save(model.state_dict(), folder / "weights")
        torch.save(step, folder / "gradient")
        (folder / "history.json").write_text(json.dumps([asdict(epoch) for epoch in history]))
        make_release(data, out / "release", together)


def make_release(data: Corpus, out: Path, together: Together) -> None:
    """Train and write a release as `slatestream train` does."""
    given = {"until": 0.9, "config": tiny.CONFIG, "train": TRAIN, "device": "cpu"}
    if together.leads:
        train_release(data, tiny.WEIGHTS, out, together=together, **given)
    else:
        help_training(data, tiny.WEIGHTS, out, together, **given)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
