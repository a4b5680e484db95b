"""Passes a release through the gates, beside the live one, on hours that neither has learned from."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model_core.data.batches import ScoreBatch
from model_core.evaluation.evaluate import RELEASE, Ranked, Truth, future, rank, start_replay
from model_core.evaluation.topn import ranking_metrics
from model_core.inputs.corpus import Corpus
from model_core.inputs.replay import Replay
from model_core.release.folder import LEARNED, MANIFEST, Release, read_release
from model_core.release.scorer import Scorer
from streams.errors import SlatestreamError
from streams.items.table import load_scorer
from streams.releases.changes import Gate
from streams.releases.live import check_swap, passing
from streams.settings import Settings
from streams.trainer import gates
from streams.trainer.gates import Measured

TIMED, TURNS = 8, 15
"""Requests of a batch whose latency is measured, and how often."""

CorpusOf = Callable[[Release], Corpus]


@dataclass(frozen=True, slots=True)
class Side:
    """A release, ready to be asked as of the split."""

    scorer: Scorer
    replay: Replay
    ranked: Ranked
    measured: Measured
    timed: Callable[[], float]


def judge(
    settings: Settings, folder: Path, live: Path | None, corpus_of: CorpusOf, split: int
) -> tuple[Gate, ...]:
    """Return what the gates say, in their order, up to the first that does not let the release through.

    Parameters
    ----------
    folder : of the release
    live : of the release that serves, None for none
    corpus_of : returns the log, by the rows of a release
    split : row of the log from which on neither has learned
    """
    found: list[Gate] = []
    try:
        for gate in _gates(settings, folder, live, corpus_of, split):
            found.append(gate)
            if not gate.passed:
                break
    except Exception as error:
        if passing(error):
            raise
        known = isinstance(error, SlatestreamError | ValueError)
        reason = str(error) if known else repr(error)
        found.append(Gate("serving" if found else "files", False, reason))
    return tuple(found)


def _gates(
    settings: Settings, folder: Path, live: Path | None, corpus_of: CorpusOf, split: int
) -> Iterator[Gate]:
    release = read_release(folder)
    if live is not None:
        before = read_release(live)
        check_swap(release, fingerprint=before.text_encoder_fingerprint, signals=before.signals)
    scorer = _load(settings, folder)
    off = max(release.metrics.get("onnx_difference", {}).values(), default=0.0)
    yield Gate("files", True, "", {"onnx_difference": off})
    log = corpus_of(release).log
    truth = future(log, split)
    ours = _side(scorer, folder, corpus_of(release), split, truth, baselines=live is None)
    if live is None:
        yield _without(ours, truth, settings.trainer_margin)
        yield gates.calibration(ours.measured, None)
        return
    theirs = _side(_load(settings, live), live, corpus_of(before), split, truth, baselines=False)
    now, then = ours.measured, theirs.measured
    yield gates.held_out(now.ndcg, then.ndcg, than=before.version, margin=settings.trainer_margin)
    yield gates.calibration(now, then)
    yield gates.coverage(now, then)
    responses = np.bincount(log.items[:split][log.positive[:split]], minlength=log.n_items)
    yield gates.popularity(now, then, responses.astype(np.float64))
    yield gates.exposure(now, then, list(corpus_of(release).vocabulary.item_rows))
    turns = [(ours.timed(), theirs.timed()) for _ in range(TURNS)]
    # The least: what else runs on this machine makes a turn longer, and never shorter.
    yield gates.latency(*(1000.0 * min(seconds) for seconds in zip(*turns, strict=True)))
    yield gates.size(now, then)


def _load(settings: Settings, folder: Path) -> Scorer:
    scorer = load_scorer(settings.model_copy(update={"release": folder}))
    assert isinstance(scorer, Scorer)
    return scorer


def _without(ours: Side, truth: Truth, margin: float) -> Gate:
    """Judge a first release by the simple model that ranks best."""
    of = {name: ranking_metrics(top, truth.relevant)["ndcg"] for name, top in ours.ranked.tops.items()}
    best = max((name for name in of if name != RELEASE), key=lambda name: float(of[name].mean()))
    return gates.held_out(of[RELEASE], of[best], than=best, margin=margin)


def _side(scorer: Scorer, folder: Path, corpus: Corpus, split: int, truth: Truth, *, baselines: bool) -> Side:
    replay, vectors = start_replay(scorer, corpus)
    replay.advance(split)
    ranked = rank(scorer, replay, vectors, truth, k=min(10, corpus.log.n_items), baselines=baselines)
    top = ranked.tops[RELEASE]
    ndcg = ranking_metrics(top, truth.relevant)["ndcg"]
    measured = Measured(top, ndcg, ranked.probability, ranked.relevant, _bytes(folder))
    users = truth.users[:TIMED]
    moment = int(corpus.log.times_ms[min(split, len(corpus.log) - 1)])
    batch: ScoreBatch = replay.requests(users, np.full(len(users), moment))

    def timed() -> float:
        scorer.forget_histories()
        began = time.perf_counter()
        scorer.score(batch, vectors)
        return time.perf_counter() - began

    return Side(scorer, replay, ranked, measured, timed)


def _bytes(folder: Path) -> int:
    """Bytes of what serves; what a policy begins with is held by workers with any release."""
    names = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"].keys() - {LEARNED}
    return sum((folder / name).stat().st_size for name in names)
