"""What gradients of users, clipped and with noise (DP-SGD), add to a private release: NDCG@10 as served.

    python -m tests.benchmarks.private_gradients --seeds 3 [--peer-python PEERS/bin/python]

Two parts are trained on what users liked next in the first part of the log, beside the noisy counts:

- weights: how much co-visits, popularity and EASE count, 3 numbers;
- map: what EASE says is corrected by an inner product of items in 32 directions, 1,024 numbers. 24 directions
  are how items are alike by the catalogue, 8 are of the noisy pairs.

A sample's gradient reads the user's own events, the catalogue and the noisy counts, of which what the user
added is taken out again: so it does not know its target, and depends on no other user but by what is told
anyway. A worker's exact co-visits may not be read: the noisy pairs stand for them. A user's mean gradient is
clipped; all users are in each step, since there are few numbers. So the steps are Gaussian mechanisms, which
compose with the counts exactly; SHARE of the promise is theirs. Each is shown without noise in the gradients,
too, which promises nothing: what noise costs, and what it cannot be blamed for.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy import sparse

from model_core.inputs.corpus import Corpus
from model_core.network.ranker import SIGNAL_WEIGHTS
from model_core.privacy.config import Privacy
from model_core.privacy.counts import (
    COMMON,
    PrivateCounts,
    directions_of,
    likely_pairs,
    noises,
    told_of,
    user_vectors,
)
from model_core.privacy.gaussian import composed, gaussian_epsilon, gaussian_sigma
from model_core.signals.ease import Ease
from model_core.signals.popularity import TYPICAL_LIKES
from model_core.signals.sample_signals import Log
from model_core.training.private import PENALTY, PRIOR, PRIVATE_WEIGHTS
from tests.benchmarks.inputs import faults_told
from tests.benchmarks.private_served import (
    FLOOR,
    SIGNALS,
    ask,
    counts_of,
    ease_of,
    make_parser,
    read_domain,
    show_leads,
)
from tests.benchmarks.quality_private import accounted

EPSILONS = (1.0, 4.0, 8.0)
SHARE = 0.2
"""Of the promise, spent on gradients."""
STEPS = 20
SAMPLES = 15
"""Of a user, at most, drawn from what they liked."""
ALIKE, TOLD = 24, 8
"""Directions of the map."""
SHARP = 8.0
"""What EASE's weights are multiplied by in the map's loss, by the root of how many items the user likes."""
DECAY = 0.1
Array = np.ndarray


class Samples(NamedTuple):
    """What users liked next; k items are told of.

    liked : (n, k), 1 / sqrt(number) of what the user liked before; met : (n, k) bool; target : (n,)
    shaped : (n, 3, k), logarithms of what stands for the signals; ease : (n, k), EASE's score
    user : (n,), places among n_users
    """

    liked: Array
    met: Array
    target: Array
    shaped: Array
    ease: Array
    user: Array
    n_users: int

    def mean(self, gradients: Array) -> Array:
        """Mean gradient of each user: (n, p) to (n_users, p)."""
        each = sparse.csr_matrix((np.ones(len(self.user)), (self.user, np.arange(len(self.user)))))
        each.resize(self.n_users, len(self.user))
        total: Array = each @ gradients
        return total / np.maximum(np.bincount(self.user, minlength=self.n_users), 1)[:, None]


def descend(
    gradients: Callable[[Array], Array],
    start: Array,
    n_users: float,
    *,
    clip: float,
    rate: float,
    noise: float,
    rng: np.random.Generator,
    decay: float = 0.0,
) -> Array:
    """Climb by users' gradients (n_users, p), each at most `clip` long, with noise on their sum.

    Parameters
    ----------
    noise : of all steps together, relative to the clip: each of them has sqrt(STEPS) times as much
    """
    at = start.copy()
    for _ in range(STEPS):
        each = gradients(at)
        lengths = np.linalg.norm(each, axis=1, keepdims=True)
        total = (each * np.minimum(1.0, clip / np.maximum(lengths, 1e-12))).sum(0)
        total += rng.normal(0.0, noise * clip * math.sqrt(STEPS), len(at)) if noise else 0.0
        at = at + rate * (total / n_users - decay * at)
    return at


def draw_samples(log: Log, counts: PrivateCounts, clip: float, rng: np.random.Generator) -> Samples:
    """Draw what users liked next, and what the counts without that user say of it."""
    k = len(counts.known)
    place = np.full(log.n_items, -1)
    place[counts.known] = np.arange(k)
    rows = np.flatnonzero(log.positive)
    vectors = user_vectors(log.users[rows], log.items[rows], log.n_items)
    told = told_of(vectors, counts, directions_of(counts, clip)[1])
    inverse = np.linalg.inv(counts.directions)
    values, axes = np.linalg.eigh(counts.products)
    order = np.argsort(log.users, kind="stable")
    bounds = np.searchsorted(log.users[order], np.arange(log.n_users + 1))
    parts: list[tuple[Array, ...]] = []
    for at, user in enumerate(np.unique(log.users[rows]).tolist()):
        past = order[bounds[user] : bounds[user + 1]]
        items, positive = place[log.items[past]], log.positive[past]
        wanted = [n for n in np.flatnonzero(positive & (items >= 0)) if items[n] not in items[:n]]
        if not wanted:
            continue
        wanted = rng.permutation(wanted)[:SAMPLES].tolist()
        # To the first order, for a user moves no direction of the sum far.
        left = values - (told[at] @ axes) ** 2
        there = left > counts.edge
        out = inverse.T @ axes[:, there]
        apart = (out * np.sqrt(left[there] ** 2 - counts.edge**2)) @ out.T
        without = counts._replace(
            popularity=counts.popularity - vectors[at].toarray()[0], users=counts.users - 1.0
        )
        weights, pairs, likes = _models(without, apart)
        for n in wanted:
            parts.append(_sample(items[:n], positive[:n], items[n], weights, pairs, likes, at))
    liked, met, target, shaped, ease, owner = (np.array(column) for column in zip(*parts, strict=True))
    return Samples(liked, met, target, shaped, ease, owner, vectors.shape[0])


def _models(counts: PrivateCounts, apart: Array) -> tuple[Array, Array, Array]:
    """EASE's weights (k, k), what stands for exact co-visits (k, k), and for numbers of likes (k,)."""
    liked, root = counts.liked, np.sqrt(counts.liked)
    common = np.outer(liked, liked) / counts.users
    alike = PRIOR * counts.edge / counts.users * root[:, None] * root * counts.alike
    inverse = np.linalg.inv(apart + COMMON * common + alike + PENALTY * np.eye(len(liked)))
    weights = inverse / -inverse.diagonal()
    np.fill_diagonal(weights, 0.0)
    # A pair of a user's n events is within the window, and counts, about 2 / n times the sum of the decay.
    near = 2.0 * float((SIGNALS.pair_decay ** np.arange(SIGNALS.window)).sum())
    pairs = near * np.maximum(apart + common, 0.0)
    np.fill_diagonal(pairs, 0.0)
    return weights, pairs, liked * max(1.0, float(counts.popularity.sum()) / counts.users)


