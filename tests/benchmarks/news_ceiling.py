"""How far counted signals go on a log of news: more of them than a release has, weighed by the user's state.

    python -m tests.benchmarks.news_ceiling --data ../shared/data --seeds 3

The protocol is that of `prequential_offline`: before each like ten of the items that the user has not met
are listed, then the event is counted. Every item met so far is scored by seventeen signals (`Counts.signals`)
with weights that are the same for all, or a linear function of the user's state (`Counts.state`), or by a
network of both. They are fitted on the first half by the softmax over all items of the one that was liked,
and measured on the second; "goes on" learns each tenth of that half, too, once it has been measured.
"""

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from torch import Tensor, nn

from model_core.evaluation.topn import estimate
from streams.bench.references import Decayed
from tests.benchmarks.domains import news
from tests.benchmarks.inputs import faults_told

TOP, UNTIL, WARM_UP = 10, 0.5, 300
HALF_LIVES_S = np.array([120.0, 600.0, 1800.0, 3600.0, 10_800.0, 21_600.0, 86_400.0, 259_200.0])
HOUR_S, VISIT_S = 3600.0, 1800.0
LIKE = 4.0
"""Rating from which on an event is a like; others count `VIEW` in what fades."""
VIEW = 0.2
TENTHS, BATCH, PASSES = 10, 64, 6

Floats = NDArray[np.float64]


class Asked(NamedTuple):
    """Likes, in their order: n of them, N items.

    signals : (n, N, S) float32, state : (n, C) float32
    open : (n, N) bool, items that have been met, and not by this user
    wanted : (n,) int64 item; known : (n,) bool, whether it is open
    later : (n,) bool, of the second half
    """

    signals: Tensor
    state: Tensor
    open: Tensor
    wanted: Tensor
    known: Tensor
    later: Tensor

    def take(self, which: Tensor) -> "Asked":
        return Asked(*(part[which] for part in self))


class Counts:
    """What has been counted of n items up to now."""

    def __init__(self, n_items: int) -> None:
        self._rates = np.zeros((len(HALF_LIVES_S), n_items))
        self._likes, self._begun = np.zeros(n_items), np.zeros(n_items)
        self._last, self._begun_at = np.zeros(n_items), np.zeros(n_items)
        self.first = np.full(n_items, np.nan)
        self._next, self._later, self._fading, self._faded_at = np.zeros((4, n_items, n_items))
        self._liked: dict[int, list[int]] = defaultdict(list)
        self._seen: dict[int, float] = {}

    def signals(self, user: int, now: float) -> Floats:
        """Logarithms: (S, N).

        Likes that fade with each of `HALF_LIVES_S`; of all who liked the user's last item, the share whose
        next like this was, the same of the item before, and of the last five at any time after; likes right
        after the last one that fade in an hour; likes right before or after it, by cosine; likes with which a
        visit began, fading in an hour; the age of the item; the time since its last event; all its likes.
        """
        rates = self._rates * np.exp2(-(now - self._last) / HALF_LIVES_S[:, None])
        begun = self._begun * np.exp2(-(now - self._begun_at) / HOUR_S)
        follows = np.zeros((5, len(self._likes)))
        for at, item in enumerate(reversed(self._liked[user][-2:])):
            follows[at] = _share(self._next[item])
        for item in self._liked[user][-5:]:
            follows[2] += _share(self._later[item])
        for item in self._liked[user][-1:]:
            follows[3] = self._fading[item] * np.exp2(-(now - self._faded_at[item]) / HOUR_S)
            beside = self._next[item] + self._next[:, item]
            follows[4] = beside / np.sqrt((self._likes[item] + 1.0) * (self._likes + 1.0))
        age = np.log1p((now - np.nan_to_num(self.first, nan=now)) / 60.0)
        floors = np.array([1e-3, 1e-3, 1e-3, 5e-2, 1e-2])[:, None]
        return np.vstack(
            (
                np.log(rates + 1e-2), np.log(follows + floors), np.log(begun + 1e-2)[None],
                age[None], np.log1p(now - self._last)[None], np.log1p(self._likes)[None],
            )
        )  # fmt: skip

    def state(self, user: int, now: float) -> Floats:
        """How long ago the user's last event is, how many likes there are, whether none; how busy all are."""
        liked = len(self._liked[user])
        busy = (self._rates[3] * np.exp2(-(now - self._last) / HOUR_S)).sum()
        idle = now - self._seen.get(user, now - 1e6)
        return np.array([np.log1p(idle), np.log1p(liked), liked == 0, np.log1p(busy)])

    def learn(self, user: int, item: int, now: float, like: bool) -> None:
        """Count an event."""
        faded = np.exp2(-(now - self._last[item]) / HALF_LIVES_S)
        self._rates[:, item] = self._rates[:, item] * faded + (1.0 if like else VIEW)
        self._last[item], self.first[item] = now, np.fmin(self.first[item], now)
        if like:
            self._learn_like(user, item, now)
        self._seen[user] = now

    def _learn_like(self, user: int, item: int, now: float) -> None:
        self._likes[item] += 1
        for before in self._liked[user][-1:]:
            self._next[before, item] += 1
            fallen = np.exp2(-(now - self._faded_at[before, item]) / HOUR_S)
            self._fading[before, item] = self._fading[before, item] * fallen + 1.0
            self._faded_at[before, item] = now
        for before in self._liked[user][-6:]:
            self._later[before, item] += 1
        if now - self._seen.get(user, -np.inf) > VISIT_S:
            fallen = np.exp2(-(now - self._begun_at[item]) / HOUR_S)
            self._begun[item], self._begun_at[item] = self._begun[item] * fallen + 1.0, now
        self._liked[user].append(item)


