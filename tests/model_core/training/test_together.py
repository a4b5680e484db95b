"""Two processes that `torchrun` starts train the model that one trains."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from model_core.evaluation.evaluate import start_replay
from model_core.release.folder import EASE
from model_core.release.scorer import Scorer
from model_core.training.together import ALONE, Together, joined
from tests.model_core import tiny
from tests.model_core.training import together_run


@dataclass(frozen=True)
class Result:
    """What a process has written."""

    history: list[list[float]]
    weights: list[torch.Tensor]
    gradient: list[torch.Tensor]


def read(folder: Path) -> Result:
    epochs = json.loads((folder / "history.json").read_text())
    weights = torch.load(folder / "weights", weights_only=True)
    gradient = torch.load(folder / "gradient", weights_only=True)
    return Result([list(epoch.values()) for epoch in epochs], list(weights.values()), gradient)


def same(ones: list[torch.Tensor], others: list[torch.Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(ones, others, strict=True))


def probabilities(release: Path) -> np.ndarray:
    """What a release expects each user of the tiny data to like, of all items: (n_users, n_items)."""
    scorer, data = Scorer(release), tiny.corpus(tiny.dataset())
    replay, vectors = start_replay(scorer, data)
    replay.advance(together_run.SPLIT)
    users = np.arange(data.log.n_users, dtype=np.int32)
    found = scorer.score(replay.requests(users, np.full(len(users), data.log.times_ms[-1])), vectors)
    told = np.zeros((len(users), data.log.n_items), np.float32)
    for user in users:
        valid = found.valid[user]
        told[user, found.rows[user, valid]] = found.scores[user, valid]
    return told


@pytest.mark.timeout(600)
def test_two_processes_train_the_model_that_one_does_and_go_on_from_a_checkpoint(tmp_path: Path) -> None:
    alone, both = tmp_path / "alone", tmp_path / "both"
    together_run.main(alone)
    with pytest.raises(together_run.Killed):
        together_run.main(both, killed_after=1)

    launch = ["--standalone", "--nproc-per-node", "2", "-m", together_run.__name__, str(both)]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *launch], capture_output=True, text=True, timeout=480
    )
    assert done.returncode == 0, done.stderr

    expected = read(alone / "0")
    first, second = read(both / "0"), read(both / "1")
    assert first.history == second.history
    assert same(first.weights, second.weights)
    for one, wanted in zip(first.gradient, expected.gradient, strict=True):
        torch.testing.assert_close(one, wanted, rtol=1e-4, atol=1e-6)
    # Users ask at other moments, so they are not the same.
    np.testing.assert_allclose(first.history, expected.history, rtol=0.03)
    one, two = alone / "release", both / "release"
    assert (one / EASE).read_bytes() == (two / EASE).read_bytes()
    told, wanted = probabilities(two), probabilities(one)
    np.testing.assert_allclose(told, wanted, atol=0.1)
    assert np.corrcoef(told.ravel(), wanted.ravel())[0, 1] > 0.999


def test_one_process_is_the_group_of_itself() -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    parameter.grad = torch.tensor([1.0, 2.0])

    ALONE.average([parameter], weight=3.0)

    assert parameter.grad.tolist() == [1.0, 2.0]
    assert ALONE.told(lambda: {"a": 1}) == {"a": 1}
    assert ALONE.add_up(1.0, 2.0) == [1.0, 2.0]
    assert list(ALONE.part("abc")) == ["a", "b", "c"]


def test_parts_of_all_processes_are_the_whole() -> None:
    parts = [list(Together(rank, 3).part(range(8))) for rank in range(3)]
    assert parts == [[0, 3, 6], [1, 4, 7], [2, 5]]


@pytest.mark.parametrize(("size", "words"), [("many", "must be a number"), ("2", "unset WORLD_SIZE")])
def test_who_is_not_started_by_torchrun_is_told_what_to_do(
    monkeypatch: pytest.MonkeyPatch, size: str, words: str
) -> None:
    monkeypatch.setenv("WORLD_SIZE", size)
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(ValueError, match=words), joined("cpu"):
        pass
