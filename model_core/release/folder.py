"""A release: a folder with the graphs, EASE, its mapping, the vocabulary, and a manifest that vouches.

manifest.json names the schema, the sizes, the metrics and the SHA-256 of every other file; the version is
a hash of those, so it tells contents apart and not moments.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from model_core.data.vocabulary import Vocabulary
from model_core.network.config import ModelConfig
from model_core.signals.config import SignalConfig

SCHEMA = 6
MANIFEST, VOCABULARY = "manifest.json", "vocabulary.json"
ABOUT = ("version", "metrics", "training")
"""What of a manifest is said about the contents and is none of them."""
ITEM_ENCODER, HISTORY, USER = "item_encoder.onnx", "history.onnx", "user.onnx"
MATCH, RANKER = "match.onnx", "ranker.onnx"
EASE, MAPPING = "ease.npz", "item_mapping.npz"
HISTORY_OUTPUTS = ("states",)
USER_OUTPUTS = ("user", "match", "weights", "scales", "newcomer", "gains")
"""See `model_core.network.stages`; of the ranker alike."""
RANKER_OUTPUTS = ("probability", "logits", "features")
WEIGHTS = "weights.safetensors"
"""What the next training begins with; no worker reads it, so it is no file of the manifest's."""
LEARNED = "learned.msgpack"
"""What a policy begins with, where the training knew slates; see `streams.learning.learned`."""
TEXT_ENCODER, TOKENIZER = "text_encoder.onnx", "tokenizer.json"
SETTLED_NS = 2_000_000_000
MAX_CHECKSUMS = 256


@dataclass(frozen=True, slots=True)
class Release:
    """The manifest of a release.

    Action codes in a history are positions in `actions` plus 1; 0 is an unknown action or padding.
    Rows of items, entities and relations start at 1; 0 is an unknown name or padding.
    """

    version: str
    actions: tuple[str, ...]
    dim: int
    feature_dim: int
    n_candidates: int
    history_length: int
    n_affinities: int
    n_neighbours: int
    n_signals: int
    text_dim: int
    image_dim: int
    audio_dim: int
    text_encoder: str
    text_encoder_fingerprint: str
    signals: SignalConfig
    """How training read users, and so does whoever serves it."""
    prior_weights: NDArray[np.float32]
    entity_rows: dict[str, int]
    relation_rows: dict[str, int]
    item_rows: dict[str, int]
    metrics: dict[str, Any]
    action_weights: dict[str, float] = field(default_factory=dict)
    """Reward weight of each action in training; positive from 1 on."""
    training: dict[str, Any] = field(default_factory=dict)
    """How it was trained; `interactions` counts the log's rows that it knows."""
    served_probability: float | None = None
    """Mean probability of the items that it lists, in (0, 1): how often rewards are to be expected."""
    precision: str = "fp32"
    """Of the graphs' matrix products: fp32, fp16 or int8."""
    carries_text_encoder: bool = False
    """Whether the export of its text encoder is among its files."""

    @property
    def items(self) -> list[str]:
        """Ids of the items it knows, by row; row 1 comes first."""
        return sorted(self.item_rows, key=self.item_rows.__getitem__)

    def action_code(self, action: str) -> int:
        """Code of an action in `ScoreBatch.history_actions`."""
        return self.actions.index(action) + 1 if action in self.actions else 0


_MAX_SIZE = 1 << 20
_File = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*\Z")]
_Size = Annotated[int, msgspec.Meta(ge=0, le=_MAX_SIZE)]
_Row = Annotated[int, msgspec.Meta(ge=1)]


class _Dims(msgspec.Struct):
    """The sizes of the networks, as far as they are read."""

    dim: Annotated[int, msgspec.Meta(ge=1, le=_MAX_SIZE)]
    feature_dim: Annotated[int, msgspec.Meta(ge=2, le=_MAX_SIZE)]
    n_candidates: Annotated[int, msgspec.Meta(ge=1, le=_MAX_SIZE)]
    history_length: _Size
    n_affinities: _Size
    n_neighbours: _Size
    n_signals: _Size
    text_dim: _Size
    image_dim: _Size
    audio_dim: _Size


class _Encoder(msgspec.Struct):
    name: str
    fingerprint: str


class _Said(msgspec.Struct):
    """The fields of a manifest that are read."""

    version: str
    files: dict[_File, str]
    dims: _Dims
    actions: dict[str, float]
    text_encoder: _Encoder
    signals: dict[str, Any]
    metrics: dict[str, Any]
    training: dict[str, Any] = {}
    precision: str = "fp32"
    served_probability: Annotated[float, msgspec.Meta(gt=0, lt=1)] | None = None


class _Rows(msgspec.Struct):
    """The vocabulary."""

    entity_rows: dict[str, _Row]
    relation_rows: dict[str, _Row]
    item_rows: dict[str, _Row]


def prior_weights(feature_dim: int) -> NDArray[np.float32]:
    """Return what weighs features as the release itself does: its own score is the second of them."""
    weights = np.zeros(feature_dim, np.float32)
    weights[1] = 1.0
    return weights


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """Give an empty folder that takes the place of `out` in the end; after an error `out` is as it was."""
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    yield partial
    shutil.rmtree(out, ignore_errors=True)
    partial.rename(out)


