import numpy as np
import pytest
import torch

from tests.benchmarks.rivals.sampled_softmax import (
    full_softmax_loss,
    popularity_distribution,
    sampled_softmax_loss,
)

N_ITEMS, DRAWS = 20, 600
COUNTS = (1000 / np.arange(1, N_ITEMS + 1)).astype(np.int64)


def scores(seed: int = 0) -> torch.Tensor:
    return torch.as_tensor(np.random.default_rng(seed).normal(size=(1, N_ITEMS)), dtype=torch.float64)


def expected(m: int, *, corrected: bool) -> tuple[float, torch.Tensor]:
    """Mean loss and gradient over draws of m negatives by popularity, for target 7."""
    q = popularity_distribution(COUNTS)
    log_q = torch.as_tensor(np.log(q)) if corrected else None
    leaf = scores().requires_grad_()
    target = torch.tensor([7])
    rng = np.random.default_rng(1)
    total = torch.zeros((), dtype=torch.float64)
    for _ in range(DRAWS):
        negatives = torch.as_tensor(rng.choice(N_ITEMS, m, p=q))
        total = total + sampled_softmax_loss(leaf[:, 7], leaf[:, negatives], target, negatives, log_q)
    (total / DRAWS).backward()
    assert leaf.grad is not None
    return float(total.detach()) / DRAWS, leaf.grad[0]


def full() -> tuple[float, torch.Tensor]:
    leaf = scores().requires_grad_()
    loss = full_softmax_loss(leaf, torch.tensor([7]))
    loss.backward()
    assert leaf.grad is not None
    return float(loss.detach()), leaf.grad[0]


def test_with_the_correction_more_draws_bring_loss_and_gradient_to_those_of_the_full_softmax() -> None:
    loss, gradient = full()
    found = [expected(m, corrected=True) for m in (2, 8, 64)]
    far = [abs(mean - loss) for mean, _ in found]
    off = [float((mean - gradient).abs().sum()) for _, mean in found]
    assert far[0] > 2 * far[1] > 4 * far[2]
    assert off[0] > 2 * off[1] > 4 * off[2]
    assert far[2] < 0.02 * loss
    assert off[2] < 0.05 * float(gradient.abs().sum())


def test_without_the_correction_more_draws_do_not_help_and_popular_items_are_pushed_down() -> None:
    _, gradient = full()
    _, biased = expected(64, corrected=False)
    assert float((biased - gradient).abs().sum()) > 0.3 * float(gradient.abs().sum())
    # Gradients of negatives are how hard they are pushed down.
    assert biased[0] > 3 * gradient[0]
    assert biased[-1] < 0.5 * gradient[-1]


@pytest.mark.parametrize(("corrected", "exponent"), [(True, 1.0), (False, 0.0)])
def test_trained_scores_follow_popularity_only_with_the_correction(corrected: bool, exponent: float) -> None:
    # The next item is drawn by popularity, whoever asks: the true scores are log p, up to a constant.
    p = popularity_distribution(COUNTS)
    log_p = torch.as_tensor(np.log(p))
    learned = torch.zeros(N_ITEMS, dtype=torch.float64, requires_grad=True)
    rng = np.random.default_rng(2)
    mean = torch.zeros(N_ITEMS, dtype=torch.float64)
    for step in range(300):
        targets = torch.as_tensor(rng.choice(N_ITEMS, 128, p=p))
        negatives = torch.as_tensor(rng.choice(N_ITEMS, 64, p=p))
        loss = sampled_softmax_loss(
            learned[targets],
            learned[negatives].expand(128, -1),
            targets,
            negatives,
            log_p if corrected else None,
        )
        (gradient,) = torch.autograd.grad(loss, [learned])
        learned = (learned.detach() - 8.0 * gradient).requires_grad_()
        if step >= 100:
            mean += learned.detach() / 200
    slope = np.polyfit(log_p.numpy(), mean.numpy(), 1)[0]
    assert slope == pytest.approx(exponent, abs=0.15)


def test_a_drawn_target_does_not_compete_with_itself() -> None:
    own, others = torch.tensor([1.0]), torch.tensor([[1.0, 0.5, 1.0]])
    negatives = torch.tensor([3, 1, 3])
    loss = sampled_softmax_loss(own, others, torch.tensor([3]), negatives, None)
    assert float(loss) == pytest.approx(float(np.log1p(np.exp(-0.5))))


def test_barred_items_compete_neither_in_full_nor_when_drawn() -> None:
    values = scores()
    barred = torch.zeros(1, N_ITEMS, dtype=torch.bool)
    barred[0, [0, 7, 9]] = True
    kept = [item for item in range(N_ITEMS) if item not in (0, 9)]
    expected_loss = torch.logsumexp(values[0, kept], 0) - values[0, 7]
    assert float(full_softmax_loss(values, torch.tensor([7]), barred)) == pytest.approx(float(expected_loss))
    everything = torch.arange(N_ITEMS)
    sampled = sampled_softmax_loss(
        values[:, 7], values, torch.tensor([7]), everything, None, barred[:, everything]
    )
    assert float(sampled) == pytest.approx(float(expected_loss))


def test_a_popularity_of_power_zero_is_uniform_and_a_new_item_can_be_drawn() -> None:
    np.testing.assert_allclose(popularity_distribution(COUNTS, power=0.0), 1 / N_ITEMS)
    q = popularity_distribution(np.array([0, 3]), power=0.5)
    np.testing.assert_allclose(q, [1 / 3, 2 / 3])


@pytest.mark.parametrize(
    ("counts", "power", "message"),
    [
        (COUNTS, 1.5, r"power must be in \[0, 1\], got 1.5"),
        (COUNTS[:0], 1.0, "counts must be of at least one item"),
        (np.array([1, -1]), 1.0, "counts must be of at least one item and not negative"),
    ],
)
def test_a_distribution_says_what_is_wrong(counts: np.ndarray, power: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        popularity_distribution(counts, power=power)


def test_scores_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"negative_scores must be of shape \(1, 2\), got \(1, 3\)"):
        sampled_softmax_loss(torch.zeros(1), torch.zeros(1, 3), torch.tensor([0]), torch.tensor([1, 2]), None)
