from pathlib import Path

import numpy as np
import pytest
import torch

from model_core.language.backbone import Backbone, LoraSettings
from tests.tiny_encoder import exported

TEXTS = ["space robots part 1", "love", "court trial ; space robots . love letters part 4", "letters part 59"]


def adapted(name: str) -> Backbone:
    """A backbone whose adapters have been moved away from their start, where they change nothing."""
    backbone = Backbone(name, max_tokens=32, lora=LoraSettings(rank=4)).eval()
    generator = torch.Generator().manual_seed(1)
    for key, value in backbone.named_parameters():
        if "lora_B" in key:
            value.data.normal_(std=0.05, generator=generator)
    return backbone


def vectors(backbone: Backbone) -> np.ndarray:
    with torch.inference_mode():
        return backbone.encode(TEXTS).numpy()


@pytest.mark.parametrize("name", ["tiny", "minilm"])
def test_the_merged_folder_encodes_as_the_adapted_model_does(tiny: str, tmp_path: Path, name: str) -> None:
    backbone = adapted(tiny if name == "tiny" else name)
    wanted = vectors(backbone)
    backbone.save(tmp_path / "encoder")
    served = exported(str(tmp_path / "encoder"), tmp_path / "served", max_tokens=32).encode(TEXTS)
    np.testing.assert_allclose(served, wanted, atol=1e-5)
    untrained = exported(tiny if name == "tiny" else name, tmp_path / "untrained").encode(TEXTS)
    assert np.abs(untrained - wanted).max() > 1e-2


def test_saving_leaves_the_adapters_to_train_on_and_no_pickle(tiny: str, tmp_path: Path) -> None:
    backbone = adapted(tiny)
    before = vectors(backbone)
    trained = {name for name, value in backbone.named_parameters() if value.requires_grad}
    backbone.save(tmp_path / "encoder")
    assert {name for name, value in backbone.named_parameters() if value.requires_grad} == trained
    assert all("lora_" in name for name in trained)
    np.testing.assert_array_equal(vectors(backbone), before)
    suffixes = {path.suffix for path in (tmp_path / "encoder").iterdir()}
    assert suffixes == {".json", ".safetensors"}


def test_whole_training_moves_every_weight(tiny: str) -> None:
    assert all(value.requires_grad for value in Backbone(tiny, max_tokens=32).parameters())


def test_a_text_has_the_same_vector_in_any_batch(tiny: str) -> None:
    backbone = Backbone(tiny, max_tokens=32).eval()
    with torch.inference_mode():
        alone = torch.cat([backbone.encode([text]) for text in TEXTS])
        together = backbone.encode(TEXTS, batch_size=2)
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)


def test_an_encoder_that_is_not_there_is_refused_with_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="text_encoder must be 'minilm', a folder with a transformer, or"):
        Backbone(str(tmp_path / "none"))


def test_more_tokens_than_the_encoder_reads_are_refused(tiny: str) -> None:
    with pytest.raises(ValueError, match=r"max_tokens must be in \[4, 64\] for .*, got 65"):
        Backbone(tiny, max_tokens=65)


def test_adapters_without_rank_are_refused() -> None:
    with pytest.raises(ValueError, match="lora rank must be at least 1, got 0"):
        LoraSettings(rank=0)
