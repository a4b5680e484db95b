"""Graphs whose operations ONNX has are traced once; others are taken apart, and both say what torch says."""

from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.onnx._internal.exporter import _fx_passes
from torch.onnx._internal.exporter._registration import ONNXRegistry

from model_core.network.config import TrainConfig
from model_core.network.ensemble import served_as_one
from model_core.network.fusion import MODES
from model_core.network.model import Model
from model_core.release import exporter
from model_core.release.export import _stages, example_items
from model_core.release.exporter import WHOLE, is_whole, write_graph
from model_core.release.scorer import open_session
from model_core.training.networks import fit_widths
from tests.model_core import tiny


class Whole(nn.Module):
    """All that is given a function here, beside what has one."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.arange(12.0).view(3, 4))

    def forward(self, x: Tensor, n: Tensor) -> tuple[Tensor, Tensor]:
        told = (x > 0).to(x.dtype)
        return torch.rsub(x @ self.weight.T, 1.5, alpha=2) + told.sum(1, keepdim=True), (3 - n).to(torch.bool)


class Apart(nn.Module):
    """What ONNX has no single operation of, and what changes its own input."""

    def forward(self, x: Tensor, n: Tensor) -> tuple[Tensor, Tensor]:
        made = x.clone()
        made.add_(1.0)
        return nn.functional.mish(made).chunk(1, 1)[0], 1.5 - n


def inputs(b: int) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(b)
    return {"x": torch.randn(b, 4, generator=rng), "n": torch.randint(0, 5, (b,), generator=rng)}


def written(path: Path, module: nn.Module) -> onnx.ModelProto:
    """A graph, once it says what torch says of any number of rows."""
    write_graph(path, module, inputs(3), {"x": ("b",), "n": ("b",)}, ("one", "two"))
    session = open_session(path, threads=1, exact=True)
    for b in (1, 3, 8):
        got = session.run(None, {name: value.numpy() for name, value in inputs(b).items()})
        for found, wanted in zip(got, module(**inputs(b)), strict=True):
            torch.testing.assert_close(torch.as_tensor(found), wanted.detach())
    return onnx.load(path)


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> list[torch.export.ExportedProgram]:
    """The graphs that are taken apart."""
    taken, take = [], exporter._taken_apart

    def taking(program: torch.export.ExportedProgram, registry: ONNXRegistry) -> torch.export.ExportedProgram:
        taken.append(program)
        return take(program, registry)

    monkeypatch.setattr(exporter, "_taken_apart", taking)
    return taken


def test_a_graph_of_whole_operations_is_traced_once_and_is_the_one_that_is_taken_apart(
    tmp_path: Path, apart: list[torch.export.ExportedProgram], monkeypatch: pytest.MonkeyPatch
) -> None:
    once = written(tmp_path / "once.onnx", Whole())
    assert not apart

    monkeypatch.setattr(_fx_passes, "decompose_with_registry", exporter._taken_apart)
    twice = written(tmp_path / "twice.onnx", Whole())
    assert len(apart) == 1
    assert [node.op_type for node in once.graph.node] == [node.op_type for node in twice.graph.node]


def test_no_item_encoder_has_to_be_taken_apart_nor_any_graph_of_an_ensemble(
    tmp_path: Path, apart: list[torch.export.ExportedProgram]
) -> None:
    data = tiny.corpus(tiny.dataset())
    config = fit_widths(tiny.CONFIG, data)

    def made(**changed: object) -> Model:
        return Model(data, replace(config, **changed), TrainConfig(), tuple(tiny.WEIGHTS.values())).eval()

    for mode in MODES:
        encoder = made(fusion=mode).encoder
        assert is_whole(torch.export.export(encoder, (), kwargs=example_items(encoder, 3))), mode
    pair = served_as_one([made(), made()])
    for name, *graph in _stages(pair.ranker, pair.encoder.entities.num_embeddings, 3):
        write_graph(tmp_path / name, *graph)
        assert not apart, name


def test_a_graph_with_any_other_operation_is_taken_apart(
    tmp_path: Path, apart: list[torch.export.ExportedProgram]
) -> None:
    written(tmp_path / "graph.onnx", Apart())
    assert len(apart) == 1


def test_what_changes_its_input_or_has_no_name_here_is_not_whole() -> None:
    assert not any(name.partition(".")[2].partition(".")[0].endswith("_") for name in WHOLE)
    assert is_whole(torch.export.export(Whole(), (), kwargs=inputs(3)))
    assert not is_whole(torch.export.export(Apart(), (), kwargs=inputs(3)))


def test_no_result_of_a_traced_operation_is_kept_but_by_others(tmp_path: Path) -> None:
    FakeTensorMode.cache_clear()
    written(tmp_path / "graph.onnx", Whole())
    assert FakeTensorMode.cache_info().size == 0
    torch.export.export(Whole(), (), kwargs=inputs(3))
    assert FakeTensorMode.cache_info().size > 0
