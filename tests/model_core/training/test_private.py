"""A private release: all that it tells of users comes out of the noisy counts."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model_core.data.batches import dense_signals
from model_core.data.datasets import Item, User
from model_core.network.ranker import SIGNAL_WEIGHTS
from model_core.privacy.config import NOT_COVERED, Privacy
from model_core.release.folder import EASE, MAPPING, WEIGHTS, read_release
from model_core.release.scorer import Scorer
from model_core.signals.config import SignalConfig
from model_core.training.private import public_part, train_private
from tests.model_core import tiny


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two releases of logs that differ in all events of all users but their catalogue's."""
    folders = tmp_path_factory.mktemp("private")
    for name, events in (("a", 900), ("b", 300)):
        corpus = tiny.corpus(tiny.dataset(n_events=events))
        train_private(corpus, tiny.WEIGHTS, folders / name, Privacy(epsilon=4.0), config=tiny.CONFIG)
    return folders / "a", folders / "b"


def test_only_what_is_made_of_noisy_counts_differs_between_logs(made: tuple[Path, Path]) -> None:
    first, second = (json.loads((folder / "manifest.json").read_text()) for folder in made)
    files = {name for name in first["files"] if first["files"][name] != second["files"][name]}
    assert files <= {EASE, MAPPING}  # of neither, where by chance no item stands out of the noise
    assert {name for name in first if first[name] != second[name]} <= {"files", "version"}


def test_it_holds_nothing_else_and_says_what_is_promised_and_what_not(made: tuple[Path, Path]) -> None:
    release = read_release(made[0])
    files = json.loads((made[0] / "manifest.json").read_text())["files"]
    assert {path.name for path in made[0].iterdir()} == {*files, "manifest.json"}
    assert not (made[0] / WEIGHTS).exists()
    assert release.metrics.keys() == {"onnx_difference"}
    (promise,) = release.training.values()
    assert (promise["epsilon"], promise["delta"]) == (4.0, 1e-5)
    sigmas = promise["sigma_popularity"], promise["sigma_pairs"]
    assert sigmas == pytest.approx((1.0811618 / 0.25**0.5, 1.0811618 / 0.75**0.5), rel=1e-6)
    assert promise["not_covered"] == list(NOT_COVERED)


def test_it_ranks_by_the_signals(made: tuple[Path, Path]) -> None:
    scorer = Scorer(made[0])
    batch = tiny.requests(scorer, 3)
    scores = scorer.score(batch, np.random.default_rng(0).normal(size=(tiny.N_ITEMS, 16)).astype(np.float32))
    other = scorer.score(batch, np.zeros((tiny.N_ITEMS, 16), np.float32))
    for request in range(3):
        assert scores.rows[request][:10].tolist() == other.rows[request][:10].tolist()


def test_ease_of_noisy_counts_weighs_a_third_of_what_exact_ease_begins_with(made: tuple[Path, Path]) -> None:
    scorer = Scorer(made[0])
    batch = tiny.requests(scorer, 3)
    weights = np.array(SIGNAL_WEIGHTS) * (1.0, 1.0, 1.0 / 3.0)
    by_signals = np.tensordot(weights, np.log(np.exp(-3.0) + dense_signals(batch)), (0, 1))
    ranked = scorer.score(batch, np.zeros((tiny.N_ITEMS, 16), np.float32))
    for request in range(3):
        assert ranked.rows[request][:10].tolist() == np.argsort(-by_signals[request])[:10].tolist()


def test_what_is_known_from_users_only_enters_no_vocabulary() -> None:
    data = tiny.dataset()
    told = replace(data, items=[*data.items[:-1], Item("i59", "i59")], users=[User("u1", {"city": "Bern"})])
    actions = ["like"] * len(told.interactions)
    public, kept = public_part(told, actions)
    assert public.users == []
    assert "i59" not in {item.item_id for item in public.items}
    assert "i59" not in public.interactions.item_ids
    assert len(kept) == len(public.interactions) < len(actions)
    with pytest.raises(ValueError, match="items must have titles where epsilon is set"):
        public_part(replace(told, items=[Item("i59", "i59")]), actions)


@pytest.mark.parametrize(
    ("privacy", "signals", "why"),
    [
        (Privacy(), {}, "epsilon must be finite for a private release, got inf"),
        (Privacy(epsilon=4.0, clip=5.0), {}, "clip must be at most 2 for a private release, got 5"),
        (Privacy(epsilon=4.0), {"low_pass": 0.3}, "low_pass must be 0 for a private release, got 0.3"),
        (Privacy(epsilon=4.0), {"ease_near": 0.8}, "ease_near must be 0 for a private release, got 0.8"),
    ],
)
def test_a_release_that_would_not_be_private_or_of_any_use_is_refused(
    privacy: Privacy, signals: dict[str, float], why: str, tmp_path: Path
) -> None:
    data = tiny.corpus(tiny.dataset())
    with pytest.raises(ValueError, match=why):
        train_private(data, tiny.WEIGHTS, tmp_path / "out", privacy, signals=SignalConfig(**signals))
    assert not (tmp_path / "out").exists()
