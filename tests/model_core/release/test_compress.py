import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from model_core.inputs.replay import item_batch
from model_core.release.compress import Precision, compress_release
from model_core.release.folder import read_release
from model_core.release.scorer import Scorer
from tests.model_core.tiny import corpus, dataset, requests

EVERY_PRECISION = pytest.mark.parametrize("precision", ["int8", "fp16"])
STORED = {"int8": onnx.TensorProto.INT8, "fp16": onnx.TensorProto.FLOAT16}


@pytest.fixture(scope="module")
def variants(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    out = tmp_path_factory.mktemp("variants")
    for precision in STORED:
        compress_release(folder, out / precision, precision)  # type: ignore[arg-type]
    return {precision: out / precision for precision in STORED}


@EVERY_PRECISION
def test_a_variant_scores_almost_as_the_release(
    precision: Precision, variants: dict[str, Path], scorer: Scorer, vectors: NDArray[np.float32]
) -> None:
    variant = Scorer(variants[precision])
    batch = requests(scorer, 16)
    scores, wanted = variant.score(batch, vectors), scorer.score(batch, vectors)
    np.testing.assert_allclose(np.sort(scores.scores, 1), np.sort(wanted.scores, 1), atol=0.05)
    items = item_batch(corpus(dataset()))
    np.testing.assert_allclose(variant.encode_items(items), scorer.encode_items(items), atol=0.05)


@EVERY_PRECISION
def test_a_variants_weights_are_small(precision: Precision, variants: dict[str, Path], folder: Path) -> None:
    for name in ("item_encoder.onnx", "history.onnx", "ranker.onnx"):
        small, whole = (onnx.load(part / name).graph.initializer for part in (variants[precision], folder))
        assert STORED[precision] in {tensor.data_type for tensor in small}
        assert sum(tensor.ByteSize() for tensor in small) < sum(tensor.ByteSize() for tensor in whole)


@EVERY_PRECISION
def test_a_variant_is_another_release_of_the_same_sizes(
    precision: Precision, variants: dict[str, Path], folder: Path
) -> None:
    variant, whole = read_release(variants[precision]), read_release(folder)
    assert variant.version != whole.version
    assert (variant.dim, variant.item_rows) == (whole.dim, whole.item_rows)
    assert variant.served_probability == whole.served_probability is not None
    assert json.loads((variants[precision] / "manifest.json").read_text())["precision"] == precision


def test_what_cannot_be_compressed_is_said(variants: dict[str, Path], folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must be in full precision, is in int8"):
        compress_release(variants["int8"], tmp_path / "again", "fp16")
    with pytest.raises(ValueError, match="precision must be int8 or fp16, got 'int4'"):
        compress_release(folder, tmp_path / "out", "int4")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="out must be another folder than the release"):
        compress_release(folder, folder, "int8")
    damaged = tmp_path / "damaged"
    shutil.copytree(folder, damaged)
    (damaged / "ranker.onnx").write_bytes(b"no graph")
    with pytest.raises(ValueError, match="must have SHA-256"):
        compress_release(damaged, tmp_path / "out", "int8")
    assert not (tmp_path / "out").exists()