def _sample(
    items: Array, positive: Array, target: int, weights: Array, pairs: Array, likes: Array, owner: int
) -> tuple[Array | int, ...]:
    """One row of `Samples`, from what the user had done before; items that nothing is told of are -1."""
    k = len(likes)
    liked, met = np.zeros(k, np.float32), np.zeros(k, np.bool_)
    met[items[items >= 0]] = True
    mine = np.unique(items[positive & (items >= 0)])
    liked[mine] = 1.0 / math.sqrt(max(1, len(mine)))
    last = items[::-1][: SIGNALS.read_window]
    read = SIGNALS.read_decay ** np.arange(len(last))
    read = read * np.where(positive[::-1][: len(last)], 1.0, SIGNALS.read_other)
    rare = (10.0 / (likes + 10.0)) ** SIGNALS.read_temper
    typical = (10.0 / (TYPICAL_LIKES + 10.0)) ** SIGNALS.read_temper
    met_with = (read * rare[last])[last >= 0] @ pairs[last[last >= 0]] / (np.sqrt(likes + 10.0) * typical)
    by_ease = weights[mine].sum(0)
    signals = np.stack((met_with, np.log1p(likes), np.maximum(by_ease, 0.0)))
    ease = by_ease / math.sqrt(max(1, len(mine)))
    return liked, met, target, np.log(FLOOR + signals).astype(np.float32), ease.astype(np.float32), owner


def shares(scores: Array, met: Array) -> Array:
    """Softmax over what the user has not met: (n, k)."""
    scores = np.where(met, -np.inf, scores)
    top = np.exp(scores - scores.max(1, keepdims=True))
    return top / top.sum(1, keepdims=True)


def trained_weights(samples: Samples, users: float, noise: float, rng: np.random.Generator) -> Array:
    """Weights of co-visits, popularity and EASE, as the ranker has them: softplus of what is trained."""
    every = np.arange(len(samples.target))

    def gradients(at: Array) -> Array:
        p = shares(np.tensordot(np.logaddexp(0.0, at), samples.shaped, (0, 1)), samples.met)
        better = samples.shaped[every, :, samples.target] - np.einsum("nk,nsk->ns", p, samples.shaped)
        return samples.mean(better / (1.0 + np.exp(-at)))

    start = np.log(np.expm1(np.array(SIGNAL_WEIGHTS)))
    found = descend(gradients, start, users, clip=0.3, rate=1.0, noise=noise, rng=rng)
    weights: Array = np.logaddexp(0.0, found)
    return weights


