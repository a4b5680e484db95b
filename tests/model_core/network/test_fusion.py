import logging
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from model_core.network.config import ModelConfig
from model_core.network.fusion import MODES, Fusion, alignment_loss, modality_dropout
from model_core.network.item_encoder import ItemEncoder
from model_core.release.exporter import OPSET
from model_core.release.scorer import open_session

DIM = 8
NAMES = ("id", "text", "image")
EVERY_MODE = pytest.mark.parametrize("mode", MODES)


def example(n: int = 7, seed: int = 0) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    mask = torch.rand(n, len(NAMES), generator=rng) < 0.6
    mask[0], mask[1] = True, False
    return torch.randn(n, len(NAMES), DIM, generator=rng), mask


def trained(mode: str) -> Fusion:
    """As after training: no parameter is at its start, where all modes are the sum."""
    rng = torch.Generator().manual_seed(5)
    fusion = Fusion(mode, DIM, NAMES)
    with torch.no_grad():
        for parameter in fusion.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=rng) * 0.5)
    return fusion.eval()


@EVERY_MODE
def test_it_starts_as_the_masked_sum(mode: str) -> None:
    parts, mask = example()
    expected = torch.stack([row[here].sum(0) for row, here in zip(parts, mask, strict=True)])
    torch.testing.assert_close(Fusion(mode, DIM, NAMES)(parts, mask), expected)


@EVERY_MODE
def test_an_item_begins_as_the_sum_of_its_parts(mode: str) -> None:
    encoder = ItemEncoder(ModelConfig(dim=DIM, text_dim=2, image_dim=2, fusion=mode), 3, 3, 3)
    parts, mask = torch.randn(7, 4, DIM), torch.ones(7, 4, dtype=torch.bool)
    expected = nn.functional.layer_norm(parts.sum(1), (DIM,))
    torch.testing.assert_close(encoder.fuse(parts, mask), expected)


def descend(fusion: Fusion, loss: Tensor, rate: float) -> None:
    parameters = list(fusion.parameters())
    with torch.no_grad():
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            parameter -= rate * gradient


@pytest.mark.parametrize("mode", MODES[1:])
def test_training_reaches_every_parameter(mode: str) -> None:
    fusion = Fusion(mode, DIM, NAMES)
    before = [parameter.detach().clone() for parameter in fusion.parameters()]
    parts, mask = example(64)
    wanted = torch.randn(64, DIM, generator=torch.Generator().manual_seed(1))
    for _ in range(3):
        descend(fusion, (fusion(parts, mask) - wanted).square().mean(), 0.1)
    for old, new in zip(before, fusion.parameters(), strict=True):
        assert (old != new).any()


@EVERY_MODE
@pytest.mark.parametrize("garbage", [1e30, -3.0, float("inf"), float("nan")])
def test_a_masked_part_has_no_influence_and_no_gradient(mode: str, garbage: float) -> None:
    fusion = trained(mode)
    parts, mask = example()
    expected = fusion(parts, mask)
    dirty = parts.masked_fill(~mask.unsqueeze(-1), garbage).requires_grad_()
    got = fusion(dirty, mask)
    torch.testing.assert_close(got, expected, rtol=0, atol=0)
    torch.testing.assert_close(
        fusion.aligned(dirty, mask), fusion.aligned(parts, mask), rtol=0, atol=0, equal_nan=False
    )
    (gradient,) = torch.autograd.grad(got.square().sum(), dirty)
    assert gradient.isfinite().all()
    assert not gradient[~mask].any()
    assert gradient[mask].any()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in fusion.parameters())


@EVERY_MODE
def test_a_part_that_is_there_has_influence(mode: str) -> None:
    fusion = trained(mode)
    parts, mask = example()
    for m in range(len(NAMES)):
        other = parts.clone()
        other[:, m] += 1.0
        changed = (fusion(other, mask) != fusion(parts, mask)).any(1)
        assert torch.equal(changed, mask[:, m])


