from typing import Literal

import numpy as np
import pytest
import torch

from model_core.graph.co_visits import pairs_in_order
from model_core.network.config import ModelConfig
from model_core.signals.co_visitation import CoVisitation
from model_core.signals.co_visitation_reads import previous_items
from model_core.signals.co_visitation_scores import WEIGHT_UNIT, sparse_scores, total_popularity
from model_core.signals.sparse import scatter
from model_core.training.checkpoint import Checkpoint
from tests.benchmarks.rivals.sequences import (
    Rows,
    Scores,
    Sequences,
    attribute_edges,
    bar_history,
    cut_stretches,
    first_met,
    place_metrics,
    target_ranks,
)
from tests.benchmarks.rivals.sequential import (
    HistoryModel,
    SequentialConfig,
    SequentialTrainer,
    score_users,
    side_by_side,
)
from tests.benchmarks.rivals.sequential_signals import blend, fit_blend, fit_signals

N_ITEMS = 12


def circle(n_users: int = 60) -> Sequences:
    """Users who walk through the items one after the other."""
    starts = np.random.default_rng(0).integers(N_ITEMS, size=n_users)
    return Sequences.of([[(s + k) % N_ITEMS for k in range(7)] for s in starts], N_ITEMS)


def edges():
    return attribute_edges({item: [1 + item % 3, 1 + item % 3, 4] for item in range(N_ITEMS)}, N_ITEMS, 2)


def test_the_last_item_is_split_off_and_the_rest_kept_in_order() -> None:
    before, last = Sequences.of([[1, 2, 3], [4, 5]], 6).without_last()
    assert [before.history(user).tolist() for user in range(2)] == [[1, 2], [4]]
    assert last.tolist() == [3, 5]


def test_every_item_but_a_users_first_is_a_target_once() -> None:
    history = list(range(23))
    _, targets = cut_stretches(Sequences.of([history], 23), 8)
    assert sorted(targets[targets >= 0].tolist()) == history[1:]


def test_an_item_is_met_where_it_first_stands_and_never_in_padding() -> None:
    assert first_met(np.array([[-1, 2, 0, 2], [1, 1, 1, 1]]), 3).tolist() == [[2, 4, 1], [4, 0, 4]]


def test_a_target_in_the_history_comes_last_and_ties_go_by_row() -> None:
    histories = Sequences.of([[0], [1]], 3)
    values = bar_history(np.ones((2, 3), np.float32), histories, np.arange(2))
    assert target_ranks(values, np.array([2, 1])).tolist() == [1, 3]


def test_metrics_of_places() -> None:
    found = place_metrics(np.array([0, 10]))
    assert found["HR@10"].tolist() == [1, 0]
    assert found["NDCG@20"][1] == pytest.approx(1 / np.log2(12))


def test_pairs_both_ways_are_what_the_worker_counts() -> None:
    train = circle(20)
    users = np.repeat(np.arange(20, dtype=np.int32), 7)
    items, positive = train.items.astype(np.int32), np.ones(len(users), np.bool_)
    part = CoVisitation(window=20)
    part.grow(np.arange(N_ITEMS, dtype=np.uint64))
    part.observe(items, positive, *previous_items(users, items, positive, 20, 20), np.arange(len(users)))
    one = np.arange(N_ITEMS)[:, None]
    whole = np.full(one.shape, WEIGHT_UNIT)
    found = sparse_scores([part], one, whole, total_popularity([part], N_ITEMS))
    counted = scatter(found, N_ITEMS) * np.sqrt(train.popularity() + 10)
    both = pairs_in_order(users, train.items, N_ITEMS, window=20, decay=0.9)
    np.testing.assert_allclose((both + both.T).toarray(), counted, rtol=0.01, atol=0.05)