def trained_map(samples: Samples, counts: PrivateCounts, noise: float, rng: np.random.Generator) -> Array:
    """What is added to EASE's weights: (k, k)."""
    items = directions(counts)
    r = items.shape[1]
    level = np.log(counts.liked)
    begin, read = SHARP * samples.ease + level, samples.liked @ items

    def gradients(at: Array) -> Array:
        p = shares(begin + read @ at.reshape(r, r) @ items.T, samples.met)
        better = items[samples.target] - p @ items
        return samples.mean((read[:, :, None] * better[:, None]).reshape(-1, r * r))

    found = descend(
        gradients, np.zeros(r * r), counts.users, clip=0.3, rate=2.0, noise=noise, rng=rng, decay=DECAY
    )
    added: Array = items @ found.reshape(r, r) @ items.T / SHARP
    np.fill_diagonal(added, 0.0)
    return added


def directions(counts: PrivateCounts) -> Array:
    """Items in the directions of the map, of a length of about 1, none of them in the mean: (k, r)."""
    liked, alike = counts.liked, counts.alike
    centred = alike - alike.mean(0) - alike.mean(1)[:, None] + alike.mean()
    apart = likely_pairs(counts) - COMMON * np.outer(liked, liked) / counts.users
    told = apart / np.sqrt(np.outer(liked, liked))
    strongest = [np.linalg.eigh(one)[1][:, -n:] for one, n in ((centred, ALIKE), (told, TOLD))]
    items = np.linalg.qr(np.concatenate(strongest, 1))[0]
    items = items * math.sqrt(len(liked) / items.shape[1])
    mean: Array = liked / liked.sum() @ items
    return items - mean


def main() -> None:
    """Print NDCG@10 by epsilon and by what is trained."""
    parser = make_parser(__doc__, ("films", "artists"))
    parser.add_argument("--peer-python", help="Python of an environment with dp-accounting")
    given = parser.parse_args()
    corpus, split = read_domain(given.folder, given.domain)
    for epsilon in given.epsilon or EPSILONS:
        privacy = Privacy(epsilon=epsilon)
        show_promise(privacy, given.peer_python)
        rows = [measured(corpus, split, privacy, seed, given.every) for seed in range(given.seeds)]
        show_leads({name: np.array([row[name] for row in rows]) for name in rows[0]}, "private release")


def spent(privacy: Privacy) -> tuple[Privacy, float]:
    """Split a promise: that of the counts, and the noise of all gradients together, relative to the clip."""
    sigma = gaussian_sigma(privacy.epsilon, privacy.delta)
    left = gaussian_epsilon(sigma / math.sqrt(1.0 - SHARE), privacy.delta)
    return replace(privacy, epsilon=left), sigma / math.sqrt(SHARE)


def show_promise(privacy: Privacy, peer: str | None) -> None:
    """Print what the counts and the steps promise together."""
    counted, noise = spent(privacy)
    sigmas = (*noises(counted), *[noise * math.sqrt(STEPS)] * STEPS)
    ours = gaussian_epsilon(composed(sigmas), privacy.delta)
    theirs = f"; {accounted(peer, privacy.delta, sigmas):.6f} by dp-accounting" if peer else ""
    print(f"epsilon {privacy.epsilon:g}: counts and {STEPS} steps together {ours:.6f}{theirs}")


def measured(corpus: Corpus, split: int, privacy: Privacy, seed: int, every: int) -> dict[str, Array]:
    """NDCG@10 of each user as served, by what is trained: (u,) each."""
    log = corpus.log.first(split)
    found: dict[str, Array] = {}

    def note(name: str, ease: Ease, weights: tuple[float, ...]) -> None:
        asked = ask(corpus, ease, split, every)
        found[name] = asked.by_user(asked.ndcg(weights))

    note("private release", ease_of(corpus, counts_of(corpus, log, privacy, seed)), PRIVATE_WEIGHTS)
    counted, noise = spent(privacy)
    counts, rng = counts_of(corpus, log, counted, seed), np.random.default_rng(1000 + seed)
    samples = draw_samples(log, counts, privacy.clip, rng)
    ease = ease_of(corpus, counts)
    for name, much in (("", noise), (" without noise", 0.0)):
        weights = trained_weights(samples, counts.users, much, rng)
        note(f"weights{name}", ease, tuple(weights.tolist()))
        print(f"    seed {seed}: weights{name} {weights.round(2).tolist()}")
        added = trained_map(samples, counts, much, rng)
        note(f"map{name}", corrected(corpus, ease, counts.known, added), PRIVATE_WEIGHTS)
    return found


def corrected(corpus: Corpus, ease: Ease, known: Array, added: Array) -> Ease:
    """EASE with something added to its weights between known items."""
    weights = ease.dense()
    weights[np.ix_(known, known)] += added
    bounds, items = np.zeros(len(weights) + 1, np.int64), []
    for row in range(len(weights)):
        items.append(np.flatnonzero(weights[row]).astype(np.int32))
        bounds[row + 1] = bounds[row] + len(items[-1])
    at = np.concatenate(items)
    owner = np.repeat(np.arange(len(weights)), np.diff(bounds))
    return Ease(bounds, at, weights[owner, at])


if __name__ == "__main__":
    with faults_told():
        main()
