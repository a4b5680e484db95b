"""A release that is taught by its slates with noise, and workers that know nothing else of slates."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from model_core.privacy.config import Promise
from model_core.privacy.gaussian import composed, gaussian_epsilon, gaussian_sigma
from model_core.release.folder import LEARNED, Release, add_learned, read_release
from model_core.release.signature import SIGNATURE
from online_learning.statistics.private import NO_NOISE, Clips, clipped_sums, statistics_of
from streams.cli import app
from streams.errors import SlatestreamError
from streams.learning.learned import read_learned
from streams.releases.store import ReleaseStore
from streams.settings import Settings
from streams.state.feature_spaces import Spaces
from streams.trainer.private_teaching import OwnSlates, teach
from tests.streams.releases.life import Life
from tests.streams.releases.made import variant
from tests.streams.trainer.test_refit import nobody, visits

FOUR = Promise(epsilon=4.0)
LOUD = Promise(epsilon=1_000.0)
"""Little noise: what a few slates say is told."""
taught = partial(teach, impressions=20.0)


def slates_of(life: Life, version: str) -> OwnSlates:
    """Slates of a release, as `feedback` has them, told twice."""
    slates = OwnSlates(life.memory.settings, read_release(life.store / version), is_held=nobody)
    told = [record.value for record in life.memory.log.records("feedback")]
    slates.add([b"none of these", None, *told, *told])
    return slates


def feedback(release: Release, *, user: str = "u", request: str = "r", **changed: object) -> bytes:
    """A slate of two items, the first of which was liked."""
    features = np.zeros((2, release.feature_dim), np.float32)
    features[:, :2] = 1.0, 0.25
    record = {
        "request_id": request, "user_id": user, "slate": [{"item_id": item, "score": 0.25} for item in "ab"],
        "rewards": [2.0, 0.0], "actions": [["like"], []], "timestamp_ms": 1, "model_version": release.version,
        "features": features.tobytes(), "feature_dim": release.feature_dim,
    }  # fmt: skip
    return msgspec.json.encode(record | changed)


async def test_workers_know_of_slates_what_a_release_is_taught_and_no_more(
    make_life: Callable[..., Life], tmp_path: Path
) -> None:
    life = make_life(attribution_window_ms=60_000, policy="thompson", position_bias=0.7, learn_online=False)
    settings, first = life.memory.settings, life.put()
    async with life.worker(first) as worker:
        await visits(life, worker, rounds=2)
        shards = worker.parts.partitions.live()
        for shard in shards:
            shard.learning.count_published()
        exact = shards[0].statistics.serving + shards[1].statistics.serving
        assert worker.parts.lanes.serving.policies.learner.version == 0
    slates = slates_of(life, first)
    nothing = np.zeros(exact.dim)
    sums = clipped_sums(slates.rows(), nothing, Clips(np.inf, np.inf, np.inf))
    everything = statistics_of(sums, NO_NOISE, nothing)
    np.testing.assert_allclose(everything.gram, exact.gram, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(everything.moment, exact.moment, rtol=1e-5, atol=1e-5)
    assert (everything.impressions, everything.rewards) == (exact.impressions, exact.rewards)

    (life.store / first / SIGNATURE).write_bytes(b"of the base")
    made = taught(life.store / first, tmp_path / "taught", slates, LOUD, settings)
    assert not (tmp_path / "taught" / SIGNATURE).exists()
    assert made.training["learned"]["of"] == first
    promise = made.training["learned"]["privacy"]
    assert promise["epsilon_in_all"] == pytest.approx(1_000.0, abs=1e-3)
    second = ReleaseStore(str(life.store)).put(tmp_path / "taught").version
    learning = Spaces(settings).learning("", exact.dim)
    told = read_learned(tmp_path / "taught", made, learning, learning)
    assert told is not None
    assert told.impressions > 10
    for _ in range(2):  # a worker that begins again draws no other noise
        async with life.worker(second) as worker:
            learner = worker.parts.lanes.serving.learner
            await learner.learn_now(worker.parts.partitions.live())
            policy = worker.parts.lanes.serving.policies.learner
            assert policy.version == told.impressions + told.rewards
            await visits(life, worker, rounds=1)
            await learner.learn_now(worker.parts.partitions.live())
            assert policy.version == told.impressions + told.rewards

    own = slates_of(life, second)
    assert len(own) == 2 * 8
    again = taught(tmp_path / "taught", tmp_path / "again", own, replace(LOUD, epsilon=500.0), settings)
    both = composed([gaussian_sigma(epsilon, 1e-5) for epsilon in (1_000.0, 500.0)])
    assert again.training["learned"]["privacy"]["epsilon_in_all"] == pytest.approx(
        gaussian_epsilon(both, 1e-5), abs=1e-3
    )
    more = read_learned(tmp_path / "again", again, learning, learning)
    assert more is not None
    assert more.impressions > told.impressions + 5


def test_the_last_word_of_a_user_on_a_slate_of_the_release_counts(tiny: Path) -> None:
    release = read_release(tiny)
    slates = OwnSlates(Settings(position_bias=1.0), release, is_held="held".__eq__)
    nan = np.full((2, release.feature_dim), np.nan, np.float32).tobytes()
    slates.add(
        [
            feedback(release, user="a", actions=[[], []]),
            feedback(release, user="b"),  # with the same request's id
            feedback(release, user="a", correction=True),
            feedback(release, user="held"),
            feedback(release, request="other", model_version="other"),
            feedback(release, request="short", features=b"1234"),
            feedback(release, request="nan", features=nan),
            feedback(release, request="empty", slate=[], rewards=[], actions=[], features=b""),
        ]
    )
    assert len(slates) == 2
    rows = slates.rows()
    assert rows.rows[:, 1].tolist() == [0.0] * 4  # both items of a slate are as likely
    assert rows.users.tolist() == [0, 0, 1, 1]
    assert rows.weights.tolist() == [1.0, 0.5, 1.0, 0.5]
    assert rows.rewards.tolist() == [1.0, 0.0, 1.0, 0.0]
    assert rows.rows[:, 0].tolist() == [0.25] * 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"position_bias": "learned"}, "position_bias must be a number"),
        ({"policy": "thompson-disjoint"}, "policy must learn one linear model"),
        ({"reward_half_life_ms": 1_000}, "without reward_half_life_ms"),
    ],
)
def test_settings_of_which_no_noisy_sums_are_made_are_refused(
    settings: dict[str, object], message: str, tiny: Path, tmp_path: Path
) -> None:
    given, release = Settings(**settings), read_release(tiny)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        taught(tiny, tmp_path / "out", OwnSlates(given, release, is_held=nobody), FOUR, given)
    assert not (tmp_path / "out").exists()


def test_a_beginning_of_exact_sums_is_refused_and_other_promises_are_added(
    tiny: Path, tmp_path: Path
) -> None:
    exact = variant(tiny, tmp_path / "exact")
    add_learned(exact, b"exact", {"slates": 3})
    settings, release = Settings(), read_release(exact)
    slates = OwnSlates(settings, release, is_held=nobody)
    slates.add([feedback(release)])
    with pytest.raises(ValueError, match="begins with exact sums"):
        taught(exact, tmp_path / "out", slates, FOUR, settings)

    strange = variant(tiny, tmp_path / "strange", training={"learned": {"privacy": {"sigmas": [0.0]}}})
    with pytest.raises(ValueError, match="makes no known promise"):
        taught(strange, tmp_path / "out", slates, FOUR, settings)

    training = {"privacy": {"epsilon": 4.0, "delta": 1e-5}}
    private = variant(tiny, tmp_path / "private", training=training)
    release = read_release(private)
    slates = OwnSlates(settings, release, is_held=nobody)
    slates.add([feedback(release)])
    made = taught(private, tmp_path / "out", slates, FOUR, settings)
    both = gaussian_epsilon(composed([gaussian_sigma(4.0, 1e-5)] * 2), 1e-5)
    assert made.training["learned"]["privacy"]["epsilon_in_all"] == pytest.approx(both, abs=1e-5)
    assert made.training["privacy"] == training["privacy"]


def test_the_command_teaches_and_refuses(tiny: Path, tmp_path: Path) -> None:
    def invoke(*options: str) -> str:
        given = ["teach", "--release", str(tiny), "--out", str(tmp_path / "out"), *options]
        result = CliRunner(env={"COLUMNS": "200"}).invoke(app, given)
        if result.exception is not None:
            raise result.exception
        return result.stdout

    release, file = read_release(tiny), tmp_path / "feedback.jsonl"
    file.write_bytes(feedback(release) + b"\n" + feedback(release, user="v") + b"\nnothing\n")
    told = json.loads(invoke("--feedback", str(file), "--epsilon", "2", "--impressions", "5", "--json"))
    made = read_release(tmp_path / "out")
    assert told["release"] == made.version != release.version
    assert (told["privacy"]["epsilon"], told["privacy"]["impressions"]) == (2.0, 5.0)
    assert (tmp_path / "out" / LEARNED).is_file()
    assert "slates" not in made.training["learned"]  # how many there were is exact

    file.write_text("nothing\n")
    for options, message in (
        (("--epsilon", "4"), "feedback must hold slates of release"),
        (("--epsilon", "0"), "epsilon must be above 0"),
        (("--epsilon", "inf"), "epsilon must be finite"),
        (("--epsilon", "1", "--impressions", "0"), "impressions must be above 0"),
    ):
        with pytest.raises(SlatestreamError, match=message):
            invoke("--feedback", str(file), *options)
