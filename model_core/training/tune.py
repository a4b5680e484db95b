"""Search for the recipe that recommends best what users respond to later."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import optuna

from model_core.evaluation.evaluate import TOP, future, measure
from model_core.inputs.corpus import Corpus
from model_core.release.served import serve
from model_core.training.checkpoint import Epoch
from model_core.training.fit import Report
from model_core.training.networks import fit_model, fit_widths
from model_core.training.recipe import Recipe

METRIC = "ndcg@10"


@dataclass(frozen=True, slots=True)
class Trial:
    """One recipe that was tried. `value` is its NDCG@10, None when it was given up early or failed."""

    number: int
    recipe: Recipe
    value: float | None
    state: str


def suggest(trial: optuna.Trial, base: Recipe) -> Recipe:
    """Draw a recipe near the base: what the search may change, and in which range."""
    return base.changed(
        model={
            "dim": trial.suggest_categorical("dim", (32, 64, 96)),
            "layers": trial.suggest_int("layers", 1, 3),
            "fusion": trial.suggest_categorical("fusion", ("sum", "gated", "joint")),
        },
        train={
            "learning_rate": trial.suggest_float("learning_rate", 5e-4, 5e-3, log=True),
            "weight_decay": trial.suggest_float("weight_decay", 1e-3, 0.1, log=True),
            "dropout": trial.suggest_float("dropout", 0.0, 0.5),
            "id_dropout": trial.suggest_float("id_dropout", 0.05, 0.6),
            "modality_dropout": trial.suggest_float("modality_dropout", 0.0, 0.4),
            "horizon": trial.suggest_float("horizon", 0.0, 0.8),
            "graph_embedding": trial.suggest_categorical("graph_embedding", ("none", "distmult")),
        },
        signals={"ease_penalty": trial.suggest_float("ease_penalty", 30.0, 3000.0, log=True)},
    )


def tune(
    corpus: Corpus,
    weights: tuple[float, ...],
    base: Recipe,
    storage: Path,
    *,
    split: int,
    stop: int,
    trials: int,
    seconds: float | None = None,
    device: str = "auto",
    report: Report = lambda stage, done: None,
    tried: Callable[[Trial], None] = lambda trial: None,
) -> Trial:
    """Try recipes and return the best: trained on the log's first `split` rows, asked on those before `stop`.

    The first trial is the base itself, so the result is never worse than that. Trials are kept in the file
    `storage` (SQLite) and count when the search is started again: `trials` is how many there are to be in
    all. A trial whose loss on later interactions is worse than the median's at the same epoch is given up.

    Raises
    ------
    ValueError
        If no user has a positive item both before and after the split, or every trial failed.
    """
    truth = future(corpus.log, split, stop=stop)
    if not len(truth.users):
        raise ValueError("to compare recipes, users must have positive items before and after the split")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage.parent.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        study_name=_name(corpus, base, split, stop),
        storage=f"sqlite:///{storage}",
        load_if_exists=True,
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=base.train.seed, n_startup_trials=5),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=2),
    )

    def objective(trial: optuna.Trial) -> float:
        recipe = suggest(trial, base) if trial.number else base
        name = f"trial {trial.number + 1} of {trials}"

        def watch(number: int, epoch: Epoch) -> None:
            # The pruner compares in the study's direction: more is better.
            trial.report(-epoch.validation, number)
            if trial.should_prune():
                raise optuna.TrialPruned

        model, _ = fit_model(
            corpus, split, weights, fit_widths(recipe.model, corpus), recipe.train, recipe.signals,
            device=device, report=lambda stage, done: report(name, done if stage == "train" else 0.0),
            watch=watch,
        )  # fmt: skip
        report(name, 1.0)
        answers = serve(model, corpus, corpus.log, split, truth.users, recipe.signals)
        top = np.concatenate([served.top(TOP) for served in answers])
        return measure(top, truth.relevant)[METRIC]

    def note(_: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        tried(_read(trial, base))

    done = sum(trial.state.is_finished() for trial in study.trials)
    study.optimize(
        objective, n_trials=max(0, trials - done), timeout=seconds, callbacks=[note], catch=(ValueError,)
    )
    finished = [trial for trial in study.trials if trial.value is not None]
    if not finished:
        raise ValueError("no trial came to an end; see what each says")
    return _read(study.best_trial, base)


def _name(corpus: Corpus, base: Recipe, split: int, stop: int) -> str:
    """Trials of other data or from another start do not count."""
    log = corpus.log
    data = (len(log), log.n_items, int(log.times_ms[0]), int(log.times_ms[-1]), split, stop)
    return hashlib.sha256(repr((data, base)).encode()).hexdigest()[:12]


def _read(trial: optuna.trial.FrozenTrial, base: Recipe) -> Trial:
    fixed = optuna.trial.FixedTrial(trial.params)
    recipe = suggest(fixed, base) if trial.params else base  # type: ignore[arg-type]
    value = trial.value if trial.state == optuna.trial.TrialState.COMPLETE else None
    return Trial(trial.number, recipe, value, trial.state.name.lower())
