"""A training that begins where another ended, by the names of items, entities and relations."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from model_core.data.vocabulary import Vocabulary
from model_core.inputs.corpus import Corpus
from model_core.network.attention import Block
from model_core.network.model import Model
from model_core.release.folder import WEIGHTS, read_release
from model_core.signals.config import SignalConfig

TABLES = {"items": "item_rows", "entities": "entity_rows", "relations": "relation_rows"}
FITTED_LAST = ("encoder.met", "encoder.content.", "ranker.platt")
"""What each training fits anew, once its networks stand. Gains are, too, if there are events enough."""
LAYERS = "ranker.blocks."
BY_ACTION = ("ranker.action_own", "ranker.act.weight", "ranker.act.bias")
GIVEN = "ranker.action_positive"
"""As the actions' weights say."""
SHARED = "ranker.entities."
"""The item encoder's table once more."""


@dataclass(frozen=True, slots=True)
class Start:
    """Result of another training, to start from.

    version : of its release
    until_ms : time of the latest event that it learned from
    text_encoder : fingerprint of what encoded its texts, "" where nothing did
    actions : in the order of its rows
    signals : of its release
    """

    version: str
    weights: dict[str, Tensor]
    vocabulary: Vocabulary
    until_ms: int
    text_encoder: str = ""
    actions: tuple[str, ...] = ()
    signals: SignalConfig = SignalConfig()

    def since(self, corpus: Corpus) -> int:
        """Row of a log from which on its events are new: the first one where none of its items is known."""
        if self.vocabulary.item_rows.keys().isdisjoint(corpus.vocabulary.item_rows):
            return 0
        return int(np.searchsorted(corpus.log.times_ms, self.until_ms, side="right"))

    def check_new(self, corpus: Corpus) -> None:
        """See that there is anything to learn that is not known.

        Raises
        ------
        ValueError
            If all events are earlier than those of the other training, as where two domains share some ids.
        """
        if self.since(corpus) == len(corpus.log):
            raise ValueError(
                f"interactions must have events later than those of release {self.version}, or items that it "
                "knows none of; ids of another catalogue must not be among its ids"
            )

    def for_actions(self, actions: Iterable[str]) -> "Start":
        """Return a copy with rows of these actions, by their names; those of new ones are zero."""
        names = tuple(actions)
        if names == self.actions:
            return self
        then = {name: row for row, name in enumerate(self.actions)}
        weights = dict(self.weights)
        for tensor, before in self.weights.items():
            if tensor.endswith(BY_ACTION):
                zero = torch.zeros_like(before[0])
                weights[tensor] = torch.stack(
                    [before[then[name]] if name in then else zero for name in names]
                )
        return replace(self, weights=weights, actions=names)

    def check_texts(self, corpus: Corpus) -> None:
        """See that texts are encoded as they were.

        Raises
        ------
        ValueError
            If another encoder's vectors would be read as this one's.
        """
        name, fingerprint = corpus.text_encoder
        if self.text_encoder and fingerprint and fingerprint != self.text_encoder:
            raise ValueError(
                f"text_encoder must be the one of release {self.version} ({self.text_encoder[:12]}) for a "
                f"training that goes on from it, got {name!r} ({fingerprint[:12]})"
            )


def save_weights(folder: Path, models: Sequence[Model]) -> str:
    """Write the weights of models beside the release that is made of them; return their SHA-256.

    Names of the second model and later ones begin with their number, from 1.
    """
    state = {
        f"{number}.{name}" if number else name: value
        for number, model in enumerate(models)
        for name, value in model.state_dict().items()
        if not name.startswith(SHARED)
    }
    save_file({name: value.cpu().contiguous() for name, value in state.items()}, folder / WEIGHTS)
    return _sha256(folder / WEIGHTS)


def read_start(folder: Path) -> Start | None:
    """Read what a release's training came to; None where it does not say, or its layers are of another kind.

    Raises
    ------
    ValueError
        If the release is damaged, or the weights are not those of its training.
    """
    release = read_release(folder)
    wanted, until_ms = release.training.get("weights"), release.training.get("until_ms")
    if wanted is None or until_ms is None or not (folder / WEIGHTS).is_file():
        return None
    if (got := _sha256(folder / WEIGHTS)) != wanted:
        raise ValueError(f"{str(folder / WEIGHTS)!r} must have SHA-256 {wanted[:12]}…, got {got[:12]}…")
    try:
        weights = load_file(folder / WEIGHTS)
    except SafetensorError as error:
        raise ValueError(f"{str(folder / WEIGHTS)!r} must hold weights: {error}") from None
    # Another version's layers would leave these random between learned tables.
    layers = {name.split(".", 3)[3] for name in weights if name.startswith(LAYERS)}
    if layers - dict(Block(2, 1, 1, 0.0).named_parameters()).keys():
        return None
    names = Vocabulary(release.item_rows, release.entity_rows, release.relation_rows)
    return Start(
        release.version, weights, names, int(until_ms), release.text_encoder_fingerprint, release.actions,
        release.signals,
    )  # fmt: skip


def of_member(start: Start, number: int) -> Start:
    """Return what one of several models goes on from: the model of that number, else the first."""
    prefix = f"{number}."
    own = {name.removeprefix(prefix): of for name, of in start.weights.items() if name.startswith(prefix)}
    return replace(start, weights=own) if own else start


@torch.no_grad()
def take_over(model: Model, vocabulary: Vocabulary, start: Start) -> int:
    """Give a model the weights of another training; return how many of its tensors have them.

    A name's row goes to the row that it has now, and names that were unknown keep their random rows. What has
    another shape stays as it is.
    """
    state, taken = model.state_dict(), 0
    for name, value in state.items():
        before = start.weights.get(name)
        if before is None or name.startswith((*FITTED_LAST, GIVEN, SHARED)):
            continue
        part, _, kind = name.removeprefix("encoder.").partition(".")
        if name.startswith("encoder.") and kind == "weight" and part in TABLES:
            now, then = getattr(vocabulary, TABLES[part]), getattr(start.vocabulary, TABLES[part])
            known = [row for row in now if row in then]
            if before.shape[1:] == value.shape[1:] and known:
                value[[now[row] for row in known]] = before[[then[row] for row in known]].to(value)
                taken += 1
        elif before.shape == value.shape:
            value.copy_(before)
            taken += 1
    return taken


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