def test_a_blend_learns_to_trust_the_signal_that_knows() -> None:
    before, last = circle().without_last()
    everybody = np.arange(len(before))
    signals = fit_signals(before, edges())
    nothing = bar_history(np.zeros((len(before), N_ITEMS), np.float32), before, everybody)
    read = signals.read(before, everybody)
    weights = fit_blend(nothing, read, last)
    assert signals.names == ("popularity", "co-visits", "after", "EASE", "attributes")
    assert (target_ranks(blend(weights, nothing, read), last) == 0).mean() > 0.9


EVERY_LOSS = pytest.mark.parametrize("loss", ["full", "sampled", "binary"])


def fitted(loss: Literal["full", "sampled", "binary"], epochs: int) -> tuple[list[float], Scores, Rows]:
    """Train on the circle: the validation by epoch, scores after each history, and what comes next."""
    before, last = circle().without_last()
    torch.manual_seed(0)
    sizes = ModelConfig(dim=16, layers=1, history_length=6, text_dim=1)
    model = HistoryModel(sizes, edges(), dropout=0.1)
    config = SequentialConfig(
        loss=loss, negatives=24, epochs=epochs, patience=epochs, batch=16, learning_rate=1e-2
    )
    history = SequentialTrainer(model, before, last, config).fit(report=lambda *_: None)
    scores = [part for _, part in score_users(model, before, np.arange(len(before)))]
    return history, np.concatenate(scores), last


@EVERY_LOSS
def test_training_finds_the_next_item(loss) -> None:
    _, scores, last = fitted(loss, epochs=40)
    assert (target_ranks(scores, last) == 0).mean() > 0.9  # by chance .08


@EVERY_LOSS
def test_training_repeats_itself(loss) -> None:
    (one, scores, _), (other, again, _) = fitted(loss, epochs=2), fitted(loss, epochs=2)
    assert one == other
    np.testing.assert_array_equal(scores, again)


def test_a_training_that_is_killed_goes_on_to_the_same_end_and_counts_its_seconds(tmp_path) -> None:
    before, last = circle(20).without_last()
    config = SequentialConfig(negatives=8, epochs=3, batch=8)
    checkpoint = Checkpoint(tmp_path / "state.pt", "circle")

    def trainer() -> SequentialTrainer:
        torch.manual_seed(0)
        sizes = ModelConfig(dim=8, layers=1, history_length=6, text_dim=1)
        return SequentialTrainer(HistoryModel(sizes, edges(), dropout=0.1), before, last, config)

    def killed(epoch: int, loss: float, reached: float) -> None:
        if epoch == 1:
            raise KeyboardInterrupt

    whole, first, second = trainer(), trainer(), trainer()
    wanted = whole.fit(report=lambda *_: None)
    with pytest.raises(KeyboardInterrupt):
        first.fit(report=killed, checkpoint=checkpoint)
    epochs: list[int] = []
    assert second.fit(report=lambda epoch, *_: epochs.append(epoch), checkpoint=checkpoint) == wanted
    assert epochs == [1, 2]  # the second was killed before it was kept
    weights = zip(whole.module.parameters(), second.module.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in weights)
    state = checkpoint.load()
    assert state is not None
    assert state["spent"] == second.spent
    assert second.spent[1] > 0


def test_items_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"item rows must be in \[0, 3\), got 1 to 3"):
        Sequences.of([[1, 3]], 3)


def test_models_side_by_side_score_by_the_mean_of_their_scores() -> None:
    before, _ = circle().without_last()
    sizes = ModelConfig(dim=8, layers=1, history_length=6, text_dim=1)
    members = []
    for seed in range(3):
        torch.manual_seed(seed)
        members.append(HistoryModel(sizes, edges()))
        with torch.no_grad():
            for parameter in members[-1].parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))

    def scored(model: HistoryModel) -> Scores:
        scores = np.concatenate([part for _, part in score_users(model, before, np.arange(len(before)))])
        return np.where(np.isfinite(scores), scores, 0.0)

    mean = np.mean([scored(member) for member in members], 0)
    assert mean.std() > 0.1
    np.testing.assert_allclose(scored(side_by_side(members)), mean, atol=1e-4)
