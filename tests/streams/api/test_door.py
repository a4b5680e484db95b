"""What is refused before it is parsed, and what is left to the parser."""

import json

import pytest

from streams.api.door import Door, head_of, user_asked_for

HOST = b"Host: a\r\n"
GET = b"GET /v1/recommendations/u1?k=5 HTTP/1.1\r\n" + HOST
POST = b"POST /v1/recommendations/u1 HTTP/1.1\r\n" + HOST


def user(data: bytes) -> str | None:
    head = head_of(data)
    return None if head is None else user_asked_for(data, head)


@pytest.mark.parametrize(
    "data",
    [
        GET + b"\r\n",
        GET + b"Connection: keep-alive\r\n\r\n",
        GET + b"Authorization: Bearer x\r\nX: connection: close\r\n\r\n",
        POST + b"Content-Type: application/json\r\nContent-Length: 7\r\n\r\n" + b'{"k":3}',
        POST + b"content-length:4\r\n\r\n\r\n\r\n",
    ],
)
def test_one_whole_request_for_a_slate_is_seen(data: bytes) -> None:
    assert user(data) == "u1"


@pytest.mark.parametrize(
    "data",
    [
        GET,
        GET + b"\r\n" + GET + b"\r\n",
        GET + b"X: a\nContent-Length: 5\r\n\r\n",
        GET + b"Transfer-Encoding: chunked\r\n\r\n",
        GET + b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        POST + b"Content-Length: 8\r\n\r\n" + b'{"k":3}',
        POST + b"Content-Length: 6\r\n\r\n" + b'{"k":3}',
        POST + b"Content-Length: 7\r\nContent-Length: 7\r\n\r\n" + b'{"k":3}',
        POST + b"Content-Length: +7\r\n\r\n" + b'{"k":3}',
        POST + b"Content-Length : 7\r\n\r\n" + b'{"k":3}',
        GET + b"X: " + b"y" * 5000 + b"\r\n\r\n",
        b"",
    ],
)
def test_where_a_request_ends_is_never_guessed(data: bytes) -> None:
    assert head_of(data) is None


@pytest.mark.parametrize(
    "data",
    [
        GET + b"Connection: close\r\n\r\n",
        GET + b"Origin: https://shop.example\r\n\r\n",
        POST + b"Expect: 100-continue\r\nContent-Length: 0\r\n\r\n",
        GET.replace(b"HTTP/1.1", b"HTTP/1.0") + b"\r\n",
        GET.replace(b"GET", b"HEAD") + b"\r\n",
        GET.replace(b"recommendations", b"explanations") + b"\r\n",
        *(
            GET.replace(b"u1", name) + b"\r\n"
            for name in (b"u%31", b"..", b"", b"u1/x", b"u\xff", b"#u", b"u 1")
        ),
    ],
)
def test_what_is_answered_otherwise_is_left_to_the_parser(data: bytes) -> None:
    assert head_of(data) is not None
    assert user(data) is None


def test_a_door_knows_who_is_inside_and_says_when_to_come_again() -> None:
    refused: list[str] = []
    door = Door(lambda user_id, inside: inside < 2, lambda: refused.append("one"))
    assert [door.enter("u"), door.enter("u")] == [None, None]
    refusal = door.enter("u")
    assert refusal is not None
    head, _, body = refusal.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "HTTP/1.1 503 Service Unavailable"
    assert {
        "Retry-After: 1", "Cache-Control: no-store", f"Content-Length: {len(body)}",
        "Content-Type: application/problem+json; charset=utf-8",
    } == set(lines[1:])  # fmt: skip
    assert json.loads(body)["detail"] == "overloaded; try again"
    assert refused == ["one"]
    door.leave()
    assert door.enter("u") is None
