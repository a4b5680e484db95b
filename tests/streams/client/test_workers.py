"""Asking workers about a partition that has no owner for a moment."""

from http import HTTPStatus

import pytest

from streams.client import workers as asked
from streams.client.http import HttpClient, HttpError
from streams.client.workers import Workers
from streams.errors import UnreachableError


def answers(*statuses: int | None):
    """A question that is answered by these errors, and then by the client's place among those asked."""
    left = list(statuses)

    def question(client: HttpClient) -> str:
        if left:
            raise HttpError(left.pop(0), "no worker owns partition 1 yet; try again")
        return "state"

    return question, left


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asked, "PAUSE_S", 0.01)


def test_a_partition_that_nobody_owns_yet_is_asked_for_again() -> None:
    question, _ = answers(*[HTTPStatus.SERVICE_UNAVAILABLE] * 7)
    with Workers(["http://127.0.0.1:1", "http://127.0.0.1:2"], command="verify") as workers:
        assert workers.ask(1, question) == "state"


def test_after_a_while_nobody_is_asked_any_more() -> None:
    question, _ = answers(*[HTTPStatus.SERVICE_UNAVAILABLE] * 1_000)
    with (
        Workers(["http://127.0.0.1:1"], command="verify", patience_s=0.1) as workers,
        pytest.raises(UnreachableError, match="nobody answers for partition 1: no worker owns"),
    ):
        workers.ask(1, question)


def test_where_no_worker_is_nobody_waits_for_one() -> None:
    question, left = answers(None, HTTPStatus.NOT_FOUND, None)
    with (
        Workers(["http://127.0.0.1:1", "http://127.0.0.1:2"], command="verify") as workers,
        pytest.raises(UnreachableError),
    ):
        workers.ask(1, question)
    assert len(left) == 1
