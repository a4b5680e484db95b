"""One training run, as a process: `python -m streams.trainer.training_run FOLDER` does what its plan says.

What it takes of memory and threads ends with it. Killed, it goes on after its last whole epoch when it is
started again on the same folder.
"""

import os
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model_core.data.datasets import Dataset
from model_core.data.vocabulary import Vocabulary
from model_core.evaluation.evaluate import future
from model_core.inputs.corpus import Corpus, as_known, make_corpus
from model_core.release.folder import Release, add_learned, read_config, read_release
from model_core.release.scorer import Scorer
from model_core.release.signature import sign_release
from model_core.release.text_encoder import TextEncoder
from model_core.signals.sample_signals import Log
from model_core.training.recipe import Recipe, read_recipe
from streams.commands.training_log import read_topics
from streams.errors import SlatestreamError, is_memory_fault
from streams.items.reading import signals_asked
from streams.items.text_encoder import NO_ENCODER, named_encoder, release_encoder
from streams.learning.learned import SCHEMA_VERSION, Learned, encode_learned
from streams.settings import Settings, load_settings
from streams.state.feature_spaces import Spaces
from streams.trainer.judge import judge
from streams.trainer.plan import MADE, PARENT, VERDICT, TrainingPlan, Verdict, read_plan, write
from streams.trainer.refit import refit
from streams.trainer.shown_slates import read_shown

MIN_HELD_OUT, MAX_HELD_OUT = 0.02, 0.2  # share of the events that is held out
ENOUGH_USERS = 100
GOING_ON_EPOCHS = 2
NO_TEXT_DIM = 8


