"""Errors of files, which end an import, and of rows, which cost the row alone."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO

import msgspec

from streams.errors import SlatestreamError

EXAMPLES = 3
SHOWN = 200


class FileError(SlatestreamError):
    """A file cannot be imported; the message names it, what is wrong and what to do."""


class AmbiguousDates(FileError):
    """No date of a column tells the day from the month.

    Attributes
    ----------
    formats : that they may be in, as strptime has them
    """

    def __init__(self, formats: Sequence[str], message: str) -> None:
        super().__init__(message)
        self.formats = formats


class RowFault(Exception):
    """A row cannot be used.

    Attributes
    ----------
    reason : str
        One word that reports count by.
    left_out : bool
        Whether nothing is wrong with the row: it only says nothing that a topic has a place for.
    """

    def __init__(self, reason: str, message: str, *, left_out: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.left_out = left_out


@dataclass(slots=True)
class Refused:
    """Counts what could not be used of one file, and keeps the first of each reason.

    Attributes
    ----------
    counts : of rows at fault, by reason
    left_out : of rows with nothing to say, by reason
    """

    file: str
    sink: TextIO | None = None
    counts: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def add(self, fault: RowFault, line: int, row: Any) -> None:
        """Count a row, and write it down where that is wanted."""
        (self.left_out if fault.left_out else self.counts)[fault.reason] += 1
        shown = msgspec.json.encode(row, enc_hook=str).decode()
        told = {"line": line, "error": str(fault), "row": shown[:SHOWN] + ("…" if len(shown) > SHOWN else "")}
        examples = self.examples.setdefault(fault.reason, [])
        if len(examples) < EXAMPLES:
            examples.append(told)
        if self.sink is not None and not fault.left_out:
            whole = {"file": self.file, "reason": fault.reason, "line": line, "error": str(fault), "row": row}
            self.sink.write(msgspec.json.encode(whole, enc_hook=str).decode() + "\n")
