from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from model_core.data.datasets import Dataset, Interactions, Item
from streams.attack.fakes import Known
from tests.benchmarks import poison
from tests.benchmarks.poison import PENALTY, PROFILES, Attacker, Victim, profiles
from tests.benchmarks.quality_poisoned import WHEN, _drawn, _poisoned, _read

N_USERS, N_ITEMS, FILLERS = 60, 90, 6
TARGETS = np.array([3, 41])


@pytest.fixture(autouse=True)
def few_steps_on_one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(poison, "STEPS", 20)
    monkeypatch.setattr(poison, "WARM", 5)
    yield
    torch.set_num_threads(threads)


def attacker() -> Attacker:
    rng = np.random.default_rng(0)
    odds = np.linspace(0.4, 0.02, N_ITEMS)
    train = rng.random((N_USERS, N_ITEMS)) < odds
    pasts = [np.flatnonzero(row)[-5:] for row in train]
    known = Known(train.sum(0).astype(np.int64), [frozenset()] * N_ITEMS, pasts)
    return Attacker(train, known, TARGETS, 4, FILLERS, 0)


@pytest.mark.parametrize("kind", ["random", "bandwagon", "gan"])
def test_a_fake_has_all_targets_and_distinct_fillers(kind: str) -> None:
    made = profiles(kind, attacker())
    assert len(made) == 4
    for profile in made:
        assert len(set(profile.tolist())) == len(profile)
        assert set(TARGETS.tolist()) <= set(profile.tolist())
        assert len(profile) == len(TARGETS) + FILLERS + (FILLERS // 2 if kind == "bandwagon" else 0)
    assert all((left == right).all() for left, right in zip(made, profiles(kind, attacker()), strict=True))


def reached(fakes: np.ndarray, of: Attacker, victim: Victim) -> float:
    """The loss by training again, from nothing."""
    liked = np.concatenate([of.train, fakes]).astype(np.float64)
    inverse = np.linalg.inv(liked.T @ liked + PENALTY * np.eye(N_ITEMS))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    behind = (victim.bar.numpy() - of.train @ weights[:, TARGETS]) / victim.scale
    return float(np.log1p(np.exp(behind)).mean())


def test_what_the_fakes_do_to_a_model_is_what_training_again_does() -> None:
    of = attacker()
    victim, losses = Victim(of), {}
    assert victim.bar.shape == (N_USERS, 1)
    for kind in ("random", "optimised"):
        fakes = np.zeros((of.n, N_ITEMS), np.float32)
        for n, profile in enumerate(profiles(kind, of)):
            fakes[n, profile] = 1.0
        losses[kind] = float(victim.loss(torch.from_numpy(fakes)))
        assert losses[kind] == pytest.approx(reached(fakes, of, victim), rel=1e-4)
    assert losses["optimised"] < losses["random"]


def test_refuses_an_unknown_attack() -> None:
    with pytest.raises(ValueError, match=f"kind must be one of {', '.join(PROFILES)}, got 'nuke'"):
        profiles("nuke", attacker())


def likes() -> Dataset:
    rng = np.random.default_rng(0)
    pairs = np.argwhere(rng.random((30, 20)) < 0.6)
    users, items = (pairs[:, column].astype(str) for column in (0, 1))
    times = np.sort(rng.integers(0, 10**9, len(pairs)))
    log = Interactions(users, items, np.full(len(pairs), 5.0, np.float32), times)
    return Dataset("likes", log, [Item(str(n), f"film {n}") for n in range(20)], [])


def test_parts_that_are_read_are_those_that_were_written(tmp_path: Path) -> None:
    data = likes()
    drawn = _drawn(data, np.random.default_rng(1))
    assert (drawn.train.sum() + drawn.validation.sum() + drawn.test.sum()) == len(data.interactions)
    names = np.unique(data.interactions.user_ids)
    for name, part in (("train", drawn.train), ("val", drawn.validation), ("test", drawn.test)):
        lines = [f"{names[user]} {item} 5" for user, item in np.argwhere(part)]
        (tmp_path / f"{name}.txt").write_text("\n".join(lines))
    read = _read(tmp_path, data)
    for name in ("train", "validation", "test"):
        np.testing.assert_array_equal(getattr(read, name), getattr(drawn, name))


@pytest.mark.parametrize("when", list(WHEN))
def test_fakes_come_after_honest_users_and_are_trained_on_alone(when: str) -> None:
    data, rng = likes(), np.random.default_rng(1)
    parts = _drawn(data, rng)
    fakes = [np.array([3, 5, 7]), np.array([5, 2, 9])]
    made = _poisoned(data, parts, fakes, WHEN[when], rng)
    assert (np.diff(made.dataset.interactions.timestamps_ms) >= 0).all()
    np.testing.assert_array_equal(made.split.train[: made.honest], parts.train)
    np.testing.assert_array_equal(np.argwhere(made.split.train[made.honest :])[:, 1], [3, 5, 7, 2, 5, 9])
    assert not (made.split.validation | made.split.test)[made.honest :].any()
    fake = made.users >= made.honest
    assert sorted(made.items[fake].tolist()) == [2, 3, 5, 5, 7, 9]