def _share(counts: Floats) -> Floats:
    return counts / (counts.sum() + 2.0)


def main(
    data: Annotated[Path, typer.Option(help="folder of the data sets")] = Path("../shared/data"),
    seeds: Annotated[int, typer.Option(min=1)] = 3,
) -> None:
    """Count, fit, and print hit@10."""
    asked, popular = _read(data)
    later = asked.take(asked.later)
    met = float((~later.known).float().mean())
    print(f"{len(later.wanted):,} likes of the second half; {met:.1%} are of items that no list may have")
    print(f"{'half-life 1 h':<42}{popular:.4f}")
    sizes = asked.signals.shape[2], asked.state.shape[1]
    kinds: dict[str, tuple[Callable[[], nn.Module], float]] = {
        "the same weights for all": (lambda: _Weights(*sizes, by_state=False), 2e-2),
        "weights by the user's state": (lambda: _Weights(*sizes, by_state=True), 2e-2),
        "a network of both": (lambda: _Network(*sizes), 2e-3),
    }
    for name, (make, rate) in kinds.items():
        found = np.array([_hits(make, rate, asked, seed) for seed in range(seeds)])
        for what, each in zip(("", ", goes on"), found.T, strict=True):
            over = estimate(each)
            half = f" ± {over.high - over.mean:.4f}" if seeds > 1 else ""
            print(f"{name + what:<42}{over.mean:.4f}{half}, {over.mean / popular:.3f} times", flush=True)


def _read(folder: Path) -> tuple[Asked, float]:
    """Ask before each like once there are some; and hit@10 of likes that fade in an hour, on the same."""
    log = news(folder).dataset.interactions
    _, users = np.unique(log.user_ids, return_inverse=True)
    names, items = np.unique(log.item_ids, return_inverse=True)
    counts, decayed, popular = Counts(len(names)), Decayed(len(names), int(1000 * HOUR_S)), []
    met = np.zeros((int(users.max()) + 1, len(names)), np.bool_)
    rows = []
    for row, (user, item) in enumerate(zip(users.tolist(), items.tolist(), strict=True)):
        now, like = log.timestamps_ms[row] / 1000.0, bool(log.ratings[row] >= LIKE)
        if like and row >= WARM_UP:
            may = ~np.isnan(counts.first) & ~met[user]
            later = row >= UNTIL * len(log)
            signals = counts.signals(user, now).T.astype(np.float32)
            rows.append((signals, counts.state(user, now).astype(np.float32), may, item, may[item], later))
            if later:
                scores = np.where(may, decayed.scores(user), -np.inf)
                popular.append(may[item] and item in np.argsort(-scores, kind="stable")[:TOP])
        if like:
            decayed.learn(user, item, int(1000 * now))
        counts.learn(user, item, now, like)
        met[user, item] = True
    asked = Asked(*(torch.as_tensor(np.array(part)) for part in zip(*rows, strict=True)))
    before = ~asked.later
    for part in (asked.signals, asked.state):
        axes = tuple(range(part.dim() - 1))
        part.sub_(part[before].mean(axes)).div_(part[before].std(axes) + 1e-6)
    return asked, float(np.mean(popular))