@EVERY_MODE
def test_an_item_does_not_depend_on_the_others(mode: str) -> None:
    fusion = trained(mode)
    parts, mask = example()
    alone = torch.cat([fusion(parts[i : i + 1], mask[i : i + 1]) for i in range(len(parts))])
    torch.testing.assert_close(fusion(parts, mask), alone)


@EVERY_MODE
def test_items_without_any_part_share_one_finite_vector(mode: str) -> None:
    fusion = trained(mode)
    parts, mask = example()
    vectors = fusion(parts, torch.zeros_like(mask))
    assert vectors.isfinite().all()
    torch.testing.assert_close(vectors, vectors[:1].expand_as(vectors))
    assert bool(vectors.any()) == (mode in {"concat", "deep"})


class Every(nn.Module):
    """All modes side by side: one export, which takes seconds, instead of one for each."""

    def __init__(self) -> None:
        super().__init__()
        self.fusions = nn.ModuleList(trained(mode) for mode in MODES)

    def forward(self, parts: Tensor, mask: Tensor) -> list[Tensor]:
        return [fusion(parts, mask) for fusion in self.fusions]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the exporter's own libraries
def test_the_onnx_graphs_equal_torch_at_any_number_of_items(tmp_path: Path) -> None:
    every = Every().eval()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            every,
            (),
            kwargs=dict(zip(("parts", "mask"), example(4), strict=True)),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
            input_names=["parts", "mask"],
            output_names=list(MODES),
            dynamic_shapes={name: {0: torch.export.Dim("n", min=1)} for name in ("parts", "mask")},
        )
    assert program is not None
    program.save(str(tmp_path / "fusion.onnx"), external_data=False)
    session = open_session(tmp_path / "fusion.onnx", threads=1, exact=True)
    for n in (1, 5, 33):
        parts, mask = (value[:n] for value in example(max(n, 2), seed=n))
        parts = parts.masked_fill(~mask.unsqueeze(-1), 1e30)
        outputs = session.run(list(MODES), {"parts": parts.numpy(), "mask": mask.numpy()})
        for got, expected in zip(outputs, every(parts, mask), strict=True):
            np.testing.assert_allclose(got, expected.detach().numpy(), rtol=1e-5, atol=1e-5)


def test_the_gated_mode_can_choose_one_part_alone() -> None:
    fusion = Fusion("gated", DIM, NAMES)
    parts, mask = example()
    with torch.no_grad():
        fusion.mixer.kind.zero_()
        fusion.mixer.kind[2] = 9.0
        for layer in (fusion.mixer.signal, fusion.mixer.gate):
            layer.weight.copy_(torch.eye(DIM))
            layer.bias.fill_(-4.0)
        fusion.mixer.score.weight.fill_(10.0)
    torch.testing.assert_close(fusion(parts, mask)[0], 3 * parts[0, 2], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("mean", 8, NAMES), r"mode must be one of \['sum', 'concat', .*\], got 'mean'"),
        (("sum", 0, NAMES), "dim must be at least 1, got 0"),
        (("sum", 8, ()), r"names must be distinct and at least one, got \[\]"),
        (("sum", 8, ("a", "a")), r"names must be distinct and at least one, got \['a', 'a'\]"),
    ],
)
def test_a_wrong_setting_is_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Fusion(*arguments)


def test_alignment_is_the_mean_of_both_directions_over_the_items_that_have_the_part() -> None:
    parts, mask = example(12)
    behaviour = torch.randn(12, DIM, generator=torch.Generator().manual_seed(3))
    cosine = np.einsum(
        "imd,jd->mij",
        (parts / parts.norm(dim=-1, keepdim=True)).double().numpy(),
        (behaviour / behaviour.norm(dim=-1, keepdim=True)).double().numpy(),
    )
    expected = []
    for m in range(len(NAMES)):
        rows = np.flatnonzero(mask[:, m])
        odds = np.exp(cosine[m][np.ix_(rows, rows)] / 0.5)
        expected.append(
            -0.5 * np.log(np.diag(odds) / odds.sum(1)).mean()
            - 0.5 * np.log(np.diag(odds) / odds.sum(0)).mean()
        )
    got = alignment_loss(parts, mask, behaviour, temperature=0.5)
    assert got.item() == pytest.approx(np.mean(expected), rel=1e-5)