def write_manifest(
    folder: Path,
    *,
    config: ModelConfig,
    actions: dict[str, float],
    text_encoder: tuple[str, str],
    vocabulary: Vocabulary,
    signals: SignalConfig,
    metrics: dict[str, Any],
    training: dict[str, Any],
    served_probability: float | None = None,
) -> str:
    """Complete a folder that holds the graphs, EASE and its mapping into a release; return its version.

    An exported text encoder is part of the release when the folder holds one.

    Parameters
    ----------
    served_probability : see `Release`; where it is not known the manifest says nothing of it
    """
    (folder / VOCABULARY).write_text(
        json.dumps(asdict(vocabulary), ensure_ascii=False, separators=(",", ":")), encoding="utf-8"
    )
    carried = (TEXT_ENCODER, TOKENIZER) if (folder / TEXT_ENCODER).is_file() else ()
    described = {
        "schema": SCHEMA,
        "files": dict.fromkeys(
            (ITEM_ENCODER, HISTORY, USER, MATCH, RANKER, EASE, MAPPING, VOCABULARY, *carried)
        ),
        "dims": asdict(config) | {"dim": config.width},
        "actions": actions,
        "text_encoder": {"name": text_encoder[0], "fingerprint": text_encoder[1]},
        "signals": asdict(signals),
    }
    if served_probability is not None:
        described["served_probability"] = served_probability
    return sign_manifest(folder, described | {"metrics": metrics, "training": training})


def sign_manifest(folder: Path, manifest: dict[str, Any]) -> str:
    """Write a manifest with the checksums that its files have now; return the version, a hash of contents."""
    files = {name: _sha256(folder / name) for name in manifest["files"]}
    described = manifest | {"files": files}
    version = _version(described)
    text = json.dumps({**described, "version": version}, indent=2, ensure_ascii=False)
    partial = folder / f"{MANIFEST}.partial"
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(folder / MANIFEST)
    return version


def add_learned(folder: Path, contents: bytes, said: dict[str, Any]) -> str:
    """Give a release what its policy begins with, and say in its `training` of what; return the version."""
    (folder / LEARNED).write_bytes(contents)
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    training = manifest.get("training", {}) | {"learned": said}
    files = {**manifest["files"], LEARNED: ""}
    return sign_manifest(folder, {**manifest, "files": files, "training": training})


def read_release(folder: Path) -> Release:
    """Read and verify a release folder.

    Raises
    ------
    ValueError
        If a file is missing, was changed, or the schema is not the one of this code.
    """
    manifest = _read_manifest(folder)
    try:
        said = msgspec.convert(manifest, _Said)
    except msgspec.ValidationError as error:
        raise ValueError(f"{str(folder / MANIFEST)!r}: {error}") from None
    for name, wanted in said.files.items():
        path = folder / name
        if not path.is_file():
            raise ValueError(f"release {str(folder)!r} must hold {name}, which is missing")
        if (got := _sha256(path)) != wanted:
            raise ValueError(f"release file {str(path)!r} must have SHA-256 {wanted[:12]}…, got {got[:12]}…")
    try:
        signals = SignalConfig.read(said.signals)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{str(folder / MANIFEST)!r}: {error}") from None
    path = folder / VOCABULARY
    try:
        rows = msgspec.json.decode(path.read_bytes(), type=_Rows)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} must say the rows of names: {error}") from None
    return _described(said, rows, signals)


def read_config(folder: Path) -> ModelConfig:
    """Read the sizes of a release's networks."""
    dims: dict[str, Any] = _read_manifest(folder)["dims"]
    return ModelConfig(**dims | {"dim": dims["dim"] // dims.get("ensemble", 1)})


def _described(said: _Said, rows: _Rows, signals: SignalConfig) -> Release:
    return Release(
        version=said.version,
        actions=tuple(said.actions),
        text_encoder=said.text_encoder.name,
        text_encoder_fingerprint=said.text_encoder.fingerprint,
        signals=signals,
        prior_weights=prior_weights(said.dims.feature_dim),
        metrics=said.metrics,
        action_weights=said.actions,
        training=said.training,
        precision=said.precision,
        served_probability=said.served_probability,
        carries_text_encoder=TEXT_ENCODER in said.files,
        **msgspec.structs.asdict(rows),
        **msgspec.structs.asdict(said.dims),
    )


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.is_file():
        raise ValueError(f"release must be a folder with a {MANIFEST}, got {str(folder)!r}")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        schema = manifest["schema"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} must be a release manifest in JSON: {error}") from None
    if schema != SCHEMA:
        raise ValueError(
            f"release schema must be {SCHEMA} for this version of slatestream, got {schema!r}: train it again"
        )
    for one in msgspec.structs.fields(_Said):
        if one.required and one.name not in manifest:
            raise ValueError(f"{str(path)!r} must name {one.name!r}, which is missing")
    if manifest["version"] != (got := _version(manifest)):
        raise ValueError(f"{str(path)!r} must describe version {manifest['version']}, got contents of {got}")
    checked: dict[str, Any] = manifest
    return checked


def _version(manifest: Mapping[str, Any]) -> str:
    contents = {name: of for name, of in manifest.items() if name not in ABOUT}
    return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()[:12]


def _sha256(path: Path) -> str:
    """Checksum of a file's contents; one that lies as it did when it was read last is not read again.

    A file that was written in the last moments may be written once more with the same time.
    """
    with path.open("rb") as file:
        about = os.fstat(file.fileno())
        identity = about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns
        if (known := _checksums.get(identity)) is not None:
            return known
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if time.time_ns() - about.st_mtime_ns > SETTLED_NS:
        if len(_checksums) >= MAX_CHECKSUMS:
            _checksums.clear()
        _checksums[identity] = found
    return found


_checksums: dict[tuple[int, int, int, int], str] = {}
