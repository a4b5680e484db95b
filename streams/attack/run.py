"""An attack on a stream: honest events go by, fakes publish among them for a while, slates are looked at.

Before each like of an honest user a slate is asked for, which scores a hit if the liked item is in it; now
and then a panel of honest users is asked for, to see in how many slates the targets are. Events go by in
batches, so a slate may miss the latest `BATCH` events.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from model_core.data.datasets import Dataset, Interactions
from streams.attack.fakes import Known, Rows, fakes, unpopular_targets
from streams.attack.site import Site
from streams.demo.publish import content_rows
from streams.demo.taste import LIKED
from streams.events import Click, Request

BATCH = 50
WARM_BATCH = 2_000
READ = 20  # last likes of a user that a gradient is taken over
BEFORE, DURING, AFTER = "before", "during", "after"
FAKE, HONEST = "fakes", "honest users"
COUNTS = ("slates", "targeted", "shown", "positions", "likes", "hits")


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackPlan:
    """Parameters of an attack.

    share : of fakes, in honest users; each publishes `events` clicks while `during` honest events go by
    warm : share of the interactions that were there before anybody is asked
    every : honest events between two looks at the panel
    learn : slates before likes are learned from, and fakes ask for slates, too
    """

    kind: str = "bandwagon"
    share: float = 0.01
    events: int = 106
    n_targets: int = 5
    warm: float = 0.2
    before: int = 1_000
    during: int = 2_000
    after: int = 2_000
    panel: int = 300
    every: int = 250
    k: int = 10
    seed: int = 0
    learn: bool = False

    def __post_init__(self) -> None:
        for name, low, high in (("share", 0.0, 1.0), ("warm", 0.01, 0.95)):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} must be in [{low:g}, {high:g}], got {getattr(self, name)}")
        for name in ("events", "n_targets", "before", "during", "after", "panel", "every", "k"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    def phase(self, event: int) -> str:
        """Return the phase that an honest event is in, by its number."""
        if event < self.before:
            return BEFORE
        return DURING if event < self.before + self.during else AFTER


@dataclass(slots=True)
class Moment:
    """Measurements over a stretch of honest events; `event` is the number of the last of them.

    slates, targeted : of the panel, and those of them with a target; shown, positions : targets, of all items
    likes, hits : honest likes that a slate was asked for, and those that were in it
    """

    event: int
    time_ms: int
    phase: str
    slates: int = 0
    targeted: int = 0
    shown: int = 0
    positions: int = 0
    likes: int = 0
    hits: int = 0


@dataclass(slots=True)
class Course:
    """Course of a run with or without an attack.

    suspicion : in the end, of fakes and of honest users, where it is known
    """

    moments: list[Moment] = field(default_factory=list)
    fake_events: int = 0
    bounded: int | None = None
    suspicion: dict[str, list[float]] = field(default_factory=dict)

    def hit_ratio(self, phase: str) -> float:
        """Share of the panel's slates with a target."""
        return _share(self._sum("targeted", phase), self._sum("slates", phase))

    def exposure(self, phase: str) -> float:
        """Share of the places of slates that targets have."""
        return _share(self._sum("shown", phase), self._sum("positions", phase))

    def honest(self, phase: str) -> float:
        """Share of honest likes that were in a slate."""
        return _share(self._sum("hits", phase), self._sum("likes", phase))

    def add(self, other: "Course") -> None:
        """Take in another course of the same honest events, with other targets, panel and fakes."""
        self.fake_events += other.fake_events
        if self.bounded is not None and other.bounded is not None:
            self.bounded += other.bounded
        for who, found in other.suspicion.items():
            self.suspicion.setdefault(who, []).extend(found)
        for ours, theirs in zip(self.moments, other.moments, strict=True):
            for name in COUNTS:
                setattr(ours, name, getattr(ours, name) + getattr(theirs, name))

    def _sum(self, name: str, phase: str) -> int:
        return sum(getattr(one, name) for one in self.moments if one.phase == phase)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


@dataclass(frozen=True, slots=True)
class Stage:
    """A data set laid out for an attack: what is known before, honest events, targets and the panel."""

    dataset: Dataset
    item_ids: list[str]
    known: Known
    warm: Interactions
    honest: Interactions
    targets: Rows
    panel: list[str]

    @classmethod
    def of(cls, dataset: Dataset, plan: AttackPlan) -> "Stage":
        """Lay out a data set; targets and panel are drawn by the plan's seed.

        Raises
        ------
        ValueError
            If there are too few events for the plan.
        """
        begin = int(plan.warm * len(dataset.interactions))
        end = begin + plan.before + plan.during + plan.after
        if end > len(dataset.interactions):
            raise ValueError(
                f"before, during and after must be at most {len(dataset.interactions) - begin} events "
                f"together, got {end - begin}"
            )
        warm = dataset.interactions[:begin]
        rng = np.random.default_rng(plan.seed)
        known = _known(dataset, warm)
        active = np.unique(warm.user_ids)
        return cls(
            dataset,
            [item.item_id for item in dataset.items],
            known,
            warm,
            dataset.interactions[begin:end],
            unpopular_targets(known, plan.n_targets, rng),
            rng.choice(active, min(plan.panel, len(active)), replace=False).tolist(),
        )


