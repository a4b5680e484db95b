"""A part of the users in one line of text: `events<20`, `events>=20` or `country=fr`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

_EVENTS = re.compile(r"events\s*(<|>=)\s*(\d+)")


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment of users: by their number of events, or by a stated attribute.

    Attributes
    ----------
    at_least, below : bounds of a user's number of events ever; below None has no end
    attribute : name of a user attribute that must have the value, or None
    """

    at_least: int = 0
    below: int | None = None
    attribute: str | None = None
    value: str = ""

    @classmethod
    def parse(cls, text: str) -> "Segment":
        """Read a condition, or raise ValueError."""
        if found := _EVENTS.fullmatch(text.strip()):
            bound = int(found[2])
            return cls(below=bound) if found[1] == "<" else cls(at_least=bound)
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not name or not value or not re.fullmatch(r"[\w.-]+", name):
            raise ValueError(
                "segment must be 'events<N', 'events>=N' or 'attribute=value' of the user's attributes, "
                f"got {text!r}"
            )
        return cls(attribute=name, value=value)

    @property
    def moves(self) -> bool:
        """Whether users come and go by what they do."""
        return self.attribute is None

    def has(self, events: int, attributes: Mapping[str, str]) -> bool:
        """Whether a user belongs to it.

        Parameters
        ----------
        events : of the user ever
        attributes : that the user stated
        """
        if self.attribute is not None:
            return attributes.get(self.attribute) == self.value
        return self.at_least <= events and (self.below is None or events < self.below)
