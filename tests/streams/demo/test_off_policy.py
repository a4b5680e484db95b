import io
from typing import Any

import pytest
from rich.console import Console

from streams.demo.off_policy import CANDIDATES, LIVE, agrees, print_off_policy
from streams.ope.estimates import Sampling
from streams.ope.log import SlateLog
from streams.ope.report import as_json, count, evaluate_columns
from tests.streams.ope.logged import POSITIVE, World

TEXTS = (LIVE, "random")


def said(n: int, *, counted: float) -> dict[str, Any]:
    """What the log of the demo's policy says of itself, as a candidate, and of another."""
    log = SlateLog(POSITIVE)
    for record in World(n).records(LIVE, TEXTS):
        log.add(record)
    columns, sampling = log.columns(), Sampling(resamples=100)
    report = evaluate_columns(columns, count(log, columns), "responses", ["snrips"], sampling, None)
    return as_json(report, sampling) | {"counted": counted}


@pytest.mark.parametrize(("counted", "covered"), [(1.17, True), (1.9, False)])
def test_the_estimate_must_cover_what_the_users_counted(counted: float, covered: bool) -> None:
    found = said(1_500, counted=counted)
    estimate = next(one["estimate"] for one in found["verdicts"] if one["policy"] == LIVE)
    assert estimate is not None
    passed, text = agrees(found)
    assert passed == (estimate["low"] <= counted <= estimate["high"]) == covered
    assert f"from 1,500 logged slates, counted {counted:.3f}" in text


def test_too_short_a_log_is_refused_and_contradicts_nothing() -> None:
    assert agrees(said(40, counted=1.0)) == (True, "refused (effective_size), counted 1.000")
    nothing = evaluate_columns(
        SlateLog(POSITIVE).columns(),
        count(SlateLog(POSITIVE), SlateLog(POSITIVE).columns()),
        "responses",
        ["snrips"],
        Sampling(),
        None,
    )
    assert agrees(as_json(nothing, Sampling()) | {"counted": 0.0}) == (
        True,
        "refused (no_slates), counted 0.000",
    )


def test_what_every_candidate_would_earn_is_printed() -> None:
    out = io.StringIO()
    print_off_policy(Console(file=out, width=120), said(1_500, counted=1.0))
    shown = out.getvalue()
    assert all(policy in shown for policy in ("live", *TEXTS))
    assert LIVE in CANDIDATES
