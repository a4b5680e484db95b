"""Explanations of scores, made by the worker that owns the user, between the batches that it serves."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import xxhash

from model_core.data.batches import ItemBatch
from model_core.explanation.contributions import MODALITIES, SIGNALS, Attribution, explain_steps, split_signal
from model_core.signals.trends import in_last_hour
from streams.api.answers import Contribution, Explanation, Path
from streams.clock import Clock
from streams.events import Request
from streams.items.table import AnyScorer, ItemTable
from streams.serving.eligibility import Eligibility
from streams.serving.friends import friends_by_row
from streams.serving.own_clicks import OwnClicks
from streams.serving.request_batch import Job, Prepared, RequestBatches
from streams.settings import Settings
from streams.state.prerequisites import Why
from streams.state.shard import Shard
from streams.state.shared import SharedState
from streams.why import graph_paths as graph
from streams.why.phrases import entity_name, taken_lately, verb
from streams.why.signal_sources import Parts, SignalSources
from streams.why.slate_reasons import POPULAR, SlateReasons

MAX_WAITING = 8
MIN_TAKERS = 5  # in an hour: what is told of an item that so many took
NAMED, MAX_NEEDS = 3, 100  # requirements that a sentence names, and that are listed
NEVER: dict[Why, str] = {
    "unknown": "one of these is not in the catalogue",
    "circle": "it requires itself, through what it requires",
    "behind": "something that it requires is offered to nobody",
}
MAX_DIFFERENCE = 0.01  # of base and contributions from the score; rounding alone stays far below


class ExplanationError(Exception):
    """There is no explanation; `status` is that of the HTTP answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class _Subject:
    """A user and an item as they stood at one moment, and what the score's parts are called."""

    request: Request
    row: int
    prepared: Prepared
    parts: ItemBatch
    covisits: Parts
    ease: Parts
    verbs: dict[int, str]
    path: graph.Path | None
    reasons: list[str]
    eligible: bool
    needs: list[str]
    never: Why | None
    clicks_offset: int


