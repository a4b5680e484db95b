"""What must be among a request's candidates is there, scored as if retrieval had brought it."""

from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest

from model_core.data.batches import ScoreBatch, SparseRows, dense_eligible
from model_core.release.baseline import N_CANDIDATES, BaselineScorer
from streams.events import Request, decode_request
from streams.serving.allowed_rows import Allowed
from streams.serving.extra_candidates import ExtraCandidates, Extras, columns
from streams.serving.newcomers import Newcomers, Trials
from streams.settings import load_settings
from streams.state.catalogue import Catalogue
from streams.state.item_index import ItemIndex
from streams.state.trial_counts import TrialCounts
from streams.testing.clock import HandClock
from tests.streams.state.test_catalogue import NOW, described

N, DAY = N_CANDIDATES + 60, 86_400_000
OLD, NEW = NOW - 30 * DAY, NOW - DAY
FRESH = range(N - 40, N)  # the least popular ones


def catalogue() -> tuple[ItemIndex, Catalogue]:
    index = ItemIndex()
    items = Catalogue(index)
    items.apply([described(f"i{n}", published_ms=NEW if n in FRESH else OLD) for n in range(N)])
    return index, items


def batch(n_requests: int) -> ScoreBatch:
    return ScoreBatch(
        history=np.full((n_requests, 1), -1),
        history_actions=np.zeros((n_requests, 1), np.int64),
        history_age_s=np.zeros((n_requests, 1), np.float32),
        user_entities=np.zeros((n_requests, 1), np.int64),
        user_entity_weights=np.zeros((n_requests, 1), np.float32),
        popularity=np.arange(N, 0, -1, np.float32),  # retrieval brings the first
        signals=SparseRows.none(n_requests),
        signal_values=np.zeros((0, 1), np.float32),
        eligible=np.ones(N, np.bool_),
        excluded=SparseRows.none(n_requests),
    )


def request(number: int, **fields: Any) -> Request:
    return Request(request_id=f"r{number}", user_id="u", timestamp_ms=NOW, **fields)


def wanted(
    requests: list[Request], eligible: np.ndarray, fresh: bool = False, **settings: Any
) -> Extras | None:
    told, (index, items) = load_settings(**{"trial_share": 0.0} | settings), catalogue()
    extras = ExtraCandidates(told, index, items, Newcomers(told, index, items, TrialCounts(), HandClock(NOW)))
    shared = eligible.any(axis=0)
    denied = SparseRows.of([np.flatnonzero(shared & ~row) for row in eligible])
    none = [None] * len(requests)
    allowed = Allowed(shared, denied, denied, limited=none, fallbacks=none)
    seeds = np.arange(len(requests), dtype=np.uint64)
    return extras.of(requests, allowed, np.zeros(N, np.float32), seeds, fresh=fresh)


def test_a_request_that_wants_nothing_costs_nothing() -> None:
    assert wanted([request(0)], np.ones((1, N), bool)) is None
    scorer, asked = BaselineScorer(), batch(1)
    plain = scorer.score(asked, np.zeros((N, 1), np.float32))
    assert columns(None, plain) == {}


def test_pinned_and_boosted_items_are_candidates_with_the_scores_they_have_anyway() -> None:
    scorer, asked, items = BaselineScorer(), batch(3), np.zeros((N, 1), np.float32)
    requests = [request(0), request(1, pinned=["i250", "i3"], boosts={"i249": 0.5, "i7": -1.0}), request(2)]
    extras = wanted(requests, dense_eligible(asked), pinned=("i9", "i3"), boosts={"i7": 1.0})
    scores = scorer.score(replace(asked, wanted=extras.wanted), items)
    assert scores.rows.shape == (3, N_CANDIDATES + 2)
    assert scores.valid.sum(axis=1).tolist() == [N_CANDIDATES, N_CANDIDATES + 2, N_CANDIDATES]
    for row in (249, 250):
        alone = batch(1)
        alone.eligible[:] = np.arange(N) == row
        expected = scorer.score(alone, items)
        at = np.flatnonzero((scores.rows[1] == row) & scores.valid[1])
        np.testing.assert_array_equal(scores.scores[1, at], expected.scores[0, :1])
        np.testing.assert_array_equal(scores.features[1, at], expected.features[0, :1])
    found = columns(extras, scores)
    pins = []
    for rows, ranks in zip(scores.rows, found["pinned"], strict=True):
        pins.append({int(rows[at]): int(ranks[at]) for at in np.flatnonzero(ranks >= 0)})
    assert pins == [{9: 0, 3: 1}, {250: 0, 3: 1, 9: 2}, {9: 0, 3: 1}]
    boosts = {int(scores.rows[1, c]): found["boosts"][1, c] for c in np.flatnonzero(found["boosts"][1])}
    assert boosts == {249: 0.5, 7: -1.0}
    assert found["boosts"][0].sum() == 1.0


