"""Lines of a log: nothing that others send begins one, tells a terminal what to do, or fills a disk."""

import logging
import re
import time
from collections.abc import Callable

MOST = 16_000
"""Characters of a record, its traceback included."""
EVERY_S = 10.0
LIBRARIES = ("aiokafka", "kafka", "faust", "mode")
MOST_MESSAGES = 1_000

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

# All controls of Unicode but tab and line feed, line and paragraph separators, what turns the direction, and
# halves of characters, which no output can encode.
_CONTROL = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


class LineFormatter(logging.Formatter):
    """Indents all lines of a record but its first, a traceback's too, and escapes control characters.

    Of a long record the middle is left out: whatever others send, they do not fill a disk with it.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as text."""
        text = super().format(record)
        if len(text) > MOST:
            text = f"{text[: MOST // 2]} ... {len(text) - MOST} characters ... {text[-MOST // 2 :]}"
        text = text.replace("\n", "\n    ")
        return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class Repeats(logging.Filter):
    """Lets through what Kafka's libraries say once in `EVERY_S`, with how often it was said meanwhile.

    While no broker answers, or a topic is missing, they say so at each try.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._said: dict[tuple[str, str], tuple[float, int]] = {}  # when, and how often since

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is to be written."""
        if record.name.partition(".")[0] not in LIBRARIES:
            return True
        now, said = self._clock(), (record.name, record.getMessage())
        since_s, n = self._said.get(said, (now - EVERY_S, 0))
        if now - since_s < EVERY_S:
            self._said[said] = since_s, n + 1
            return False
        if len(self._said) >= MOST_MESSAGES:
            self._said.clear()
        self._said[said] = now, 0
        if n:
            record.msg, record.args = f"{said[1]} (and {n} times before)", ()
        return True
