from dataclasses import replace

import numpy as np
import pytest
import torch

from model_core.network.config import TrainConfig
from model_core.network.model import Model
from model_core.network.ranker import AWAY_S, HERE_S, Ranker
from model_core.network.stages import UserStage
from model_core.signals.config import SignalConfig
from model_core.signals.sample_signals import Log
from model_core.training import balance as module
from model_core.training.balance import (
    EASE_ALONE,
    POPULARITY_ALONE,
    Asked,
    asked_rows,
    average,
    balance,
    hold_back,
    lowered,
)
from model_core.training.networks import fit_widths
from tests.model_core import tiny


def small_ranker() -> Ranker:
    data = tiny.corpus(tiny.dataset())
    return Model(data, fit_widths(tiny.CONFIG, data), TrainConfig(), tuple(tiny.WEIGHTS.values())).ranker


def test_gains_count_in_full_while_a_user_is_here_and_not_at_all_after_a_day() -> None:
    ranker = small_ranker()
    away = torch.tensor([1.0, 2.0, 1.0, 1.0, 0.5])
    ranker.gains_here.copy_(torch.tensor([3.0, 1.0, 0.5, 0.0, 2.0]))
    ranker.gains_away.copy_(away)
    idle = torch.tensor([0.0, HERE_S, 6 * HERE_S, AWAY_S, 100 * AWAY_S, 0.0])
    told = torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0, 0.0])  # the last one has no history
    gains = ranker.gains(idle, told)
    torch.testing.assert_close(gains[0], ranker.gains_here)
    torch.testing.assert_close(gains[1], ranker.gains_here)
    assert 1.0 < gains[2, 0] < 3.0
    assert 0.0 < gains[2, 3] < 1.0
    torch.testing.assert_close(gains[3:], away.expand(3, 5))


def asked(parts: torch.Tensor, level: torch.Tensor, *targets: torch.Tensor) -> Asked:
    wanted = torch.zeros(level.shape, dtype=torch.bool)
    for target in targets:
        wanted[torch.arange(len(target)), target] = True
    return Asked(parts, level, wanted)


def test_what_ranks_well_counts_and_what_is_noise_is_left_out() -> None:
    rng = torch.Generator().manual_seed(0)
    n, items = 400, 60
    target = torch.randint(0, items, (n,), generator=rng)
    telling, noise = torch.randn(2, n, items, generator=rng)
    telling[torch.arange(n), target] += 2.0
    nothing = torch.zeros(n, items)
    parts = torch.stack((telling, nothing, nothing, 4.0 * noise, nothing), 1)
    gains = average(asked(parts, nothing, target))
    assert gains[3] < 0.05
    assert gains[0] > 0.5
    swapped = average(
        asked(torch.stack((0.3 * noise, nothing, nothing, telling, nothing), 1), nothing, target)
    )
    assert swapped[3] > 5 * swapped[0]


def test_what_makes_no_difference_is_left_out() -> None:
    rng = torch.Generator().manual_seed(0)
    parts = torch.zeros(200, 5, 40)
    target = torch.randint(0, 40, (200,), generator=rng)
    gains = average(asked(parts, torch.zeros(200, 40), target))
    assert gains.tolist() == pytest.approx(EASE_ALONE)


def test_an_item_that_was_met_is_never_above_the_one_wanted() -> None:
    parts = torch.zeros(150, 5, 30)
    parts[:, 3, 7] = 9.0  # what only the match puts first
    target = torch.full((150,), 3)
    parts[:120, 0, 3] = 1.0
    parts[120:, 3, 3] = 1.0
    open_, met = torch.zeros(150, 30), torch.zeros(150, 30)
    met[:, 7] = -torch.inf
    assert average(asked(parts, open_, target))[3] < average(asked(parts, met, target))[3]


def test_a_match_that_only_lifts_known_items_over_new_ones_is_left_out() -> None:
    rng = torch.Generator().manual_seed(0)
    n, items = 300, 60
    target = torch.randint(0, 40, (n,), generator=rng)
    telling = torch.randn(n, items, generator=rng)
    telling[torch.arange(n), target] += 3.0
    nothing = torch.zeros(n, items)
    telling[:, 40:] = 0.0  # the last 20 are new, and stand where a match of 8 for all others has put them
    match = 8.0 * (torch.arange(items) < 40) + 0.2 * torch.randn(n, items, generator=rng)
    match[:, 40:] = 0.0
    level = torch.cat((torch.zeros(n, 40), torch.full((n, 20), 8.0)), 1)
    one = asked(torch.stack((telling, nothing, nothing, match, nothing), 1), level, target)
    gains = average(one)
    assert gains[3] == gains[4] == 0.0
    assert gains[0] > 0.0
    assert lowered([(one, gains)]) == -8.0


