"""An exported text encoder says what its transformer says, and refuses to be anything less."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from transformers import BertTokenizerFast, DistilBertConfig, DistilBertModel

from model_core.language.export_text import check_encoder, export_encoder
from model_core.release.bert_graph import is_bert
from model_core.release.text_encoder import BATCH_TOKENS, TextEncoder, find_source
from tests.tiny_encoder import exported, write_tiny_encoder

TEXTS = ["space robots part 1", "", "love", "court trial ; space robots . love letters part 4", "love " * 90]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    write_tiny_encoder(folder)
    return folder


@pytest.fixture(scope="module")
def export(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "tiny"
    exported(str(tiny), folder)
    return folder


@pytest.mark.parametrize("name", ["tiny", "minilm"])
def test_a_bert_written_without_torch_gives_torchs_vectors(tiny: Path, tmp_path: Path, name: str) -> None:
    encoder = exported(str(tiny) if name == "tiny" else name, tmp_path / "out")
    assert check_encoder(encoder) < 1e-5
    np.testing.assert_allclose(np.linalg.norm(encoder.encode(TEXTS), axis=1), 1.0, atol=1e-5)


def test_both_ways_to_export_give_one_encoder(tiny: Path, export: Path, tmp_path: Path) -> None:
    export_encoder(str(tiny), tmp_path)
    traced, written = TextEncoder(tmp_path), TextEncoder(export)
    assert (traced.name, traced.fingerprint, traced.dim) == (str(tiny), written.fingerprint, written.dim)
    np.testing.assert_allclose(traced.encode(TEXTS), written.encode(TEXTS), atol=1e-6)


def test_a_transformer_of_another_kind_is_traced(tiny: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "distil", tmp_path / "out"
    tokenizer = BertTokenizerFast.from_pretrained(tiny)
    tokenizer.save_pretrained(source)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = DistilBertConfig(vocab_size=len(tokenizer), dim=32, n_layers=1, n_heads=2, hidden_dim=64)
        DistilBertModel(config).save_pretrained(source)
    assert not is_bert(source)
    assert is_bert(tiny)
    out.mkdir()
    export_encoder(str(source), out)
    assert check_encoder(TextEncoder(out)) < 1e-5


def test_the_fingerprint_tells_weights_apart(tiny: Path, export: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    write_tiny_encoder(other, seed=1)
    assert exported(str(other), tmp_path / "out").fingerprint != TextEncoder(export).fingerprint
    assert exported(str(tiny), tmp_path / "again").fingerprint == TextEncoder(export).fingerprint


def test_a_text_has_the_same_vector_in_any_batch(export: Path) -> None:
    encoder = TextEncoder(export)
    many = [TEXTS[n % len(TEXTS)] + f" part {n % 60}" for n in range(BATCH_TOKENS // 16)]
    together = encoder.encode(many)
    alone = np.concatenate([encoder.encode([text]) for text in many[::37]])
    np.testing.assert_allclose(together[::37], alone, atol=1e-6)


def test_no_texts_have_no_vectors(export: Path) -> None:
    assert TextEncoder(export).encode([]).shape == (0, 32)


@pytest.mark.parametrize("name", ["text_encoder.onnx", "tokenizer.json"])
def test_a_missing_or_damaged_file_is_refused_by_name(export: Path, tmp_path: Path, name: str) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(export, broken)
    with (broken / name).open("r+b") as file:
        file.truncate(100)
    with pytest.raises(ValueError, match=rf"{name}' must be (an ONNX graph that can be loaded|a tokenizer)"):
        TextEncoder(broken)
    (broken / name).unlink()
    with pytest.raises(ValueError, match=rf"text encoder '.*broken' must hold {name}, which is missing"):
        TextEncoder(broken)


def test_a_graph_that_is_no_text_encoder_is_refused(export: Path, tmp_path: Path) -> None:
    model = onnx.load(export / "text_encoder.onnx")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "text_encoder.onnx")
    shutil.copy(export / "tokenizer.json", tmp_path)
    with pytest.raises(ValueError, match="must be an exported text encoder with the inputs .* a fingerprint"):
        TextEncoder(tmp_path)


def test_weights_that_are_no_numbers_are_refused(export: Path, tmp_path: Path) -> None:
    model = onnx.load(export / "text_encoder.onnx")
    (bias,) = [one for one in model.graph.initializer if one.name == "embeddings.LayerNorm.bias"]
    broken = numpy_helper.to_array(bias) * np.nan
    bias.CopyFrom(numpy_helper.from_array(broken.astype(np.float32), bias.name))
    onnx.save(model, tmp_path / "text_encoder.onnx")
    shutil.copy(export / "tokenizer.json", tmp_path)
    with pytest.raises(ValueError, match="must give finite vectors, got NaN or infinity"):
        TextEncoder(tmp_path)


def test_a_packaged_encoder_is_found_and_other_names_stay() -> None:
    assert is_bert(Path(find_source("minilm")))
    assert find_source("some/name") == "some/name"
