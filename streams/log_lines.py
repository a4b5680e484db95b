"""Lines of a log: nothing that others have sent begins one, or tells a terminal what to do."""

import logging
import re

MOST = 16_000
"""Characters of a record, its traceback included."""

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
