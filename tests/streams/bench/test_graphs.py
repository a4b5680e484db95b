from pathlib import Path

import numpy as np
import pytest

from model_core.release.folder import MANIFEST
from model_core.release.scorer import Scorer
from streams.bench.graphs import random_items, random_requests, time_scorer
from streams.bench.score import Scored, row
from streams.bench.world import catalogue_rows, random_release
from streams.errors import ConfigurationError


def test_a_random_release_is_a_whole_one_and_knows_the_first_items_of_the_catalogue(random_weights: Path):
    scorer = Scorer(random_weights)
    names = [key for key, _ in catalogue_rows(400, 4)]
    assert [name in scorer.release.item_rows for name in names] == [True] * 300 + [False] * 100
    assert scorer.release.carries_text_encoder


def test_a_random_release_that_is_there_is_kept(random_weights: Path):
    before = (random_weights / MANIFEST).stat().st_mtime_ns
    assert random_release(random_weights) == random_weights
    assert (random_weights / MANIFEST).stat().st_mtime_ns == before


def test_random_requests_are_scored_like_a_workers(random_weights: Path):
    scorer = Scorer(random_weights)
    scores = scorer.score(random_requests(scorer, 3, 500), random_items(500, scorer.release.dim))
    assert scores.rows.shape == (3, scorer.release.n_candidates)
    assert scores.valid.all()
    assert np.isfinite(scores.scores).all()
    assert (np.diff(scores.scores, axis=1) <= 0).all()


def test_the_graphs_are_timed(random_weights: Path):
    taken = time_scorer(Scorer(random_weights), 2, 300, seconds=0.0)
    assert taken.ms > 0
    assert taken.cpu_ms > 0


def test_a_line_says_what_one_request_costs():
    cells = row(Scored("CPUExecutionProvider", "fp32", 1_700, 8, 4.0, 6.0))
    assert cells == ["CPU", "fp32", 1_700, 8, 4.0, 0.5, 0.75, 2_000.0]


def test_an_unknown_precision_is_refused(tmp_path: Path):
    from streams.bench.score import score_command

    with pytest.raises(ConfigurationError, match="--precisions must be among fp32, int8, fp16, got 'fp8'"):
        score_command(
            batches="1", items="10", precisions="fp8", seconds=0.0, threads=1, release=None, out=tmp_path
        )
