"""A tiny model, trained once: what every release must hold to."""

import hashlib
import json
import os
import pickle
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

import model_core
from model_core.data.batches import Moments
from model_core.data.datasets import Dataset
from model_core.evaluation.evaluate import compare, future
from model_core.network.config import TrainConfig
from model_core.release.baseline import BaselineScorer
from model_core.release.folder import RANKER, read_release, sign_manifest
from model_core.release.scorer import Scorer
from model_core.signals.config import UNTOLD, SignalConfig
from model_core.training.checkpoint import Checkpoint
from model_core.training.networks import fit_model, fit_widths
from model_core.training.train import train_release
from tests.model_core.tiny import CONFIG, N_ITEMS, WEIGHTS, corpus, dataset, requests


def by_item(scores, request: int = 0):  # type: ignore[no-untyped-def]
    valid = scores.valid[request]
    return dict(
        zip(scores.rows[request][valid].tolist(), scores.scores[request][valid].tolist(), strict=True)
    )


def test_the_graphs_agree_with_torch_and_keep_their_sizes_open(folder: Path) -> None:
    differences = json.loads((folder / "manifest.json").read_text())["metrics"]["onnx_difference"]
    assert max(differences.values()) < 1e-4
    for graph, name, n_open in (("history", "tokens", 2), ("match", "items", 1), ("ranker", "vectors", 2)):
        shapes = {
            spec.name: [dim.dim_param or dim.dim_value for dim in spec.type.tensor_type.shape.dim]
            for spec in onnx.load(folder / f"{graph}.onnx").graph.input
        }
        assert [isinstance(size, str) for size in shapes[name]].count(True) == n_open


def test_a_score_does_not_depend_on_the_other_candidates(scorer: Scorer, vectors) -> None:  # type: ignore[no-untyped-def]
    batch = requests(scorer, 1)
    together = by_item(scorer.score(batch, vectors))
    assert len(together) == N_ITEMS
    for item in (0, 7, 59):
        alone = np.arange(N_ITEMS) == item
        scored = by_item(scorer.score(replace(batch, eligible=alone), vectors))
        assert scored.keys() == {item}
        assert scored[item] == pytest.approx(together[item], abs=1e-5)


def test_a_score_does_not_depend_on_the_batch_or_on_padding(scorer: Scorer, vectors) -> None:  # type: ignore[no-untyped-def]
    batch = requests(scorer, 5)
    many = scorer.score(batch, vectors)
    padded = np.concatenate((vectors, np.ones((300, vectors.shape[1]), np.float32)))
    one = replace(
        batch.take(np.array([2])),
        popularity=np.pad(batch.popularity, (0, 300)),
        eligible=np.pad(batch.eligible, (0, 300)),
    )
    alone = by_item(scorer.score(one, padded))
    assert alone == pytest.approx(by_item(many, 2), abs=1e-5)


def test_an_ineligible_item_is_never_a_candidate(scorer: Scorer, vectors) -> None:  # type: ignore[no-untyped-def]
    batch = requests(scorer, 4)
    batch.eligible[::3] = False
    scores = scorer.score(batch, vectors)
    assert not (scores.rows[scores.valid] % 3 == 0).any()
    assert scores.valid.sum(1).tolist() == [int(batch.eligible.sum())] * 4
    batch.eligible[:] = False
    assert not scorer.score(batch, vectors).valid.any()


def test_an_unknown_user_gets_finite_scores_between_0_and_1(scorer: Scorer, vectors) -> None:  # type: ignore[no-untyped-def]
    batch = requests(scorer, 1)
    batch.history[:] = -1
    batch.popularity[:] = 0
    scores = scorer.score(batch.without_signals(), vectors)
    found = scores.scores[scores.valid]
    assert len(found) == N_ITEMS
    assert ((found > 0) & (found < 1)).all()
    assert np.isfinite(scores.features[scores.valid]).all()


