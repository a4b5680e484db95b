"""Records of our own topics, by their decoders and kernels."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import msgspec
import numpy as np

from streams.decoding.byte_steps import texts
from streams.decoding.click_kernels import FIELDS, read_clicks
from streams.decoding.clicks import click_columns
from streams.decoding.records import Rejected, decode, why_undecodable
from streams.events import (
    UNDECODABLE,
    decode_click,
    decode_content,
    decode_dead_letter,
    decode_feedback,
    decode_recommendation,
    decode_request,
    decode_user,
    encode,
)
from streams.kafka.columns import Record, RecordColumns
from tests.fuzz.examples import (
    CLICKS,
    CODES,
    CONTENT,
    DAY,
    FEEDBACK,
    LETTERS,
    NOW,
    REQUESTS,
    SLATES,
    USERS,
    batch_of,
    said,
    words_of,
    written,
)


class Clicks:
    """Clicks, by the kernel and msgspec, against msgspec and plain Python."""

    batch = 500
    seeds = written(CLICKS)
    words = words_of(CLICKS)

    def check(self, inputs: list[bytes]) -> list[Hashable]:
        """See `Target`."""
        records = batch_of(inputs)
        columns = click_columns(records, CODES, DAY)
        refused = {bad.record.offset: bad for bad in columns.rejected}
        places = {offset: row for row, offset in enumerate(columns.offsets.tolist())}
        users, items = columns.users, columns.items
        assert len(refused) + len(places) == len(inputs)
        plain = self._plain(records)
        answers: list[Hashable] = []
        for n, value in enumerate(inputs):
            click, why = _click(value)
            if why is not None:
                bad = refused[n]
                assert bad.reason == why[0], (bad.reason, why)
                assert why[0] == "future" or bad.error == Rejected(None, *why).error, (bad.error, why)
                answers.append(said(bad))
                continue
            row = places[n]
            found = users[row], items[row], int(columns.times[row]), int(columns.actions[row])
            assert click is not None
            assert found == (click.user_id, click.item_id, click.timestamp_ms, CODES[click.action])
            assert columns.click(row) == click
            answers.append(
                (bool(plain[n]), *(type(getattr(click, name)) for name in click.__struct_fields__))
            )
        return answers

    @staticmethod
    def _plain(records: RecordColumns) -> Any:
        """Which records the kernel reads by itself."""
        n = len(records)
        names = texts(tuple(name.encode() for name in CODES))
        spans, numbers = np.zeros((3, n, 2), np.int64), np.zeros((n, 2), np.int64)
        read = np.empty(n, np.bool_)
        hashes = np.zeros((3, n), np.uint64)
        read_clicks(records.data, records.table, *FIELDS, *names, spans, numbers, hashes, read)
        return read


def _click(value: bytes) -> tuple[Any, tuple[str, str] | None]:
    """Read a click as Python does; or say why it is refused."""
    try:
        click = decode_click(value)
    except UNDECODABLE as error:
        return None, why_undecodable(error, value)
    if click.action not in CODES:
        known = ", ".join(CODES)
        return None, ("unknown_action", f"unknown action {click.action!r}; `actions` defines {known}")
    if click.timestamp_ms > NOW + DAY:
        return None, ("future", "")
    return click, None


class Values:
    """A topic whose values are decoded one by one: refused with a reason, or the same once written again."""

    batch = 500

    def __init__(self, values: Sequence[dict[str, Any]], decoder: Callable[[bytes], Any]) -> None:
        self.seeds = written(values)
        self.words = words_of(values)
        self._decode = decoder

    def check(self, inputs: list[bytes]) -> list[Hashable]:
        """See `Target`."""
        records = [Record("topic", 0, n, NOW, b"k", value) for n, value in enumerate(inputs)]
        decoded = decode(records, self._decode)
        answers: dict[int, Hashable] = {bad.record.offset: said(bad) for bad in decoded.rejected}
        for bad in decoded.rejected:
            decode_dead_letter(bad.dead_letter()[1])
        for value, record in zip(decoded.values, decoded.records, strict=True):
            assert self._decode(encode(value)) == value or b"NaN" in encode(value)
            answers[record.offset] = tuple((type(one), bool(one)) for one in msgspec.structs.astuple(value))
        assert len(answers) == len(inputs)
        return [answers[n] for n in range(len(inputs))]


TARGETS: dict[str, Callable[[], Any]] = {
    "clicks": Clicks,
    "content": lambda: Values(CONTENT, decode_content),
    "users": lambda: Values(USERS, decode_user),
    "requests": lambda: Values(REQUESTS, decode_request),
    "feedback": lambda: Values(FEEDBACK, decode_feedback),
    "recommendations": lambda: Values(SLATES, decode_recommendation),
    "dead-letters": lambda: Values(LETTERS, decode_dead_letter),
}