class NoTexts:
    """In the place of a text encoder where texts are not read: every vector is zero, which is none."""

    name, fingerprint = NO_ENCODER, ""

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return (n, dim) float32 zeros."""
        return np.zeros((len(texts), self.dim), np.float32)


def main() -> None:
    """Do what the plan says, and write the verdict; a release that cannot be made is a message and code 2."""
    folder = Path(sys.argv[1])
    settings = load_settings(Path(sys.argv[2]) if len(sys.argv) > 2 else None)
    stand_back(settings)
    plan = read_plan(folder)
    if plan is None:
        raise SystemExit(f"slatestream trainer: {folder} holds no plan")
    try:
        verdict = work(settings, folder, plan)
    except Exception as error:
        if is_memory_fault(error):
            error = SlatestreamError(no_memory(settings))
        if not isinstance(error, (ValueError, SlatestreamError)):
            raise
        print(f"slatestream trainer: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    write(folder / VERDICT, verdict)


def no_memory(settings: Settings) -> str:
    """Say that a training has met the end of its memory, and what helps."""
    most = settings.trainer_memory_mb
    limit = "the machine has no more" if most is None else f"trainer_memory_mb is {most}"
    return f"no memory is left for the training ({limit}): give it more, or a smaller trainer_recipe"


def stand_back(settings: Settings) -> None:
    """Leave cores and memory to others, as the settings say."""
    os.nice(settings.trainer_nice)
    if settings.trainer_memory_mb is not None:
        most = settings.trainer_memory_mb * 2**20
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def work(settings: Settings, folder: Path, plan: TrainingPlan) -> Verdict:
    """Train, or take the candidate, and pass it through the gates."""
    seconds: dict[str, float] = {}
    began = time.perf_counter()
    live = None if plan.parent is None else folder / PARENT
    before = None if live is None else read_release(live)
    recipe = recipe_of(settings, live, before)
    encoder = _encoder(settings, live, before)
    dataset, actions = read_topics(settings, ends=plan.ends)
    corpus = make_corpus(dataset, actions, settings.actions, encoder, recipe.model.n_neighbours)
    made = folder / MADE if plan.candidate is None else Path(plan.candidate)
    split = held_out_from(corpus.log, settings.trainer_held_out_hours)
    given = [before, None if plan.candidate is None else _readable(made)]
    split = max(split, *(learned_from(one, corpus.log.times_ms) for one in given))
    if split >= len(corpus.log):
        raise ValueError(
            f"clicks must hold events that neither release has learned from, got none of {split}"
        )
    seconds["read"] = time.perf_counter() - began
    if plan.candidate is None:
        _train(settings, recipe, corpus, split, made, plan, live, encoder)
    seconds["train"] = time.perf_counter() - began - sum(seconds.values())
    if plan.candidate is None:
        _teach(settings, made, plan, corpus, dataset)
        if settings.trainer_private_key is not None:
            sign_release(made, settings.trainer_private_key)
    seconds["teach"] = time.perf_counter() - began - sum(seconds.values())
    gates = judge(settings, made, live, lambda release: known_by(release, corpus, dataset), split)
    seconds["judge"] = time.perf_counter() - began - sum(seconds.values())
    release = _readable(made)
    return Verdict(plan, str(made), "" if release is None else release.version, gates, seconds)


def known_by(release: Release, corpus: Corpus, dataset: Dataset) -> Corpus:
    """Return the corpus by the rows of a release."""
    names = Vocabulary(release.item_rows, release.entity_rows, release.relation_rows)
    return as_known(corpus, dataset, names, release.n_neighbours)


def held_out_from(log: Log, hours: float) -> int:
    """Row from which on events are held out: the last hours', within bounds that no strange clock moves.

    Where too few users come back in them to tell releases apart, more are held out.
    """
    n, times_ms = len(log), log.times_ms
    wanted = 1.0 - int(np.searchsorted(times_ms, times_ms[-1] - hours * 3_600_000)) / n
    share = float(np.clip(wanted, MIN_HELD_OUT, MAX_HELD_OUT))
    while share < MAX_HELD_OUT and len(future(log, int((1.0 - share) * n)).users) < ENOUGH_USERS:
        share = min(MAX_HELD_OUT, 1.5 * share)
    return int((1.0 - share) * n)


def _train(
    settings: Settings,
    recipe: Recipe,
    corpus: Corpus,
    split: int,
    out: Path,
    plan: TrainingPlan,
    live: Path | None,
    encoder: TextEncoder | NoTexts,
) -> None:
    from model_core.training.train import train_release  # PyTorch: not for a candidate that is only judged
    from model_core.training.warm_start import read_start

    start = None if live is None else read_start(live)
    if start is not None:
        recipe = recipe.changed(train={"epochs": min(recipe.train.epochs, GOING_ON_EPOCHS)})
    train_release(
        corpus,
        settings.actions,
        out,
        until=(split + 0.5) / len(corpus.log),
        config=recipe.model,
        train=recipe.train,
        signals=signals_asked(recipe.signals, settings),
        text_encoder=encoder if isinstance(encoder, TextEncoder) else None,
        start=start,
        said={"parent": plan.parent, "offsets": [plan.starts, plan.ends], "made_ms": plan.made_ms},
    )


def _teach(settings: Settings, folder: Path, plan: TrainingPlan, corpus: Corpus, dataset: Dataset) -> None:
    """Start the release's policy from the rewards of earlier releases' slates."""
    if not (settings.trainer_refit_days and "feedback" in plan.ends):
        return
    slates = read_shown(settings, plan.ends, now_ms=plan.made_ms)
    if not slates:
        return
    release = read_release(folder)
    learning = Spaces(settings).learning("", release.feature_dim)
    users = np.unique(dataset.interactions.user_ids).tolist()
    scorer = Scorer(folder, threads=settings.trainer_threads)
    known = known_by(release, corpus, dataset)
    statistics = refit(scorer, known, users, slates, learning)
    row = Learned(SCHEMA_VERSION, learning.feature_space, release.feature_dim, statistics.to_bytes())
    said = {"slates": len(slates), "until": plan.ends["feedback"], "since_ms": slates[0].timestamp_ms}
    add_learned(folder, encode_learned(row), said)


def recipe_of(settings: Settings, live: Path | None, release: Release | None) -> Recipe:
    """Return how to train: by the recipe, else with the live release's sizes and signals.

    Raises
    ------
    ValueError
        If the recipe cannot be read, or promises privacy, which no endless row of releases has.
    """
    recipe = Recipe()
    if settings.trainer_recipe is not None:
        recipe = read_recipe(settings.trainer_recipe)
        if recipe.privacy.promised:
            raise ValueError(
                "trainer_recipe must have no [privacy] epsilon: releases of one log add theirs "
                f"up, without end, got {recipe.privacy.epsilon:g}"
            )
    elif live is not None and release is not None:
        recipe = Recipe(model=read_config(live), signals=release.signals)
    return recipe.changed(train={"threads": settings.trainer_threads})


def _encoder(settings: Settings, live: Path | None, release: Release | None) -> TextEncoder | NoTexts:
    """Return what encodes texts: the live release's, for items are encoded with it."""
    if live is not None and release is not None:
        if release.text_encoder in ("", NO_ENCODER):
            return NoTexts(release.text_dim)
        return release_encoder(live, release, threads=settings.trainer_threads)
    if settings.text_encoder == NO_ENCODER:
        return NoTexts(NO_TEXT_DIM)
    return named_encoder(settings.text_encoder, threads=settings.trainer_threads)


def learned_from(release: Release | None, times_ms: NDArray[np.int64]) -> int:
    """Count the events, of those in time order, that a release has learned from, as far as it says."""
    until_ms = None if release is None else release.training.get("until_ms")
    return 0 if until_ms is None else int(np.searchsorted(times_ms, until_ms, side="right"))


def _readable(folder: Path) -> Release | None:
    try:
        return read_release(folder)
    except (ValueError, OSError):
        return None


if __name__ == "__main__":
    main()
