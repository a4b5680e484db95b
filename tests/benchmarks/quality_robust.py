"""What adversarial training keeps when items' parts are moved against the model: ML-100K in time order.

    python -m tests.benchmarks.quality_robust --until 0.2 --until 0.3 --seeds 2

For each seed and split models are trained on the events before it, one as usual and one for each step of
`adversarial`. At the split each is asked once for every user who likes something later; all items but those
met are ranked. Then every item's parts (id, text, links) are moved, by a share of their length, along the
gradient of the loss of just these likes: each model is attacked by its own worst case, by somebody who knows
the answers. Beside it stands a step of that length in a random direction.

Quality is NDCG@10, of the score as served, and of the networks alone, without co-visits, popularity and EASE,
which no such step moves; each is attacked by its own gradient. Intervals are bootstraps over users, 95 %, of
means over seeds; a user who is asked at several splits is drawn with all of them. A step may be chosen on
`--users even`, and measured on `--users odd`.
"""

import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor

from model_core.evaluation.evaluate import Truth, future
from model_core.evaluation.topn import ranking_metrics
from model_core.inputs.corpus import Corpus, make_corpus, rating_actions
from model_core.inputs.replay import Replay, item_features
from model_core.network.model import Model
from model_core.network.ranker import is_new
from model_core.release.served import dense_inputs
from model_core.signals.sample_signals import fit_log
from model_core.training.adversarial import worst_step
from model_core.training.networks import fit_model
from model_core.training.recipe import Recipe
from streams.items.text_encoder import named_encoder
from streams.settings import Settings
from tests.benchmarks.inputs import DataFolder, faults_told, read_data

TOP, BATCH, DRAWS = 10, 32, 2000
KINDS = ("as served", "networks alone")
ASKED = {"all": (0, 1), "even": (0,), "odd": (1,)}
"""Users by the parity of their row."""
Scores = tuple[Tensor, Tensor]


def main(
    data: DataFolder = None,
    until: Annotated[
        list[float] | None, typer.Option(help="Train on this first fraction by time; repeatable.")
    ] = None,
    users: Annotated[str, typer.Option(help=f"Who is asked: {', '.join(ASKED)}.")] = "all",
    seeds: Annotated[int, typer.Option(min=1)] = 2,
    step: Annotated[
        list[float] | None, typer.Option(help="`adversarial` of the hardened models; repeatable.")
    ] = None,
    weight: Annotated[float, typer.Option(help="`adversarial_weight` of these.")] = 0.5,
    epochs: Annotated[int, typer.Option(min=1)] = 6,
    size: Annotated[list[float] | None, typer.Option(help="Steps of the attack; repeatable.")] = None,
) -> None:
    """Train, attack, and print how much quality is lost."""
    if users not in ASKED:
        raise typer.BadParameter(f"must be of {', '.join(ASKED)}, got {users!r}", param_hint="--users")
    console = Console(width=160)
    sizes = [0.0, *(size or (0.02, 0.05, 0.1, 0.2))]
    dataset, settings, recipe = read_data(data), Settings(), Recipe()
    # Half-life and penalty are those of the recipe, for both alike.
    recipe = recipe.changed(train={"choose_half_life": False, "choose_linear": False, "epochs": epochs})
    encoder = named_encoder(settings.text_encoder)
    corpus = make_corpus(
        dataset, rating_actions(dataset.interactions), settings.actions, encoder, recipe.model.n_neighbours
    )
    splits = [int(one * len(corpus.log)) for one in until or (0.2,)]
    truths = [_asked(future(corpus.log, split), ASKED[users]) for split in splits]
    console.print(f"{platform.machine()}, torch {torch.__version__}; {epochs} epochs, seeds 0..{seeds - 1}")
    for split, truth in zip(splits, truths, strict=True):
        console.print(f"after {split:,} events {len(truth.users)} users asked, of {users}")
    models = {"plain": 0.0} | {f"adversarial {one:g}": one for one in step or (0.01,)}
    found: dict[str, NDArray[np.float64]] = {}
    for name, adversarial in models.items():
        parts = []
        for split, truth in zip(splits, truths, strict=True):
            rows = []
            for seed in range(seeds):
                hardened = {"seed": seed, "adversarial": adversarial, "adversarial_weight": weight}
                begun = time.process_time()
                model, _ = fit_model(
                    corpus, split, tuple(settings.actions.values()), recipe.model,
                    replace(recipe.train, **hardened), recipe.signals,
                )  # fmt: skip
                seconds = time.process_time() - begun
                rows.append(_attacked(Attacked(model, corpus, split, truth, recipe), sizes))
                clean = rows[-1][:, 0, 0].mean(-1)
                console.print(
                    f"{name}, {split:,} events, seed {seed}: {seconds:.0f} s of processor time, gains after "
                    f"long {[round(gain, 2) for gain in model.ranker.gains_away.tolist()]}, clean NDCG@10 "
                    + ", ".join(f"{value:.4f} {kind}" for value, kind in zip(clean, KINDS, strict=True))
                )
            parts.append(np.mean(rows, 0))
        found[name] = np.concatenate(parts, -1)
    who = np.concatenate([truth.users for truth in truths])
    for name in models:
        if name != "plain":
            _show(console, {one: found[one] for one in ("plain", name)}, sizes, who)


