"""Asking a worker over HTTP: what the commands that look at one have in common."""

from collections.abc import Callable
from typing import Annotated, TypeVar

import typer

from streams.client.http import RETRIES, HttpClient, HttpError, http_url, token_of_environment
from streams.errors import SlatestreamError, UnreachableError

TIMEOUT_S = 30.0

Url = Annotated[str, typer.Option(help="Any worker; it redirects to the one that owns the user.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the answer as it came, for programs.")]
HERE = "http://127.0.0.1:6066"

T = TypeVar("T")


def ask(
    command: str,
    url: str,
    question: Callable[[HttpClient], T],
    *,
    timeout_s: float = TIMEOUT_S,
    retries: int = RETRIES,
) -> T:
    """Ask a worker.

    A bearer token is taken from the environment, `SLATES_TOKEN`, where workers ask for one.

    Raises
    ------
    UnreachableError
        If nothing answers at the URL, or not yet.
    SlatestreamError
        If the URL is not one of HTTP, or the answer is a refusal: with its reason.
    """
    check_url(url)
    token = token_of_environment()
    try:
        with HttpClient(url, token=token, timeout_s=timeout_s, retries=retries) as client:
            return question(client)
    except HttpError as error:
        if error.status == 503:  # no owner yet, not ready, no room: it may answer if it is asked again
            raise UnreachableError(f"{command}: {error.detail}") from None
        if error.status is not None:
            raise SlatestreamError(f"{command}: {error.detail}") from None
        raise UnreachableError(
            f"{command}: {error.detail}; start one with `slatestream worker`, or name another with --url"
        ) from None


def check_url(url: str) -> None:
    """Raise SlatestreamError where a URL is not one of HTTP."""
    try:
        http_url(url)
    except ValueError as error:
        raise SlatestreamError(f"--url {error}") from None