@pytest.mark.parametrize("make", ["release", "baseline"])
def test_scores_are_the_features_times_the_prior_weights(make: str, scorer: Scorer, vectors) -> None:  # type: ignore[no-untyped-def]
    used = scorer if make == "release" else BaselineScorer()
    scores = used.score(requests(used, 3), vectors)
    assert (np.diff(scores.scores, axis=1)[scores.valid[:, 1:]] <= 0).all()
    expected = scores.features @ used.release.prior_weights
    np.testing.assert_allclose(scores.scores[scores.valid], expected[scores.valid], atol=1e-6)


def test_without_a_release_no_feature_speaks_for_an_item_louder_than_its_score() -> None:
    batch = requests(BaselineScorer(), 3)
    levels = np.linspace(-9, 0, N_ITEMS, dtype=np.float32)[None]
    weighed = replace(batch, moments=Moments(levels, np.zeros(3, np.int64), 0.5))
    for asked in (batch, weighed):
        scores = BaselineScorer().score(asked, np.zeros((N_ITEMS, 1), np.float32))
        assert (scores.features[:, :, 2:] <= scores.scores[:, :, None]).all()
        assert (scores.features[:, 0, 2:] > 0).any()


def test_an_item_that_the_release_does_not_know_has_a_vector_from_its_text(scorer: Scorer, vectors) -> None:  # type: ignore[no-untyped-def]
    assert np.isfinite(vectors).all()
    assert np.linalg.norm(vectors, axis=1).min() > 0


def test_a_damaged_release_is_refused(folder: Path, tmp_path: Path) -> None:
    def copy(name: str) -> Path:
        return Path(shutil.copytree(folder, tmp_path / name))

    changed = copy("changed")
    with (changed / "ranker.onnx").open("r+b") as file:
        file.write(b"\0\0")
    with pytest.raises(ValueError, match=r"ranker\.onnx' must have SHA-256"):
        Scorer(changed)
    missing = copy("missing")
    (missing / "item_encoder.onnx").unlink()
    with pytest.raises(ValueError, match="must hold item_encoder.onnx, which is missing"):
        Scorer(missing)
    newer = copy("newer")
    manifest = json.loads((newer / "manifest.json").read_text())
    (newer / "manifest.json").write_text(json.dumps(manifest | {"schema": 99}))
    with pytest.raises(ValueError, match="release schema must be 6 .* train it again"):
        Scorer(newer)
    with pytest.raises(ValueError, match="release must be a folder with a manifest"):
        Scorer(tmp_path / "nothing")


def test_a_release_says_how_users_are_read(folder: Path, tmp_path: Path) -> None:
    told = json.loads((folder / "manifest.json").read_text())["signals"]
    assert told == asdict(SignalConfig())
    early = {name: value for name, value in told.items() if name not in UNTOLD}
    assert SignalConfig.read(early) == SignalConfig(read_temper=0.0, full_likes=0)  # all there was
    for signals, message in (
        ({"window": 20}, "got 'ease_keep' missing"),
        (told | {"speed": 3}, "got 'speed' unknown"),
        (told | {"depth": 0}, "depth must be at least 1, got 0"),
        (told | {"full_likes": -1}, "full_likes must be at least 0, got -1"),
    ):
        strange = Path(shutil.copytree(folder, tmp_path / str(len(message))))
        manifest = json.loads((strange / "manifest.json").read_text())
        sign_manifest(strange, manifest | {"signals": signals})
        with pytest.raises(ValueError, match=f"manifest.json': .*{message}"):
            read_release(strange)


def test_a_release_says_how_probable_it_holds_what_it_serves(
    folder: Path, scorer: Scorer, tmp_path: Path
) -> None:
    data = corpus(dataset())
    split = int(0.9 * len(data.log))
    compared = compare(scorer, data, split)
    assert scorer.release.served_probability == pytest.approx(compared.served_probability)
    users = len(future(data.log, split).users)
    best = np.sort(compared.probability)[-10 * users :].mean()  # the likeliest of all users'
    assert compared.probability.mean() < scorer.release.served_probability <= best

    manifest = json.loads((folder / "manifest.json").read_text())
    for said in (None, 0.0, 1.0, "much"):
        strange = Path(shutil.copytree(folder, tmp_path / str(said)))
        if said is None:  # as older releases
            del manifest["served_probability"]
            sign_manifest(strange, manifest)
            assert read_release(strange).served_probability is None
        else:
            sign_manifest(strange, manifest | {"served_probability": said})
            with pytest.raises(ValueError, match=r"Expected `float.*\$.served_probability"):
                read_release(strange)


