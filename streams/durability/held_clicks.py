"""The clicks of users in quarantine, for whoever reads the log and not the state."""

from streams.kafka.columns import KEY, KEY_SIZE, RecordColumns
from streams.state import rows as changelog
from streams.state.log_bases import LogBases
from streams.state.rows import (
    ACTIONS_KEY,
    META_PREFIX,
    QUARANTINE_PREFIX,
    Actions,
    Quarantined,
    quarantine_key,
)


class HeldClicks:
    """Tells which clicks of a partition count in nothing that users share, once its `user-state` is read."""

    def __init__(self) -> None:
        self._marks: dict[bytes, Quarantined] = {}
        self._base = 0

    def read(self, records: RecordColumns) -> None:
        """Take in records of `user-state`, in their order; few of them are looked at."""
        table = records.table[records.table[:, KEY_SIZE] > 0]
        first = records.data[table[:, KEY]]
        chosen = table[first == META_PREFIX[0]]
        for one in RecordColumns(
            records.topic, records.partition, records.raw, chosen, headed=records.headed
        ):
            key, value = one.key or b"", one.value
            if key == ACTIONS_KEY and value is not None:
                logs = LogBases()
                logs.load(changelog.decode(Actions, "user-state", key, value).logs)
                self._base = logs.of("clicks")
            elif key.startswith(QUARANTINE_PREFIX):
                self._marks.pop(key, None)
                if value is not None:
                    self._marks[key] = changelog.decode(Quarantined, "user-state", key, value)

    def __len__(self) -> int:
        return len(self._marks)

    def lasts(self, user_id: str) -> bool:
        """Tell whether a user is in quarantine now."""
        mark = self._marks.get(quarantine_key(user_id))
        return mark is not None and mark.lasts

    def have(self, user_id: str, offset: int) -> bool:
        """Tell whether the click of a user at an offset of the topic is one of them."""
        mark = self._marks.get(quarantine_key(user_id))
        return mark is not None and mark.leaves_out(self._base + offset)
