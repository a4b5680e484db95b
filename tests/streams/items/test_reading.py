"""Settings beside a release that says how users are read."""

from dataclasses import replace
from typing import Any

import pytest

from model_core.release.baseline import BaselineScorer
from model_core.signals.config import SignalConfig
from streams.items.reading import check_settings, signals_asked, signals_of
from streams.settings import Settings

RELEASE = replace(
    BaselineScorer(SignalConfig(depth=100, neighbours=64, affinity_half_life_ms=1000)).release,
    action_weights={"view": 0.2, "like": 2.0, "share": 3.0},
)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"covisit_neighbours": 256}, "covisit_neighbours must be 64, as in training, or left out, got 256"),
        (
            {"affinity_half_life_ms": 7},
            "affinity_half_life_ms must be 1000, as in training, or left out, got 7",
        ),
        (
            {"covisits_in_order": True},
            "covisits_in_order must be False, as in training, or left out, got True",
        ),
        ({"history_limit": 112}, "history_limit must be at least 128, .* 100 events deep, got 112, .* 97 "),
        ({"actions": {"like": 0.5}}, r"actions must have 'like' of at least 1, .* \(2.0\), got 0.5"),
        ({"actions": {"view": 1.0}}, r"actions must have 'view' below 1, .* \(0.2\), got 1.0"),
    ],
)
def test_a_setting_that_contradicts_the_release_is_refused(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_settings(Settings(**setting), RELEASE)


def test_settings_that_agree_or_were_left_alone_follow_the_release() -> None:
    check_settings(Settings(), RELEASE)
    check_settings(
        Settings(covisit_neighbours=64, history_limit=128, actions={"like": 5.0, "new": 1.0}), RELEASE
    )


def test_without_a_release_the_settings_count_and_their_defaults_are_those_of_training() -> None:
    assert signals_of(Settings()) == SignalConfig()
    assert signals_of(Settings(history_limit=16)).window == 1
    own = signals_of(Settings(history_limit=64, covisit_neighbours=16, affinity_half_life_ms=5))
    assert own == replace(SignalConfig(), depth=49, neighbours=16, affinity_half_life_ms=5)


def test_training_and_a_worker_without_a_release_count_in_order_where_the_settings_say_so() -> None:
    settings, own = Settings(covisits_in_order=True), SignalConfig(pair_decay=0.7)
    assert signals_of(settings) == signals_asked(SignalConfig(), settings) == SignalConfig().ordered()
    assert signals_of(settings).in_order
    assert signals_asked(own, settings) == own
    assert signals_asked(SignalConfig(), Settings()) == SignalConfig()
