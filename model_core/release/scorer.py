"""Runs a release: items to vectors, requests to ranked candidates, by ONNX Runtime on CUDA or CPU."""

import copy
import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from model_core.data.batches import POPULARITY, ItemBatch, ScoreBatch
from model_core.release import retrieval_kernels as kernels
from model_core.release.compact_items import CompactItems
from model_core.release.folder import (
    EASE,
    HISTORY,
    HISTORY_OUTPUTS,
    ITEM_ENCODER,
    MAPPING,
    MATCH,
    RANKER,
    RANKER_OUTPUTS,
    USER,
    USER_OUTPUTS,
    VOCABULARY,
    Release,
    read_release,
)
from model_core.release.histories import Histories, KnownStates, from_the_left, last_states
from model_core.release.near_items import Floats, GrowingItems, NearItems, WholeItems
from model_core.release.retrieval import Levels, Query, retrieve
from model_core.release.tiled_items import TiledItems
from model_core.signals.cold_start import ItemMapping
from model_core.signals.ease import Ease

Device = Literal["auto", "cpu"]
CUDA = "CUDAExecutionProvider"
LARGE = 1 << 16
"""Items from which on products are made of integers, for to read the vectors takes longest."""


@dataclass(frozen=True, slots=True)
class Scores:
    """C candidates for each of B requests, best first; equal scores in the order of rows.

    rows : (B, C) int64; valid : (B, C) bool, False where fewer than C items were eligible (those come last)
    scores : (B, C) float32, the probability of a positive response (= features @ release.prior_weights)
    logits : (B, C, n_actions) float32; features : (B, C, F) float32, [1, probability, hidden..., signals...]
    """

    rows: NDArray[np.int64]
    valid: NDArray[np.bool_]
    scores: NDArray[np.float32]
    logits: NDArray[np.float32]
    features: NDArray[np.float32]


def best_first(
    rows: NDArray[np.int64],
    valid: NDArray[np.bool_],
    scores: NDArray[np.float32],
    logits: NDArray[np.float32],
    features: NDArray[np.float32],
) -> Scores:
    """Sort candidates, which come by row: by falling score, those that are not valid last."""
    best = Scores(
        np.empty_like(rows),
        np.empty_like(valid),
        np.empty_like(scores),
        np.empty_like(logits),
        np.empty_like(features),
    )
    kernels.best_first(
        rows, valid, scores, logits, features, best.rows, best.valid, best.scores, best.logits, best.features
    )
    return best


class Graphs:
    """The graphs of a release, and retrieval between them. One thread at a time.

    Parameters
    ----------
    folder
        Holds the graphs; nothing else in it is read.
    threads
        Of the CPU provider, for one call.
    exact, device
        See `open_session`.
    half
        Keep the items on a GPU in half precision.
    """

    def __init__(
        self,
        folder: Path,
        *,
        n_candidates: int,
        threads: int = 1,
        exact: bool = False,
        device: Device = "auto",
        half: bool = False,
    ) -> None:
        self._n_candidates = n_candidates
        opened = partial(open_session, threads=threads, exact=exact, device=device)
        self._item_encoder, self._history, self._user, self._ranker = (
            opened(folder / name) for name in (ITEM_ENCODER, HISTORY, USER, RANKER)
        )
        self.states = KnownStates(self._read)
        self.provider: str = self._ranker.get_providers()[0]
        dim = self._item_encoder.get_outputs()[0].shape[1]
        self._near = _on_gpu(dim, half, opened) if self.provider == CUDA else _on_cpu(dim, folder, threads)
        self._item_inputs = {spec.name for spec in self._item_encoder.get_inputs()}
        self._levels = Levels()

    def beside(self) -> "Graphs":
        """See `Scorer.beside`."""
        other = copy.copy(self)
        other._near = WholeItems(lambda users, items: users @ items.T)
        return other

    def close(self) -> None:
        """See `Scorer.close`."""
        # The sessions are in a circle with what calls them, whose size the garbage collector does not see.
        del self.states, self._near, self._item_encoder, self._history, self._user, self._ranker

    def encode_items(self, batch: ItemBatch) -> NDArray[np.float32]:
        """See `Scorer.encode_items`."""
        inputs = {name: getattr(batch, name) for name in self._item_inputs}
        vectors: NDArray[np.float32] = self._item_encoder.run(None, inputs)[0]
        return vectors

    def items_written(self, rows: NDArray[np.int64]) -> None:
        """See `Scorer.items_written`."""
        self._near.write(rows)

    def score(self, batch: ScoreBatch, items: NDArray[np.float32]) -> Scores:
        """See `Scorer.score`."""
        self._near.hold(items)
        items = items[: len(batch.popularity)]
        histories = from_the_left(batch, items)
        states = self.states.of(histories)
        user = self._ask(batch, histories, states)
        found = retrieve(batch, items, self._query(batch, user), self._n_candidates, self._near)
        known = found.signals[:, :, POPULARITY] > 0
        probability, logits, features = self._ranker.run(
            RANKER_OUTPUTS,
            {
                "user": user["user"],
                "states": states,
                "shut": histories.shut,
                "vectors": found.vectors,
                "retrieved": found.scores,
                "head_gain": user["gains"][:, 1:] * known,
                "signals": found.signals,
            },
        )
        return best_first(found.rows, found.valid, probability, logits, features)

    def _read(self, histories: Histories) -> NDArray[np.float32]:
        inputs = {"tokens": histories.tokens, "actions": histories.actions, "gap_s": histories.gap_s}
        states: NDArray[np.float32] = self._history.run(HISTORY_OUTPUTS, inputs)[0]
        return states

    def _ask(
        self, batch: ScoreBatch, histories: Histories, states: NDArray[np.float32]
    ) -> dict[str, NDArray[Any]]:
        inputs = {
            "last": last_states(states, histories.sizes),
            "idle_s": histories.idle_s,
            "told": (histories.sizes > 0).astype(np.float32),
            "user_entities": batch.user_entities,
            "user_entity_weights": batch.user_entity_weights,
        }
        return dict(zip(USER_OUTPUTS, self._user.run(USER_OUTPUTS, inputs), strict=True))

    def _query(self, batch: ScoreBatch, user: dict[str, NDArray[Any]]) -> Query:
        """A signal counts ``weight * log(scale + signal)``: where it is 0 that is the same for all items."""
        weights, scales = user["weights"], user["scales"][0]
        sparse = [at for at in range(len(scales)) if at != POPULARITY]
        own, own_scales = np.empty(len(batch.signals.rows), np.float32), scales[sparse]
        own_weights = weights.take(sparse, axis=1)
        kernels.own_parts(batch.signals.bounds, batch.signal_values, own_weights, own_scales, own)
        return Query(
            match=user["match"],
            weight=np.ascontiguousarray(weights[:, POPULARITY]),
            gain=np.ascontiguousarray(user["gains"][:, 0]),
            newcomer=np.ascontiguousarray(user["newcomer"][:, 0]),
            level=self._levels.of(batch.popularity, scales[POPULARITY]),
            own=own,
            always=own_weights @ np.log(own_scales),
        )