@pytest.mark.parametrize("data", [dataset(n_users=1), replace(dataset(), items=[])])
def test_too_little_data_is_refused_with_what_is_missing(data: Dataset) -> None:
    with pytest.raises(ValueError, match=r"user|items must not be empty"):
        corpus(data)


def test_a_killed_training_goes_on_where_it_was_and_ends_the_same(folder: Path, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def kill(stage: str, done: float) -> None:
        if stage == "train" and done > 0.6:  # in the second of two epochs
            raise Killed

    seen: list[float] = []

    def note(stage: str, done: float) -> None:
        if stage == "train":
            seen.append(done)

    out, checkpoint = tmp_path / "again", tmp_path / "again.checkpoint"
    data, train = corpus(dataset()), TrainConfig(epochs=2, threads=1)
    with pytest.raises(Killed):
        train_release(data, WEIGHTS, out, config=CONFIG, train=train, report=kill)
    assert checkpoint.is_file()
    state = torch.load(checkpoint, weights_only=True)
    trained = train_release(data, WEIGHTS, out, config=CONFIG, train=train, report=note)
    assert min(seen) > 0.5
    assert trained.release.version == read_release(folder).version
    assert not checkpoint.exists()
    # Of another version, whose model had other parts, nothing can be used: all is trained anew.
    seen.clear()
    del state["model"]["encoder.met"]
    other = Checkpoint(checkpoint, state.pop("fingerprint"))
    other.save(state)
    assert other.load() is not None
    config, split = fit_widths(CONFIG, data), int(0.9 * len(data.log))
    fit_model(
        data, split, tuple(WEIGHTS.values()), config, train, SignalConfig(), report=note, checkpoint=other
    )
    assert min(seen) < 0.5


def test_a_file_is_read_again_when_it_was_written_and_not_otherwise(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A release that was written long ago is checked once; what is written into it later is seen."""
    made = Path(shutil.copytree(folder, tmp_path / "made"))
    for path in made.iterdir():
        os.utime(path, (1e9, 1e9))
    read_release(made)
    read: list[Any] = []
    digest = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda file, name: read.append(file) or digest(file, name))

    read_release(made)
    assert not read
    (made / "beside").hardlink_to(made / RANKER)
    contents = bytearray((made / RANKER).read_bytes())
    contents[0] ^= 1
    (made / "beside").write_bytes(contents)
    with pytest.raises(ValueError, match=f"{RANKER}.* must have SHA-256"):
        read_release(made)
    assert len(read) == 1


def test_a_checkpoint_of_another_training_is_not_used_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    ours, path = {"history": [], "n": torch.zeros(2)}, tmp_path / "a.checkpoint"
    Checkpoint(path, "mine").save(ours)
    loaded = Checkpoint(path, "mine").load()
    assert loaded is not None
    assert loaded["n"].tolist() == [0.0, 0.0]
    assert Checkpoint(path, "other").load() is None
    path.write_bytes(pickle.dumps({"fingerprint": "mine", "run": os.system}))
    with pytest.raises(ValueError, match="cannot be read, delete it"):
        Checkpoint(path, "mine").load()
    Checkpoint(path, "mine").delete()
    assert Checkpoint(path, "mine").load() is None


def test_a_release_does_not_say_where_it_was_made(folder: Path) -> None:
    home = str(Path(model_core.__file__).parents[1]).encode()
    elsewhere = str(Path(torch.__file__).parents[1]).encode()
    for file in folder.iterdir():
        assert home not in (content := file.read_bytes()), file
        assert elsewhere not in content, file
        assert b"stack_trace" not in content, file