def test_a_head_that_pays_is_heard_and_one_that_does_not_is_left_out() -> None:
    rng = torch.Generator().manual_seed(0)
    n, items = 300, 60
    target = torch.randint(0, items, (n,), generator=rng)
    first, second, noise = torch.randn(3, n, items, generator=rng)
    for part in (first, second):
        part[torch.arange(n), target] += 2.0
    nothing = torch.zeros(n, items)
    paid, unpaid = (
        average(asked(torch.stack((first, nothing, nothing, nothing, head), 1), nothing, target))
        for head in (second, 0.3 * noise)
    )
    assert paid[4] > 0.3
    assert unpaid[4] == 0.0


def test_popularity_alone_counts_where_all_else_ranks_below_it() -> None:
    rng = torch.Generator().manual_seed(0)
    n, items = 400, 60
    first, second = torch.randint(0, items, (2, n), generator=rng)
    noise = torch.randn(4, n, items, generator=rng)
    popular = torch.zeros(n, items)
    for target in (first, second):
        popular[torch.arange(n), target] = 2.0
    nothing = torch.zeros(n, items)
    loud = torch.stack((9.0 * noise[0], popular, 9.0 * noise[1], 9.0 * noise[2], 9.0 * noise[3]), 1)
    assert tuple(average(asked(loud, nothing, first, second)).tolist()) == POPULARITY_ALONE
    silent = torch.stack((popular, nothing, nothing, nothing, nothing), 1)
    assert average(asked(silent, nothing, first, second))[0] > 0.5


def test_ease_alone_counts_where_all_else_ranks_below_it() -> None:
    rng = torch.Generator().manual_seed(0)
    n, items = 400, 60
    first, second = torch.randint(0, items, (2, n), generator=rng)
    telling, *noise = torch.randn(4, n, items, generator=rng)
    for target in (first, second):
        telling[torch.arange(n), target] += 2.0
    nothing = torch.zeros(n, items)
    loud = torch.stack((9.0 * noise[0], nothing, telling, 9.0 * noise[1], 9.0 * noise[2]), 1)
    gains = average(asked(loud, nothing, first, second))
    assert gains[2] > 20 * max(gains[0], gains[3], gains[4])


def test_a_part_that_is_best_on_new_items_is_not_taken_for_one_that_finds_what_is_wanted() -> None:
    followed, new, eased, wanted, n = range(300), range(300, 320), range(320, 340), 340, 700
    parts, level = torch.zeros(50, 5, n), torch.zeros(50, n)
    parts[:, 0, followed] = 10.0
    parts[:, 0, wanted] = 20.0  # co-visits have what is wanted in front
    parts[:, 2, new], parts[:, 2, eased], parts[:, 2, wanted] = 10.0, 5.0, 1.0  # and EASE twenty others
    level[:, new] = 1.0
    gains = average(asked(parts, level, torch.full((50,), wanted)))
    assert gains[0] > 0.4


def test_new_items_are_lowered_where_they_stand_in_the_way_and_not_where_they_are_wanted() -> None:
    rng = torch.Generator().manual_seed(0)
    n, items = 200, 60
    target = torch.randint(0, 40, (n,), generator=rng)
    telling = torch.randn(n, items, generator=rng)
    telling[torch.arange(n), target] += 2.0
    nothing = torch.zeros(n, items)
    telling[:, 40:] = 0.0  # the last 20 are new
    level = torch.cat((torch.zeros(n, 40), torch.full((n, 20), 3.5)), 1)
    parts = torch.stack((telling, nothing, nothing, nothing, nothing), 1)
    gains = torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0])
    assert lowered([(asked(parts, level, target), gains)]) < -1.0
    far_above = [(asked(parts, 4 * level, target), gains)]  # once the networks count nothing of what is known
    by = lowered(far_above)
    known = telling[:, :40].topk(10, dim=1).values[:, -1]
    assert (14.0 + by < known).float().mean() > 0.9
    assert lowered([(asked(parts, level, target % 20 + 40), gains)]) == 0.0
    assert lowered([]) == 0.0


def test_lowered_items_are_so_in_what_is_served_and_not_in_what_training_minimises() -> None:
    ranker = small_ranker().eval()
    user, gains = torch.randn(2, ranker.config.dim), torch.ones(2, ranker.config.n_signals)
    signals = torch.rand(2, ranker.config.n_signals, 6) + 0.1
    signals[:, 1, 4:] = 0.0  # the last two are new
    asked_for = user, torch.zeros(2), torch.ones(2), torch.zeros(2, 4, dtype=torch.int64), torch.zeros(2, 4)

    def scores() -> list[torch.Tensor]:
        with torch.inference_mode():
            served = UserStage(ranker)(*asked_for)[4]
            return [ranker.prior(user, signals), ranker.prior(user, signals, gains), served]

    before = scores()
    ranker.lowered.fill_(-3.0)
    minimised, served, of_stage = (b - a for a, b in zip(before, scores(), strict=True))
    assert (minimised == 0).all()
    torch.testing.assert_close(served, -3.0 * (signals[:, 1] == 0))
    torch.testing.assert_close(of_stage, torch.full((2, 1), -3.0))


