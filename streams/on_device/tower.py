"""A release as a device runs it: the networks, EASE, and the signals that are told of each item.

Scores are a worker's but for what a user states and the entities of what the user likes, which a device does
not know, and for co-visits with items that are not among those told. See `model_core.release.scorer` and, for
the sum of the parts of a score, `model_core.release.retrieval_kernels`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from streams.on_device import files

Floats = NDArray[np.float32]

COVISITS, POPULARITY, EASE = range(3)
"""Places of the signals."""
POSITIVE = 1.0  # weight from which on an action counts as a response
USER_OUTPUTS = ("user", "match", "weights", "scales", "newcomer", "gains")


@dataclass(frozen=True, slots=True)
class History:
    """What a user did, n events, the oldest first.

    items : ids; actions : names; times_ms : (n,) int64, Unix ms
    """

    items: list[str]
    actions: list[str]
    times_ms: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Items:
    """C items to rank, as a worker tells them.

    vectors : (C, dim) float32; popularity : (C,) float32
    met_with : of each, what other items add to its signal of co-visits, by id
    """

    ids: list[str]
    vectors: Floats
    popularity: Floats
    met_with: list[dict[str, float]]


class Tower:
    """A release in a folder of a device; see `streams.on_device.files`.

    Attributes
    ----------
    version : of the release
    dim : width of item vectors
    depth : events of a history that are read
    """

    def __init__(self, folder: Path) -> None:
        manifest = files.check_files(folder)
        self.version = str(manifest["version"])
        self.dim = int(manifest["dims"]["dim"])
        self._signals = manifest["signals"]
        self.depth = int(self._signals["depth"])
        self._length = int(manifest["dims"]["history_length"])
        self._n_affinities = int(manifest["dims"]["n_affinities"])
        self._codes = {name: code for code, name in enumerate(manifest["actions"], 1)}
        self._positive = {name for name, weight in manifest["actions"].items() if weight >= POSITIVE}
        vocabulary = json.loads((folder / files.VOCABULARY).read_text(encoding="utf-8"))
        self._rows: dict[str, int] = vocabulary["item_rows"]  # from 1 on
        with np.load(folder / files.EASE, allow_pickle=False) as ease:
            self._bounds, self._items, self._weights = ease["bounds"], ease["items"], ease["weights"]
        self._history, self._user, self._ranker = (
            _session(folder / name) for name in (files.HISTORY, files.USER, files.RANKER)
        )

    def score(self, history: History, known: Mapping[str, Floats], items: Items, *, now_ms: int) -> Floats:
        """Return how probable a response to each item is: (C,) float32.

        Parameters
        ----------
        known : (dim,) float32 vectors by item; the networks read only those events whose item is among them
        """
        c = len(items.ids)
        if items.vectors.shape != (c, self.dim):
            raise ValueError(f"vectors must have shape {(c, self.dim)}, got {items.vectors.shape}")
        if not c:
            return np.zeros(0, np.float32)
        states, shut, user = self._read(history, known, now_ms)
        signals = np.zeros((c, 3), np.float32)
        signals[:, COVISITS] = self._met_together(history, items.met_with)
        signals[:, POPULARITY] = items.popularity
        signals[:, EASE] = self._eased(history, items.ids)
        parts = user["weights"][0] * np.log(user["scales"][0] + signals)
        matched, met = items.vectors @ user["match"][0], items.popularity > 0
        gains = user["gains"][0]
        retrieved = np.where(met, gains[0] * matched, matched + user["newcomer"][0]) + parts.sum(1)
        (probability,) = self._ranker.run(
            ("probability",),
            {
                "user": user["user"],
                "states": states,
                "shut": shut,
                "vectors": items.vectors[None],
                "retrieved": retrieved[None].astype(np.float32),
                "head_gain": (gains[1] * met)[None].astype(np.float32),
                "signals": signals[None],
            },
        )
        scores: Floats = probability[0]
        return scores

    def _read(
        self, history: History, known: Mapping[str, Floats], now_ms: int
    ) -> tuple[Floats, Floats, dict[str, Floats]]:
        """Return the states of a history, 0 for each, and what the user asks of an item."""
        at = [place for place, item in enumerate(history.items) if item in known][-self._length :]
        n = len(at)
        tokens = np.zeros((1, max(n, 1), self.dim), np.float32)
        actions, gap_s = np.zeros((1, max(n, 1)), np.int64), np.zeros((1, max(n, 1)), np.float32)
        idle_s = np.zeros(1, np.float32)
        if n:
            tokens[0] = [known[history.items[place]] for place in at]
            actions[0] = [self._codes.get(history.actions[place], 0) for place in at]
            ages = np.maximum(now_ms - history.times_ms[at], 0) / 1000.0
            gap_s[0, 1:] = np.maximum(ages[:-1] - ages[1:], 0)
            idle_s[0] = ages[-1]
        (states,) = self._history.run(("states",), {"tokens": tokens, "actions": actions, "gap_s": gap_s})
        states = np.ascontiguousarray(states[:, : n + 1])
        asked = {
            "last": states[:, -1],
            "idle_s": idle_s,
            "told": np.array([n > 0], np.float32),
            "user_entities": np.zeros((1, self._n_affinities), np.int64),
            "user_entity_weights": np.zeros((1, self._n_affinities), np.float32),
        }
        user = dict(zip(USER_OUTPUTS, self._user.run(USER_OUTPUTS, asked), strict=True))
        return states, np.zeros((1, n + 1), np.float32), user

    def _met_together(self, history: History, met_with: list[dict[str, float]]) -> list[float]:
        """Signal of co-visits with the user's last events, see `SignalConfig`: (C,)."""
        said = self._signals
        pairs = zip(history.items[::-1], history.actions[::-1], strict=True)
        weights: dict[str, float] = {}
        for r, (item, action) in zip(range(said["read_window"]), pairs, strict=False):
            weight = 1.0 if action in self._positive else said["read_other"]
            weights[item] = weights.get(item, 0.0) + weight * said["read_decay"] ** r
        return [sum(weight * one.get(item, 0.0) for item, weight in weights.items()) for one in met_with]

    def _eased(self, history: History, ids: list[str]) -> NDArray[np.float64]:
        """EASE's score of some items from all that the user liked, 0 of those that it does not know: (C,)."""
        pairs = zip(history.items, history.actions, strict=True)
        liked = {self._rows.get(item, 0) - 1 for item, action in pairs if action in self._positive}
        total = np.zeros(len(self._bounds))  # one more than there are items: it stays 0
        for row in liked - {-1}:
            own = slice(self._bounds[row], self._bounds[row + 1])
            total[self._items[own]] += self._weights[own]
        return np.maximum(total, 0.0)[[self._rows.get(item, 0) - 1 for item in ids]]


def _session(path: Path) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own types differ between its builds
        raise files.DeviceError(f"{path.name} must be an ONNX graph that can be loaded: {error}") from error