def _asked(truth: Truth, parities: tuple[int, ...]) -> Truth:
    """Users of some parities, among those who like something later."""
    chosen = np.isin(truth.users % 2, parities)
    return Truth(truth.users[chosen], truth.relevant[chosen])


def _attacked(model: "Attacked", sizes: list[float]) -> NDArray[np.float64]:
    """Quality by kind, direction (the worst, a random one), size and user: (2, 2, len(sizes), n)."""
    random = np.stack([model.quality(model.random(size)) for size in sizes], 1)
    worst = [[model.quality(model.worst(size, kind))[kind] for size in sizes] for kind in range(len(KINDS))]
    return np.stack([np.array(worst), random], 1)


class Attacked:
    """A trained model, asked for some users at a split by vectors of items that are moved."""

    def __init__(self, model: Model, corpus: Corpus, split: int, truth: Truth, recipe: Recipe) -> None:
        self._model, self._truth = model.eval(), truth
        config, signals = recipe.model, recipe.signals
        before = corpus.log.first(split)
        replay = Replay(
            corpus.log, corpus.edges, corpus.stated, history_length=config.history_length,
            n_affinities=config.n_affinities, signals=signals,
            ease=fit_log(before, signals, item_features(corpus)),
        )  # fmt: skip
        replay.advance(split)
        self._asked: list[dict[str, Tensor]] = []
        for begin in range(0, len(truth.users), BATCH):
            some = truth.users[begin : begin + BATCH]
            moments = np.full(len(some), corpus.log.times_ms[split])
            self._asked.append(dense_inputs(replay.requests(some, moments)))

    def _vectors(self, moved: Tensor | None) -> Tensor:
        """Vectors of all items as served, with what is added to their parts."""
        encoder, inputs = self._model.encoder, self._model.inputs
        parts, mask = encoder.parts(**inputs)
        there = {kind: (inputs[kind], inputs[f"{kind}_mask"]) for kind in self._model.modalities}
        mapped = encoder.content(there, inputs["entities"], inputs["edge_mask"])
        fused = encoder.fuse(parts if moved is None else parts + moved, mask)
        return torch.where(encoder.met[inputs["id_rows"]].unsqueeze(-1), fused, mapped)

    def worst(self, size: float, kind: int) -> Tensor | None:
        """Return the step along the gradient of what the users are to find: (n_items, M, dim).

        Parameters
        ----------
        kind : which of `KINDS` is attacked
        """
        if not size:
            return None
        encoder = self._model.encoder
        with torch.no_grad():
            parts, _ = encoder.parts(**self._model.inputs)
        moved = torch.zeros_like(parts, requires_grad=True)
        for scores, relevant in self._scores(moved):
            likely = torch.log_softmax(scores[kind], 1).masked_fill(~relevant, 0.0)
            (-likely.sum()).backward()
        assert moved.grad is not None
        return worst_step(parts, moved.grad, size)

    def random(self, size: float) -> Tensor | None:
        """Return a step in a random direction: (n_items, M, dim)."""
        if not size:
            return None
        with torch.no_grad():
            parts, _ = self._model.encoder.parts(**self._model.inputs)
        drawn = torch.randn(parts.shape, generator=torch.Generator().manual_seed(0))
        return worst_step(parts, drawn, size)

    @torch.no_grad()
    def quality(self, moved: Tensor | None) -> NDArray[np.float64]:
        """NDCG@10 of each user, as served and by the networks alone: (2, n)."""
        each = []
        for scores, relevant in self._scores(moved):
            ndcg = [
                ranking_metrics(one.topk(TOP, dim=1).indices.numpy(), relevant.numpy())["ndcg"]
                for one in scores
            ]
            each.append(np.array(ndcg))
        return np.concatenate(each, 1)

    def _scores(self, moved: Tensor | None) -> Iterator[tuple[Scores, Tensor]]:
        """Scores of every item, of each kind, and what was liked later, a batch of users at a time."""
        ranker, begin = self._model.ranker, 0
        for asked in self._asked:
            vectors = self._vectors(moved)
            given = {key: asked[key] for key in asked if key not in ("history", "eligible", "signals")}
            signals, history = asked["signals"], asked["history"]
            user, states, known, gains = ranker.read(vectors[history.clamp(min=0)], history >= 0, **given)
            new = is_new(signals)
            match = ranker.match(user) @ vectors.T
            everything = vectors.expand(len(user), -1, -1)
            hidden = ranker.hidden(user, everything, states, known.unsqueeze(1))
            head = ranker.rank(hidden).squeeze(-1) * (1.0 - new)
            counts = gains[:, -2:-1] * (1.0 - new) + new
            served = counts * match + ranker.prior(user, signals, gains[:, :-2]) + gains[:, -1:] * head
            barred = ~asked["eligible"]
            relevant = torch.as_tensor(self._truth.relevant[begin : begin + len(user)])
            begin += len(user)
            yield (served.masked_fill(barred, -1e9), (match + head).masked_fill(barred, -1e9)), relevant


