"""Profiles of fake users as ARLib makes them, and profiles that are learned against a model in closed form.

ARLib (Wang et al. 2024, "Poisoning attacks and defenses in recommender systems: a survey"; its repository
CoderWZW/ARLib) gives each fake all targets and as many fillers as users have likes on average, each item
once: `random` any items, `bandwagon` the most popular ones and half as many of any. `gradient` draws its
fillers as `slatestream attack gradient` does.

`optimised` and `gan` look through the training of EASE, which has a closed form: the weights of a model that
is trained on honest users and fakes are the honest ones' and a correction of rank n (Woodbury), so how far
targets come is differentiable by the fakes. `optimised` takes the fillers' own gradient (Tang, Wen & Wang
2020, "Revisiting adversarially learned injection attacks"). `gan` trains a generator by it, and by a
discriminator that tells fakes from users (Lin et al. 2020, "AUSH").
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from streams.attack.fakes import Known, Rows, gradient_odds

Bools = NDArray[np.bool_]
PENALTY = 300.0  # of the EASE that is attacked
REACH = 50  # length of the lists that targets are to enter
STEPS = 150
LATENT, WIDTH = 32, 128
WARM = 50  # steps of a generator before which only the discriminator judges it


@dataclass(frozen=True, slots=True)
class Attacker:
    """What an attacker knows and may do.

    train : (n_users, n_items) bool, what honest users like; known : the same, with the order of it
    n, fillers : fakes, and fillers of each
    """

    train: Bools
    known: Known
    targets: Rows
    n: int
    fillers: int
    seed: int

    @property
    def rng(self) -> np.random.Generator:
        """Chance, the same each time."""
        return np.random.default_rng([self.seed, 17])

    @property
    def others(self) -> Rows:
        """Items that may be fillers."""
        return np.setdiff1d(np.arange(self.train.shape[1]), self.targets)


def profiles(kind: str, attacker: Attacker) -> list[Rows]:
    """Make fake users: their distinct items, targets spread evenly among fillers."""
    if kind not in PROFILES:
        raise ValueError(f"kind must be one of {', '.join(PROFILES)}, got {kind!r}")
    rng, made = attacker.rng, []
    for fillers in PROFILES[kind](attacker):
        order = rng.permutation(fillers)
        at = np.linspace(0, len(order), len(attacker.targets) + 2)[1:-1].astype(np.int64)
        made.append(np.insert(order, at, rng.permutation(attacker.targets)))
    return made


def _random(attacker: Attacker) -> list[Rows]:
    rng = attacker.rng
    return [rng.choice(attacker.others, attacker.fillers, replace=False) for _ in range(attacker.n)]


def _bandwagon(attacker: Attacker) -> list[Rows]:
    """The most popular items, and half as many of others: ARLib gives more fillers here than elsewhere."""
    rng = attacker.rng
    likes = attacker.train.sum(0)[attacker.others]
    by_popularity = attacker.others[np.argsort(-likes, kind="stable")]
    popular, rest = by_popularity[: attacker.fillers], by_popularity[attacker.fillers :]
    return [np.r_[popular, rng.choice(rest, attacker.fillers // 2, replace=False)] for _ in range(attacker.n)]


def _gradient(attacker: Attacker) -> list[Rows]:
    rng = attacker.rng
    steepest, odds = gradient_odds(attacker.known, attacker.targets)
    return [rng.choice(steepest, attacker.fillers, replace=False, p=odds) for _ in range(attacker.n)]


def _optimised(attacker: Attacker) -> list[Rows]:
    victim, others = Victim(attacker), torch.from_numpy(attacker.others)
    generator = torch.Generator().manual_seed(attacker.seed)
    logits = nn.Parameter(0.1 * torch.randn(attacker.n, len(others), generator=generator))
    optimizer = torch.optim.Adam([logits], lr=0.05)
    for _ in range(STEPS):
        loss = victim.loss(victim.whole(_taken(logits, attacker.fillers)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return [attacker.others[row] for row in logits.detach().topk(attacker.fillers).indices.numpy()]


def _gan(attacker: Attacker) -> list[Rows]:
    victim, n_items = Victim(attacker), attacker.train.shape[1]
    torch.manual_seed(attacker.seed)
    maker = nn.Sequential(nn.Linear(LATENT, WIDTH), nn.ReLU(), nn.Linear(WIDTH, len(attacker.others)))
    judge = nn.Sequential(nn.Linear(n_items, WIDTH), nn.LeakyReLU(0.2), nn.Linear(WIDTH, 1))
    making, judging = (torch.optim.Adam(net.parameters(), lr=0.002) for net in (maker, judge))
    real = torch.from_numpy(attacker.train[attacker.train.sum(1) >= attacker.fillers].astype(np.float32))
    rng = torch.Generator().manual_seed(attacker.seed)
    for step in range(STEPS + WARM):
        fake = victim.whole(_taken(maker(torch.randn(attacker.n, LATENT, generator=rng)), attacker.fillers))
        some = real[torch.randint(len(real), (attacker.n,), generator=rng)]
        # Of a user as many likes as a fake has, so that their number tells nobody apart.
        some = some * _taken(torch.rand(some.shape, generator=rng) + some, int(fake[0].sum()))
        told = functional.softplus(-judge(some)).mean() + functional.softplus(judge(fake.detach())).mean()
        judging.zero_grad()
        told.backward()
        judging.step()
        loss = functional.softplus(-judge(fake)).mean()
        if step >= WARM:
            loss = loss + victim.loss(fake)
        making.zero_grad()
        loss.backward()
        making.step()
    with torch.no_grad():
        made = maker(torch.randn(attacker.n, LATENT, generator=rng)).topk(attacker.fillers).indices.numpy()
    return [attacker.others[row] for row in made]


class Victim:
    """EASE, trained again on whatever the fakes are."""

    def __init__(self, attacker: Attacker) -> None:
        self._attacker = attacker
        liked = torch.from_numpy(attacker.train.astype(np.float32))
        inverse = torch.linalg.inv(liked.T @ liked + PENALTY * torch.eye(liked.shape[1]))
        self._liked, self._inverse = liked, inverse
        self._targets = torch.from_numpy(attacker.targets)
        scores = liked @ (-inverse / inverse.diagonal())
        scores[liked > 0] = -torch.inf
        self.bar = scores.topk(REACH).values[:, -1:]
        if not bool(self.bar.isfinite().all()):
            raise ValueError(f"train must leave each user at least {REACH} items")
        self.scale = float(self.bar.std())

    def whole(self, fillers: Tensor) -> Tensor:
        """Profiles, (n, n_items), of (n, n_items - n_targets) fillers."""
        made = torch.zeros(len(fillers), self._liked.shape[1], dtype=fillers.dtype)
        made = made.index_copy(1, torch.from_numpy(self._attacker.others), fillers)
        return made.index_fill(1, self._targets, 1.0)

    def loss(self, fakes: Tensor) -> Tensor:
        """How far targets stay behind the last item of each user's list, after training with the fakes."""
        inverse, each = self._inverse, torch.arange(len(self._targets))
        through = fakes @ inverse
        small = torch.eye(len(fakes)) + through @ fakes.T
        columns = inverse[:, self._targets] - through.T @ torch.linalg.solve(small, through[:, self._targets])
        own = columns[self._targets, each]
        weights = (-columns / own).index_put((self._targets, each), torch.zeros(len(each)))
        behind = (self.bar - self._liked @ weights) / self.scale
        return functional.softplus(behind).mean()


def _taken(logits: Tensor, n: int) -> Tensor:
    """The n largest of each row as ones, with the gradient of their softmax: straight through."""
    hard = torch.zeros_like(logits).scatter(1, logits.topk(n).indices, 1.0)
    soft = torch.softmax(logits, 1) * n
    return hard + soft - soft.detach()


PROFILES: dict[str, Callable[[Attacker], list[Rows]]] = {
    "random": _random,
    "bandwagon": _bandwagon,
    "gradient": _gradient,
    "optimised": _optimised,
    "gan": _gan,
}
"""How fillers are chosen, by the name of the attack."""