def test_what_is_held_back_is_unknown_to_the_rest_of_the_log() -> None:
    data = tiny.corpus(tiny.dataset())
    log, since = data.log, len(data.log) // 2
    kept, back = hold_back(log, since)
    again, same = hold_back(log, since)
    assert len(kept) < len(log)
    np.testing.assert_array_equal(kept.times_ms, again.times_ms)
    np.testing.assert_array_equal(back.relevant, same.relevant)
    np.testing.assert_array_equal(kept.first(since).items, log.first(since).items)
    met = np.zeros((log.n_users, log.n_items), np.bool_)
    met[kept.users, kept.items] = True
    assert not (back.relevant & met[back.users]).any()
    assert back.relevant.any(1).all()
    later = set(
        zip(log.users[since:][log.positive[since:]], log.items[since:][log.positive[since:]], strict=True)
    )
    assert {(back.users[row], item) for row, item in zip(*back.relevant.nonzero(), strict=True)} <= later
    assert len(hold_back(log, len(log))[1].users) == 0


def test_rows_asked_are_first_positive_events_of_users_who_are_here() -> None:
    minute = 60_000
    log = Log(
        users=np.array([0, 0, 0, 0, 1, 1, 0], np.int32),
        items=np.array([5, 6, 6, 7, 5, 8, 9], np.int32),
        actions=np.ones(7, np.int64),
        positive=np.array([1, 1, 1, 0, 1, 1, 1], bool),
        times_ms=np.array([0, 1, 2, 3, 4, 5, 60]) * minute,
        n_users=2,
        n_items=10,
    )
    # Row 0 has nobody before it, 2 is met, 3 is not positive, 4 is a user's first, 6 comes after an hour.
    assert [rows.tolist() for rows in asked_rows(log, 0)] == [[1, 5], []]
    assert [rows.tolist() for rows in asked_rows(log, 2)] == [[5], []]
    assert [rows.tolist() for rows in asked_rows(log, 6)] == [[], []]


@pytest.mark.parametrize(("visits", "expected"), [(8, True), (1, False)])
def test_users_who_come_back_are_asked_where_it_is_what_users_do(visits: int, expected: bool) -> None:
    """40 users take 8 items each within minutes: in as many visits, a day apart, or in one."""
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(40, dtype=np.int32), 8)
    at = np.tile(np.arange(8), 40)
    apart_ms = 86_400_000 if visits > 1 else 30_000
    times_ms = at * apart_ms + rng.integers(1_000, size=len(at))
    order = np.argsort(times_ms, kind="stable")
    log = Log(
        users[order], at[order].astype(np.int32), np.ones(320, np.int64), np.ones(320, np.bool_),
        times_ms[order], 40, 8,
    )  # fmt: skip
    here, returning = asked_rows(log, 40)
    assert (len(here), len(returning)) == ((0, 280) if expected else (280, 0))
    assert (returning >= 40).all()


def test_a_log_with_few_events_leaves_all_parts_as_trained(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    data = tiny.corpus(tiny.dataset())
    model = Model(data, fit_widths(tiny.CONFIG, data), TrainConfig(), tuple(tiny.WEIGHTS.values()))
    log = data.log
    balance(model, data, log, len(log) - 5, SignalConfig())
    assert model.ranker.gains_here.tolist() == model.ranker.gains_away.tolist() == [1.0] * 5
    with torch.no_grad():  # a head that shouts at random
        model.ranker.rank.weight.normal_(std=20.0)
    monkeypatch.setattr(module, "MIN_USERS", 1)
    balance(model, data, log, len(log) - 50, SignalConfig())  # too few of those who are here
    assert model.ranker.gains_here.tolist() == model.ranker.gains_away.tolist()
    assert model.ranker.gains_away[-1] < 1.0
    known = [0.5, 1.0, 0.5, 0.5, 0.25]
    model.ranker.gains_here.copy_(torch.tensor(known))  # as an earlier training chose them
    balance(model, data, log, len(log) - 50, SignalConfig())
    assert model.ranker.gains_here.tolist() == known
    monkeypatch.setattr(module, "MIN_EVENTS", 1)
    times = np.arange(len(log)) * 1000
    balance(model, data, replace(log, times_ms=times), len(log) // 2, SignalConfig())
    assert model.ranker.gains_here[-1] < 1.0
    assert model.ranker.gains_away[-1] < 1.0
