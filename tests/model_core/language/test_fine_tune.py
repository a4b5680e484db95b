from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model_core.language.backbone import LoraSettings
from model_core.language.fine_tune import (
    Examples,
    FineTuneConfig,
    FineTuned,
    candidate_chance,
    fine_tune,
    fine_tune_fingerprint,
    next_likes,
    softmax_loss,
    split_examples,
)
from model_core.language.loop import LoopConfig
from model_core.language.text_pairs import TextLog
from model_core.language.user_reader import UserReader
from model_core.training.checkpoint import Checkpoint
from tests.tiny_encoder import exported


def config(tiny: str, **loop: object) -> FineTuneConfig:
    steps = LoopConfig(epochs=3, batch_size=32, learning_rate=5e-3)
    return FineTuneConfig(
        encoder=tiny,
        max_tokens=16,
        history=5,
        negatives=16,
        max_examples=256,
        max_validation=100,
        loop=replace(steps, **loop),  # type: ignore[arg-type]
    )


def parts(log: TextLog) -> tuple[Examples, Examples]:
    return split_examples(next_likes(log, 5))


def weights(tuned: FineTuned) -> dict[str, np.ndarray]:
    modules = {"encoder": tuned.backbone, "reader": tuned.reader}
    return {
        f"{part}.{name}": value.detach().numpy().copy()
        for part, module in modules.items()
        for name, value in module.named_parameters()
    }


def test_with_every_item_a_candidate_the_loss_is_the_whole_cross_entropy() -> None:
    logits = torch.randn(4, 7, generator=torch.Generator().manual_seed(0))
    place = torch.tensor([0, 6, 3, 3])
    loss = softmax_loss(logits, torch.ones(7), torch.zeros(4, 7, dtype=torch.bool), place)
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(logits, place, reduction="none"))


def test_items_that_the_user_liked_too_do_not_compete() -> None:
    logits = torch.tensor([[1.0, 5.0, 2.0]])
    never = torch.tensor([[True, True, False]])
    loss = softmax_loss(logits, torch.ones(3), never, torch.tensor([0]))
    torch.testing.assert_close(
        loss, torch.nn.functional.cross_entropy(logits[:, [0, 2]], torch.tensor([0]))[None]
    )


def test_the_corrected_sum_over_drawn_candidates_is_that_over_all_items_on_average() -> None:
    rng = np.random.default_rng(0)
    scores, frequency, batch, drawn = rng.normal(size=30), rng.dirichlet(np.full(30, 0.3)), 8, 5
    target = 4
    chance = candidate_chance(frequency, 30, batch, drawn)
    sums = []
    for _ in range(1200):
        others = rng.choice(30, batch - 1, p=frequency)
        candidates = np.unique(np.concatenate([[target], others, rng.choice(30, drawn)]))
        place = torch.tensor([int(np.searchsorted(candidates, target))])
        logits = torch.as_tensor(scores[candidates])[None]
        never = torch.zeros(1, len(candidates), dtype=torch.bool)
        loss = softmax_loss(logits, torch.as_tensor(chance[candidates]), never, place)
        sums.append(float(torch.exp(loss + scores[target])))
    error = np.std(sums) / len(sums) ** 0.5
    assert abs(np.mean(sums) - np.exp(scores).sum()) < 3 * error


def test_an_untrained_reader_is_the_mean_and_padding_changes_nothing() -> None:
    torch.manual_seed(0)
    reader = UserReader(6).eval()
    vectors = torch.nn.functional.normalize(torch.randn(2, 3, 6), dim=-1)
    mask = torch.tensor([[False, True, True], [False, False, False]])
    read = reader(vectors, mask)
    torch.testing.assert_close(read[0], torch.nn.functional.normalize(vectors[0, 1:].mean(0), dim=0))
    assert not read[1].any()
    torch.nn.init.normal_(reader.outside.weight)
    changed = vectors.clone()
    changed[0, 0] = torch.nan
    torch.testing.assert_close(reader(changed, mask), reader(vectors, mask))
    assert torch.isfinite(reader(vectors, mask)).all()


@pytest.mark.parametrize("lora", [None, LoraSettings(rank=4)], ids=["full", "lora"])
def test_fine_tuning_finds_later_likes_better_and_its_folder_serves_it(
    tiny: str, log: TextLog, tmp_path: Path, lora: LoraSettings | None
) -> None:
    tuned = fine_tune(log, parts(log), replace(config(tiny), lora=lora), device="cpu")
    start = fine_tune(log, parts(log), config(tiny, epochs=1, learning_rate=1e-12), device="cpu")
    best = tuned.history[tuned.best_epoch]
    assert best["validation_loss"] < start.history[0]["validation_loss"] - 0.1
    tuned.save(tmp_path / "encoder")
    with torch.inference_mode():
        wanted = tuned.backbone.encode(log.titles).numpy()
    served = exported(str(tmp_path / "encoder"), tmp_path / "served").encode(log.titles)
    np.testing.assert_allclose(served, wanted, atol=1e-5)


def test_a_killed_fine_tuning_goes_on_and_ends_with_the_same_weights(
    tiny: str, log: TextLog, tmp_path: Path
) -> None:
    wanted_config = replace(config(tiny), lora=LoraSettings(rank=2, dropout=0.1), max_examples=96)
    whole = fine_tune(log, parts(log), wanted_config, device="cpu")
    checkpoint = Checkpoint(tmp_path / "state", fine_tune_fingerprint(log, wanted_config))

    def kill(stage: str, done: float) -> None:
        if done > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fine_tune(log, parts(log), wanted_config, device="cpu", checkpoint=checkpoint, report=kill)
    saved = checkpoint.load()
    assert saved is not None
    assert len(saved["history"]) == 1
    again = fine_tune(log, parts(log), wanted_config, device="cpu", checkpoint=checkpoint)
    assert again.history == whole.history
    for name, value in weights(whole).items():
        np.testing.assert_array_equal(weights(again)[name], value)


def test_what_was_shown_beside_the_target_is_the_softmax_where_it_is_known(tiny: str, log: TextLog) -> None:
    rng = np.random.default_rng(1)
    likes = next_likes(log, 5)
    shown = rng.integers(60, size=(len(likes), 4)).astype(np.int32)
    shown[:, 3] = -1
    shown[shown == likes.targets[:, None]] = -1
    examples = Examples(likes.users, likes.history, likes.targets, shown)
    tuned = fine_tune(log, split_examples(examples), config(tiny, epochs=2), device="cpu")
    first, last = tuned.history[0], tuned.history[-1]
    assert first["validation_loss"] < 3.0  # of four at most, however bad the temperature makes a miss
    assert last["loss"] < first["loss"]


def test_too_few_clicks_are_refused(log: TextLog) -> None:
    with pytest.raises(ValueError, match="must hold at least 3 clicks of users with an earlier click, got 2"):
        split_examples(next_likes(log, 5)[:2])


def test_a_temperature_that_is_not_positive_is_refused() -> None:
    with pytest.raises(ValueError, match="temperature must be positive, got 0"):
        FineTuneConfig(temperature=0)


def test_a_reader_whose_heads_do_not_divide_it_is_refused() -> None:
    with pytest.raises(ValueError, match="width must be a multiple of heads=3, got 128"):
        UserReader(8, heads=3)
