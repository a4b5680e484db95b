"""What a stranger sends cannot forge a line of the log."""

import io
import logging
import sys

import pytest

from streams.log_lines import EVERY_S, FORMAT, LineFormatter, Repeats

FORGED = "2026-11-30 12:00:00,000 CRITICAL slatestream: all is lost"
LINES = ["\n", "\r", "\r\n", "\v", "\f", "\x1c", "\x85", "\u2028", "\u2029"]


def logged(message: str, *values: object, **options: object) -> str:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(LineFormatter(FORMAT))
    log = logging.Logger("streams.test")
    log.addHandler(handler)
    log.error(message, *values, **options)  # type: ignore[arg-type]
    return out.getvalue()


@pytest.mark.parametrize("end", LINES, ids=ascii)
def test_an_id_with_an_end_of_line_begins_none(end: str) -> None:
    said = logged("request %.80s is left to the owner", f"r1{end}{FORGED}")
    assert [line for line in said.splitlines() if line.startswith("2026-11-30 12:00:00,000")] == []
    assert FORGED in said


def test_the_message_of_an_exception_begins_none_either() -> None:
    try:
        raise ValueError(f"not a number: 1\n{FORGED}")
    except ValueError:
        said = logged("failed", exc_info=sys.exc_info())
    first, *rest = said.splitlines()
    assert first.endswith("ERROR streams.test: failed")
    assert "    Traceback (most recent call last):" in rest
    assert all(line.startswith("    ") for line in rest)


def test_a_terminal_is_told_nothing_and_letters_stay() -> None:
    said = logged("%s", "\x1b[2J\x9b31m\u202eblue\u2066\u200f\ud83c Zoë 日本 🎬\tx")
    assert said.endswith(": \\x1b[2J\\x9b31m\\u202eblue\\u2066\\u200f\\ud83c Zoë 日本 🎬\tx\n")


def test_a_long_record_keeps_its_ends() -> None:
    try:
        raise ValueError(f"{'x' * 1_000_000} at the end")
    except ValueError:
        said = logged("row %r", b"k" * 1_000_000, exc_info=sys.exc_info())
    assert " ERROR streams.test: row b'kkk" in said
    assert said.endswith("xxx at the end\n")
    assert " characters ... " in said
    assert len(said) < 17_000


def test_what_a_library_says_again_and_again_is_written_now_and_then() -> None:
    out, now = io.StringIO(), 0.0
    handler = logging.StreamHandler(out)
    handler.addFilter(Repeats(clock=lambda: now))
    library, ours = logging.Logger("aiokafka.cluster"), logging.Logger("streams.worker")
    for logger in (library, ours):
        logger.addHandler(handler)
    for _ in range(500):
        for topic in ("one", "two"):
            library.error("Topic %s not found", topic)
        ours.error("each counts")
        now += EVERY_S / 300
    lines = out.getvalue().splitlines()
    assert lines.count("each counts") == 500
    found = [line for line in lines if line.startswith("Topic")]
    assert found[:2] == ["Topic one not found", "Topic two not found"]
    assert len(found) == 4
    assert found[2].startswith("Topic one not found (and 299 times before)") or "300 times" in found[2]
