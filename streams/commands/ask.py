"""Asking a worker over HTTP: what the commands that look at one have in common."""

import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Annotated, TypeVar
from urllib.parse import quote, urlsplit

import msgspec
import typer

from streams.errors import SlatestreamError, UnreachableError

TIMEOUT_S = 30.0
TOKEN = "SLATES_TOKEN"

Url = Annotated[str, typer.Option(help="Any worker; it redirects to the one that owns the user.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the answer as it came, for programs.")]
HERE = "http://127.0.0.1:6066"

T = TypeVar("T")


def ask(
    command: str,
    url: str,
    *path: str,
    decode: Callable[[bytes], T],
    query: str = "",
    timeout_s: float = TIMEOUT_S,
) -> T:
    """Ask a worker and decode its answer; path is quoted part by part.

    A bearer token is taken from the environment, `SLATES_TOKEN`, where workers ask for one.

    Raises
    ------
    UnreachableError
        If nothing answers at the URL.
    SlatestreamError
        If the URL is not one of HTTP, or the answer is a refusal: with its reason.
    """
    check_url(url)
    asked = "/".join([url.rstrip("/"), "v1", *(quote(part, safe="") for part in path)]) + query
    try:
        with urllib.request.urlopen(_request(asked), timeout=timeout_s) as answer:
            return decode(answer.read())
    except urllib.error.HTTPError as error:
        raise SlatestreamError(f"{command}: {_reason(error)}") from None
    except msgspec.MsgspecError as error:
        raise SlatestreamError(f"{command}: {url} is no worker of this version: {error}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise UnreachableError(
            f"{command}: no worker answers at {url} ({reason}); start one with `slatestream worker`, or name "
            "another with --url"
        ) from None


def check_url(url: str) -> None:
    """Raise SlatestreamError where a URL is not one of HTTP."""
    if urlsplit(url).scheme not in ("http", "https"):
        raise SlatestreamError(f"--url must begin with http:// or https://, got {url!r}")


def read(url: str) -> bytes:
    """Return what a URL answers, whatever its status.

    Raises
    ------
    OSError
        If nothing answers.
    """
    try:
        with urllib.request.urlopen(_request(url), timeout=TIMEOUT_S) as answer:
            return bytes(answer.read())
    except urllib.error.HTTPError as error:
        return error.read()


def _request(url: str) -> urllib.request.Request:
    token = os.environ.get(TOKEN)
    return urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})


def _reason(error: urllib.error.HTTPError) -> str:
    try:
        said = json.loads(error.read())
        return str(said.get("detail") or said.get("error") or error)
    except (ValueError, AttributeError):
        return str(error)