def _show(
    console: Console, found: dict[str, NDArray[np.float64]], sizes: list[float], who: NDArray[np.integer]
) -> None:
    """Print quality by size of the step, and the hardened model's beside the plain one's."""
    (plain_name, plain), (hard_name, hard) = found.items()
    for k, kind in enumerate(KINDS):
        table = Table(title=f"NDCG@10, {kind}")
        for column in (
            "step", "direction", plain_name, hard_name, "hardened - plain", "hardened / plain",
            "fall, share of plain's",
        ):  # fmt: skip
            table.add_column(column, justify="right")
        for d, direction in enumerate(("worst", "random")):
            for s, size in enumerate(sizes):
                if d and not s:
                    continue
                both = hard[k, d, s], plain[k, d, s]
                falls = hard[k, d, 0] - both[0], plain[k, d, 0] - both[1]
                table.add_row(
                    f"{size:g}", direction if s else "none", f"{both[1].mean():.4f}", f"{both[0].mean():.4f}",
                    _interval(both, who, np.subtract), _interval(both, who, np.divide),
                    _interval(falls, who, np.divide) if s and not d else "",
                )  # fmt: skip
        console.print(table)


def _interval(
    values: tuple[NDArray[np.float64], NDArray[np.float64]],
    who: NDArray[np.integer],
    figure: Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]],
) -> str:
    """Return a figure of the means of two paired samples with the middle 95 % of its bootstrap over users.

    Parameters
    ----------
    values : (n,) of each; who : (n,), whose they are
    """
    users, of = np.unique(who, return_inverse=True)
    sums = np.stack([np.bincount(of, one) for one in (*values, np.ones(len(of)))], 1)
    drawn = (
        np.random.default_rng(0).multinomial(len(users), np.full(len(users), 1 / len(users)), DRAWS) @ sums
    )
    means = drawn[:, :2] / drawn[:, 2:]
    low, high = np.percentile(figure(means[:, 0], means[:, 1]), (2.5, 97.5))
    middle = float(figure(*(np.array(one.mean()) for one in values)))
    return f"{middle:+.4f} [{low:+.4f}, {high:+.4f}]"


if __name__ == "__main__":
    with faults_told():
        typer.run(main)
