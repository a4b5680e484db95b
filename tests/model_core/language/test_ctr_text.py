from pathlib import Path

import numpy as np
import pytest
import torch

from model_core.language.backbone import Backbone, LoraSettings
from model_core.language.ctr_text import (
    ClickClassifier,
    CtrConfig,
    auc,
    click_metrics,
    history_texts,
    train_ctr,
)
from model_core.language.curves import TensorBoard, plot_epochs
from model_core.language.export_text import export_classifier
from model_core.language.loop import LoopConfig
from model_core.language.onnx_clicks import OnnxClicks
from model_core.language.text_pairs import Pairs, TextLog, make_pairs, split_by_time


def parts(log: TextLog) -> tuple[Pairs, Pairs, Pairs]:
    pairs = make_pairs(log, length=5, negatives=1, rng=np.random.default_rng(0))
    return split_by_time(pairs, 0.1, 0.1)


def test_auc_is_the_share_of_pairs_in_order_with_ties_as_half() -> None:
    rng = np.random.default_rng(0)
    scores, labels = rng.integers(5, size=40).astype(float), rng.random(40) < 0.3
    gap = scores[labels][:, None] - scores[~labels]
    assert auc(scores, labels) == pytest.approx(float(((gap > 0) + 0.5 * (gap == 0)).mean()))
    with pytest.raises(ValueError, match="must hold clicks and others, got 2 clicks and 0 others"):
        auc(np.zeros(2), np.ones(2, np.bool_))


def test_click_metrics_are_those_of_the_probabilities() -> None:
    logits, labels = np.array([2.0, -1.0, 0.5, -3.0]), np.array([True, False, False, True])
    probability = 1 / (1 + np.exp(-logits))
    found = click_metrics(logits, labels)
    wanted = -np.log(np.where(labels, probability, 1 - probability)).mean()
    assert found == pytest.approx({"loss": wanted, "auc": 0.5, "accuracy": 0.5})


@pytest.mark.parametrize("lora", [None, LoraSettings(rank=4)], ids=["full", "lora"])
def test_a_trained_classifier_tells_clicks_from_others_where_popularity_cannot(
    tiny: str, log: TextLog, tmp_path: Path, lora: LoraSettings | None
) -> None:
    config = CtrConfig(
        encoder=tiny,
        max_tokens=40,
        lora=lora,
        history=5,
        max_examples=500,
        max_validation=200,
        loop=LoopConfig(epochs=3, batch_size=32, learning_rate=5e-3),
    )
    result = train_ctr(log, parts(log), config, device="cpu")
    assert result.test["auc"] > 0.75
    assert result.test["auc_popularity"] < 0.65
    assert result.test["loss"] < np.log(2)
    best = result.history[result.best_epoch]
    assert best["validation_auc"] == max(row["validation_auc"] for row in result.history)
    # What is exported says the same as torch does, from plain texts.
    held = parts(log)[2][:6]
    texts = [log.texts[item] for item in held.items.tolist()]
    joined = history_texts(log, held.history)
    result.classifier.save(tmp_path / "out")
    assert export_classifier(tmp_path / "out", result.classifier, joined, texts) < 1e-4
    liked = [[log.titles[row] for row in rows if row >= 0] for rows in held.history.tolist()]
    with torch.inference_mode():
        wanted = torch.sigmoid(result.classifier(**result.classifier.tokens(joined, texts))).numpy()
    found = OnnxClicks(tmp_path / "out").probabilities(liked, texts)
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_the_item_mask_covers_the_items_tokens_only_and_the_oldest_likes_are_cut(
    tiny: str, log: TextLog
) -> None:
    classifier = ClickClassifier(Backbone(tiny, max_tokens=12))
    joined = history_texts(log, np.array([[-1, 2, 0, 1]]))
    assert joined == ["love letters part 1; space robots part 0; court trial part 2"]
    tokens = classifier.tokens(joined, ["court trial part 5"])
    words = classifier.backbone.tokenizer.convert_ids_to_tokens(tokens["input_ids"][0].tolist())
    mask = tokens["item_mask"][0].bool().tolist()
    assert [word for word, own in zip(words, mask, strict=True) if own] == ["court", "trial", "part", "5"]
    assert words[1:3] == ["love", "letters"]
    assert len(words) == 12


def test_a_folder_without_an_exported_classifier_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="classifier must be a folder with classifier.onnx, "):
        OnnxClicks(tmp_path)


def test_curves_become_a_picture_and_a_log(tmp_path: Path) -> None:
    history = [
        {"loss": 1.0, "validation_loss": 1.1, "validation_auc": 0.6},
        {"loss": 0.8, "validation_loss": 1.0, "validation_auc": 0.7},
    ]
    plot_epochs(tmp_path / "curve.png", history, 1)
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    with TensorBoard(tmp_path / "log") as curves:
        curves("epoch/loss", 1.0, 1)
    (file,) = (tmp_path / "log").iterdir()
    assert b"epoch/loss" in file.read_bytes()
