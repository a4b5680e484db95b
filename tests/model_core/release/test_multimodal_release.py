"""A release of items with pictures and sounds, whose graph was embedded first."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model_core.data.datasets import Dataset, Item, load_recbole
from model_core.graph.node_embeddings import FAMILIES
from model_core.inputs.corpus import Corpus, make_corpus
from model_core.inputs.replay import item_batch
from model_core.network.config import CO_VISITS, FUSIONS, GRAPH_EMBEDDINGS, TrainConfig
from model_core.network.fusion import MODES
from model_core.release.scorer import Scorer
from model_core.training.train import train_release
from tests.model_core.tiny import CONFIG, N_ITEMS, WEIGHTS, Texts, dataset

IMAGE_DIM, AUDIO_DIM = 6, 5


def seen_and_heard(item: Item, row: int) -> Item:
    """Every second item has an image, every third a sound."""
    rng = np.random.default_rng(row)
    return replace(
        item,
        image=rng.normal(size=IMAGE_DIM).astype(np.float32) if row % 2 else None,
        audio=rng.normal(size=AUDIO_DIM).astype(np.float32) if row % 3 == 0 else None,
    )


def corpus(data: Dataset) -> Corpus:
    actions = ["like" if rating >= 3 else "view" for rating in data.interactions.ratings]
    return make_corpus(data, actions, WEIGHTS, Texts(), CONFIG.n_neighbours)


@pytest.fixture(scope="module")
def multimodal() -> Corpus:
    plain = dataset()
    items = [seen_and_heard(item, row) for row, item in enumerate(plain.items)]
    return corpus(replace(plain, items=items))


@pytest.fixture(scope="module")
def scorer(multimodal: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    out = tmp_path_factory.mktemp("release") / "multimodal"
    train = TrainConfig(epochs=1, graph_embedding="distmult", graph_epochs=5, modality_dropout=0.3)
    train_release(multimodal, WEIGHTS, out, config=replace(CONFIG, fusion="joint"), train=train)
    return Scorer(out)


def test_a_corpus_has_zero_rows_where_a_modality_is_missing(multimodal: Corpus) -> None:
    assert multimodal.image.shape == (N_ITEMS, IMAGE_DIM)
    batch = item_batch(multimodal)
    assert batch.image_mask.tolist() == [row % 2 == 1 for row in range(N_ITEMS)]
    assert batch.audio_mask.tolist() == [row % 3 == 0 for row in range(N_ITEMS)]


def test_the_release_reads_images_and_sounds(multimodal: Corpus, scorer: Scorer) -> None:
    assert (scorer.release.image_dim, scorer.release.audio_dim) == (IMAGE_DIM, AUDIO_DIM)
    batch = item_batch(multimodal)
    whole = scorer.encode_items(batch)
    blind = scorer.encode_items(replace(batch, image_mask=np.zeros(N_ITEMS, np.bool_)))
    changed = np.abs(whole - blind).max(1) > 1e-5
    assert changed.tolist() == batch.image_mask.tolist()


def test_what_stands_behind_a_mask_changes_nothing(multimodal: Corpus, scorer: Scorer) -> None:
    batch = item_batch(multimodal)
    noise = np.random.default_rng(3).normal(size=batch.image.shape).astype(np.float32)
    noisy = np.where(batch.image_mask[:, None], batch.image, 1e3 * noise)
    np.testing.assert_array_equal(
        scorer.encode_items(batch), scorer.encode_items(replace(batch, image=noisy))
    )


def test_embeddings_of_another_width_do_not_count_and_nan_is_refused(
    caplog: pytest.LogCaptureFixture,
) -> None:
    plain = dataset()
    items = [
        replace(item, image=np.ones(3 if row else 4, np.float32)) for row, item in enumerate(plain.items)
    ]
    made = corpus(replace(plain, items=items))
    assert made.image.shape == (N_ITEMS, 3)
    assert not made.image[0].any()
    assert "image embeddings must have one width" in caplog.text
    items[5] = replace(items[5], image=np.array([1, np.nan, 0], np.float32))
    with pytest.raises(ValueError, match="image of item 'i5' must be finite, got NaN"):
        corpus(replace(plain, items=items))


def test_a_folder_may_hold_embeddings(tmp_path: Path) -> None:
    (tmp_path / "a.inter").write_text(
        "user_id:token\titem_id:token\ttimestamp:float\nu\ti\t1\nu\tj\t2\n", encoding="utf-8"
    )
    (tmp_path / "a.image").write_text("item_id:token\timage:float_seq\nj\t0.5 -1 2\n", encoding="utf-8")
    items = {item.item_id: item for item in load_recbole(tmp_path).items}
    assert items["i"].image is None
    np.testing.assert_array_equal(items["j"].image, np.array([0.5, -1, 2], np.float32))
    (tmp_path / "a.image").write_text("item_id:token\timage:float_seq\nj\t0.5 x\n", encoding="utf-8")
    with pytest.raises(ValueError, match="a.image column 'image' must hold numbers"):
        load_recbole(tmp_path)


def test_the_configuration_names_every_way_there_is() -> None:
    assert FUSIONS == MODES
    assert ("none", CO_VISITS, *FAMILIES) == GRAPH_EMBEDDINGS
