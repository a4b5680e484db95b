"""What the layers that read histories know of time and order, in training and as served."""

import pytest
import torch

from model_core.network.attention import KNOTS, Block, elapsed, shares
from model_core.network.config import ModelConfig
from model_core.network.item_encoder import ItemEncoder
from model_core.network.ranker import Ranker
from model_core.network.stages import SHUT, HistoryStage

CONFIG = ModelConfig(dim=16, heads=2, layers=2, history_length=12, text_dim=4, feature_dim=12)


@pytest.fixture(scope="module")
def ranker() -> Ranker:
    """One whose every weight, of distances and times too, is far from where training begins."""
    torch.manual_seed(0)
    made = Ranker(CONFIG, ItemEncoder(CONFIG, 5, 5, 2).entities, (0.0, 1.0), dropout=0.5).eval()
    for value in made.parameters():
        torch.nn.init.normal_(value, std=0.5)
    return made


def gaps(b: int = 8) -> torch.Tensor:
    """Seconds between 12 events, of no time at all to years."""
    torch.manual_seed(1)
    gap = torch.exp2(30.0 * torch.rand(b, CONFIG.history_length)) - 1.0
    gap[:, 0] = 0.0
    gap[:, 5] = 0.0
    return gap


def test_a_time_between_two_events_is_shared_by_the_knots_beside_it() -> None:
    places = elapsed(torch.tensor([[0.0, 7.0, 56.0]]))[0]
    assert places[2, 1] == 1.0  # 7 s
    assert places[3, 2].item() == pytest.approx(torch.log2(torch.tensor(57.0)).item() / 3)
    assert places[3, 1] == 2.0  # 63 s
    of = shares(elapsed(gaps()))
    assert torch.allclose(of.sum(1), torch.ones(()), atol=1e-6)
    assert ((of > 0).sum(1) <= 2).all()


def test_ten_seconds_are_ten_seconds_after_twenty_years_and_more_than_the_last_knot_is_the_last() -> None:
    places = elapsed(torch.tensor([[0.0, 20 * 365 * 86_400.0, 10.0]]))[0]
    assert places[3, 2].item() == pytest.approx(torch.log2(torch.tensor(11.0)).item() / 3, abs=1e-6)
    assert places[2, 1] == KNOTS - 1


def test_states_are_the_same_in_training_and_as_served(ranker: Ranker) -> None:
    gap, n = gaps(), CONFIG.history_length
    tokens, actions = torch.randn(8, n, CONFIG.dim), torch.randint(0, 3, (8, n))
    mask = torch.arange(n) < torch.randint(1, n + 1, (8, 1))
    with torch.inference_mode():
        wanted, known = ranker.states(tokens, actions, gap * mask, mask)
        got = HistoryStage(ranker)(tokens, actions, gap * mask)
        # Histories that are padded at the left read alike.
        left = torch.argsort(mask.int(), dim=1, stable=True)
        from_left = ranker.states(
            torch.take_along_dim(tokens, left.unsqueeze(-1), 1), actions.gather(1, left),
            (gap * mask).gather(1, left), mask.gather(1, left),
        )[0]  # fmt: skip
    assert torch.allclose(got[known], wanted[known], atol=1e-4)
    last = mask.sum(1)
    assert torch.allclose(from_left[:, -1], wanted[torch.arange(8), last], atol=1e-4)


def test_what_comes_later_changes_no_state_and_the_time_of_what_came_before_does(ranker: Ranker) -> None:
    gap, n = gaps(), CONFIG.history_length
    tokens, actions = torch.randn(8, n, CONFIG.dim), torch.ones(8, n, dtype=torch.int64)
    mask = torch.ones(8, n, dtype=torch.bool)
    sooner, later = gap.clone(), gap.clone()
    later[:, 9] += 86_400.0
    sooner[:, 3] = 60.0 - torch.sign(gap[:, 3] - 60.0)
    with torch.inference_mode():
        states, as_later, as_sooner = (
            ranker.states(tokens, actions, g, mask)[0] for g in (gap, later, sooner)
        )
    assert torch.equal(states[:, :10], as_later[:, :10])
    assert (states[:, 10:] - as_later[:, 10:]).abs().amax((1, 2)).min() > 1e-4
    assert (states[:, 5:] - as_sooner[:, 5:]).abs().amax((1, 2)).min() > 1e-4


def test_a_layer_can_read_the_last_hour_alone() -> None:
    torch.manual_seed(0)
    block = Block(8, 2, 6, 0.0).eval()
    with torch.no_grad():
        block.elapsed[:, 5:] = SHUT
    gap = torch.tensor([[0.0, 30.0, 86_400.0, 60.0, 60.0]])
    bias = block.bias(shares(elapsed(gap))).masked_fill(torch.ones(6, 6).triu(1) > 0, SHUT)
    x = torch.randn(1, 6, 8)
    other = x.clone()
    other[:, 1:3] = torch.randn(2, 8)  # the two events of the day before
    with torch.inference_mode():
        assert torch.allclose(block(x, bias)[:, 3:], block(other, bias)[:, 3:], atol=1e-5)
        assert not torch.allclose(block(x, bias)[:, 2], block(other, bias)[:, 2], atol=1e-2)


def test_an_untrained_state_matches_items_like_its_last_one() -> None:
    torch.manual_seed(0)
    encoder = ItemEncoder(CONFIG, 5, 5, 2)
    made = Ranker(CONFIG, encoder.entities, (0.0, 1.0), dropout=0.5).eval()
    items = torch.nn.functional.layer_norm(torch.randn(200, CONFIG.dim), (CONFIG.dim,))
    n, at = CONFIG.history_length, torch.randint(200, (40, CONFIG.history_length))
    with torch.inference_mode():
        known = torch.ones(40, n, dtype=torch.bool)
        state = made.states(items[at], known.long(), torch.zeros(40, n), known)[0][:, -1]
        none = torch.zeros(40)
        scores = made.match(made.user_vector(state, none, none, torch.zeros(CONFIG.dim))) @ items.T
    own = scores.gather(1, at[:, -1:])
    assert ((scores > own).sum(1) < 20).float().mean() > 0.9  # among the best tenth