class Explainer:
    """Explains one score at a time, in steps of a few milliseconds on the inference thread.

    Each step queues behind the batches being served, so a request waits for one step at most.

    Parameters
    ----------
    shard : returns the shard of an owned partition
    inference : the thread that scores
    """

    def __init__(
        self,
        settings: Settings,
        shard: Callable[[int], Awaitable[Shard]],
        *,
        shared: SharedState,
        scorer: AnyScorer,
        items: ItemTable,
        eligibility: Eligibility,
        batches: RequestBatches,
        sources: SignalSources,
        slate_reasons: SlateReasons,
        own_clicks: OwnClicks,
        inference: ThreadPoolExecutor,
        clock: Clock,
    ) -> None:
        self._clock = clock
        self._settings = settings
        self._shard = shard
        self._shared = shared
        self._scorer = scorer
        self._items = items
        self._eligibility = eligibility
        self._batches = batches
        self._sources = sources
        self._slate_reasons = slate_reasons
        self._own_clicks = own_clicks
        self._inference = inference
        self._actions = tuple(settings.actions)
        self._action_weights = np.array(list(settings.actions.values()), np.float32)
        rows = scorer.release.entity_rows
        self._entity_names = {row: name for name, row in rows.items()}
        self._turn = asyncio.Lock()
        self._waiting = 0

    @property
    def busy(self) -> bool:
        """Whether an explanation is being made."""
        return self._waiting > 0

    async def explain(self, user_id: str, item_id: str, partition: int) -> Explanation:
        """Explain the score that the item has for the user now, seen and blocked items included.

        Raises
        ------
        ExplanationError
            If the user or the item is not known, the item has no vector yet or changes meanwhile, or too
            many wait already.
        """
        if self._waiting >= MAX_WAITING:
            raise ExplanationError(503, f"{self._waiting} explanations are being made already; try again")
        self._waiting += 1
        try:
            async with self._turn:
                shard = await self._shard(partition)
                await self._own_clicks.wait(shard, user_id)
                subject = await self._subject(user_id, item_id, shard)
                return self._compose(subject, item_id, await self._attribute(subject))
        finally:
            self._waiting -= 1

    # Event loop: state in

    async def _subject(self, user_id: str, item_id: str, shard: Shard) -> _Subject:
        shared = self._shared
        row = shared.index.row_of(item_id)
        with shard.users_lock:
            user = shard.profiles.row_of(user_id)
            rows, codes, _ = shard.profiles.history(user, self._settings.history_limit)
        if user < 0:
            raise ExplanationError(404, f"user {user_id!r} is not known: no click, and nothing stated")
        if not shared.catalogue.exists(row):
            raise ExplanationError(404, f"item {item_id!r} is not in the catalogue, or was deleted")
        if not self._eligibility.is_encoded(row):
            raise ExplanationError(503, f"item {item_id!r} is being encoded; try again")
        now_ms = int(self._clock.time() * 1000)
        request = Request(request_id=f"explain {item_id}"[:512], user_id=user_id, timestamp_ms=now_ms, k=1)
        gathered = self._batches.gather([Job(request, shard, time.perf_counter())])
        parts = self._items.describe(np.array([row], np.int64))
        verbs = {
            item: verb(self._actions[code]) for item, code in zip(rows.tolist(), codes.tolist(), strict=True)
        }
        clicks_offset = shard.seen_offset
        prepared = await asyncio.get_running_loop().run_in_executor(
            self._inference, partial(self._batches.prepare, gathered, drawing=False)
        )
        path, reasons, covisits, ease = await asyncio.to_thread(self._sources_of, prepared, row)
        needs, never = await asyncio.to_thread(self._needs, prepared, row)
        return _Subject(
            request=request,
            row=row,
            prepared=prepared,
            parts=parts,
            covisits=covisits,
            ease=ease,
            verbs=verbs,
            path=path,
            reasons=reasons,
            eligible=bool(prepared.allowed.permits(0, np.array([row]), seen=False)[0]),
            needs=needs,
            never=never,
            clicks_offset=clicks_offset,
        )

    def _sources_of(self, prepared: Prepared, row: int) -> tuple[graph.Path | None, list[str], Parts, Parts]:
        """Return where the score comes from: path, reasons, and items that the signals are sums over."""
        drawn, items = prepared.drawn, np.array([row], np.int64)
        ((path,),) = graph.best_paths(
            self._shared.catalogue, drawn.positives, items[None], actions=self._actions,
            action_weights=self._action_weights,
        )  # fmt: skip
        ((why,),) = self._slate_reasons.of(
            prepared.people.stated, drawn, items[None], parts=prepared.parts, liked=prepared.liked,
            popularity=prepared.popularity, friends=friends_by_row(prepared.friends),
        )  # fmt: skip
        reasons, sources = why.reasons, self._sources
        lately = in_last_hour(self._shared.parts, row, int(prepared.times_ms[0]))
        if lately >= MIN_TAKERS:
            reasons = [*(one for one in reasons if one != POPULAR), taken_lately(lately)]
        return path, reasons, sources.covisits(drawn, 0, items), sources.ease(drawn, 0, items)

    def _needs(self, prepared: Prepared, row: int) -> tuple[list[str], Why | None]:
        """Return what the user must do before the item is offered, and why that can never be."""
        prerequisites, past = self._shared.prerequisites, prepared.people.pasts
        needs = prerequisites.lacking(row, past)
        return needs, prerequisites.never(row, past) if needs else None

    # Inference thread, one step at a time

    async def _attribute(self, subject: _Subject) -> Attribution:
        request = subject.request
        seed = xxhash.xxh3_64_intdigest(
            f"{request.user_id}\0{self._shared.index.ids[subject.row]}".encode(), seed=self._settings.seed
        )
        steps: Iterator[Attribution | None] = explain_steps(
            self._scorer.beside(),  # the copy of the catalogue that slates are found by stays as it is
            subject.prepared.batch,
            subject.prepared.items,
            subject.row,
            subject.parts,
            rng=np.random.default_rng(seed),
        )
        loop = asyncio.get_running_loop()
        while (found := await loop.run_in_executor(self._inference, next, steps)) is None:
            pass
        if not abs(found.difference) <= MAX_DIFFERENCE:
            raise ExplanationError(503, "the item was described anew a moment ago; try again")
        return found

    # Event loop: the answer

    def _compose(self, subject: _Subject, item_id: str, found: Attribution) -> Explanation:
        shared = self._shared
        contributions = sorted(
            self._contributions(subject, found), key=lambda one: (-abs(one.value), one.kind, one.name)
        )
        title, path = shared.catalogue.title(subject.row), subject.path
        return Explanation(
            user_id=subject.request.user_id,
            item_id=item_id,
            title=title,
            model_version=self._scorer.release.version,
            unit=found.unit,
            score=found.score,
            value=found.value,
            base=found.base,
            contributions=contributions,
            groups=_groups(contributions),
            completeness_error=found.value - found.base - sum(one.value for one in contributions),
            orders=found.orders,
            runs=found.runs,
            eligible=subject.eligible,
            summary=_summary(title or item_id, found, contributions, subject.reasons),
            timestamp_ms=subject.request.timestamp_ms,
            clicks_offset=subject.clicks_offset,
            path=None if path is None else Path(
                item_id=shared.index.ids[path.item_row],
                title=shared.catalogue.title(path.item_row),
                action=path.action,
                relation=path.relation,
                entity=path.entity,
            ),
            reasons=subject.reasons,
            fallback=subject.prepared.allowed.fallbacks[0],
            needs=subject.needs[:MAX_NEEDS],
            not_yet=self._not_yet(subject),
        )  # fmt: skip

    def _contributions(self, subject: _Subject, found: Attribution) -> Iterator[Contribution]:
        release = self._scorer.release
        for player, value, error in zip(
            found.players, found.contributions.tolist(), found.errors.tolist(), strict=True
        ):
            if player.kind == "history":
                yield self._of_item("history", subject, int(player.key), value, error)
            elif player.kind == "entity":
                name = self._entity_names.get(int(player.key), "")
                yield Contribution("entity", name, entity_name(name) or name, value, error)
        if found.unit == "logit":
            wanted = {"image": release.image_dim, "audio": release.audio_dim}
            for name in MODALITIES:
                if wanted.get(name, True):
                    yield Contribution("modality", name, f"its {name}", *found.of("modality", name))
        for name in SIGNALS[: release.n_signals]:
            value, error = found.of("signal", name)
            if name == "popularity":
                yield Contribution(name, name, "how popular it is", value, error)
                continue
            rows, parts = subject.covisits if name == "covisits" else subject.ease
            column = parts[:, 0]
            shares = split_signal(1.0, column)
            if value and not shares.any():
                yield Contribution(name, "", "what the user met", value, error)
            for row, share in zip(rows.tolist(), shares.tolist(), strict=True):
                if share:
                    yield self._of_item(name, subject, row, value * share, error * abs(share))

    def _not_yet(self, subject: _Subject) -> str | None:
        """Say what the item requires that the user has not done, or how it is paced."""
        if not subject.needs:
            return self._paced(subject.row)
        named = [self._shared.title(item) or item for item in subject.needs[:NAMED]]
        more = len(subject.needs) - len(named)
        told = f"not yet: needs {', '.join(named)}" + (f" and {more} more" if more else "")
        return told if subject.never is None else f"{told}; never offered: {NEVER[subject.never]}"

    def _paced(self, row: int) -> str | None:
        """Say why an item with a budget is not in every slate."""
        budgets = self._shared.budgets
        if budgets is None or (rate := budgets.rate(row)) >= 1 or (spent := budgets.spent_share(row)) is None:
            return None
        if math.isnan(spent):
            return "not offered: its budget or price is not one number"
        if spent >= 1:
            return "not today: its budget is spent"
        return f"in {rate:.0%} of slates, as its budget is paced: {spent:.0%} is spent"

    def _of_item(self, kind: str, subject: _Subject, row: int, value: float, error: float) -> Contribution:
        item_id = self._shared.index.ids[row]
        title = self._shared.catalogue.title(row) or item_id or "an item without a name"
        return Contribution(kind, item_id, f"{subject.verbs.get(row, 'met')} {title}", value, error)


def _groups(contributions: list[Contribution]) -> dict[str, float]:
    """Sums by kind; of modalities by their names."""
    groups: dict[str, float] = {}
    for one in contributions:
        key = one.name if one.kind == "modality" else one.kind
        groups[key] = groups.get(key, 0.0) + one.value
    return groups


def _summary(title: str, found: Attribution, contributions: list[Contribution], reasons: list[str]) -> str:
    """Say what speaks most for the item and against it, and the reasons that a slate would give."""
    together: dict[str, float] = {}
    for one in contributions:
        together[one.label] = together.get(one.label, 0.0) + one.value
    ordered = sorted(together.items(), key=lambda pair: -abs(pair[1]))
    pro = [f"{label} ({value:+.2f})" for label, value in ordered if value > 0][:3]
    con = [f"{label} ({value:+.2f})" for label, value in ordered if value < 0][:2]
    told = [f"for it: {', '.join(pro)}"] if pro else []
    told += [f"against it: {', '.join(con)}"] if con else []
    head = f"{title} scores {found.score:.3f} ({found.unit} {found.value:.2f}, base {found.base:.2f})"
    return "; ".join([head, *told, *reasons]) + "."
