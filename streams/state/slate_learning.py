"""Learns bandit statistics and position bias from a partition's slates and the clicks on them."""

import logging
from collections import deque
from collections.abc import Sequence
from itertools import compress
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from online_learning.attribution.cascade import amended
from online_learning.attribution.pending_slates import ClosedSlate, OpenSlate, PendingSlates
from online_learning.statistics.position_bias import POSITIONS, PositionStatistics, by_position
from online_learning.statistics.sums import Statistics
from streams.decoding.click_kernels import USER
from streams.decoding.clicks import ClickColumns
from streams.events import MAX_SLATE, Recommendation, encode
from streams.metrics import Metrics
from streams.state.feature_spaces import SpaceRow
from streams.state.fold_kernels import DUPLICATE
from streams.state.item_index import ItemIndex, key_of, keys_of
from streams.state.learned_rows import LearnedRows
from streams.state.log_bases import LogBases
from streams.state.policy_row import POLICY_ROW_VERSION, PolicyRow
from streams.state.profiles import Profiles
from streams.state.release_statistics import ReleaseStatistics
from streams.state.taught import Taught
from streams.state.trial_counts import TrialCounts

log = logging.getLogger(__name__)

# What a request's context takes in memory, times its bytes as JSON.
CONTEXT_FACTOR = 4

Shown = tuple[Recommendation, NDArray[np.float32], int]
"""A published slate: the record, its features (slate, dim) float32, and its offset."""


