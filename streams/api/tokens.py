"""Bearer tokens: who may ask for what. Only their hashes are known here."""

import hashlib
import hmac
import logging
import math
import time
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from streams.api.problems import Problem
from streams.errors import ConfigurationError
from streams.settings.tokens import Scope, TokenSettings
from streams.validation_messages import in_plain_words

log = logging.getLogger(__name__)

LOOK_S = 2.0
"""How often it is looked whether the file of tokens has changed."""

BEARER = "Bearer"


_entries = TypeAdapter(dict[str, TokenSettings])


@dataclass(frozen=True, slots=True)
class Token:
    """A token by its digest: the token itself is never kept.

    digest : SHA-256 of the token
    expires_s : Unix seconds, infinity for one that does not
    """

    name: str
    digest: bytes
    scopes: frozenset[Scope]
    expires_s: float


class Tokens:
    """The tokens of the settings and those of a file, which is read again when it has changed.

    Parameters
    ----------
    file : TOML, a table for each token: its name, and in it sha256, scopes and perhaps expires
    now : Unix seconds

    Raises
    ------
    ConfigurationError
        If the file cannot be used. Later on such a file is logged, and what it said before holds.
    """

    def __init__(
        self,
        given: Mapping[str, TokenSettings],
        file: Path | None = None,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._given = _tokens(given)
        self._file = file
        self._now = now
        self._read: tuple[float, int] | None = None
        self._looked = 0.0
        self._tokens = self._given
        if file is not None:
            self._read_file(file)

    def __bool__(self) -> bool:
        """Whether a token is asked for at all."""
        return bool(self._given) or self._file is not None

    def check(self, authorization: str | None, scope: Scope) -> str:
        """Return the name of the token that a request shows.

        Raises
        ------
        Problem
            401 if there is none, or one that is not known or has expired; 403 if it is not for `scope`.
        """
        self._look()
        kind, _, shown = (authorization or "").partition(" ")
        if kind.lower() != BEARER.lower() or not shown.strip():
            raise Problem(401, "a token is needed: Authorization: Bearer TOKEN", headers=_asks())
        token = self._find(shown.strip())
        if token is None:
            raise Problem(401, "the token is not known", headers=_asks('error="invalid_token"'))
        if token.expires_s <= self._now():
            raise Problem(401, "the token has expired", headers=_asks('error="invalid_token"'))
        if scope not in token.scopes:
            asks = _asks(f'error="insufficient_scope", scope="{scope}"')
            raise Problem(403, f"the token is not for this: it has no scope {scope!r}", headers=asks)
        return token.name

    def _find(self, shown: str) -> Token | None:
        digest, found = hashlib.sha256(shown.encode(errors="surrogateescape")).digest(), None
        for token in self._tokens:  # all of them, always: how long it takes says nothing of any
            if hmac.compare_digest(token.digest, digest):
                found = token
        return found

    def _look(self) -> None:
        now = time.monotonic()
        if self._file is None or now - self._looked < LOOK_S:
            return
        self._looked = now
        try:
            self._read_file(self._file)
        except ConfigurationError as error:
            log.error("%s; the tokens are those of before", error)

    def _read_file(self, file: Path) -> None:
        try:
            stat = file.stat()
            version = stat.st_mtime, stat.st_size
            if version == self._read:
                return
            entries = _entries.validate_python(tomllib.loads(file.read_text(encoding="utf-8")))
        except OSError as error:
            raise ConfigurationError(f"http_tokens_file {file}: {error.strerror}") from None
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise ConfigurationError(
                f"http_tokens_file {file}: {where}: {in_plain_words(first['msg'])}"
            ) from None
        except (ValueError, RecursionError) as error:
            raise ConfigurationError(f"http_tokens_file {file}: no TOML: {error}") from None
        self._read = version
        self._tokens = self._given + _tokens(entries)


def _tokens(entries: Mapping[str, TokenSettings]) -> list[Token]:
    return [
        Token(
            name,
            bytes.fromhex(one.sha256),
            frozenset(one.scopes),
            math.inf if one.expires is None else one.expires.timestamp(),
        )
        for name, one in sorted(entries.items())
    ]


def _asks(more: str = "") -> dict[str, str]:
    return {"WWW-Authenticate": f'{BEARER} realm="slatestream"' + (f", {more}" if more else "")}
