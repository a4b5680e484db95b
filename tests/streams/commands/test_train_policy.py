import json
from pathlib import Path

import numpy as np
import pytest

from online_learning.policies.policy_release import PolicyRelease
from online_learning.policies.registry import create_policy
from online_learning.policies.rl_policy import Scorer
from online_learning.statistics.posterior import LinearPrior
from online_learning.types import Candidates
from streams.commands.feedback_log import read_feedback
from streams.commands.train import train_command
from streams.errors import ConfigurationError, SlatestreamError
from streams.events import Feedback, SlateItem, encode
from streams.learning.policy_set import PolicySet
from streams.metrics import Metrics
from streams.settings import load_settings

DIM, MODEL = 3, "model-1"


def record(
    n: int,
    user: int,
    minute: float,
    columns: np.ndarray,
    rewards: np.ndarray,
    p: np.ndarray,
    model: str = MODEL,
) -> Feedback:
    shown = len(columns)
    return Feedback(
        request_id=f"r{n}", user_id=f"u{user}",
        slate=[SlateItem(f"i{j}", j, 0.5, float(p[j])) for j in range(shown)],
        rewards=rewards.tolist(), actions=[["click"] if reward else [] for reward in rewards],
        policy="random", policy_version=0, propensity_kind="exact", model_version=model,
        features=columns.astype("<f4").tobytes(), feature_dim=columns.shape[1] if shown else DIM,
        timestamp_ms=1_700_000_000_000 + int(60_000 * minute), closed_ms=1_700_000_100_000,
    )  # fmt: skip


def log_of(path: Path, n: int = 600, seed: int = 0) -> Path:
    """Uniform slates of 2 of 5, whose items are clicked as often as their feature 1 says."""
    rng = np.random.default_rng(seed)
    with path.open("wb") as file:
        for row in range(n):
            items = np.concatenate([np.ones((5, 1)), rng.random((5, 2))], axis=1)[rng.permutation(5)[:2]]
            rewards = (rng.random(2) < items[:, 1]).astype(float)
            line = record(row, row % 40, row / 40, items, rewards, np.array([1 / 5, 1 / 4]))
            file.write(encode(line) + b"\n")
    return path


def test_a_policy_learned_from_feedback_prefers_what_was_rewarded_and_is_served(tmp_path, capsys):
    out = tmp_path / "policy"
    train_command(
        task="policy", feedback=log_of(tmp_path / "log", n=1000), out=out, epochs=8, session_gap=0.5,
        held_out=0.3, device="cpu",
    )  # fmt: skip
    assert {"manifest.json", "scorer.safetensors", "metrics.json", "learning-curve.png"} == {
        path.name for path in out.iterdir()
    }
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["slates"] == [700, 300]
    assert metrics["sessions"] == 700
    served, learned = metrics["held_out"]
    assert served["value"] == pytest.approx(1.0, abs=0.15)
    # Guessing at what was not shown is no ground for an estimate this far from the logging policy.
    assert learned["value"] is None
    assert "mean weight must be within" in learned["refused"]
    policy = create_policy("rl", LinearPrior(np.zeros(DIM), feature_space=MODEL), policy_release=out)
    features = np.array([[[1.0, 0.1, 0.5], [1.0, 0.9, 0.5]]], np.float32)
    candidates = Candidates(np.zeros((1, 2), np.float32), features, np.ones((1, 2), bool))
    slates = policy.select(candidates, k=np.array([2]), seeds=np.array([3], np.uint64))
    better = policy.propensities(candidates, np.array([[1, 0]]), seeds=np.array([3], np.uint64))
    assert better[0, 0] > 0.6
    assert slates.propensities[0, 1] == 1.0
    assert "SLATESTREAM_POLICY_RELEASE" in capsys.readouterr().err


def test_the_same_seed_gives_the_same_release(tmp_path):
    log = log_of(tmp_path / "log", n=100)
    for name in ("a", "b"):
        train_command(
            task="policy", feedback=log, out=tmp_path / name, epochs=2, device="cpu", algorithm="dqn"
        )
    assert (tmp_path / "a/manifest.json").read_text() == (tmp_path / "b/manifest.json").read_text()


def test_bad_records_and_other_models_are_left_out_and_corrections_replace(tmp_path):
    items, ones = np.ones((2, DIM)), np.ones(2)
    lines = [
        encode(record(0, 0, 0, items, ones, ones, model="older")),
        encode(record(1, 0, 1, items, ones, ones)),
        encode(record(1, 0, 1, items, 3 * ones, ones)),
        encode(record(2, 1, 2, items, ones, 0 * ones)),
        encode(record(3, 1, 3, np.nan * items, ones, ones)),
        encode(record(4, 1, 4, items, np.ones(1), ones)),
        encode(record(5, 1, 5, items[:0], ones[:0], ones)),
        encode(record(6, 1, 6, items[:1], ones[:1], ones)),
        b"no json",
    ]
    (tmp_path / "log").write_bytes(b"\n".join(lines))
    log = read_feedback(load_settings(), tmp_path / "log")
    assert log.left_out == {
        "repeated": 1, "propensity": 1, "not finite": 1, "lengths": 1, "empty": 1, "undecodable": 1,
        "other model": 1,
    }  # fmt: skip
    assert log.rewards.tolist() == [[3.0, 3.0], [1.0, 0.0]]
    assert log.index.tolist() == [[0, 1], [0, -1]]


def test_a_log_that_is_too_short_is_refused(tmp_path):
    with pytest.raises(SlatestreamError, match="at least 50 slates of one model, got 10"):
        train_command(task="policy", feedback=log_of(tmp_path / "log", n=10), out=tmp_path / "out")


def test_a_worker_told_to_serve_another_models_policy_does_not_start(tmp_path):
    layer = (np.ones((DIM, 1), np.float32), np.zeros(1, np.float32))
    scorer = Scorer(np.zeros(DIM, np.float32), np.ones(DIM, np.float32), (layer,))
    PolicyRelease(scorer, 1.0, "sarsa", "model-0", {}).write(tmp_path)
    settings = load_settings(policy="rl", policy_release=tmp_path)
    with pytest.raises(ConfigurationError, match="policy: .*features of model 'model-1', got 'model-0'"):
        PolicySet(settings, LinearPrior(np.zeros(DIM), feature_space=MODEL), Metrics())
    with pytest.raises(ConfigurationError, match="policy: policy_release must be a folder"):
        PolicySet(load_settings(policy="rl"), LinearPrior(np.zeros(DIM)), Metrics())


def test_an_empty_log_is_refused(tmp_path):
    (tmp_path / "log").write_bytes(b"\n")
    with pytest.raises(SlatestreamError, match="at least one usable slate, got none"):
        train_command(task="policy", feedback=tmp_path / "log", out=tmp_path / "out")


def test_a_policy_needs_exactly_one_source(tmp_path):
    with pytest.raises(SlatestreamError, match="exactly one of --feedback FILE and --from-topics"):
        train_command(task="policy", data=tmp_path)
