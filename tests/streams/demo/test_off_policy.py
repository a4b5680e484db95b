import io
from typing import Any

import pytest
from rich.console import Console

from streams.demo.off_policy import CANDIDATES, agrees, print_off_policy
from streams.ope.estimates import Sampling
from streams.ope.log import SlateLog
from streams.ope.report import as_json, count, evaluate_columns
from tests.streams.ope.logged import POSITIVE, World

SERVED = CANDIDATES[0]
TEXTS = (SERVED, "random")


def said(n: int, *, counted: float) -> dict[str, Any]:
    """What the log of the demo's policy says of itself, as a candidate, and of another."""
    log = SlateLog(POSITIVE)
    for record in World(n).records(SERVED, TEXTS):
        log.add(record)
    columns, sampling = log.columns(), Sampling(resamples=100)
    report = evaluate_columns(columns, count(log, columns), "responses", ["snrips"], sampling, None)
    return as_json(report, sampling) | {"counted": counted}


@pytest.mark.parametrize(("counted", "covered"), [(1.17, True), (1.9, False)])
def test_the_estimate_must_cover_what_the_users_counted(counted: float, covered: bool) -> None:
    found = said(1_500, counted=counted)
    passed, text = agrees(found)
    assert passed == covered
    for policy, how in (("live", "as logged"), (SERVED, "weighed anew")):
        estimate = next(one["estimate"] for one in found["verdicts"] if one["policy"] == policy)
        assert (estimate["low"] <= counted <= estimate["high"]) == covered
        assert f"{estimate['value']:.3f} [{estimate['low']:.3f}, {estimate['high']:.3f}] {how}" in text
    assert text.endswith(f"counted {counted:.3f}")


def test_too_short_a_log_is_refused_and_contradicts_nothing() -> None:
    short = "refused as logged (effective_size), refused weighed anew (effective_size); counted 1.000"
    assert agrees(said(40, counted=1.0)) == (True, short)
    empty = SlateLog(POSITIVE)
    columns, sampling = empty.columns(), Sampling()
    report = evaluate_columns(columns, count(empty, columns), "responses", ["snrips"], sampling, None)
    none = "refused as logged (no_slates), refused weighed anew (no_slates); counted 0.000"
    assert agrees(as_json(report, sampling) | {"counted": 0.0}) == (True, none)


def test_what_every_candidate_would_earn_is_printed() -> None:
    out = io.StringIO()
    print_off_policy(Console(file=out, width=120), said(1_500, counted=1.0))
    shown = out.getvalue()
    assert all(policy in shown for policy in ("live", *TEXTS))