def test_alignment_is_low_where_parts_point_to_their_items_and_ignores_masked_parts() -> None:
    behaviour = torch.eye(DIM)
    parts = behaviour.unsqueeze(1).repeat(1, 2, 1)
    mask = torch.ones(DIM, 2, dtype=torch.bool)
    assert alignment_loss(parts, mask, behaviour, 0.05) < 1e-6
    wrong = parts.clone()
    wrong[:, 1] = behaviour.roll(1, 0)
    assert alignment_loss(wrong, mask, behaviour, 0.05) > 5
    mask[:, 1] = False
    assert alignment_loss(wrong, mask, behaviour, 0.05) < 1e-6


def test_alignment_is_zero_where_no_two_items_have_a_part() -> None:
    parts, mask = example(3)
    mask = torch.eye(3, dtype=torch.bool)
    assert alignment_loss(parts, mask, parts[:, 0]).item() == 0.0


def test_alignment_refuses_a_temperature_that_is_not_positive() -> None:
    parts, mask = example()
    with pytest.raises(ValueError, match=r"temperature must be positive, got 0\.0"):
        alignment_loss(parts, mask, parts[:, 0], 0.0)


def test_descending_the_alignment_brings_parts_and_behaviour_together() -> None:
    parts, mask = example(40)
    fusion = Fusion("joint", DIM, NAMES)
    turn = torch.linalg.qr(torch.randn(DIM, DIM, generator=torch.Generator().manual_seed(2))).Q
    behaviour = parts[:, 1] @ turn
    for _ in range(150):
        loss = alignment_loss(fusion.aligned(parts, mask), mask, behaviour, 0.2)
        with torch.no_grad():
            fusion.mixer.heads -= torch.autograd.grad(loss, fusion.mixer.heads)[0]
    found = fusion.aligned(parts, mask)[:, 1] @ behaviour.T
    has = mask[:, 1]
    cosine = found / behaviour.norm(dim=1) / fusion.aligned(parts, mask)[:, 1].norm(dim=1, keepdim=True)
    assert (cosine[has][:, has].argmax(1) == torch.arange(int(has.sum()))).float().mean() > 0.9


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_dropout_hides_about_its_share_and_never_the_last_part(share: float) -> None:
    rng = torch.Generator().manual_seed(0)
    mask = torch.rand(4000, 5, generator=rng) < 0.7
    kept = modality_dropout(mask, share, rng)
    assert not (kept & ~mask).any()
    assert torch.equal(kept.any(1), mask.any(1))
    if share == 1.0:
        assert torch.equal(kept.sum(1), mask.any(1).long())
    else:
        full = mask.all(1)
        assert 1 - kept[full].float().mean().item() == pytest.approx(share, abs=0.02)


def test_the_part_that_dropout_leaves_is_any_of_them() -> None:
    mask = torch.ones(6000, 3, dtype=torch.bool)
    kept = modality_dropout(mask, 1.0, torch.Generator().manual_seed(0))
    np.testing.assert_allclose(kept.float().mean(0), 1 / 3, atol=0.03)


def test_dropout_is_that_of_its_generator_and_leaves_its_input_alone() -> None:
    _, mask = example(50)
    before = mask.clone()
    first, second = (modality_dropout(mask, 0.5, torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(mask, before)


@pytest.mark.parametrize("share", [-0.1, 1.4])
def test_dropout_refuses_a_share_outside_0_to_1(share: float) -> None:
    with pytest.raises(ValueError, match=rf"share must be in \[0, 1\], got {share}"):
        modality_dropout(example()[1], share)
