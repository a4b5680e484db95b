"""Pictures of a training, for whoever would rather look than read. Needs no display."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from model_core.evaluation.topn import Estimate
from model_core.training.checkpoint import Epoch

BINS = 10
OURS = "slatestream"


def _figure(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6.4, 4.0), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.grid(alpha=0.3)
    return figure, axes


def plot_learning_curve(path: Path, history: Sequence[Epoch]) -> None:
    """Loss by epoch, in training and on later interactions; the best epoch, whose weights stay, is marked."""
    figure, axes = _figure("Learning curve", "epoch", "retrieval loss (lower is better)")
    epochs = np.arange(1, len(history) + 1)
    later = [epoch.validation for epoch in history]
    axes.plot(
        epochs,
        [epoch.loss for epoch in history],
        "o-",
        color="#999999",
        label="training, with dropout and long-run targets",
    )
    axes.plot(epochs, later, "o-", color="#1b7f4b", label="later interactions")
    best = int(np.argmin(later))
    axes.plot(epochs[best], later[best], "o", markersize=11, fillstyle="none", color="#1b7f4b", label="kept")
    axes.set_xticks(epochs)
    axes.legend()
    figure.savefig(path)


def plot_calibration(path: Path, probability: NDArray[np.float32], label: NDArray[np.bool_]) -> None:
    """Share of candidates that users responded to later, by tenths of the predicted probability.

    Parameters
    ----------
    probability : (n,) float32, label : (n,) bool, of held-out candidates
    """
    figure, axes = _figure("Calibration on held-out users", "predicted probability", "share responded to")
    edges = np.quantile(probability, np.linspace(0, 1, BINS + 1)) if len(probability) else np.zeros(2)
    tenth = np.clip(np.searchsorted(edges[1:-1], probability, side="right"), 0, BINS - 1)
    count = np.bincount(tenth, minlength=BINS)
    filled = count > 0
    mean = np.bincount(tenth, probability, BINS)[filled] / count[filled]
    share = np.bincount(tenth, label, BINS)[filled] / count[filled]
    error = 1.96 * np.sqrt(share * (1 - share) / count[filled])
    top = float(max(mean.max(initial=0), (share + error).max(initial=0), 1e-3)) * 1.05
    axes.plot([0, top], [0, top], "--", color="#999999", label="perfect")
    axes.errorbar(mean, share, yerr=error, fmt="o-", color="#1b7f4b", capsize=3, label="tenths, 95 %")
    axes.legend()
    figure.savefig(path)


def plot_recall_by_popularity(path: Path, recall: Mapping[str, Sequence[float]]) -> None:
    """Recall@10 of the relevant items in each bucket of popularity, by model; rare items on the left."""
    figure, axes = _figure("Recall@10 by popularity of the item", "a fifth of the likes each", "Recall@10")
    n = max((len(values) for values in recall.values()), default=0)
    width = 0.8 / max(len(recall), 1)
    for place, (name, values) in enumerate(recall.items()):
        at = np.arange(n) + (place - (len(recall) - 1) / 2) * width
        axes.bar(at, values, width, label=name, color="#1b7f4b" if name == OURS else None)
    axes.set_xticks(np.arange(n), ["rarest", *([""] * (n - 2)), "most popular"] if n > 1 else ["all"])
    axes.legend()
    figure.savefig(path)


def plot_slices(
    path: Path, labels: Sequence[str], recall: Mapping[str, Sequence[Estimate]], *, label: str, title: str
) -> None:
    """Bars with intervals: one group a slice, one bar a model."""
    figure, axes = _figure(title, label, "recall")
    width = 0.8 / max(len(recall), 1)
    for place, (name, values) in enumerate(recall.items()):
        at = np.arange(len(values)) + (place - (len(recall) - 1) / 2) * width
        mean = np.array([value.mean for value in values])
        # A single user leaves an interval open: no whisker then.
        below, above = (
            np.array([abs(value.mean - bound) if np.isfinite(bound) else 0.0 for value, bound in pairs])
            for pairs in (
                [(value, value.low) for value in values],
                [(value, value.high) for value in values],
            )
        )
        axes.bar(
            at, mean, width, yerr=(below, above), label=name, color="#1b7f4b" if name == OURS else None,
            error_kw={"elinewidth": 0.8, "capsize": 2},
        )  # fmt: skip
    axes.set_xticks(np.arange(len(labels)), labels)
    axes.tick_params(axis="x", labelsize=8)
    axes.legend(fontsize=8)
    figure.savefig(path)