class Scorer:
    """One release, loaded and verified. Not for concurrent calls: one thread at a time.

    Parameters
    ----------
    require_gpu
        Refuse to run on the CPU. Otherwise CUDA is used when it is present; `provider` says which it is.
    threads
        Of the CPU provider, for one call.
    device
        See `open_session`.
    verified
        What `read_release` says of the folder, where that is known: files are not read for it again.

    Raises
    ------
    ValueError
        If the release is damaged or incomplete, or a GPU is required and absent.
    """

    def __init__(
        self,
        folder: Path,
        *,
        require_gpu: bool = False,
        threads: int = 1,
        device: Device = "auto",
        verified: Release | None = None,
    ) -> None:
        if threads < 1:
            raise ValueError(f"threads must be at least 1, got {threads}")
        self.release = read_release(folder) if verified is None else verified
        self.ease = Ease.load(folder / EASE)
        if self.ease.n_items != len(self.release.item_rows):
            raise ValueError(
                f"{EASE} must know the {len(self.release.item_rows)} items of {VOCABULARY}, "
                f"got {self.ease.n_items}"
            )
        self.mapping = ItemMapping.load(folder / MAPPING)
        if self.mapping.weights.shape[1] != self.ease.n_items:
            raise ValueError(f"{MAPPING} must weigh the {self.ease.n_items} items of {EASE}")
        self._graphs = Graphs(
            folder,
            n_candidates=self.release.n_candidates,
            threads=threads,
            device=device,
            half=self.release.precision == "fp16",
        )
        self.provider = self._graphs.provider
        if require_gpu and self.provider != CUDA:
            raise ValueError(f"require_gpu needs {CUDA}, got {self.provider}")
        self._try_item()

    def _try_item(self) -> None:
        """Encode an item once, of the last rows of all names: what cannot is of no use to anybody."""
        item = _last_item(self.release)
        try:
            vectors, places = self.encode_items(item), self.mapping.places(item)
        except Exception as error:  # onnxruntime's own types differ between its builds
            raise ValueError(
                f"{ITEM_ENCODER} and {MAPPING} must take items of {VOCABULARY}: {error}"
            ) from error
        if vectors.shape != (1, self.release.dim) or not (
            np.isfinite(vectors).all() and np.isfinite(places).all()
        ):
            raise ValueError(f"{ITEM_ENCODER} must make {self.release.dim} finite numbers of an item")

    def encode_items(self, batch: ItemBatch) -> NDArray[np.float32]:
        """Fuse n items into vectors: (n, dim) float32."""
        if not len(batch.id_rows):
            return np.zeros((0, self.release.dim), np.float32)
        return self._graphs.encode_items(batch)

    def score(self, batch: ScoreBatch, items: NDArray[np.float32]) -> Scores:
        """Retrieve and rank candidates for B requests.

        Parameters
        ----------
        items : (N, dim) float32, at least as many rows as the batch has; they may be written in place
            between calls, if `items_written` is told
        """
        return self._graphs.score(batch, items)

    def items_written(self, rows: NDArray[np.int64]) -> None:
        """Note rows of the items that were written in place since the last call of `score`.

        Products are made with a copy of the items, on a GPU or in integers, to which only these rows go.
        """
        self._graphs.items_written(rows)

    def beside(self) -> "Scorer":
        """Return a scorer of the same release for tables of a few items, which this one is not to hold.

        It may be called by the same thread only.
        """
        other = copy.copy(self)
        other._graphs = self._graphs.beside()
        return other

    def close(self) -> None:
        """Give the memory of the graphs back; it cannot score after this, nor can a scorer beside it."""
        self._graphs.close()

    def forget_histories(self) -> None:
        """Read every history again, whether it has been read before or not: for measurements."""
        self._graphs.states.forget()


