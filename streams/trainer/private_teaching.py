"""Teaches a release's policy what its own slates earned, so that no user shows in what it has learned.

The sums are those that a worker makes of the same slates, with clipped shares and noise. They are of slates
that the release itself made, and the release that has them has another version: so a slate is in one
release's sums only, and whoever reads them again reads the same file, with the same noise.
"""

import math
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from model_core.privacy.config import Promise
from model_core.privacy.gaussian import composed, gaussian_epsilon, gaussian_sigma
from model_core.release.folder import Release, add_learned, read_release, whole_folder
from model_core.release.signature import SIGNATURE
from online_learning.policies.registry import Learning
from online_learning.statistics.position_bias import power_law
from online_learning.statistics.private import Clips, SlateRows, noises, private_sums, statistics_of
from online_learning.statistics.relative import EXPECTED, RelativeStatistics
from streams.events import MAX_SLATE, UNDECODABLE
from streams.learning.learned import SCHEMA_VERSION, Learned, encode_learned, read_learned
from streams.settings import Settings
from streams.state.feature_spaces import Spaces
from streams.trainer.shown_slates import Rewarding, SlateRecord

NOT_COVERED = (
    "what slates' features tell of other users: co-visits, popularity and rates that a worker counts",
    "the networks of the release, where they were trained on clicks",
    "who is in quarantine, and so left out: others may be the reason",
    "other releases that are taught by slates of the same release",
)
"""What the promise is not about, as the command, the manifest and the documents say it."""


LARGEST = 1e9
"""What features are below, so that no product of two overflows."""


class DescribedRecord(SlateRecord, gc=False):
    """A record of `feedback` with the features of the items shown: (k, feature_dim) float32."""

    model_version: str
    features: bytes
    feature_dim: int


_decode = msgspec.json.Decoder(DescribedRecord).decode


class _Slate(NamedTuple):
    """What a slate teaches: features (k, F) float32 as bytes, weights and rewards (k,) float64."""

    features: bytes
    weights: NDArray[np.float64]
    rewards: NDArray[np.float64]


class OwnSlates:
    """Takes in records of `feedback`, those of one release's slates; of each slate the last word counts.

    Parameters
    ----------
    is_held : whether a user is in quarantine: nothing is learned from that user's slates
    """

    def __init__(self, settings: Settings, release: Release, *, is_held: Callable[[str], bool]) -> None:
        if settings.position_bias == "learned":
            raise ValueError(
                "position_bias must be a number where epsilon is set: how positions are looked at is learned "
                "of all users, got 'learned'"
            )
        self._looked = power_law(settings.position_bias, MAX_SLATE)
        self._rewarding = Rewarding(settings)
        self._release = release
        self._is_held = is_held
        # By user too: whoever takes another's request id takes nothing of theirs out.
        self._slates: dict[tuple[str, str], _Slate] = {}

    def __len__(self) -> int:
        return len(self._slates)

    def add(self, values: Iterable[bytes | None]) -> None:
        """Take in records; what is no such record says nothing."""
        for value in values:
            try:
                record = _decode(value or b"")
            except UNDECODABLE:
                continue
            if self._is_ours(record) and not self._is_held(record.user_id):
                shown = self._rewarding.shown(record, self._looked)
                rewards = np.where(shown.taken, shown.values, 0.0)
                slate = _Slate(record.features, shown.weights, rewards)
                self._slates[record.user_id, record.request_id] = slate

    def _is_ours(self, record: DescribedRecord) -> bool:
        dim = self._release.feature_dim
        return (
            record.fits
            and (record.model_version, record.feature_dim) == (self._release.version, dim)
            and 0 < len(record.features) == 4 * dim * len(record.slate)
            and bool((np.abs(np.frombuffer(record.features, "<f4")) < LARGEST).all())
        )

    def rows(self) -> SlateRows:
        """Return what was shown, and what it earned; there must be slates."""
        slates = list(self._slates.values())
        _, users = np.unique(np.array([user for user, _ in self._slates], np.str_), return_inverse=True)
        dim = self._release.feature_dim
        features = (np.frombuffer(slate.features, "<f4").reshape(-1, dim) for slate in slates)
        return SlateRows(
            np.repeat(users.astype(np.int64), [len(slate.weights) for slate in slates]),
            np.concatenate([RelativeStatistics.rows(of_slate).astype(np.float32) for of_slate in features]),
            np.concatenate([slate.weights for slate in slates]),
            np.concatenate([slate.rewards for slate in slates]),
        )


