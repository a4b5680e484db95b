"""Definition of an experiment on the topic `experiments`: its users, its policies, and its begin."""

import re
from collections.abc import Sequence
from typing import Literal

import msgspec
from msgspec.structs import replace

from online_learning.experiments.assignment import check_weights
from online_learning.experiments.segment import Segment
from online_learning.experiments.sequential import check_level
from online_learning.experiments.summary import GUARDRAILS
from online_learning.policies.policy_spec import PolicySpec
from online_learning.policies.registry import Learning
from streams.events import UNDECODABLE

SCHEMA_VERSION = 1
LIVE = "live"
MAX_VARIANTS = 8
MAX_RUNNING = 16  # each has series of its own in the metrics, and policies of its own in memory

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

Kind = Literal["ab", "interleaving", "policy"]


class Variant(msgspec.Struct, frozen=True):
    """One arm: its policy is "live", the one of the settings, or a line of text (`PolicySpec`)."""

    name: str
    policy: str = LIVE
    weight: float = 1.0


class Experiment(msgspec.Struct, frozen=True):
    """`experiments`, keyed by name: an experiment, or a policy of a part of the users.

    Attributes
    ----------
    kind : "ab" splits users among two variants or more; "interleaving" fills each slate from two; "policy"
        has one variant, which simply serves all of the segment and share
    variants : the first is the control
    share : of the users that take part
    segment : only users of it take part (`Segment.parse`); all when None
    guardrails : bounds that the slates of every variant must keep, by name (`GUARDRAILS`)
    alpha : probability of a false alarm, however often one looks
    plan : slates after which the intervals are to be tightest
    """

    name: str
    kind: Kind
    variants: list[Variant]
    started_ms: int
    share: float = 1.0
    segment: str | None = None
    guardrails: dict[str, float] = {}
    alpha: float = 0.05
    plan: float = 10_000.0
    stopped_ms: int | None = None
    v: int = SCHEMA_VERSION

    @property
    def running(self) -> bool:
        """Whether it has not been stopped."""
        return self.stopped_ms is None

    def stopped(self, now_ms: int) -> "Experiment":
        """Return it as it stands once stopped."""
        return replace(self, stopped_ms=now_ms)

    def grown(self, share: float) -> "Experiment":
        """Return it with another share of the users."""
        return replace(self, share=share)


encode_experiment = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Experiment).decode


def decode_experiment(value: bytes) -> Experiment:
    """Read a definition; ValueError for what is none, or of a schema of the future."""
    try:
        experiment = _decode(value)
    except UNDECODABLE as error:
        raise ValueError(f"not an experiment: {error}") from None
    if experiment.v > SCHEMA_VERSION:
        raise ValueError(
            f"experiment {experiment.name!r} has schema {experiment.v}; this version reads up to "
            f"{SCHEMA_VERSION}"
        )
    return experiment


def kind_of(variants: Sequence[Variant], *, interleave: bool) -> Kind:
    """Return the kind that so many variants make."""
    if interleave:
        return "interleaving"
    return "policy" if len(variants) == 1 else "ab"


def check_experiment(experiment: Experiment, learning: Learning, live: str) -> None:
    """Raise ValueError unless workers can run the experiment.

    Parameters
    ----------
    learning : what the live policy learns from; policies of variants read the same statistics
    live : name of the live policy
    """
    names = [variant.name for variant in experiment.variants]
    for name in (experiment.name, *names):
        if not _NAME.fullmatch(name):
            raise ValueError(
                "names must have 1 to 64 letters, digits, '.', '_' or '-', not these first, got " + repr(name)
            )
    if len(names) > MAX_VARIANTS:
        raise ValueError(f"variants must be at most {MAX_VARIANTS}, got {len(names)}")
    if experiment.kind == "interleaving" and len(names) != 2:
        raise ValueError(f"interleaving must have 2 variants, got {len(names)}")
    if experiment.kind == "ab" and len(names) < 2:
        raise ValueError(f"an A/B experiment must have 2 variants or more, got {len(names)}")
    check_weights(names, [variant.weight for variant in experiment.variants])
    if not 0.0 < experiment.share <= 1.0:
        raise ValueError(f"share must be above 0 and at most 1, got {experiment.share}")
    if experiment.segment is not None:
        Segment.parse(experiment.segment)
    for name, bound in experiment.guardrails.items():
        if name not in GUARDRAILS or not bound >= 0.0:
            raise ValueError(f"guardrails must be {', '.join(GUARDRAILS)}, at least 0, got {name}={bound}")
    check_level(experiment.alpha, experiment.plan)
    for variant in experiment.variants:
        if variant.policy != LIVE:
            spec = PolicySpec.parse(variant.policy)
            spec.check_served_with(learning, live)
