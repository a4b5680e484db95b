"""Learning curves of language models: a picture, and TensorBoard's log."""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch.utils.tensorboard.writer import SummaryWriter

from model_core.language.loop import Row

GREY, GREEN = "#999999", "#1b7f4b"


def plot_epochs(path: Path, history: Sequence[Row], kept: int) -> None:
    """Draw losses by epoch, and beside them what else was measured on validation; the kept epoch is marked.

    Parameters
    ----------
    history
        One row an epoch: "loss", and "validation_<name>" values, among them "validation_loss".
    kept
        Row of the epoch whose weights stay.
    """
    names = [name for name in history[0] if name not in ("loss", "validation_loss")]
    figure = Figure(figsize=(9.6, 4.0), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    epochs = np.arange(1, len(history) + 1)
    left.plot(epochs, [row["loss"] for row in history], "o-", color=GREY, label="training")
    left.plot(epochs, [row["validation_loss"] for row in history], "o-", color=GREEN, label="validation")
    left.set(title="Loss (lower is better)", xlabel="epoch")
    for name, style in zip(names, ("o-", "s--", "^:"), strict=False):
        right.plot(epochs, [row[name] for row in history], style, color=GREEN, label=name.split("_", 1)[1])
    right.set(title="On validation (higher is better)", xlabel="epoch")
    for axes in (left, right):
        axes.axvline(kept + 1, color=GREEN, alpha=0.3, linewidth=6, label="kept")
        axes.set_xticks(epochs)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path)


class TensorBoard:
    """Writes curves where `tensorboard --logdir FOLDER` shows them; a context that closes its file."""

    def __init__(self, folder: Path) -> None:
        self._writer = SummaryWriter(str(folder))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    def __call__(self, name: str, value: float, step: int) -> None:
        """Add a point."""
        self._writer.add_scalar(name, value, step)
