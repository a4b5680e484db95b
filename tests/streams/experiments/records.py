"""Records of an experiment as a worker would have written them."""

import numpy as np

from streams.events import Feedback, Recommendation, SlateItem, encode
from streams.experiments.definition import Experiment, Variant
from streams.experiments.log import ExperimentLog

POSITIVE = ("click", "like")


def experiment(**values: object) -> Experiment:
    variants = [Variant("control"), Variant("b", "greedy")]
    return Experiment(**({"name": "hot", "kind": "ab", "variants": variants, "started_ms": 1_000} | values))


def items(k: int, teams: tuple[str | None, ...] = ()) -> list[SlateItem]:
    given = teams or (None,) * k
    return [SlateItem(f"i{position}", position, 0.5, 0.5, team=team) for position, team in enumerate(given)]


def shown(
    request_id: str,
    user_id: str,
    variant: str | None,
    *,
    name: str | None = "hot",
    k: int = 3,
    teams: tuple[str | None, ...] = (),
    latency_ms: float = 5.0,
    fallback: str | None = None,
) -> bytes:
    return encode(
        Recommendation(
            request_id, user_id, items(k, teams), "softmax", 0, "exact", "m", b"", 0, 2_000, latency_ms,
            fallback=fallback, experiment=name, variant=variant,
        )
    )  # fmt: skip


def closed(
    request_id: str,
    user_id: str,
    variant: str | None,
    actions: list[list[str]],
    *,
    name: str | None = "hot",
    teams: tuple[str | None, ...] = (),
    correction: bool = False,
) -> bytes:
    rewards = [float(len(here)) for here in actions]
    return encode(
        Feedback(
            request_id, user_id, items(len(actions), teams), rewards, actions, "softmax", 0, "exact", "m",
            b"", 0, 2_000, 9_000, correction=correction, experiment=name, variant=variant,
        )
    )  # fmt: skip


def log_of(one: Experiment, *, users: int, rates: dict[str, float], lost: float = 0.0) -> ExperimentLog:
    """A log of one slate a user, of which some of variant b leave no record."""
    rng = np.random.default_rng(0)
    log = ExperimentLog(one, POSITIVE)
    for number in range(users):
        variant = ("control", "b")[int(rng.integers(2))]
        taken, is_lost = rng.random() < rates[variant], rng.random() < lost
        if variant == "b" and is_lost:
            continue
        log.add(shown(f"r{number}", f"u{number}", variant), 2_000 + number)
        log.add(closed(f"r{number}", f"u{number}", variant, [["click"] if taken else [], []]), 90_000)
    return log


def duel_of(one: Experiment, *, wins: int, losses: int, ties: int) -> ExperimentLog:
    """A log of interleaved slates."""
    log = ExperimentLog(one, POSITIVE)
    teams = ("control", "b")
    for number in range(wins + losses + ties):
        taken = [[], ["click"]] if number < wins else [["click"], []] if number < wins + losses else [[], []]
        log.add(shown(f"r{number}", f"u{number % 7}", None, teams=teams), 2_000 + number)
        log.add(closed(f"r{number}", f"u{number % 7}", None, taken, teams=teams), 90_000)
    return log
