"""Asks a schema registry for schemas over HTTP, with bounded time-outs."""

import base64
import http.client
import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from streams.errors import UnreachableError
from streams.straight_http import open_straight

TIMEOUT_S = 5.0
LONGEST_ANSWER = 16 * 1024 * 1024  # bytes
UNKNOWN = (40401, 40402, 40403)
"""What registries call a subject, a version and a schema that they do not have."""


class RegistryError(UnreachableError):
    """The registry does not answer as a registry: it may later, or its address or credentials are wrong."""


class UnknownSchema(Exception):
    """The registry answers that it does not have it."""


@dataclass(frozen=True, slots=True)
class Schema:
    """A schema as the registry returns it.

    Attributes
    ----------
    kind : `AVRO`, `PROTOBUF` or `JSON`
    text : as it was registered; of Protobuf in base64, if the registry gives its descriptors
    references : of the schemas that it names, the name, the subject and the version
    """

    kind: str
    text: str
    references: tuple[tuple[str, str, int], ...]


class Registry:
    """A registry that speaks the HTTP API of Confluent's.

    Parameters
    ----------
    url : without credentials
    username, password : sent as Basic authentication where both are given
    """

    def __init__(
        self,
        url: str,
        *,
        username: str | None = None,
        password: str | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self.url = url.rstrip("/")
        self._timeout_s = timeout_s
        self._headers = {"Accept": "application/vnd.schemaregistry.v1+json, application/json"}
        if username is not None and password is not None:
            encoded = base64.b64encode(f"{username}:{password}".encode()).decode()
            self._headers["Authorization"] = f"Basic {encoded}"

    def by_id(self, number: int) -> Schema:
        """Return the schema of an id; its text serialized, if it is of Protobuf.

        Raises
        ------
        UnknownSchema
            There is none.
        RegistryError
            It cannot be asked.
        """
        return self._schema(f"/schemas/ids/{number}")

    def by_version(self, subject: str, version: int) -> Schema:
        """Return a version of a subject, deleted or not; see `by_id`."""
        return self._schema(f"/subjects/{quote(subject, safe='')}/versions/{version}?deleted=true")

    def _schema(self, path: str) -> Schema:
        answer = self._get(path)
        if answer.get("schemaType") == "PROTOBUF":
            answer = self._get(f"{path}{'&' if '?' in path else '?'}format=serialized")
        try:
            references = tuple(
                (str(one["name"]), str(one["subject"]), int(one["version"]))
                for one in answer.get("references") or ()
            )
            return Schema(str(answer.get("schemaType") or "AVRO"), str(answer["schema"]), references)
        except (KeyError, TypeError, ValueError):
            raise self._error(path, "answers with something that is no schema") from None

    def _get(self, path: str) -> dict[str, Any]:
        request = urllib.request.Request(self.url + path, headers=self._headers)
        try:
            with open_straight(request, timeout_s=self._timeout_s) as answer:
                body = answer.read(LONGEST_ANSWER + 1)
        except urllib.error.HTTPError as error:
            self._refused(path, error.code, _body(error))
        except urllib.error.URLError as error:
            raise self._error(path, f"does not answer: {error.reason}") from None
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise self._error(path, f"does not answer: {str(error) or type(error).__name__}") from None
        found = _object(body)
        if found is None:
            raise self._error(path, "answers with something that is no JSON object")
        return found

    def _refused(self, path: str, status: int, body: bytes) -> None:
        said = _object(body) or {}
        if said.get("error_code") in UNKNOWN:
            raise UnknownSchema
        if status in (401, 403):
            why = "refuses the credentials: see registry_username and registry_password"
        elif status == 404:
            why = "answers 404 as no registry does: is the address right?"
        else:
            why = f"answers {status}"
        raise self._error(path, why)

    def _error(self, path: str, why: str) -> RegistryError:
        return RegistryError(f"schema registry {self.url} {why} ({path})")


def _body(error: urllib.error.HTTPError) -> bytes:
    """Body of an error response; empty where it does not arrive."""
    with error:
        try:
            return error.read(LONGEST_ANSWER)
        except (OSError, http.client.HTTPException):
            return b""


def _object(body: bytes) -> dict[str, Any] | None:
    if len(body) > LONGEST_ANSWER:
        return None
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
