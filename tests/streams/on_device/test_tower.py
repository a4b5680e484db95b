"""A release scores on a device as it does on a worker."""

import ast
import json
from pathlib import Path

import numpy as np
import pytest

from model_core.data.batches import EASE, POPULARITY, ScoreBatch, SparseRows, sparse_signals
from model_core.release import folder as release_files
from model_core.release.folder import MANIFEST
from model_core.release.scorer import Scorer
from model_core.signals.co_visitation_scores import WEIGHT_UNIT, read_weights
from streams.on_device import files, tower
from streams.on_device.files import DeviceError
from streams.on_device.tower import History, Items, Tower
from tests.streams.releases.made import variant

NOW_MS = 1_700_000_000_000
PACKAGE = Path(files.__file__).parent


def test_scores_are_a_worker_s_for_what_a_device_knows(tiny: Path) -> None:
    scorer, device, rng = Scorer(tiny), Tower(tiny), np.random.default_rng(3)
    release = scorer.release
    ids, n = release.items, len(release.items)
    vectors = rng.normal(size=(n, release.dim)).astype(np.float32)
    popularity = (rng.integers(0, 3, n) * rng.random(n)).astype(np.float32)
    near = np.where(rng.random((n, n)) < 0.2, rng.random((n, n)), 0.0)
    met_with = [{ids[other]: near[row, other] for other in np.flatnonzero(near[row])} for row in range(n)]
    said = release.signals
    window = read_weights(window=said.read_window, decay=said.read_decay, other=said.read_other) / WEIGHT_UNIT
    items, known = Items(ids, vectors, popularity, met_with), dict(zip(ids, vectors, strict=True))
    for events in (0, 1, 5, release.history_length + 7):
        rows, codes = rng.integers(0, n, events), rng.integers(1, 3, events)
        ages_s = np.sort(rng.integers(0, 10**6, events))[::-1]
        history = History(
            [ids[row] for row in rows], [release.actions[code - 1] for code in codes], NOW_MS - 1000 * ages_s
        )
        liked = np.array([release.action_weights[name] >= 1 for name in history.actions], np.bool_)
        signals = np.zeros((1, 3, n), np.float32)
        for r, (row, like) in enumerate(zip(rows[::-1], liked[::-1], strict=True)):
            if r < said.read_window:
                signals[0, 0] += near[:, row] * window[int(like), r]
        signals[0, POPULARITY] = popularity
        _, eased, values = scorer.ease.sparse_scores(np.array([0, liked.sum()]), rows[liked].astype(np.int32))
        signals[0, EASE, eased] = values
        padded = np.full((3, 1, release.history_length), -1.0)
        if kept := len(rows[-release.history_length :]):
            padded[:, 0, -kept:] = rows[-kept:], codes[-kept:], ages_s[-kept:]
        levels, sparse, others = sparse_signals(signals)
        batch = ScoreBatch(
            history=padded[0].astype(np.int64),
            history_actions=np.maximum(padded[1], 0).astype(np.int64),
            history_age_s=np.maximum(padded[2], 0).astype(np.float32),
            user_entities=np.zeros((1, release.n_affinities), np.int64),
            user_entity_weights=np.zeros((1, release.n_affinities), np.float32),
            popularity=levels,
            signals=sparse,
            signal_values=others,
            eligible=np.ones(n, np.bool_),
            excluded=SparseRows.none(1),
        )
        wanted = scorer.score(batch, vectors)
        got = device.score(history, known, items, now_ms=NOW_MS)
        valid = wanted.valid[0]
        assert valid.sum() == n
        np.testing.assert_allclose(got[wanted.rows[0, valid]], wanted.scores[0, valid], atol=2e-5)
        assert np.ptp(got) > 1e-3


def test_an_event_whose_item_has_no_vector_still_counts_as_a_like(tiny: Path) -> None:
    device = Tower(tiny)
    ids, ones = [f"i{n}" for n in range(20)], np.ones(20, np.float32)
    items = Items(ids, np.ones((20, device.dim), np.float32), ones, [{} for _ in ids])
    liked = History(["i3", "gone"], ["like", "like"], np.array([1, 2], np.int64))
    nobody = History([], [], np.zeros(0, np.int64))
    scores = [device.score(one, {}, items, now_ms=NOW_MS) for one in (liked, nobody)]
    assert len(np.unique(scores[1])) == 1
    assert len(np.unique(scores[0])) > 1


def test_no_items_have_no_scores_and_vectors_of_another_width_are_refused(tiny: Path) -> None:
    device, nobody = Tower(tiny), History([], [], np.zeros(0, np.int64))
    none = Items([], np.zeros((0, device.dim), np.float32), np.zeros(0, np.float32), [])
    assert not len(device.score(nobody, {}, none, now_ms=NOW_MS))
    narrow = Items(["a"], np.ones((1, 3), np.float32), np.ones(1, np.float32), [{}])
    with pytest.raises(ValueError, match=r"vectors must have shape \(1, 16\), got \(1, 3\)"):
        device.score(nobody, {}, narrow, now_ms=NOW_MS)


def test_files_of_another_release_or_schema_are_refused(tiny: Path, tmp_path: Path) -> None:
    other = variant(tiny, tmp_path / "other", gain=2.0)
    (other / files.USER).write_bytes((tiny / files.USER).read_bytes())
    with pytest.raises(DeviceError, match=r"user.onnx must be that of release .*: it is of another release"):
        Tower(other)
    (other / files.EASE).unlink()
    with pytest.raises(DeviceError, match="must have all its files"):
        Tower(other)
    manifest = json.loads((tiny / MANIFEST).read_text())
    for said, why in (
        (manifest | {"schema": 5}, "must have schema 6 for this version of the device, got 5"),
        (manifest | {"files": {}}, "must have vocabulary.json, and its manifest does not name it"),
        ([], "must be JSON as a release has it"),
    ):
        with pytest.raises(DeviceError, match=why):
            files.read_manifest(json.dumps(said).encode())


def test_a_device_names_things_as_releases_do() -> None:
    for name in ("SCHEMA", "MANIFEST", "VOCABULARY", "EASE", "HISTORY", "USER", "RANKER"):
        assert getattr(files, name) == getattr(release_files, name), name
    assert release_files.USER_OUTPUTS == tower.USER_OUTPUTS
    assert (POPULARITY, EASE) == (tower.POPULARITY, tower.EASE)


def test_a_device_needs_numpy_and_onnx_runtime_alone() -> None:
    import sys

    allowed = {*sys.stdlib_module_names, "numpy", "onnxruntime"}
    shared = ("errors", "straight_http")
    for path in (*sorted(PACKAGE.glob("*.py")), *(PACKAGE.parent / f"{name}.py" for name in shared)):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                ours = name.removeprefix("streams.") in shared or name.startswith("streams.on_device")
                assert ours or name.partition(".")[0] in allowed, (path.name, name)
