"""`users`: what users state about themselves, and their right to be forgotten."""

from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np

from streams.decoding.dead_letters import DeadLetters
from streams.decoding.records import NULL_KEY, TOO_LARGE, Rejected, decode, key_mismatches
from streams.errors import OwnershipLost
from streams.events import UserUpdate, decode_user, encode
from streams.kafka.placement import Placement
from streams.kafka.record_batch import RecordBatch
from streams.kafka.topics import TOPICS
from streams.metrics import Metrics
from streams.state.item_index import ItemIndex
from streams.state.likes import user_keys
from streams.state.shard import Shard
from streams.worker.agents.deletions import Deletions

# The rest is left to what Kafka puts around a row.
MAX_ROW_BYTES = TOPICS["user-state"].max_message_bytes - 4096

WAIT_S = 1.0


class UserAgent:
    """Applies updates and erasures in offset order.

    Parameters
    ----------
    shard : returns the shard of an owned partition
    flush : puts what a shard holds on the changelogs
    """

    def __init__(
        self,
        shard: Callable[[int], Awaitable[Shard]],
        *,
        index: ItemIndex,
        flush: Callable[[Shard], Awaitable[object]],
        placement: Placement,
        deletions: Deletions,
        dead_letters: DeadLetters,
        metrics: Metrics,
    ) -> None:
        self._shard = shard
        self._index = index
        self._flush = flush
        self._placement = placement
        self._deletions = deletions
        self._dead_letters = dead_letters
        self._metrics = metrics

    async def __call__(self, batch: RecordBatch) -> None:
        """Apply a batch; an erasure in it is on the changelog before this returns.

        It waits for the clicks that a worker before has folded and not flushed into all rows.
        """
        shard = await self._shard(batch.tp.partition)
        shard.epochs["users"] = batch.epoch
        self._metrics.observe_batch("users", len(batch))
        decoded = decode([record for record in batch.records if record.value is not None], decode_user)
        values = {record.offset: value for value, record in zip(decoded.values, decoded.records, strict=True)}
        rejected = list(decoded.rejected)
        self._check_keys(shard.partition, batch, values)
        if any(record.value is None for record in batch.records):
            await _caught_up(shard)
        base = shard.logs.of("users")
        applied = unheard_of = 0
        erasures: list[Any] = []
        unknown: list[Any] = []
        for record in batch.records:
            if record.value is None and not record.key:
                rejected.append(Rejected(record, NULL_KEY, "an erasure names its user by the record's key"))
            elif record.value is None:
                (erasures if await _erase(shard, record, base) else unknown).append(record)
            elif (update := values.get(record.offset)) is None:
                continue
            elif (size := _row_bytes(update)) > MAX_ROW_BYTES:
                error = f"what a user states must fit into {MAX_ROW_BYTES} bytes, got {size}"
                rejected.append(Rejected(record, TOO_LARGE, error))
            else:
                applied += 1
                blocked = self._index.admit(update.blocked_items)
                unheard_of += int(np.count_nonzero(blocked < 0))
                with shard.users_lock:
                    shard.profiles.set_stated(
                        update.user_id,
                        attributes=update.attributes,
                        preferences=update.preferences,
                        blocked=blocked[blocked >= 0],
                        offset=base + record.offset,
                        timestamp_ms=record.timestamp,
                        friends=user_keys(set(update.friends) - {update.user_id}),
                    )
        self._metrics.count_events("users", "accepted", applied)
        self._metrics.blocked_items_refused.inc(unheard_of)
        await self._dead_letters.publish("users", rejected)
        shard.users.advance(batch.last_offset + 1)
        if erasures or unknown:
            self._deletions.count("users", len(erasures), unknown)
            await self._flush(shard)

    def _check_keys(self, partition: int, batch: RecordBatch, values: dict[int, UserUpdate]) -> None:
        """Count who is on a partition that is not theirs: updates by their user_id, erasures by their key."""
        updates = [record for record in batch.records if record.offset in values]
        user_ids = [values[record.offset].user_id for record in updates]
        if mismatches := key_mismatches(updates, user_ids):
            self._metrics.count_key_mismatches("users", mismatches)
        named = (record.key for record in batch.records if record.value is None and record.key)
        user_ids += [key.decode(errors="replace") for key in named]
        self._placement.check("users", partition, user_ids)


async def _caught_up(shard: Shard) -> None:
    """Wait until all clicks have been folded that an earlier owner may have folded.

    A user's events say with what a click that is read again is to be counted. So none may be forgotten before
    all that the user's row has is in those of items, too; and the user must be there to be forgotten, with
    the slates made until then.

    Raises
    ------
    OwnershipLost
        If the partition is given away meanwhile.
    """
    while not await shard.clicks.reached(shard.folded_before, timeout_s=WAIT_S):
        if shard.dropped:
            raise OwnershipLost(f"partition {shard.partition} is not owned by this worker")


def _row_bytes(update: UserUpdate) -> int:
    """Size of the changelog row of what a user states: items and friends become keys of 8 bytes there."""
    said = encode((update.user_id, update.attributes, update.preferences))
    return len(said) + 8 * (len(update.blocked_items) + len(update.friends))


async def _erase(shard: Shard, record: Any, base: int) -> bool:
    """Erase a user; False if nothing is known of anybody of that name, nor was before an erasure.

    No flush goes on meanwhile: the user's rows, the mark and the rows of items go out together.
    """
    user_id = record.key.decode(errors="replace")
    async with shard.lock:
        with shard.users_lock:
            known = shard.profiles.row_of(user_id) >= 0
            known |= shard.profiles.erasures.through(user_id) is not None
            known |= shard.profiles.quarantine.of(user_id) is not None
        return shard.erase(user_id, base + record.offset, erased_ms=record.timestamp) > 0 or known