def test_what_may_not_be_given_is_neither_pinned_nor_boosted() -> None:
    eligible = np.ones((1, N), bool)
    eligible[0, [4, 5]] = False
    extras = wanted([request(0, pinned=["i4", "no such item", "i6"], boosts={"i5": 1.0})], eligible)
    assert extras is not None
    assert extras.pinned[0].tolist() == [6]
    assert extras.boosts[0][0].tolist() == []
    assert extras.wanted.of_request(0).tolist() == [6]


def test_fresh_items_are_drawn_for_each_request_and_each_gets_its_chance() -> None:
    n = 400
    requests, eligible = [request(number) for number in range(n)], np.ones((n, N), bool)
    eligible[:, FRESH[0]] = False
    extras = wanted(requests, eligible, fresh=True, fresh_candidates=10)
    assert extras is not None
    assert (np.diff(extras.wanted.bounds) == 10).all()
    drawn = np.bincount(extras.wanted.rows, minlength=N)
    assert np.flatnonzero(drawn).tolist() == list(FRESH)[1:]
    share = 10 / (len(FRESH) - 1)
    assert np.abs(drawn[FRESH[1] :] / n - share).max() < 4.5 * np.sqrt(share * (1 - share) / n)
    again = wanted(requests, eligible, fresh=True, fresh_candidates=10)
    assert again is not None
    np.testing.assert_array_equal(again.wanted.rows, extras.wanted.rows)


def test_of_what_was_drawn_the_best_is_on_trial_and_every_other_time_it_is_drawn_blindly() -> None:
    n, scorer, items = 200, BaselineScorer(), np.zeros((N, 1), np.float32)
    requests = [request(number) for number in range(n)]
    extras = wanted(requests, np.ones((n, N), bool), trial_share=0.1)
    assert extras is not None
    scores = scorer.score(replace(batch(n), wanted=extras.wanted), items)
    found = columns(extras, scores)
    assert (found["trial"] >= 0).all()  # a tenth of ten positions
    tried = scores.rows[np.arange(n), found["trial"]]
    assert np.isin(tried, list(FRESH)).all()
    assert (np.bincount(found["trial_at"], minlength=10) > 0).tolist() == [False] * 5 + [True] * 5
    # Popularity falls with the row: the best of twenty is among the first of the forty, a blind one anywhere.
    first = (tried < FRESH[10]).mean()
    assert abs(first - (0.5 * (1 - 0.75**10) + 0.5 * 0.25)) < 4.5 * np.sqrt(0.25 / n)


def test_what_is_among_the_best_anyway_is_not_put_lower_for_a_trial() -> None:
    trials = Trials(
        SparseRows.of([np.array([5, 40]), np.array([40, 41])]), np.array([7, 8]), np.array([10, 10])
    )
    scores = BaselineScorer().score(batch(2), np.zeros((N, 1), np.float32))
    found = columns(Extras(trials.drawn, (), (), trials), scores)
    assert found["trial"].tolist() == [-1, 40]


@pytest.mark.parametrize("boosts", [{"i1": 2e6}, {"": 1.0}, {f"i{n}": 1.0 for n in range(201)}])
def test_boosts_that_make_no_sense_are_refused(boosts: dict[str, float]) -> None:
    raw = msgspec.json.encode(request(0))[:-1].replace(
        b'"boosts":{}', b'"boosts":' + msgspec.json.encode(boosts)
    )
    with pytest.raises(msgspec.ValidationError, match=r"\$\.boosts|`object` of length|length >= 1"):
        decode_request(raw + b"}")