def _known(dataset: Dataset, warm: Interactions) -> Known:
    rows = {item.item_id: row for row, item in enumerate(dataset.items)}
    liked = warm.ratings >= LIKED
    items = np.array([rows[one] for one in warm.item_ids[liked].tolist()], np.int64)
    users = warm.user_ids[liked]
    groups = [frozenset(entity for _, entity in item.edges) for item in dataset.items]
    pasts = [items[users == user][-READ:] for user in np.unique(users)]
    return Known(np.bincount(items, minlength=len(rows)), groups, pasts)


async def run(site: Site, stage: Stage, plan: AttackPlan, *, attack: bool) -> Course:
    """Play a stage out; without an attack nothing but the fakes is left out."""
    await site.publish("content", content_rows(stage.dataset))
    for begin in range(0, len(stage.warm), WARM_BATCH):
        await site.click(_clicks(stage.warm[begin : begin + WARM_BATCH], f"warm-{begin}"))
    pushes = list(_pushes(stage, plan)) if attack else []
    course, targets = Course(), {stage.item_ids[row] for row in stage.targets.tolist()}
    looked = 0
    for begin in range(0, len(stage.honest), BATCH):
        events = stage.honest[begin : begin + BATCH]
        end, now_ms = begin + len(events), int(events.timestamps_ms[-1])
        moment = Moment(end, now_ms, plan.phase(begin))
        await _watch_likes(site, events, moment, begin, plan)
        await site.click(_clicks(events, f"honest-{begin}"))
        done, course.fake_events = course.fake_events, _due(len(pushes), end, plan)
        due = list(enumerate(pushes[done : course.fake_events], done))
        if plan.learn:
            names = {f"fake-{fake}" for _, (fake, _) in due}
            await site.ask([Request(f"{name}-{begin}", name, now_ms, k=plan.k) for name in sorted(names)])
        await site.click([_fake_click(stage, push, n, now_ms) for n, push in due])
        if end - looked >= plan.every:
            looked = end
            await _look(site, stage, targets, moment, plan.k)
        course.moments.append(moment)
    course.bounded = await site.bounded()
    for user_id, suspicion in (await site.suspicion()).items():
        who = FAKE if user_id.startswith("fake-") else HONEST
        course.suspicion.setdefault(who, []).append(suspicion)
    return course


def _due(n: int, event: int, plan: AttackPlan) -> int:
    """Number of the n fake events that are due after so many honest ones."""
    return int(n * min(1.0, max(0, event - plan.before) / plan.during))


def _pushes(stage: Stage, plan: AttackPlan) -> Iterator[tuple[int, int]]:
    """Yield fake and item row of each fake event: the fakes act in turn."""
    users = len(np.unique(stage.dataset.interactions.user_ids))
    rows = fakes(
        plan.kind, stage.known, stage.targets, n=round(plan.share * users), events=plan.events,
        rng=np.random.default_rng(plan.seed + 1),
    )  # fmt: skip
    for event in range(plan.events):
        yield from ((fake, int(row[event])) for fake, row in enumerate(rows))


def _fake_click(stage: Stage, push: tuple[int, int], n: int, now_ms: int) -> Click:
    fake, row = push
    return Click(
        event_id=f"fake-{n}", user_id=f"fake-{fake}", item_id=stage.item_ids[row], action="like",
        timestamp_ms=now_ms,
    )  # fmt: skip


def _clicks(events: Interactions, name: str) -> list[Click]:
    return [
        Click(
            event_id=f"{name}-{n}",
            user_id=str(events.user_ids[n]),
            item_id=str(events.item_ids[n]),
            action="like" if events.ratings[n] >= LIKED else "view",
            timestamp_ms=int(events.timestamps_ms[n]),
        )
        for n in range(len(events))
    ]


async def _watch_likes(
    site: Site, events: Interactions, moment: Moment, begin: int, plan: AttackPlan
) -> None:
    liked = np.flatnonzero(events.ratings >= LIKED).tolist()
    slates = await site.ask([
        Request(
            f"like-{begin + n}", str(events.user_ids[n]), int(events.timestamps_ms[n]), k=plan.k,
            preview=not plan.learn,
        )
        for n in liked
    ])  # fmt: skip
    moment.likes += len(liked)
    moment.hits += sum(str(events.item_ids[n]) in slate for n, slate in zip(liked, slates, strict=True))


async def _look(site: Site, stage: Stage, targets: set[str], moment: Moment, k: int) -> None:
    asked = [
        Request(f"panel-{moment.event}-{user}", user, moment.time_ms, k=k, preview=True)
        for user in stage.panel
    ]
    slates = await site.ask(asked)
    found: Sequence[int] = [len(targets.intersection(slate)) for slate in slates]
    moment.slates, moment.targeted = len(slates), sum(n > 0 for n in found)
    moment.shown, moment.positions = sum(found), sum(map(len, slates))
