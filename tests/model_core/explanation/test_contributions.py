"""Explanations of a tiny trained release that has every modality but sound."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from model_core.data.batches import ItemBatch, ScoreBatch, sparse_eligible
from model_core.data.datasets import Dataset, Interactions, Item
from model_core.explanation import shapley as sampling
from model_core.explanation.contributions import Attribution, explain, explain_steps, split_signal
from model_core.inputs.corpus import make_corpus
from model_core.network.config import ModelConfig, TrainConfig
from model_core.release.baseline import BaselineScorer
from model_core.release.scorer import Scorer
from model_core.training.train import train_release
from tests.model_core.tiny import with_signals

WEIGHTS = {"view": 0.2, "like": 2.0}
N_ITEMS, N_EVENTS, IMAGE = 40, 500, 4
CONFIG = ModelConfig(
    dim=16, layers=1, history_length=14, n_neighbours=4, n_affinities=4, feature_dim=12, n_candidates=100
)


class Texts:
    """A text encoder that needs no weights: vectors by the text's hash."""

    name, fingerprint, dim = "texts", "0", 8

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        rows = [np.random.default_rng(sum(map(ord, text))).normal(size=self.dim) for text in texts]
        return np.array(rows, np.float32).reshape(len(texts), self.dim)


def image(item: int) -> NDArray[np.float32]:
    return np.random.default_rng(item).normal(size=IMAGE).astype(np.float32)


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    rng = np.random.default_rng(0)
    users = rng.integers(20, size=N_EVENTS)
    items = (rng.integers(N_ITEMS // 2, size=N_EVENTS) * 2 + users % 2) % N_ITEMS
    interactions = Interactions(
        np.array([f"u{u}" for u in users]),
        np.array([f"i{i}" for i in items]),
        rng.integers(1, 6, N_EVENTS).astype(np.float32),
        1_700_000_000_000 + 60_000 * np.arange(N_EVENTS, dtype=np.int64),
    )
    described = [
        Item(f"i{i}", f"Item {i}", {"kind": [f"k{i % 2}"], "maker": [f"m{i % 5}"]}, image=image(i))
        for i in range(N_ITEMS)
    ]
    actions = ["like" if rating >= 3 else "view" for rating in interactions.ratings]
    data = Dataset("tiny", interactions, described, [])
    out = tmp_path_factory.mktemp("explained") / "tiny"
    encoder: Any = Texts()
    corpus = make_corpus(data, actions, WEIGHTS, encoder, CONFIG.n_neighbours)
    train_release(corpus, WEIGHTS, out, config=CONFIG, train=TrainConfig(epochs=1, threads=1))
    return Scorer(out)


def described(scorer: Scorer, rows: list[int]) -> ItemBatch:
    """Items as the encoder sees them; every third has no picture, every fourth no links."""
    release, n = scorer.release, len(rows)
    entities = np.zeros((n, release.n_neighbours), np.int64)
    relations = np.zeros((n, release.n_neighbours), np.int64)
    for at, row in enumerate(rows):
        if row % 4:
            entities[at, :2] = release.entity_rows[f"k{row % 2}"], release.entity_rows[f"m{row % 5}"]
            relations[at, :2] = release.relation_rows["kind"], release.relation_rows["maker"]
    return ItemBatch(
        text=Texts().encode([f"Item {row}" for row in rows]),
        text_mask=np.ones(n, np.bool_),
        image=np.stack([image(row) for row in rows]),
        image_mask=np.array([row % 3 > 0 for row in rows]),
        audio=np.zeros((n, 0), np.float32),
        audio_mask=np.zeros(n, np.bool_),
        entities=entities,
        relations=relations,
        edge_mask=entities > 0,
        id_rows=np.array([release.item_rows[f"i{row}"] for row in rows], np.int64),
    )


@pytest.fixture(scope="module")
def items(scorer: Scorer) -> NDArray[np.float32]:
    return scorer.encode_items(described(scorer, list(range(N_ITEMS))))


def request(scorer: Scorer, history: list[int], seed: int = 0, *, entities: int = 2) -> ScoreBatch:
    release, rng = scorer.release, np.random.default_rng(seed)
    length = release.history_length
    rows = np.full((1, length), -1)
    rows[0, length - len(history) :] = history
    known = rows >= 0
    near = np.zeros((1, release.n_affinities), np.int64)
    near[0, :entities] = rng.choice(len(release.entity_rows), entities, replace=False) + 1
    return ScoreBatch(
        history=rows,
        history_actions=rng.integers(1, 3, (1, length)) * known,
        history_age_s=(np.sort(rng.random((1, length)) * 1e6)[:, ::-1] * known).astype(np.float32),
        user_entities=near,
        user_entity_weights=(rng.random(near.shape) * (near > 0)).astype(np.float32),
        **with_signals(rng.random((1, release.n_signals, N_ITEMS)).astype(np.float32) * 3),
        **sparse_eligible(np.ones((1, N_ITEMS), np.bool_)),
    )


def explained(
    scorer: Scorer, items: NDArray[np.float32], asked: ScoreBatch, row: int, **options: Any
) -> Attribution:
    options = {"rng": np.random.default_rng(0), "tolerance": 0.5, "budget": 64} | options
    parts = options.pop("parts", None) or described(scorer, [row])
    return explain(scorer, asked, items, row, parts, **options)


histories = st.lists(st.integers(0, N_ITEMS - 1), max_size=14)


@settings(max_examples=8)
@given(history=histories, row=st.integers(0, N_ITEMS - 1), seed=st.integers(0, 99))
def test_base_and_contributions_sum_to_the_score_that_is_served(
    scorer: Scorer, items: NDArray[np.float32], history: list[int], row: int, seed: int
) -> None:
    asked = request(scorer, history, seed)
    found = explained(scorer, items, asked, row)
    served = scorer.score(asked, items)
    score = float(served.scores[0][served.rows[0] == row][0])
    assert found.score == pytest.approx(score, abs=1e-6)
    logit = float(np.log(score) - np.log1p(-score))
    assert found.base + found.contributions.sum() == pytest.approx(logit, abs=1e-4)
    assert abs(found.difference) < 1e-4
    met = {player.key for player in found.players if player.kind == "history"}
    assert met == set(history)


def test_every_step_before_the_last_is_one_short_run(scorer: Scorer, items: NDArray[np.float32]) -> None:
    asked = request(scorer, [1, 2, 3])
    steps = explain_steps(
        scorer, asked, items, 5, described(scorer, [5]), rng=np.random.default_rng(0), chunk=4
    )
    done = list(steps)
    assert done[-1] is not None
    assert not any(done[:-1])
    # 5 outer players, so 32 coalitions; 7 inner ones, whose 128 subsets take two requests; 4 requests a step.
    # The score as served comes first.
    assert done[-1].runs == 1 + 2 * 32
    assert len(done) - 1 == 1 + 2 * 32 // 4


def test_a_part_that_is_missing_adds_nothing(scorer: Scorer, items: NDArray[np.float32]) -> None:
    parts = described(scorer, [5])
    bare = replace(parts, image_mask=np.zeros(1, np.bool_), id_rows=np.zeros(1, np.int64))
    vectors = items.copy()
    vectors[5] = scorer.encode_items(bare)[0]
    asked = request(scorer, [1, 2])
    asked.popularity[5] = 0
    found = explained(scorer, vectors, asked, 5, parts=bare)
    assert abs(found.difference) < 1e-4
    assert found.of("modality", "image") == found.of("modality", "id") == (0.0, 0.0)
    assert found.of("signal", "popularity") == (0.0, 0.0)
    whole = explained(scorer, items, asked, 5)
    for name in ("text", "graph", "id", "image"):
        assert whole.of("modality", name)[0] != 0.0


def test_an_empty_history_adds_nothing_and_all_else_is_exact(
    scorer: Scorer, items: NDArray[np.float32]
) -> None:
    found = explained(scorer, items, request(scorer, [], entities=0), 7)
    assert {player.kind for player in found.players} == {"modality", "signal"}
    assert found.orders == 0
    assert not found.errors.any()
    assert abs(found.difference) < 1e-4


def test_padding_changes_nothing_whatever_it_holds_and_wherever_it_lies(
    scorer: Scorer, items: NDArray[np.float32]
) -> None:
    asked = request(scorer, [1, 2, 3])
    noisy = replace(
        asked, history_actions=asked.history_actions.copy(), history_age_s=asked.history_age_s.copy()
    )
    noisy.history_actions[asked.history < 0] = 1
    noisy.history_age_s[asked.history < 0] = 7e6
    before, after = explained(scorer, items, asked, 5), explained(scorer, items, noisy, 5)
    np.testing.assert_allclose(after.contributions, before.contributions, atol=1e-6)


def test_an_event_taken_away_is_one_that_never_was(scorer: Scorer, items: NDArray[np.float32]) -> None:
    """The sampled players' coalitions are ordinary requests: the last one without an item is that request."""
    history = [3, 9, 3, 8]
    asked = request(scorer, history, entities=0).without_signals()
    asked.popularity[:] = 0
    bare = described(scorer, [4])
    bare = replace(bare, text_mask=bare.image_mask & False, id_rows=bare.id_rows * 0)  # 4 has no links
    bare = replace(bare, image_mask=np.zeros(1, np.bool_))
    vectors = items.copy()
    vectors[4] = scorer.encode_items(bare)[0]
    found = explained(scorer, vectors, asked, 4, parts=bare)
    kept = asked.history != 3
    ages = asked.history_age_s[kept & (asked.history >= 0)]
    without = request(scorer, [9, 8], entities=0).without_signals()
    without.popularity[:] = 0
    without.history_age_s[0, -2:] = ages
    without.history_actions[0, -2:] = asked.history_actions[kept & (asked.history >= 0)]
    less = explained(scorer, vectors, without, 4, parts=bare)
    # Of three players a, b, c: value without c = base + everything that a and b get in a game of their own.
    assert [player.key for player in found.players] == [8, 3, 9]
    assert [player.key for player in less.players] == [8, 9]
    assert less.base == pytest.approx(found.base, abs=1e-6)
    assert abs(less.difference) < 1e-4
    assert abs(found.difference) < 1e-4
    assert found.value != pytest.approx(less.value, abs=1e-6)


def test_sampled_contributions_agree_with_exact_ones_within_their_errors(
    scorer: Scorer, items: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = request(scorer, [1, 2, 3, 4, 5, 6])
    exact = explained(scorer, items, asked, 9)
    assert exact.orders == 0
    monkeypatch.setattr(sampling, "EXACT_OUTER", 0)
    sampled = explained(scorer, items, asked, 9, tolerance=0.0, budget=400)
    assert sampled.orders > 0
    assert sampled.errors.min() > 0
    assert (np.abs(sampled.contributions - exact.contributions) < 4 * sampled.errors + 1e-5).all()


def test_the_same_seed_explains_alike(scorer: Scorer, items: NDArray[np.float32]) -> None:
    asked = request(scorer, list(range(12)))
    first, second = (explained(scorer, items, asked, 9) for _ in range(2))
    np.testing.assert_array_equal(first.contributions, second.contributions)
    assert first.orders > 0


def test_without_a_release_the_level_is_taken_apart_exactly(
    scorer: Scorer, items: NDArray[np.float32]
) -> None:
    asked, row = request(scorer, [1, 2]), 6
    found = explain(
        BaselineScorer(), asked, items, row, described(scorer, [row]), rng=np.random.default_rng(0)
    )
    covisits, popularity = asked.signals_of(0, row)[:2].tolist()
    assert found.unit == "level"
    assert found.base == 0.0
    assert found.of("signal", "covisits")[0] == pytest.approx(covisits)
    assert found.of("signal", "popularity")[0] == pytest.approx(0.01 * popularity, rel=1e-4)
    assert abs(found.difference) < 1e-5
    assert found.value == pytest.approx(found.score / (1 - found.score))


@given(st.lists(st.floats(-1, 1), max_size=8), st.floats(-3, 3))
def test_a_signal_is_shared_out_whole(parts: list[float], contribution: float) -> None:
    shared = split_signal(contribution, np.array(parts, np.float64))
    if sum(parts) > 1e-6:
        assert shared.sum() == pytest.approx(contribution, abs=1e-6)
    if np.sum(parts) <= 0:
        assert not shared.any()


def test_what_cannot_be_explained_is_refused(scorer: Scorer, items: NDArray[np.float32]) -> None:
    asked = request(scorer, [1])
    with pytest.raises(ValueError, match=r"row must be in \[0, 40\), got 40"):
        explained(scorer, items, asked, 40, parts=described(scorer, [1]))
    with pytest.raises(ValueError, match="must hold one row each, got 1 and 2"):
        explained(scorer, items, asked, 1, parts=described(scorer, [1, 2]))
