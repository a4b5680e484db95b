"""What a device asks of a worker, and HTTP for it. No question has a user id."""

import base64
import binascii
import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException
from typing import Protocol
from urllib.parse import quote

import numpy as np

from streams.on_device.files import DeviceError
from streams.on_device.tower import Items
from streams.straight_http import open_straight

TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Listed:
    """Items of a list, the best first; titles by id; version : of the release that their vectors are of."""

    version: str
    items: Items
    titles: dict[str, str]


class Source(Protocol):
    """Who is asked."""

    def manifest(self) -> bytes:
        """Return the manifest of the release that serves."""

    def file(self, version: str, name: str) -> bytes:
        """Return a file of it."""

    def popular(self, k: int) -> Listed:
        """Return the most popular items."""

    def similar(self, item_id: str, k: int) -> Listed | None:
        """Return what is met together with an item; None if it is not known any more."""


class HttpSource:
    """Asks any worker.

    Parameters
    ----------
    url : of the worker, without a path
    token : bearer token; it is the same for all devices, or it would be a user id
    """

    def __init__(self, url: str, *, token: str | None = None, timeout_s: float = TIMEOUT_S) -> None:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"url must begin with http:// or https://, got {url!r}")
        self._url = url.rstrip("/")
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._timeout_s = timeout_s

    def manifest(self) -> bytes:
        """See `Source`."""
        return self._get("/v1/release")

    def file(self, version: str, name: str) -> bytes:
        """See `Source`."""
        return self._get(f"/v1/release/{quote(version, safe='')}/{quote(name, safe='')}")

    def popular(self, k: int) -> Listed:
        """See `Source`."""
        return _listed(self._get(f"/v1/lists/popular?k={k}&fields=ranking"))

    def similar(self, item_id: str, k: int) -> Listed | None:
        """See `Source`."""
        try:
            found = self._get(f"/v1/lists/similar/{quote(item_id, safe='')}?k={k}&fields=ranking")
        except NotFound:
            return None
        return _listed(found)

    def _get(self, path: str) -> bytes:
        request = urllib.request.Request(self._url + path, headers=self._headers)
        try:
            with open_straight(request, timeout_s=self._timeout_s) as answer:
                found: bytes = answer.read()
                return found
        except urllib.error.HTTPError as error:
            kind = NotFound if error.code == HTTPStatus.NOT_FOUND else DeviceError
            raise kind(f"{_detail(error)} (HTTP {error.code})") from None
        except (OSError, HTTPException) as error:  # an answer that is cut off, too
            raise DeviceError(f"no worker answers at {self._url} ({error!r})") from None


class NotFound(DeviceError):
    """A worker answers that there is no such thing."""


def _detail(answer: urllib.error.HTTPError) -> str:
    try:
        return str(json.loads(answer.read())["detail"])
    except (OSError, HTTPException, ValueError, KeyError, TypeError):
        return "the worker has refused, and not said why"


def _listed(body: bytes) -> Listed:
    try:
        answer = json.loads(body)
        told = answer["items"]
        vectors = [np.frombuffer(base64.b64decode(one["vector"], validate=True), "<f4") for one in told]
        items = Items(
            [str(one["item_id"]) for one in told],
            np.array(vectors, np.float32).reshape(len(told), -1 if told else 0),
            np.array([one.get("popularity", 0.0) for one in told], np.float32),
            [{str(item): float(value) for item, value in one.get("met_with", ())} for one in told],
        )
        titles = {str(one["item_id"]): str(one["title"]) for one in told}
        return Listed(str(answer["model_version"]), items, titles)
    except (ValueError, KeyError, TypeError, binascii.Error) as error:
        raise DeviceError(f"a list must have items with vectors, as a worker tells them: {error!r}") from None
