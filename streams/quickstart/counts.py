"""Counts users, items and events while files are read, before they are published."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from streams.events import Content, decode_click, encode
from streams.importing.records import Record

FEW_EVENTS = 200
"""Below these nothing can be learned that popularity does not know."""


@dataclass
class Met:
    """Users, and items by where they are named.

    Attributes
    ----------
    users : events of each user
    items : that events name
    described : that a file of items describes
    positive : events whose action speaks for the item
    first_ms : time of the earliest event
    """

    positive_actions: frozenset[str]
    users: Counter[str] = field(default_factory=Counter)
    items: set[str] = field(default_factory=set)
    described: set[str] = field(default_factory=set)
    positive: int = 0
    first_ms: int = 0

    def see(self, kind: str, record: Record) -> None:
        """Count a record; `import_files` calls this."""
        if kind == "content":
            self.described.add(record[1])
        elif kind == "clicks":
            click = decode_click(record[2])
            self.users[click.user_id] += 1
            self.items.add(click.item_id)
            self.positive += click.action in self.positive_actions
            self.first_ms = min(self.first_ms or record[0], record[0])

    @property
    def events(self) -> int:
        """Number of events."""
        return self.users.total()

    def example(self) -> str | None:
        """Return a user with much of a history: not the busiest, who is often a machine."""
        if not self.users:
            return None
        common = self.users.most_common()
        return common[len(common) // 10][0]

    def content(self) -> Iterator[tuple[str, bytes]]:
        """Yield records of `content` for items that no file describes: what is not described is not served.

        Where there is a file of items, what it leaves out is not to be served.
        """
        for one in sorted(self.items) if not self.described else ():
            yield one, encode(Content(item_id=one, title=one))

    def summary(self) -> str:
        """Say what was met, in a line."""
        found = f"{self.events:,} events of {len(self.users):,} users with {len(self.items):,} items"
        if self.described:
            return f"{found}; {len(self.described):,} items are described"
        return f"{found}, which are shown by their ids: no file describes them"

    def warnings(self) -> list[str]:
        """Say what is odd: each is something that a glance at slates would show too late."""
        lines = []
        undescribed = self.items - self.described
        if self.described and self.items and undescribed == self.items:
            theirs, ours = min(self.described), min(self.items)
            lines.append(
                "No item of an event is in the file of items: their ids differ, such as "
                f"{ours!r} and {theirs!r}. Say which column has the ids: --map item_id=COLUMN"
            )
        elif self.described and len(undescribed) > 0.1 * len(self.items):
            lines.append(
                f"{len(undescribed):,} of {len(self.items):,} items of events are in no file of items: they "
                "are not served"
            )
        if self.events and not self.positive:
            lines.append(
                "No event speaks for an item: every one is a view. Where they do, say --action click"
            )
        elif self.events and self.positive < FEW_EVENTS:
            lines.append(
                f"Only {self.positive:,} events speak for an item: too few to learn much but what is popular"
            )
        return lines