class SlateLearning:
    """Opens, counts, rewards and closes slates, each in the statistics of the release that made it.

    It belongs to the event loop. Nothing is learned of a slate that a user in quarantine got.

    Parameters
    ----------
    slates : those that may still be rewarded
    logs : bases of offsets. `rewarded_offset`, `recommended_offset` and those of columns and slates have
        them added
    positions : closed slates by position, where position bias is learned
    examination : (MAX_SLATE,) float64, how often each position is looked at
    learn_from : whether an item was responded to, or the sum of its rewards
    cascade : positions below a slate's last response were not looked at
    trials : is told what is taken

    Attributes
    ----------
    rewarded_offset, recommended_offset : the last click and slate in the sums, -1 before the first
    published : offset and request of slates, in order, from the first that may still be open
    next_examination : takes effect with the next `row`
    """

    def __init__(
        self,
        profiles: Profiles,
        slates: PendingSlates,
        statistics: ReleaseStatistics,
        *,
        logs: LogBases,
        positions: PositionStatistics | None = None,
        examination: NDArray[np.float64] | None = None,
        learn_from: Literal["response", "reward"] = "response",
        cascade: bool = False,
        trials: TrialCounts | None = None,
    ) -> None:
        self._profiles = profiles
        self._slates = slates
        self._statistics = statistics
        self._logs = logs
        self._learn_from = learn_from
        self._cascade = cascade
        self._trials = TrialCounts() if trials is None else trials
        self.positions = positions
        self.examination = np.ones(MAX_SLATE) if examination is None else examination
        self.next_examination: NDArray[np.float64] | None = None
        self.rewarded_offset = -1
        self.recommended_offset = -1
        self.published: deque[tuple[int, str]] = deque()
        self._uncounted: list[Shown] = []
        self._unpublished: set[str] = set()  # requests of open slates that are on their way out
        self._ahead: set[str] = set()  # those of them that have been rewarded
        self._taken_out = 0  # how often

    @property
    def is_ahead(self) -> bool:
        """Whether something is learned from a slate that may never be out: a row must not have it yet."""
        return bool(self._ahead)

    def learns_of(self, record: Recommendation) -> bool:
        """Whether anything is learned of a slate: not of one from quarantine, or from before an erasure."""
        return not self._is_held(record) and not self._is_erased(record)

    def _is_held(self, record: Recommendation) -> bool:
        return self._profiles.quarantine.holds(record.user_id, record.clicks_offset)

    def _is_erased(self, record: Recommendation) -> bool:
        erased = self._profiles.erasures.through(record.user_id)
        return erased is not None and record.clicks_offset <= erased

    # Impressions

    def open(
        self, record: Recommendation, features: NDArray[np.float32], *, served_here: bool = False
    ) -> None:
        """Let a slate be rewarded from now on, before it is out; `count`, or `withdraw`, must follow.

        One of an erased user, made before that, is left out.
        """
        if record.slate and not self._is_erased(record):
            added = self._slates.add(
                record.request_id,
                record.user_id,
                tuple(item.item_id for item in record.slate),
                features,
                record.timestamp_ms,
                record=record,
                after_offset=record.clicks_offset,
                extra_bytes=CONTEXT_FACTOR * len(encode(record.context)) if record.context else 0,
                served_here=served_here,
            )
            if added:
                self._unpublished.add(record.request_id)

    def withdraw(self, request_id: str) -> None:
        """Take back a slate that was opened and could not be published."""
        self._slates.withdraw(request_id)
        self._settle(request_id)

    def _settle(self, request_id: str) -> None:
        self._unpublished.discard(request_id)
        self._ahead.discard(request_id)

    def note_published(self, slates: Sequence[Shown]) -> None:
        """Leave published slates to the next `count_published`: many are counted for little more than one.

        Offsets are as the broker counts.

        Raises
        ------
        ValueError
            If one of the release that serves has another number of features.
        """
        dim = self._statistics.serving.dim
        for record, features, _ in slates:
            ours = record.model_version == self._statistics.version
            if ours and features.shape[1] != dim:
                raise ValueError(f"features must have {dim} columns, got {features.shape[1]}")
        base = self._logs.of("recommendations")
        self._uncounted += [(record, features, base + offset) for record, features, offset in slates]

    def count_published(self) -> None:
        """Count the slates that were published since the last call."""
        if self._uncounted:
            slates, self._uncounted = self._uncounted, []
            self.count(slates)

    def count(self, slates: Sequence[Shown]) -> None:
        """Count the impressions of published slates, in the order of their offsets.

        A slate that is in the sums already is not counted again.
        """
        self.published.extend((offset, record.request_id) for record, _, offset in slates)
        for record, _, _ in slates:
            self._settle(record.request_id)
        fresh = [slate for slate in slates if slate[2] > self.recommended_offset]
        if fresh:
            self.recommended_offset = fresh[-1][2]
        by_release: dict[str, list[Shown]] = {}
        for slate in fresh:
            if len(slate[1]) and self.learns_of(slate[0]):
                by_release.setdefault(slate[0].model_version, []).append(slate)
        for version, shown in by_release.items():
            if (statistics := self._statistics.begun(version, shown[0][1].shape[1])) is not None:
                self._count_shown(statistics, shown)

    def _count_shown(self, statistics: Statistics, shown: Sequence[Shown]) -> None:
        sizes = [len(features) for _, features, _ in shown]
        statistics.add_impressions(
            np.concatenate([statistics.rows(features) for _, features, _ in shown]),
            arms=keys_of(item.item_id for record, _, _ in shown for item in record.slate),
            times_ms=np.repeat([record.timestamp_ms for record, _, _ in shown], sizes),
            weights=np.concatenate([self.examination[:size] for size in sizes]),
            offsets=np.repeat([offset for _, _, offset in shown], sizes),
        )

    # Rewards

    def reward(
        self,
        columns: ClickColumns,
        outcomes: NDArray[np.uint8],
        positive: frozenset[str],
        metrics: Metrics,
    ) -> None:
        """Join folded clicks with the slates of their users; those already in the sums are left out.

        Parameters
        ----------
        outcomes : (n,) uint8, what became of each in its user's profile
        """
        if self._slates.users:
            self._reward(columns, outcomes, positive, metrics)
        if len(columns):
            self.rewarded_offset = max(self.rewarded_offset, int(columns.offsets[-1]))

    def _reward(
        self, columns: ClickColumns, outcomes: NDArray[np.uint8], positive: frozenset[str], metrics: Metrics
    ) -> None:
        waiting = self._slates.hashes
        # By release: rewards, and what amends impressions.
        learned: dict[str, tuple[LearnedRows, LearnedRows]] = {}
        for row, hashed in enumerate(columns.keys[USER].tolist()):
            if hashed not in waiting or outcomes[row] == DUPLICATE:
                continue
            offset = int(columns.offsets[row])
            if offset <= self.rewarded_offset:
                continue
            click = columns.click(row)
            if not self._slates.has_open(click.user_id):
                continue
            found = self._slates.attribute(
                click.user_id, click.item_id, click.action, click.timestamp_ms, click.request_id,
                click.dwell_ms, offset=offset,
            )  # fmt: skip
            metrics.count_rewards(found.outcome)
            if (slate := found.slate) is None or not self.learns_of(slate.record):
                continue
            if self._profiles.quarantine.holds(click.user_id, offset):
                continue
            if slate.request_id in self._unpublished:
                self._ahead.add(slate.request_id)
            taken = [p for p, actions in enumerate(slate.actions) if not positive.isdisjoint(actions)]
            responses = [action for action in slate.actions[found.position] if action in positive]
            first = click.action in positive and len(responses) == 1
            if first and slate.record.experiment is not None:
                by = slate.record.variant or slate.record.slate[found.position].team
                metrics.count_response(slate.record.experiment, by or "none")
            if first and self._counts_as_trial(slate, found.position, positive):
                self._trials.take(slate.item_ids, found.position)
            if (statistics := self._statistics.of(version := slate.record.model_version)) is None:
                self.count_published()  # perhaps the first of a canary
                if (statistics := self._statistics.of(version)) is None:
                    continue
            rows = statistics.rows
            rewards, amendments = learned.setdefault(version, (LearnedRows(rows), LearnedRows(rows)))
            if self._learn_from == "reward":
                rewards.add(slate, found.position, found.reward, offset)
            elif first:  # whether an item was taken, not how often
                rewards.add(slate, found.position, found.quality, offset)
            if self._cascade and first:
                taken.remove(found.position)
                positions, weight = amended(taken, found.position, len(slate.item_ids))
                for position in positions:
                    amendments.add(slate, position, weight, offset)
        if learned:
            self.count_published()  # nothing is rewarded before it counts as shown
        for version, (rewards, amendments) in learned.items():
            if (statistics := self._statistics.of(version)) is not None:
                rewards.give_to(statistics.add_rewards)
                amendments.give_to(statistics.amend_impressions)

    def _counts_as_trial(self, slate: OpenSlate, position: int, positive: frozenset[str]) -> bool:
        """Tell whether trials count a response: a user's first to an item, in a slate of this worker.

        Who has an item in many slates may take it out of each, to make it look liked.
        """
        item = slate.item_ids[position]
        return slate.served_here and not any(
            other is not slate
            and (at := other.position_of(item)) is not None
            and any(other.has(at, action) for action in positive)
            for other in self._slates.users.get(slate.user_id, ())
        )

    def close(self, watermark_ms: int, positive: frozenset[str]) -> list[ClosedSlate]:
        """Close the slates whose window has ended, and learn how often their positions are looked at."""
        closed = self._slates.close(watermark_ms)
        if self.positions is not None:
            for slate, _, correction in closed:
                known = self._statistics.of(slate.record.model_version) is not None
                if not correction and known and self.learns_of(slate.record):
                    scores = np.array([item.score for item in slate.record.slate])
                    taken = np.array([not positive.isdisjoint(actions) for actions in slate.actions])
                    self.positions.add(scores, taken)
        return closed

    def stale_arms(self, index: ItemIndex) -> list[int]:
        """Arms of items that are not known any more and in no open slate; any thread may ask."""
        arms = np.unique(np.concatenate([one.parts for one in self._statistics.every]))
        arms = arms[index.find_keys(arms) < 0]
        if not len(arms):
            return []
        waiting = {key_of(item) for slate in self._slates.slates() for item in slate.item_ids}
        return [arm for arm in arms.tolist() if arm not in waiting]

    # What erased users taught

    @property
    def owes(self) -> bool:
        """Whether something has been learned that can be taken out again, slate by slate.

        Learned position bias has weighed each slate by what was believed at its time, which nobody keeps.
        """
        return self.positions is None and any(
            one.impressions and one.separable for one in self._statistics.every
        )

    def taught(self) -> Taught:
        """Return what sums up slates that something has been learned of; there are none yet."""
        return Taught(
            self._statistics, examination=self.examination, shaping=self._slates.shaping,
            positive=frozenset(compress(self._profiles.actions, self._profiles.positive)),
            of_rewards=self._learn_from == "reward", cascade=self._cascade,
        )  # fmt: skip

    def forget(self, user_id: str) -> int:
        """Take out an erased user's slates that can still be rewarded, with what they taught; count them.

        What was published before the erasure must have been counted before.
        """
        taught = self.taught()
        for slate in self._slates.users.get(user_id, ()) if self.owes else ():
            if not self._is_held(slate.record):
                taught.add(
                    slate.record.model_version, slate.features, slate.item_ids,
                    timestamp_ms=slate.timestamp_ms, actions=slate.actions,
                    rewards=[sum(amounts) for amounts in slate.amounts],
                    shown=slate.request_id not in self._unpublished,
                )  # fmt: skip
        for version, part in taught.parts.items():
            self.take_out(version, part)
        return self._slates.forget(user_id)

    def take_out(self, version: str, part: Statistics) -> None:
        """Subtract what slates taught from a release's sums, where these are known and have it."""
        statistics = self._statistics.of(version)
        if statistics is None or statistics.feature_space != part.feature_space:
            return
        self._taken_out += 1
        if not statistics.take_out(part):
            log.warning(
                "what erased users have taught %r stays: it was learned with other settings",
                part.feature_space,
            )

    # The changelog's row

    @property
    def marks(self) -> tuple[int, ...]:
        """Numbers of which one differs once something has been learned."""
        sums = [(one.impressions, one.rewards) for one in self._statistics.every]
        shown, rewarded = (sum(counts) for counts in zip(*sums, strict=True))
        return shown, rewarded, self.rewarded_offset, self._taken_out

    def row(self, *, closed_ms: int) -> PolicyRow:
        """Return the bandit's row as of now; slates have been closed up to a watermark."""
        # Only here: what a restart reads again after this row is developed and weighed as the first time.
        self._statistics.develop()
        if self.next_examination is not None:
            self.examination = self.next_examination
        while self.published and self.published[0][1] not in self._slates:
            self.published.popleft()
        open_from = self.published[0][0] if self.published else self.recommended_offset + 1
        serving, others = self._statistics.serving, self._statistics.others.values()
        return PolicyRow(
            v=POLICY_ROW_VERSION,
            feature_space=serving.feature_space,
            clicks_offset=self.rewarded_offset,
            recommendations_offset=self.recommended_offset,
            open_from=open_from,
            closed_ms=closed_ms,
            statistics=serving.summary(),
            positions=b"" if self.positions is None else self.positions.to_bytes(),
            examination=() if self.positions is None else tuple(self.examination[:POSITIONS].tolist()),
            dim=serving.dim,
            others=tuple(SpaceRow(one.feature_space, one.dim, one.summary()) for one in others),
        )

    def load_positions(self, row: PolicyRow) -> None:
        """Go on with what a row says of positions; one from before they were learned says nothing."""
        if self.positions is not None and row.examination:
            self.positions = PositionStatistics.from_bytes(row.positions)
            self.examination = by_position(np.array(row.examination), MAX_SLATE)
