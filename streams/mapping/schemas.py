"""Decodes records in the wire format of schema registries: a zero, the schema's id in 4 bytes, the value."""

import asyncio
import importlib
import logging
import threading
import time
from collections.abc import Callable, Iterable
from functools import lru_cache
from types import ModuleType
from typing import Any

import numpy as np

from streams.errors import ConfigurationError
from streams.kafka.columns import KEY, KEY_SIZE, VALUE, VALUE_SIZE, RecordColumns
from streams.mapping.registry import Registry, RegistryError, UnknownSchema
from streams.mapping.values import Fault
from streams.settings import Settings
from streams.settings.sources import REGISTERED, Source

log = logging.getLogger(__name__)

HEAD = 5  # bytes before the value
ASK_AGAIN_S = 10.0  # after this an unknown id is asked for again: it may have been registered since
MAX_UNKNOWN = 100_000
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 15.0

Decode = Callable[[bytes], Any]


class Schemas:
    """The schemas of a registry, each kept for ever: an id never comes to stand for another.

    Threads may share it.

    Parameters
    ----------
    first_pause_s : before a registry that does not answer is asked again; each pause is twice the last
    """

    def __init__(self, registry: Registry, *, first_pause_s: float = FIRST_PAUSE_S) -> None:
        self._registry = registry
        self._first_pause_s = first_pause_s
        self._decoders: dict[tuple[str, int], Decode] = {}
        self._unknown: dict[int, float] = {}  # id -> when the registry said so
        self._lock = threading.Lock()
        self._silent = False

    def read(self, value: bytes, *, kind: str) -> Any:
        """Decode a value of a format; ask the registry first where its schema is new.

        Raises
        ------
        Fault
            It is not in the wire format, its schema is unknown or of another format, or it does not fit it.
        RegistryError
            The registry cannot be asked.
        """
        if len(value) < HEAD or value[0]:
            raise Fault(f"is no {kind} in the wire format: it does not begin with a zero and a schema id")
        number = int.from_bytes(value[1:HEAD], "big")
        decode = self._decoders.get((kind, number))
        if decode is None and number not in self._unknown:
            self.fetch([(kind, number)])
            decode = self._decoders.get((kind, number))
        if decode is None:
            raise Fault(f"names the schema {number}, which {self._registry.url} does not know")
        try:
            return decode(value[HEAD:])
        except Fault as fault:
            raise Fault(f"a value of schema {number} {fault}", fault.reason) from None

    def decoder(self, kind: str, number: int) -> Decode | None:
        """Return what decodes the values of a schema; None where it is not here."""
        return self._decoders.get((kind, number))

    def missing(self, records: RecordColumns, source: Source) -> list[tuple[str, int]]:
        """Return format and id of the schemas that records of a source need and that must be asked for."""
        wanted = set[tuple[str, int]]()
        for kind, at, size in ((source.format, VALUE, VALUE_SIZE), (source.key_format, KEY, KEY_SIZE)):
            if kind in REGISTERED:
                wanted.update((kind, number) for number in schema_ids(records, at, size))
        now = time.monotonic()
        return sorted(
            one
            for one in wanted
            if one not in self._decoders and now - self._unknown.get(one[1], -ASK_AGAIN_S) >= ASK_AGAIN_S
        )

    def fetch(self, wanted: Iterable[tuple[str, int]]) -> None:
        """Ask the registry for schemas, one after the other; it blocks.

        Raises
        ------
        RegistryError
            The registry cannot be asked.
        """
        with self._lock:
            for kind, number in wanted:
                if (kind, number) in self._decoders:
                    continue
                try:
                    self._decoders[kind, number] = self._decoder(kind, number)
                    self._unknown.pop(number, None)
                except UnknownSchema:
                    if len(self._unknown) >= MAX_UNKNOWN:
                        self._unknown.pop(next(iter(self._unknown)))
                    self._unknown[number] = time.monotonic()

    async def ready(self, records: RecordColumns, source: Source) -> None:
        """Wait until the schemas of records are here, however long the registry is away."""
        pause = self._first_pause_s
        while wanted := self.missing(records, source):
            try:
                await asyncio.to_thread(self.fetch, wanted)
            except RegistryError as error:
                if not self._silent:
                    self._silent = True
                    log.warning("%s; the records of %s wait, and it is asked again", error, source.topic)
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_S)
                continue
            if self._silent:
                self._silent = False
                log.info("schema registry %s answers again", self._registry.url)

    def _decoder(self, kind: str, number: int) -> Decode:
        schema = self._registry.by_id(number)
        if schema.kind.lower() != kind:
            return _refuse(f"is {schema.kind}, and the mapping says {kind}")
        try:
            made: Decode = _library(kind).decoder(self._registry, schema)
        except Fault as fault:
            return _refuse(str(fault))
        return made


def schemas_of(settings: Settings, source: Source) -> Schemas | None:
    """Return the schemas of a source's registry; None where its records need none.

    Raises
    ------
    ConfigurationError
        The library that decodes its format is not installed.
    """
    kinds = {source.format, source.key_format}.intersection(REGISTERED)
    if not kinds:
        return None
    for kind in kinds:
        _library(kind)
    assert source.registry is not None  # the settings see to it
    password = settings.registry_password
    return _shared(source.registry, settings.registry_username, password and password.get_secret_value())


@lru_cache(maxsize=16)
def _shared(url: str, username: str | None, password: str | None) -> Schemas:
    """One for all who read from a registry, so that each schema is asked for once."""
    return Schemas(Registry(url, username=username, password=password))


def _library(kind: str) -> ModuleType:
    """Import what decodes a format: only who reads it pays for it."""
    try:
        return importlib.import_module(f"streams.mapping.{kind}")
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"format = {kind!r} needs the package {error.name}: pip install 'slatestream[registry]'"
        ) from None


def _refuse(why: str) -> Decode:
    def decode(value: bytes) -> Any:
        raise Fault(why)

    return decode


def schema_ids(records: RecordColumns, at: int, size: int) -> list[int]:
    """Return the schema ids that keys or values begin with, whose place and size are these columns."""
    places = records.table[records.table[:, size] >= HEAD, at]
    data = records.data
    places = places[data[places] == 0]
    ids = np.zeros(len(places), np.int64)
    for byte in range(1, HEAD):
        ids = ids << 8 | data[places + byte]
    found: list[int] = np.unique(ids).tolist()
    return found
