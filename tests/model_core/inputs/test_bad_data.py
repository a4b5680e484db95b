"""Data that is empty, broken or strange: a clear error, or an outcome that is meant."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model_core.data.datasets import Dataset, Item, load_recbole
from model_core.inputs.corpus import make_corpus
from model_core.network.config import TrainConfig
from model_core.release.folder import MANIFEST, read_release
from model_core.release.scorer import Scorer
from model_core.signals.config import SignalConfig
from model_core.training.networks import fit_model
from tests.model_core.tiny import CONFIG, N_ITEMS, WEIGHTS, Texts, corpus, dataset, requests

FILES = (
    "item_encoder.onnx",
    "history.onnx",
    "user.onnx",
    "match.onnx",
    "ranker.onnx",
    "ease.npz",
    "vocabulary.json",
)


class Vectors(Texts):
    """A text encoder whose vectors are all the same number."""

    def __init__(self, value: float) -> None:
        self.value = value

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        return np.full((len(texts), self.dim), self.value, np.float32)


def test_an_empty_catalogue_is_refused_in_training_and_has_no_candidates_in_serving(scorer: Scorer) -> None:
    with pytest.raises(ValueError, match="items must not be empty: there is nothing to recommend"):
        corpus(replace(dataset(), items=[]))
    nobody = requests(scorer, 2, n_items=0)
    nobody.history[:] = -1
    scores = scorer.score(nobody, np.zeros((0, scorer.release.dim), np.float32))
    assert not scores.valid.any()
    assert np.isfinite(scores.scores).all()


def test_a_single_user_is_refused() -> None:
    with pytest.raises(ValueError, match="interactions must come from at least 2 users, got 1"):
        corpus(dataset(n_users=1))


def test_an_interaction_with_an_item_that_is_not_described_is_named() -> None:
    data = dataset()
    with pytest.raises(ValueError, match="interactions must be with items of the dataset, got 'i0'"):
        corpus(replace(data, items=data.items[1:]))


def test_items_without_any_text_or_edge_are_learned_by_their_ids() -> None:
    data = dataset()
    bare = replace(data, items=[Item(item.item_id, "") for item in data.items])
    actions = ["like" if rating >= 3 else "view" for rating in data.interactions.ratings]
    silent = make_corpus(bare, actions, WEIGHTS, Vectors(0.0), CONFIG.n_neighbours)
    assert not silent.edges.mask.any()
    config = replace(CONFIG, text_dim=Texts.dim)
    train = TrainConfig(epochs=2, threads=1)
    weights = tuple(WEIGHTS.values())
    model, history = fit_model(silent, 800, weights, config, train, SignalConfig(), device="cpu")
    assert all(np.isfinite([epoch.loss, epoch.validation]).all() for epoch in history)
    with torch.inference_mode():
        vectors = model.vectors()
    assert torch.isfinite(vectors).all()
    assert len(torch.unique(vectors, dim=0)) == N_ITEMS


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_embedding_that_is_not_finite_is_named(value: float) -> None:
    data = dataset()
    actions = ["like"] * len(data.interactions)
    with pytest.raises(ValueError, match="text of item 'i0' must have a finite vector, got NaN or infinity"):
        make_corpus(data, actions, WEIGHTS, Vectors(value), CONFIG.n_neighbours)
    for kind in ("image", "audio"):
        broken: dict[str, object] = {kind: np.array([0.5, value], np.float32)}
        items = [*data.items[:3], replace(data.items[3], **broken), *data.items[4:]]  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=f"{kind} of item 'i3' must be finite, got NaN or infinity"):
            corpus(replace(data, items=items))


@pytest.mark.parametrize("kind", ["image", "audio"])
def test_an_embedding_that_would_drown_all_others_is_named(kind: str) -> None:
    data = dataset()
    broken: dict[str, object] = {kind: np.array([0.5, 1e30], np.float32)}
    items = [*data.items[:3], replace(data.items[3], **broken), *data.items[4:]]  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match=f"{kind} of item 'i3' must be of numbers up to 1e\\+06, got 1e\\+30"
    ):
        corpus(replace(data, items=items))


def write(folder: Path, **tables: str) -> Path:
    folder.mkdir(exist_ok=True)
    for suffix, text in tables.items():
        (folder / f"{folder.name}.{suffix}").write_text(text)
    return folder


INTER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\na\tx\t5\t1\nb\ty\t1\t2\n"


def described(data: Dataset) -> dict[str, list[tuple[str, str]]]:
    return {item.item_id: item.triples for item in data.items}


def test_triples_of_unknown_heads_change_nothing(tmp_path: Path) -> None:
    items = [f"i{n}" for n in range(12)]
    inter = INTER + "".join(f"a\t{item}\t5\t{n + 3}\n" for n, item in enumerate(items))
    link = "item_id:token\tentity_id:token\n" + "".join(f"{item}\tm.{item}\n" for item in items)
    link += "gone\tm.gone\n"
    kg = "head_id:token\trelation_id:token\ttail_id:token\n"
    kg += "".join(f"m.{item}\tby\tperson{n % 4}\n" for n, item in enumerate(items))
    plain = load_recbole(write(tmp_path / "plain", inter=inter, link=link, kg=kg))
    assert described(plain)["i5"] == [("by", "person1")]
    strange = kg + "m.nobody\tby\tperson1\nperson1\tby\tm.i5\n"
    assert described(
        load_recbole(write(tmp_path / "strange", inter=inter, link=link, kg=strange))
    ) == described(plain)
    # What nobody meets and nothing describes is no item, though something is linked to it.
    ghost = load_recbole(write(tmp_path / "ghost", inter=inter, link=link, kg=kg + "m.gone\tby\tperson1\n"))
    assert "gone" not in described(ghost)
    assert described(ghost) == described(plain)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("", r"\.inter must have the column 'user_id', got \[''\]"),
        (INTER.splitlines()[0] + "\n", r"\.inter must hold at least one interaction, got none"),
        (INTER + "c\tx\t5\n", r"\.inter line 4 must have 4 fields, got 3"),
        (INTER + "c\tx\tgood\t3\n", r"\.inter column 'rating' must hold numbers: .*'good'"),
        (INTER + "c\tx\t5\tnan\n", r"\.inter column 'timestamp' must hold finite numbers, got NaN"),
    ],
)
def test_a_broken_table_is_named_with_what_is_wrong(table: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        load_recbole(write(tmp_path / "broken", inter=table))


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "latin", inter=INTER)
    (folder / "latin.item").write_bytes("item_id:token\ttitle:token_seq\nx\tAmélie\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"latin\.item must be text in UTF-8: .*position 34"):
        load_recbole(folder)


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flip(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("harm", [cut, flip, lambda data: b""], ids=["cut", "one bit", "empty"])
def test_a_harmed_file_of_a_release_is_named(
    name: str, harm: Callable[[bytes], bytes], folder: Path, tmp_path: Path
) -> None:
    broken = Path(shutil.copytree(folder, tmp_path / "broken"))
    (broken / name).write_bytes(harm((broken / name).read_bytes()))
    with pytest.raises(ValueError, match=rf"release file .*{name}' must have SHA-256 \w+…, got \w+…"):
        Scorer(broken)
    (broken / name).unlink()
    with pytest.raises(ValueError, match=f"must hold {name}, which is missing"):
        Scorer(broken)


def test_a_harmed_manifest_is_refused(folder: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(folder, tmp_path / "broken"))
    path = broken / MANIFEST
    whole = path.read_text(encoding="utf-8")
    manifest = json.loads(whole)
    path.write_text(whole[: len(whole) // 2], encoding="utf-8")
    with pytest.raises(ValueError, match=r"manifest\.json' must be a release manifest in JSON"):
        read_release(broken)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"manifest\.json' must be a release manifest in JSON"):
        read_release(broken)
    path.write_text("[]", encoding="utf-8")
    with pytest.raises(ValueError, match=r"manifest\.json' must be a release manifest in JSON"):
        read_release(broken)
    for changed in (
        {"dims": manifest["dims"] | {"n_candidates": 7}},
        {"actions": {"like": 2.0, "view": 0.2, "buy": 4.0}},
        {"signals": manifest["signals"] | {"window": 3}},
        {"text_encoder": {"name": "other", "fingerprint": "1"}},
    ):
        path.write_text(json.dumps(manifest | changed), encoding="utf-8")
        with pytest.raises(ValueError, match=r"must describe version \w+, got contents of \w+"):
            read_release(broken)
    for name in ("version", "files", "dims", "actions", "text_encoder", "signals", "metrics"):
        path.write_text(json.dumps({key: manifest[key] for key in manifest if key != name}), encoding="utf-8")
        with pytest.raises(ValueError, match=f"must name '{name}', which is missing"):
            read_release(broken)
