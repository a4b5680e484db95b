"""Choices of how files are read, as given on the command line."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from streams.importing.faults import FileError
from streams.pseudonyms import Pseudonyms


@dataclass(frozen=True, slots=True)
class Choices:
    """Choices for all files; None leaves it to what the values look like.

    Attributes
    ----------
    action : of every interaction
    actions : what the file calls an action -> what we call it
    like_from : the lowest rating that is a like
    known_actions : those of the settings
    latest_ms : no event may be later
    order_from_ms : time of what comes first where a file has an order and no times, a second apart; when
        None, that is refused, or reckoned from the file's own time
    repeats : whether rows that are the same are as many events
    pseudonyms : of users, by which records name them; None = by their ids
    """

    known_actions: Sequence[str]
    latest_ms: int
    action: str | None = None
    actions: Mapping[str, str] = field(default_factory=dict)
    like_from: float | None = None
    time_unit: str | None = None
    time_format: str | None = None
    separator: str | None = None
    order_from_ms: int | None = None
    repeats: bool = False
    pseudonyms: Pseudonyms | None = None

    def __post_init__(self) -> None:
        """Refuse a like that no rating can be."""
        if self.like_from is not None and not math.isfinite(self.like_from):
            raise FileError(f"--like-from must be a number, got {self.like_from}")
