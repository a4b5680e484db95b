"""A release of ML-100K and what came after its training, as benchmarks ask it; what a release is made of."""

import json
from pathlib import Path
from typing import NamedTuple

from safetensors.numpy import load_file

from model_core.evaluation.evaluate import Truth, future
from model_core.inputs.corpus import Corpus, make_corpus, rating_actions
from model_core.network.config import ModelConfig
from model_core.release.folder import MANIFEST, WEIGHTS, read_release
from streams.items.text_encoder import release_encoder
from streams.releases.options import check_release
from streams.settings import Settings
from tests.benchmarks.inputs import read_data


class ReleaseTest(NamedTuple):
    """split : row of the log where training ended; moment : its time in ms; truth : what is liked later."""

    version: str
    corpus: Corpus
    split: int
    moment: int
    truth: Truth


def read_release_test(release: Path, data: Path | None) -> ReleaseTest:
    """Read ML-100K as the release was trained on it."""
    check_release(release)
    manifest = json.loads((release / MANIFEST).read_text(encoding="utf-8"))
    dataset = read_data(data)
    encoder = release_encoder(release, read_release(release))
    actions = rating_actions(dataset.interactions)
    corpus = make_corpus(dataset, actions, Settings().actions, encoder, ModelConfig().n_neighbours)
    split = int(manifest["training"]["interactions"])
    moment = int(corpus.log.times_ms[min(split, len(corpus.log) - 1)])
    return ReleaseTest(manifest["version"], corpus, split, moment, future(corpus.log, split))


def made_up(release: Path) -> str:
    """Say how a release's linear term was chosen, and how much each part of its score counts."""
    weights, signals = load_file(release / WEIGHTS), read_release(release).signals
    here, away = (
        " ".join(f"{gain:.2f}" for gain in weights[f"ranker.gains_{when}"].tolist())
        for when in ("here", "away")
    )
    return (
        f"penalty {signals.ease_penalty:g}, low pass {signals.low_pass:g}, nearness {signals.ease_near:g}; "
        f"co-visits, popularity, EASE, match and head count {here} for who is here, {away} for who was away"
    )
