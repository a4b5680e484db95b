"""Shows the result of a training: a table of models, and whether any simple one is better."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from model_core.training.train import Trained

MODELS = ("popularity", "recent popularity", "item-kNN", "co-visits", "EASE", "slatestream")


def show(trained: "Trained", out: Path, console: Console) -> None:
    """Print what was held out, how the release and simple models did on it, and how long it took."""
    release = trained.release
    if "privacy" in release.training:
        _show_private(trained, out, console)
        return
    metrics: Mapping[str, Any] = release.metrics
    users = int(metrics["slatestream"]["users"])
    table = Table(title=f"Held out: {users} users, all items ranked, items already met left out")
    table.add_column("model")
    table.add_column("Recall@10", justify="right")
    table.add_column("NDCG@10", justify="right")
    for name in MODELS:
        row = metrics[name]
        style = "bold" if name == "slatestream" else ""
        table.add_row(name, f"{row['recall@10']:.4f}", f"{row['ndcg@10']:.4f}", style=style)
    console.print(table)
    if release.training.get("order_ranks_better"):
        console.print(
            "Co-visits that count which item came first would rank these events better. To count them so, "
            "set covisits_in_order for training, and for workers before their first event.",
            style="bold yellow",
        )
    for line in beaten_by(metrics):
        console.print(line, style="bold yellow")
    spent = ", ".join(f"{stage} {seconds:.0f} s" for stage, seconds in trained.seconds.items())
    console.print(f"Release {release.version} in {out} ({spent}), pictures beside it.")


def _show_private(trained: "Trained", out: Path, console: Console) -> None:
    """Say what is promised, and of what nothing is."""
    promise = trained.release.training["privacy"]
    console.print(
        f"Release {trained.release.version} in {out}: ({promise['epsilon']:g}, {promise['delta']:g})-"
        f"differential privacy of {promise['unit']}. It holds EASE of noisy counts; its networks learned "
        "nothing, and it has no metrics."
    )
    console.print("Not covered:")
    for line in promise["not_covered"]:
        console.print(f"  - {line}")


def surely_better(metrics: Mapping[str, Any]) -> list[str]:
    """Name the simple models that rank better than the release on what was held out, and not by chance."""
    ours = metrics["slatestream"]["ndcg@10"]
    ahead = (name for name in MODELS if metrics[name]["ndcg@10"] > ours)
    return [name for name in ahead if metrics[name].get("lead_high", 0.0) < 0]


def beaten_by(metrics: Mapping[str, Any]) -> list[str]:
    """Say which simple models rank better than the release on what was held out, and what to do.

    Parameters
    ----------
    metrics : of `model_core.evaluation.evaluate.Comparison`
    """
    ours = metrics["slatestream"]
    ahead = [name for name in MODELS if metrics[name]["ndcg@10"] > ours["ndcg@10"]]
    better = surely_better(metrics)
    open_ = [name for name in ahead if name not in better]
    held_out = f"by NDCG@10 of the {int(ours['users'])} users held out"
    lines = []
    if better:
        lines.append(
            f"This release ranks worse than {' and '.join(better)}, {held_out}, and not by chance. Do "
            "not serve it: train on more events, or serve without one, which takes co-visits and popularity."
        )
    if open_:
        lines.append(f"{' and '.join(open_)} may rank as well as this release: {held_out} it may be chance.")
    return lines
