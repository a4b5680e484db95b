"""What holds for every release whatever it is asked, beyond what test_release.py says."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from model_core.data.batches import ItemBatch, ScoreBatch, dense_signals, sparse_eligible
from model_core.data.vocabulary import Vocabulary
from model_core.evaluation.evaluate import ease_by_rows, future, rank, start_replay
from model_core.inputs.corpus import make_corpus
from model_core.inputs.replay import item_features
from model_core.network.item_encoder import ItemEncoder
from model_core.network.ranker import Ranker
from model_core.release import export
from model_core.release.export import compare_graphs, example_items, example_requests, export_release
from model_core.release.folder import EASE, MAPPING, read_release
from model_core.release.scorer import Graphs, Scorer, Scores, open_session
from model_core.release.served import dense_inputs
from model_core.signals.config import SignalConfig
from model_core.signals.sample_signals import fit_log, map_log
from tests.model_core.tiny import CONFIG, N_ITEMS, WEIGHTS, Texts, corpus, dataset, requests, with_signals

LARGEST = 32


def by_item(scores: Scores, request: int = 0) -> dict[int, float]:
    valid = scores.valid[request]
    return dict(
        zip(scores.rows[request][valid].tolist(), scores.scores[request][valid].tolist(), strict=True)
    )


def test_scores_go_with_their_items_when_the_catalogue_is_permuted(scorer: Scorer, vectors: Any) -> None:
    batch = requests(scorer, 3)
    order = np.random.default_rng(5).permutation(N_ITEMS)
    place = np.argsort(order)
    moved = replace(
        batch,
        history=np.where(batch.history >= 0, place[batch.history], -1),
        **with_signals(dense_signals(batch)[:, :, order]),
    )
    plain, permuted = scorer.score(batch, vectors), scorer.score(moved, vectors[order])
    for request in range(3):
        expected = {int(place[item]): score for item, score in by_item(plain, request).items()}
        assert by_item(permuted, request) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("left", [1, 9, 10, 11])
def test_no_ineligible_item_fills_a_list_that_runs_short(left: int, scorer: Scorer, vectors: Any) -> None:
    batch = requests(scorer, 8)
    rng = np.random.default_rng(left)
    eligible = np.zeros((8, N_ITEMS), np.bool_)
    for row in eligible:
        row[rng.choice(N_ITEMS, left, replace=False)] = True
    # What is barred looks better than anything else.
    signals = np.where(eligible[:, None], dense_signals(batch), 1e4).astype(np.float32)
    signals[:, 1] = batch.popularity
    parts = with_signals(signals) | sparse_eligible(eligible, np.arange(8) % 2 == 0)
    scores = scorer.score(replace(batch, **parts), vectors)
    for request in range(8):
        top = scores.rows[request, :10][scores.valid[request, :10]]
        assert len(top) == min(left, 10)
        assert eligible[request, top].all()


def strangers(scorer: Scorer, n: int, **parts: Any) -> ItemBatch:
    k = scorer.release.n_neighbours
    none, absent = np.zeros((n, 0), np.float32), np.zeros(n, np.bool_)
    whole: dict[str, Any] = {
        "text": np.zeros((n, Texts.dim), np.float32), "text_mask": absent, "image": none,
        "image_mask": absent, "audio": none, "audio_mask": absent, "entities": np.zeros((n, k), np.int64),
        "relations": np.zeros((n, k), np.int64), "edge_mask": np.zeros((n, k), np.bool_),
        "id_rows": np.zeros(n, np.int64),
    }  # fmt: skip
    return ItemBatch(**whole | parts)


def test_an_item_of_which_nothing_is_known_can_be_ranked(scorer: Scorer, vectors: Any) -> None:
    blank = scorer.encode_items(strangers(scorer, 2))
    assert np.isfinite(blank).all()
    np.testing.assert_array_equal(blank[0], blank[1])
    catalogue = np.concatenate((vectors, blank))
    scores = scorer.score(requests(scorer, 2, n_items=N_ITEMS + 2), catalogue)
    assert set(by_item(scores)) == set(range(N_ITEMS + 2))
    assert np.isfinite(scores.scores[scores.valid]).all()


def test_edges_to_entities_that_the_release_does_not_know_count_for_nothing(scorer: Scorer) -> None:
    shape = (1, scorer.release.n_neighbours)
    text = {"text": Texts().encode(["a thing"]), "text_mask": np.ones(1, np.bool_)}
    plain = scorer.encode_items(strangers(scorer, 1, **text))
    rng = np.random.default_rng(0)
    masked = scorer.encode_items(
        strangers(scorer, 1, **text, entities=rng.integers(1, 3, shape), relations=np.ones(shape, np.int64))
    )
    np.testing.assert_allclose(masked, plain, atol=1e-6)


def test_a_user_without_an_event_is_answered_like_everyone_else(scorer: Scorer) -> None:
    data = corpus(dataset())
    asked = data.log.users[0]
    kept = data.log.users != asked
    log = replace(data.log, **{
        name: getattr(data.log, name)[kept] for name in ("users", "items", "actions", "positive", "times_ms")
    })  # fmt: skip
    replay, vectors = start_replay(scorer, replace(data, log=log))
    replay.advance(len(log))
    scores = scorer.score(replay.requests(np.array([asked]), log.times_ms[-1:]), vectors)
    assert len(by_item(scores)) == N_ITEMS
    assert np.isfinite(scores.features[scores.valid]).all()


def test_a_catalogue_in_another_order_with_an_unknown_item_is_ranked_the_same(scorer: Scorer) -> None:
    data, release = dataset(), scorer.release
    order = np.random.default_rng(3).permutation(N_ITEMS)
    unknown = replace(data.items[0], item_id="unknown", title="Unknown")
    other = replace(data, items=[unknown, *(data.items[i] for i in order)])
    actions = ["like" if rating >= 3 else "view" for rating in data.interactions.ratings]
    names = Vocabulary(release.item_rows, release.entity_rows, release.relation_rows)
    lists = []
    for made in (
        corpus(data),
        make_corpus(other, actions, WEIGHTS, Texts(), CONFIG.n_neighbours, known=names),
    ):
        replay, vectors = start_replay(scorer, made)
        replay.advance(700)
        ids = np.array(list(made.vocabulary.item_rows))
        ranked = rank(scorer, replay, vectors, future(made.log, 700), k=5, among=ids != "unknown")
        lists.append(ids[ranked.tops["slatestream"]])
    np.testing.assert_array_equal(lists[0], lists[1])


def test_ease_by_other_rows_has_the_same_weights(scorer: Scorer) -> None:
    rows = np.concatenate(([0], np.random.default_rng(1).permutation(N_ITEMS) + 1))
    moved = ease_by_rows(scorer.ease, rows).dense()
    np.testing.assert_array_equal(moved[1:, 1:], scorer.ease.dense()[np.ix_(rows[1:] - 1, rows[1:] - 1)])
    assert not moved[0].any()
    assert not moved[:, 0].any()


def test_ease_and_its_mapping_are_the_same_bytes_in_a_second_fit(folder: Path, tmp_path: Path) -> None:
    n, data = read_release(folder).training["interactions"], corpus(dataset())
    for name, fit in ((EASE, fit_log), (MAPPING, map_log)):
        fit(data.log.first(n), SignalConfig(), item_features(data)).save(tmp_path / name)
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ItemEncoder, Ranker]:
    """Networks whose every part says something, and their graphs."""
    torch.manual_seed(0)
    config = replace(CONFIG, text_dim=Texts.dim, n_candidates=40)
    encoder = ItemEncoder(config, N_ITEMS, 20, 3)
    ranker = Ranker(config, encoder.entities, tuple(WEIGHTS.values()), 0.0)
    with torch.no_grad():
        for parameter in (*encoder.parameters(), *ranker.parameters()):
            parameter.add_(0.1 * torch.randn_like(parameter))
        for value in encoder.content.buffers():  # and of half the items what training did not meet
            value.normal_(std=0.5)
        encoder.met.copy_(torch.arange(N_ITEMS + 1) % 2 == 1)
    folder = tmp_path_factory.mktemp("graphs")
    export_release(folder, encoder, ranker, largest_batch=LARGEST, n_items=200)
    return folder, encoder, ranker


def test_of_items_that_tie_at_the_edge_of_retrieval_the_graphs_may_take_others(
    tmp_path: Path, exported: tuple[Path, ItemEncoder, Ranker]
) -> None:
    _, encoder, ranker = exported
    level = deepcopy(ranker)  # nothing tells items apart but whether they are new
    with torch.no_grad():
        for value in (*level.user.parameters(), level.item_bias, level.gains_here, level.gains_away):
            value.zero_()
    assert export_release(tmp_path, encoder, level, largest_batch=7, n_items=200)["ranker"] < 1e-4


def test_graphs_that_take_worse_items_are_refused(
    exported: tuple[Path, ItemEncoder, Ranker], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Backwards(Graphs):
        def score(self, batch: ScoreBatch, vectors: Any) -> Scores:
            return super().score(batch, -vectors)

    folder, encoder, ranker = exported
    monkeypatch.setattr(export, "Graphs", Backwards)
    with pytest.raises(ValueError, match="must retrieve torch's candidates"):
        compare_graphs(folder, encoder, ranker, largest_batch=7, n_items=200)


def outputs(path: Path, inputs: dict[str, torch.Tensor]) -> Sequence[NDArray[Any]]:
    session = open_session(path, threads=1, exact=True)
    found: Sequence[NDArray[Any]] = session.run(None, {name: value.numpy() for name, value in inputs.items()})
    return found


@pytest.mark.parametrize("b", [1, 7, LARGEST])
@pytest.mark.parametrize("n_items", [40, 333, 5000])
def test_what_is_served_equals_torch_at_sizes_it_was_not_exported_with(
    b: int, n_items: int, exported: tuple[Path, ItemEncoder, Ranker]
) -> None:
    folder, encoder, ranker = exported
    batch = example_requests(ranker, 20, b, n_items, seed=9)
    with torch.inference_mode():
        vectors = encoder(**example_items(encoder, n_items, seed=8))
        wanted = [value.numpy() for value in ranker(vectors, **dense_inputs(batch))]
    graphs = Graphs(folder, n_candidates=40, exact=True)
    got = graphs.score(batch, vectors.numpy())
    for request in range(b):
        rows, valid = wanted[0][request], wanted[1][request]
        assert got.valid[request, : valid.sum()].all()
        assert got.valid[request].sum() == valid.sum()
        ours = {row: at for at, row in enumerate(got.rows[request, : valid.sum()].tolist())}
        at = [ours[row] for row in rows[valid].tolist()]
        for left, right in zip((got.scores, got.logits, got.features), wanted[2:], strict=True):
            assert np.abs(left[request, at] - right[request, valid]).max(initial=0.0) < 1e-5


@pytest.mark.parametrize("n", [1, 7, 100])
def test_the_item_graph_equals_torch_at_sizes_it_was_not_exported_with(
    n: int, exported: tuple[Path, ItemEncoder, Ranker]
) -> None:
    folder, encoder, _ = exported
    inputs = example_items(encoder, n, seed=4)
    with torch.inference_mode():
        wanted = encoder(**inputs).numpy()
    assert np.abs(outputs(folder / "item_encoder.onnx", inputs)[0] - wanted).max() < 1e-4


def test_sizes_of_batch_catalogue_and_candidates_are_open_in_all_graphs(
    exported: tuple[Path, ItemEncoder, Ranker],
) -> None:
    of_item = ("id_rows", "text", "text_mask", "entities", "relations", "edge_mask")
    of_user = ("last", "idle_s", "told", "user_entities", "user_entity_weights")
    free: dict[str, dict[str, tuple[int, ...]]] = {
        "item_encoder.onnx": dict.fromkeys(of_item, (0,)),
        "history.onnx": dict.fromkeys(("tokens", "actions", "gap_s"), (0, 1)),
        "user.onnx": dict.fromkeys(of_user, (0,)),
        "match.onnx": {"match": (0,), "items": (0,)},
        "ranker.onnx": {
            "user": (0,), "states": (0, 1), "shut": (0, 1), "vectors": (0, 1), "retrieved": (0, 1),
            "head_gain": (0, 1), "signals": (0, 1),
        },
    }  # fmt: skip
    for name, axes in free.items():
        graph = onnx.load(exported[0] / name).graph
        assert {value.name for value in graph.input} == axes.keys()
        for value in graph.input:
            open_axes = [axis for axis, dim in enumerate(value.type.tensor_type.shape.dim) if dim.dim_param]
            assert tuple(open_axes) == axes[value.name], value.name
