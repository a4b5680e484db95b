"""Writes the curves of a training to TensorBoard's log, a run of Weights & Biases, or nowhere."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streams.errors import SlatestreamError

if TYPE_CHECKING:
    from model_core.training.checkpoint import Epoch
    from model_core.training.fit import Watch

PROJECT = "slatestream"


@contextmanager
def curves(tensorboard: Path | None, wandb: Path | None, settings: Mapping[str, Any]) -> Iterator["Watch"]:
    """Keep what each epoch comes to in the folders that are given.

    Parameters
    ----------
    tensorboard
        What `tensorboard --logdir FOLDER` shows.
    wandb
        Gets an offline run, which `wandb sync` uploads; nothing leaves this machine before.
    settings
        What the run of Weights & Biases says that it was made with.

    Raises
    ------
    SlatestreamError
        If a folder cannot be made, or Weights & Biases is asked for and not installed.
    """
    for option, folder in (("--tensorboard", tensorboard), ("--wandb", wandb)):
        try:
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SlatestreamError(f"{option} {folder} must be a folder: {error.strerror}") from None
    with ExitStack() as stack:
        watches = []
        if tensorboard is not None:
            watches.append(stack.enter_context(_tensorboard(tensorboard)))
        if wandb is not None:
            watches.append(stack.enter_context(_wandb(wandb, settings)))

        def watch(number: int, epoch: "Epoch") -> None:
            for one in watches:
                one(number, epoch)

        yield watch


def _values(epoch: "Epoch") -> dict[str, float]:
    return {"loss/training": epoch.loss, "loss/later": epoch.validation}


@contextmanager
def _tensorboard(folder: Path) -> Iterator["Watch"]:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as writer:

        def watch(number: int, epoch: "Epoch") -> None:
            for name, value in _values(epoch).items():
                writer.add_scalar(name, value, number)

        yield watch


@contextmanager
def _wandb(folder: Path, settings: Mapping[str, Any]) -> Iterator["Watch"]:
    try:
        import wandb
    except ImportError:
        raise SlatestreamError(
            "--wandb needs the package wandb; install it with: pip install 'slatestream[wandb]'"
        ) from None
    with wandb.init(
        mode="offline",
        project=PROJECT,
        dir=folder,
        config=dict(settings),
        settings=wandb.Settings(silent=True, console="off"),
    ) as run:
        yield lambda number, epoch: run.log(_values(epoch), step=number)