def _last_item(release: Release) -> ItemBatch:
    """An item with the last rows of a release, and without texts, images and sounds: n = 1."""

    def nothing(width: int) -> NDArray[np.float32]:
        return np.zeros((1, width), np.float32)

    def last(rows: dict[str, int], *shape: int) -> NDArray[np.int64]:
        return np.full(shape, max(rows.values(), default=0), np.int64)

    entities, masked = last(release.entity_rows, 1, release.n_neighbours), np.zeros(1, np.bool_)
    return ItemBatch(
        text=nothing(release.text_dim), text_mask=masked, image=nothing(release.image_dim), image_mask=masked,
        audio=nothing(release.audio_dim), audio_mask=masked, entities=entities,
        relations=last(release.relation_rows, *entities.shape), edge_mask=entities > 0,
        id_rows=last(release.item_rows, 1),
    )  # fmt: skip


def _on_gpu(dim: int, half: bool, open_graph: Callable[[bytes], Any]) -> NearItems:
    # Imported only here: without a GPU nothing needs the package `onnx`, which takes memory and time.
    from model_core.release.device_items import DeviceItems

    return DeviceItems(dim=dim, device="cuda", half=half, open_graph=open_graph)


def _on_cpu(dim: int, folder: Path, threads: int) -> NearItems:
    match = open_session(folder / MATCH, threads=threads, device="cpu")

    def product(users: Floats, items: Floats) -> Floats:
        made: Floats = match.run(None, {"match": users, "items": items})[0]
        return made

    def compact() -> NearItems:
        # Imported only here: with a small catalogue nothing needs the package `onnx`.
        from model_core.release.match_graph import match_graph

        return CompactItems(open_session(match_graph(dim), threads=threads, device="cpu"), dim)

    return GrowingItems(TiledItems(product), compact, size=LARGE)


def cuda_devices() -> int:
    """CUDA devices that the driver shows; 0 without a driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


_preloaded = False


def open_session(
    graph: Path | bytes, *, threads: int, exact: bool = False, arena: bool = True, device: Device = "auto"
) -> Any:
    """Open an ONNX graph, a file or its bytes, on CUDA when present, else, or if asked for, on the CPU.

    exact turns TensorFloat-32 off, for comparisons. Without an arena the CPU's memory is given back after
    each call, and weights are held once, not packed a second time: for a graph that runs seldom, on any size.
    """
    global _preloaded
    # The GPU build offers its provider on machines without a GPU too, and complains when it is asked for.
    cuda = device == "auto" and CUDA in ort.get_available_providers() and cuda_devices() > 0
    if cuda and not _preloaded:
        ort.preload_dlls()
        _preloaded = True
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = options.enable_mem_pattern = arena
    options.add_session_config_entry("session.disable_prepacking", "0" if arena else "1")
    # A waiting thread that spins takes the processor from the broker and the event loop.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    providers: list[Any] = ["CPUExecutionProvider"]
    if cuda:
        providers.insert(0, (CUDA, {"use_tf32": "0"} if exact else {}))
    source = graph if isinstance(graph, bytes) else str(graph)
    # Its kernel for the sum before a norm takes longer than the sum and the norm.
    without = ["SkipLayerNormFusion"]
    try:
        return ort.InferenceSession(source, options, providers=providers, disabled_optimizers=without)
    except Exception as error:  # onnxruntime's own types differ between its builds
        name = "the graph" if isinstance(graph, bytes) else repr(str(graph))
        raise ValueError(f"{name} must be an ONNX graph that can be loaded: {error}") from error
