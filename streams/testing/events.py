"""Writes events to a log in memory, each on the partition of its user or item, and reads what comes back."""

from collections.abc import Callable
from itertools import count
from typing import Any, TypeVar

import msgspec

from streams.clock import Clock
from streams.events import (
    Click,
    Content,
    DeadLetter,
    Feedback,
    Recommendation,
    Request,
    UserUpdate,
    decode_click,
    decode_dead_letter,
    decode_feedback,
    decode_recommendation,
    decode_user,
    encode,
)
from streams.kafka.partitioner import partition_of
from streams.kafka.topics import topic_name
from streams.settings import Settings
from streams.testing.log import MemoryLog

T = TypeVar("T")


class MemoryEvents:
    """Events from an application to a worker and back; those sent are dated by the clock."""

    def __init__(self, settings: Settings, log: MemoryLog, clock: Clock) -> None:
        self._settings = settings
        self._log = log
        self._clock = clock
        self._numbers = count()

    # Said

    def click(self, user_id: str, item_id: str, action: str = "click", **fields: Any) -> int:
        """Write a click; return its offset."""
        value = Click(
            **{
                "event_id": f"e{next(self._numbers)}",
                "user_id": user_id,
                "item_id": item_id,
                "action": action,
                "timestamp_ms": self._now_ms(),
                **fields,
            }  # fmt: skip
        )
        return self.raw("clicks", user_id, encode(value))

    def content(self, item_id: str, title: str | None = None, **fields: Any) -> int:
        """Write an item; return its offset."""
        value = Content(item_id=item_id, title=item_id if title is None else title, **fields)
        return self.raw("content", item_id, encode(value))

    def user(self, user_id: str, **fields: Any) -> int:
        """Write what a user states; return its offset."""
        return self.raw("users", user_id, encode(UserUpdate(user_id=user_id, **fields)))

    def erase(self, user_id: str) -> int:
        """Write that a user is to be forgotten; return its offset."""
        return self.raw("users", user_id, None)

    def request(self, user_id: str, **fields: Any) -> str:
        """Write a request; return its id."""
        value = Request(
            **{
                "request_id": f"r{next(self._numbers)}",
                "user_id": user_id,
                "timestamp_ms": self._now_ms(),
                **fields,
            }  # fmt: skip
        )
        self.raw("requests", user_id, encode(value))
        return value.request_id

    def raw(self, name: str, key: str, value: bytes | None) -> int:
        """Write any bytes to a topic; return their offset."""
        partition = partition_of(key, self._settings.partitions)
        return self._log.append(self._full(name), partition, [(key.encode(), value)])

    # Heard

    def recommendations(self) -> list[Recommendation]:
        """Slates published so far."""
        return self._heard("recommendations", decode_recommendation)

    def feedback(self) -> list[Feedback]:
        """Slates closed and corrected so far."""
        return self._heard("feedback", decode_feedback)

    def dead_letters(self) -> list[DeadLetter]:
        """Records refused so far."""
        return self._heard("dead-letters", decode_dead_letter)

    def clicks(self) -> dict[int, list[tuple[int, Click]]]:
        """Offsets and values of the clicks that can be decoded, by partition."""
        found: dict[int, list[tuple[int, Click]]] = {p: [] for p in range(self._settings.partitions)}
        for record in self._log.records(self._full("clicks")):
            try:
                found[record.partition].append((record.offset, decode_click(record.value)))
            except (msgspec.MsgspecError, TypeError):
                continue
        return found

    def stated(self) -> list[tuple[Any, UserUpdate]]:
        """Records of what users state, and their values, by partition and offset."""
        records = self._log.records(self._full("users"))
        return [(record, decode_user(record.value)) for record in records if record.value is not None]

    def _heard(self, name: str, decode: Callable[[Any], T]) -> list[T]:
        return [decode(record.value) for record in self._log.records(self._full(name))]

    def _full(self, name: str) -> str:
        return topic_name(self._settings, name)

    def _now_ms(self) -> int:
        return int(self._clock.time() * 1000)
