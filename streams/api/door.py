"""Refusals at the door: a request for a slate that there is no room for is answered before it is parsed.

To parse a request, find its handler and build an answer costs many times what a look at its bytes does: under
overload the worker would be busy with refusing. Only what is beyond doubt is looked at: one whole request in
one piece, as clients send them. All else goes the usual way, where it is refused, too.
"""

import re
from collections.abc import Callable

from streams.api.problems import Problem

RETRY_AFTER = {"Retry-After": "1"}
MAX_HEAD_BYTES = 4096  # of a request that is looked at
_LENGTH = re.compile(rb"\r\ncontent-length: ?([0-9]{1,9})\r\n")
# Bytes that stand for themselves in a path; not with a dot at the end: `.` and `..` are steps.
_ASKED = re.compile(
    rb"(?:GET|POST) /v1/recommendations/([!$&-.0->@-~]*[!$&-\-0->@-~])(?:\?[!-~]*)? HTTP/1\.1\r"
)
_OTHERWISE = (b"\nexpect:", b"\norigin:")  # their answers say more
_GOES_ON = re.compile(rb"\nconnection: ?keep-alive\r\n")


def head_of(data: bytes) -> bytes | None:
    """Return the head of a request in lower case; None unless data are beyond doubt exactly one request."""
    end = data.find(b"\r\n\r\n", 0, MAX_HEAD_BYTES) + 4
    if end < 4:
        return None
    head = data[:end].lower()
    if head.count(b"\n") != head.count(b"\r\n") or b"transfer-encoding" in head or b"upgrade" in head:
        return None
    body = 0
    if b"content-length" in head:
        lengths = _LENGTH.findall(head)
        if len(lengths) != 1 or head.count(b"content-length") > 1:
            return None
        body = int(lengths[0])
    return head if len(data) == end + body else None


def user_asked_for(data: bytes, head: bytes) -> str | None:
    """Return the user of a request for a slate, None if it is another one or has to be parsed.

    Parameters
    ----------
    head : what `head_of` returns of the data
    """
    asked = _ASKED.match(data)
    if asked is None or any(name in head for name in _OTHERWISE):
        return None
    if b"\nconnection:" in head and not _GOES_ON.search(head):
        return None
    return asked[1].decode("ascii")


class Door:
    """Knows how many requests for slates are inside, and whether another one may come in.

    Parameters
    ----------
    has_room : whether a request of a user would be answered, so many being inside
    refused : told of each request that is refused
    """

    def __init__(self, has_room: Callable[[str, int], bool], refused: Callable[[], None]) -> None:
        self._has_room = has_room
        self._refused = refused
        self._inside = 0
        self._refusal = _as_sent(Problem(503, "overloaded; try again", headers=RETRY_AFTER))

    def enter(self, user_id: str) -> bytes | None:
        """Let a request in, which is to leave then; or return what it is answered with."""
        if self._has_room(user_id, self._inside):
            self._inside += 1
            return None
        self._refused()
        return self._refusal

    def leave(self) -> None:
        """Make room: a request has been answered, or nobody waits for it any more."""
        self._inside -= 1


def _as_sent(problem: Problem) -> bytes:
    response = problem.response()
    body = bytes(problem.body)  # type: ignore[arg-type]  # it is text, encoded
    lines = [f"HTTP/1.1 {response.status} {response.reason}"]
    lines += [f"{name}: {value}" for name, value in response.headers.items() if name != "Content-Length"]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body