def teach(
    base: Path, out: Path, slates: OwnSlates, promise: Promise, settings: Settings, *, impressions: float
) -> Release:
    """Write a release that is like another, and begins with what that one's slates taught, with noise.

    What the base begins with stays; it must promise privacy, too, and what both promise together is told.

    Parameters
    ----------
    slates : of the base
    impressions : of a user that count in full, about; chosen before the data are looked at

    Raises
    ------
    ValueError
        If nothing is promised, impressions are not above 0 and finite, there are no slates, the base begins
        with exact sums, or the settings learn in a way of which no noisy sums are made.
    """
    if not promise.promised:
        raise ValueError("epsilon must be finite, got inf")
    if not 0.0 < impressions < math.inf:
        raise ValueError(f"impressions must be above 0 and finite, got {impressions:g}")
    release = read_release(base)
    learning = _learning(settings, release)
    sigmas, rest = _promised(release)
    before = _before(base, release, learning)
    if not len(slates):
        raise ValueError(
            f"feedback must hold slates of release {release.version} with features, got none: it must have "
            "served, and the windows of its slates must have ended"
        )
    sigma, clips = gaussian_sigma(promise.epsilon, promise.delta), _clips(impressions, release)
    expected = np.zeros(release.feature_dim)
    expected[[0, EXPECTED]] = 1.0  # the level of a slate, and what sets an item apart: its probability
    rng = np.random.default_rng()
    sums, noise = private_sums(slates.rows(), expected, clips=clips, sigma=sigma, rng=rng)
    space = learning.feature_space
    learned = before + statistics_of(sums, noise, expected, feature_space=space)
    said = _statement(promise, impressions, clips, [*sigmas, sigma], rest)
    with whole_folder(out) as partial:
        shutil.copytree(base, partial, ignore=shutil.ignore_patterns(SIGNATURE), dirs_exist_ok=True)
        row = Learned(SCHEMA_VERSION, space, release.feature_dim, learned.to_bytes())
        add_learned(partial, encode_learned(row), {"of": release.version, "privacy": said})
    return read_release(out)


def _learning(settings: Settings, release: Release) -> Learning:
    learning = Spaces(settings).learning("", release.feature_dim)
    if learning.statistics is not RelativeStatistics or learning.half_life_ms is not None:
        raise ValueError(
            "policy must learn one linear model for all items, without reward_half_life_ms, where epsilon is "
            f"set; {settings.policy!r} has {learning.kind} statistics, half-life {learning.half_life_ms}"
        )
    return learning


def _before(base: Path, release: Release, learning: Learning) -> RelativeStatistics:
    """Return what a release begins with."""
    if "learned" not in release.training:
        return RelativeStatistics.blank(learning.prior, half_life_ms=None)
    statistics = read_learned(base, release, learning, learning)
    if not isinstance(statistics, RelativeStatistics):
        raise ValueError(f"release {release.version} begins with sums that these settings do not learn")
    return statistics


def _clips(impressions: float, release: Release) -> Clips:
    """Return the clips for about so many impressions; a release that says no rate has that of 0.5."""
    rate = release.served_probability
    return Clips.of(impressions, 0.5 if rate is None else min(rate, 0.5))


class _Noise(msgspec.Struct):
    sigmas: list[Annotated[float, msgspec.Meta(gt=0)]]


class _Learned(msgspec.Struct):
    privacy: _Noise | None = None


class _ReleasePromise(msgspec.Struct):
    epsilon: Annotated[float, msgspec.Meta(gt=0)]
    delta: Annotated[float, msgspec.Meta(gt=0, lt=1)]


class _Training(msgspec.Struct):
    learned: _Learned | None = None
    privacy: _ReleasePromise | None = None


def _promised(release: Release) -> tuple[list[float], list[float]]:
    """Return the noise of each promise about what a release begins with, and of that about the rest of it."""
    try:
        said = msgspec.convert(release.training, _Training)
    except msgspec.ValidationError as error:
        raise ValueError(
            f"the manifest of release {release.version} makes no known promise: {error}"
        ) from None
    if said.learned is not None and said.learned.privacy is None:
        raise ValueError(
            f"release {release.version} begins with exact sums of slates (`trainer_refit_days`): with them "
            "nothing can be promised"
        )
    learned = [] if said.learned is None or said.learned.privacy is None else said.learned.privacy.sigmas
    rest = [] if said.privacy is None else [gaussian_sigma(said.privacy.epsilon, said.privacy.delta)]
    return learned, rest


def _statement(
    promise: Promise, impressions: float, clips: Clips, learned: list[float], rest: list[float]
) -> dict[str, Any]:
    """Say what is promised and by what; `epsilon_in_all` is with all that the release has promised before.

    Parameters
    ----------
    learned, rest : as of `_promised`, with the noise of this promise last in `learned`
    """
    noise = noises(learned[-1], clips)
    return {
        "epsilon": promise.epsilon, "delta": promise.delta,
        "epsilon_in_all": round(gaussian_epsilon(composed([*learned, *rest]), promise.delta), 6),
        "unit": "all slates that the release made for one user, and their rewards, added or removed",
        "mechanism": "analytic Gaussians, composed: clipped sums of features' products, of how far rewards "
        "were from the release's probability, and of impressions and rewards",
        "impressions": impressions, "clips": clips._asdict(), "noise": noise._asdict(), "sigmas": learned,
        "not_covered": list(NOT_COVERED),
    }  # fmt: skip
