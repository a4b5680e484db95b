from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from model_core.language.loop import LoopConfig, Row, decay_groups, find_device, rate, run
from model_core.training.checkpoint import Checkpoint

CPU = torch.device("cpu")
CONFIG = LoopConfig(epochs=4, patience=4, batch_size=8, learning_rate=0.05, warm_up=0.0)


class Regression:
    """A least-squares task: real gradients, in microseconds."""

    criterion, larger_is_better = "loss", False

    def __init__(
        self, config: LoopConfig, *, dropout: float = 0.2, validations: Sequence[float] = ()
    ) -> None:
        rng = np.random.default_rng(0)
        self.x = torch.tensor(rng.normal(size=(64, 5)), dtype=torch.float32)
        self.y = self.x @ torch.arange(5.0)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.module = nn.Sequential(
                nn.Dropout(dropout), nn.Linear(5, 4), nn.LayerNorm(4), nn.Linear(4, 1)
            )
        self.config, self.validations, self.seen = config, list(validations), 0

    def batches(self, rng: np.random.Generator) -> Sequence[np.ndarray]:
        rows = rng.permutation(64)
        return [rows[at : at + self.config.batch_size] for at in range(0, 64, self.config.batch_size)]

    def loss(self, batch: np.ndarray, rng: np.random.Generator) -> Tensor:
        noise = torch.tensor(rng.normal(size=len(batch)), dtype=torch.float32) * self.module[0].p
        return ((self.module(self.x[batch]).squeeze(-1) - self.y[batch] + noise) ** 2).mean()

    def validate(self) -> Row:
        self.seen += 1
        if self.validations:
            return {"loss": self.validations[self.seen - 1]}
        return {"loss": float(((self.module(self.x).squeeze(-1) - self.y) ** 2).mean())}


def weights(task: Regression) -> list[np.ndarray]:
    return [value.detach().numpy().copy() for value in task.module.parameters()]


@pytest.mark.parametrize("killed_in", [1, 3])
def test_an_interrupted_run_ends_with_the_weights_of_an_uninterrupted_one(
    tmp_path: Path, killed_in: int
) -> None:
    whole = Regression(CONFIG)
    history = run(whole, CONFIG, device=CPU)

    def kill(stage: str, done: float) -> None:
        if done * CONFIG.epochs > killed_in + 0.4:  # in the midst of an epoch
            raise KeyboardInterrupt

    checkpoint = Checkpoint(tmp_path / "state", "this training")
    with pytest.raises(KeyboardInterrupt):
        run(Regression(CONFIG), CONFIG, device=CPU, checkpoint=checkpoint, report=kill)
    torch.rand(7)  # another process's generators stand elsewhere
    again = Regression(CONFIG)
    assert run(again, CONFIG, device=CPU, checkpoint=checkpoint) == history
    assert again.seen == CONFIG.epochs - killed_in
    for ours, theirs in zip(weights(again), weights(whole), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_callers_generator_is_left_where_it_was() -> None:
    torch.manual_seed(3)
    wanted = torch.rand(2)
    torch.manual_seed(3)
    run(Regression(CONFIG), CONFIG, device=CPU)
    torch.testing.assert_close(torch.rand(2), wanted)


def test_two_batches_accumulated_are_one_of_twice_the_size() -> None:
    large = Regression(replace(CONFIG, batch_size=16), dropout=0.0)
    small = Regression(CONFIG, dropout=0.0)
    run(large, large.config, device=CPU)
    run(small, replace(CONFIG, accumulate=2), device=CPU)
    for ours, theirs in zip(weights(small), weights(large), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_the_best_epoch_stays_and_training_ends_when_it_gets_no_better() -> None:
    config = replace(CONFIG, epochs=6, patience=2)
    task = Regression(config, validations=[3.0, 1.0, 2.0, 1.5, 9.0, 9.0])
    kept: dict[int, list[np.ndarray]] = {}
    validate = task.validate

    def remember() -> Row:
        kept[task.seen] = weights(task)
        return validate()

    task.validate = remember  # type: ignore[method-assign]
    history = run(task, config, device=CPU)
    assert [row["validation_loss"] for row in history] == [3.0, 1.0, 2.0, 1.5]
    for ours, theirs in zip(weights(task), kept[1], strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_weight_decay_spares_norms_and_biases() -> None:
    module = nn.Sequential(nn.Embedding(3, 4), nn.Linear(4, 4), nn.LayerNorm(4))
    decayed, spared = decay_groups(module, 0.1)
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    assert [tuple(value.shape) for value in decayed["params"]] == [(3, 4), (4, 4)]
    assert len(spared["params"]) == 3


def test_a_step_is_no_longer_than_its_clipped_gradient() -> None:
    config = replace(CONFIG, epochs=1, batch_size=64, clip=1e-3)
    task = Regression(config, dropout=0.0)
    norms = []
    task.module[1].weight.register_post_accumulate_grad_hook(lambda value: norms.append(value.grad.norm()))
    run(task, config, device=CPU)
    total = sum(float(value.grad.square().sum()) for value in task.module.parameters()) ** 0.5
    assert norms[0] > 1e-2
    assert total == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize(("schedule", "middle"), [("linear", 0.5), ("cosine", 0.5), ("linear", 0.25)])
def test_the_rate_rises_to_one_and_falls_to_zero(schedule: str, middle: float) -> None:
    config = LoopConfig(warm_up=0.2, schedule=schedule)  # type: ignore[arg-type]
    assert rate(0.1, config) == pytest.approx(0.5)
    assert rate(0.2, config) == pytest.approx(1.0)
    assert rate(1.0, config) == pytest.approx(0.0)
    at = 0.2 + 0.8 * (1 - middle)
    assert rate(at, config) == pytest.approx(middle)


def test_cosine_falls_slower_first_and_faster_then() -> None:
    cosine, linear = LoopConfig(warm_up=0.0, schedule="cosine"), LoopConfig(warm_up=0.0, schedule="linear")
    assert rate(0.25, cosine) > rate(0.25, linear)
    assert rate(0.75, cosine) < rate(0.75, linear)


def test_curves_are_told_of_every_step_and_epoch() -> None:
    told: dict[str, list[int]] = {}
    run(
        Regression(CONFIG),
        CONFIG,
        device=CPU,
        curves=lambda name, value, step: told.setdefault(name, []).append(step),
    )
    assert told["step/loss"] == list(range(1, 33))
    assert told["epoch/validation_loss"] == [1, 2, 3, 4]


def test_a_loss_that_is_not_finite_ends_training() -> None:
    task = Regression(CONFIG)
    task.y[:] = torch.inf
    with pytest.raises(ValueError, match="training loss must be finite, got inf; lower the learning rate"):
        run(task, CONFIG, device=CPU)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"accumulate": 0}, "accumulate must be at least 1, got 0"),
        ({"learning_rate": 0.0}, "learning_rate must be positive, got 0.0"),
        ({"warm_up": 1.0}, r"warm_up must be in \[0, 1\), got 1.0"),
    ],
)
def test_a_loop_that_makes_no_sense_is_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LoopConfig(**changes)  # type: ignore[arg-type]


def test_an_unknown_device_is_refused() -> None:
    assert find_device("cpu") == CPU
    with pytest.raises(ValueError, match="device must be 'auto', 'cpu' or 'cuda', got 'tpu'"):
        find_device("tpu")


def test_a_model_without_weights_to_train_is_refused() -> None:
    with pytest.raises(ValueError, match="must have weights to train, got none"):
        decay_groups(nn.Linear(2, 2).requires_grad_(False), 0.1)