class _Weights(nn.Module):
    """Weights of signals, alike for all, with or without a part that is linear in the user's state."""

    def __init__(self, signals: int, state: int, *, by_state: bool) -> None:
        super().__init__()
        self.alike = nn.Linear(signals, 1, bias=False)
        self.by_state = nn.Linear(state, signals) if by_state else None
        for one in self.parameters():
            nn.init.zeros_(one)

    def forward(self, signals: Tensor, state: Tensor) -> Tensor:
        scores: Tensor = self.alike(signals).squeeze(-1)
        if self.by_state is not None:
            scores = scores + (signals @ self.by_state(state).unsqueeze(-1)).squeeze(-1)
        return scores


class _Network(nn.Module):
    """Weights that are alike for all, and what two layers make of signals and state."""

    def __init__(self, signals: int, state: int, hidden: int = 64) -> None:
        super().__init__()
        self.alike = _Weights(signals, state, by_state=False)
        self.layers = nn.Sequential(
            nn.Linear(signals + state, hidden), nn.GELU(), nn.Dropout(0.1),
            nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, 1),
        )  # fmt: skip

    def forward(self, signals: Tensor, state: Tensor) -> Tensor:
        wide = torch.cat((signals, state.unsqueeze(1).expand(-1, signals.shape[1], -1)), -1)
        made: Tensor = self.layers(wide).squeeze(-1) + self.alike(signals, state)
        return made


def _hits(make: Callable[[], nn.Module], rate: float, asked: Asked, seed: int) -> tuple[float, float]:
    """hit@10 of the second half: of what the first half taught, and of what goes on learning."""
    torch.manual_seed(seed)
    model = make()
    before, later = asked.take(~asked.later & asked.known), asked.take(asked.later)
    _fit(model, before, rate, PASSES)
    once = float(_found(model, later).float().mean())
    found = []
    for tenth in torch.arange(len(later.wanted)).tensor_split(TENTHS):
        part = later.take(tenth)
        found.append(_found(model, part))
        old = before.take(torch.randperm(len(before.wanted))[: len(tenth)])
        new = part.take(part.known)
        _fit(model, Asked(*(torch.cat(pair) for pair in zip(old, new, strict=True))), rate / 4, 1)
    return once, float(torch.cat(found).float().mean())


def _fit(model: nn.Module, asked: Asked, rate: float, passes: int) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=1e-4)
    model.train()
    for _ in range(passes):
        for at in torch.randperm(len(asked.wanted)).split(BATCH):
            some = asked.take(at)
            scores = model(some.signals, some.state).masked_fill(~some.open, -torch.inf)
            optimizer.zero_grad()
            nn.functional.cross_entropy(scores, some.wanted).backward()
            optimizer.step()
    model.eval()


@torch.inference_mode()
def _found(model: nn.Module, asked: Asked) -> Tensor:
    """Whether what is wanted is among the ten: (n,) bool."""
    found = []
    for at in torch.arange(len(asked.wanted)).split(BATCH):
        some = asked.take(at)
        scores = model(some.signals, some.state).masked_fill(~some.open, -torch.inf)
        found.append((scores.topk(TOP, 1).indices == some.wanted[:, None]).any(1) & some.known)
    return torch.cat(found)


if __name__ == "__main__":
    with faults_told():
        typer.run(main)
