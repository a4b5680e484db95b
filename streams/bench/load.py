"""Load generators, each a process of its own so that its Python takes nothing from what it measures.

`LoadProcess` is this end of a generator, `streams.bench.generator` the other.
"""

import json
import subprocess
import sys
import time
from typing import Self

import msgspec

from streams.bench.work import Outcome, Work
from streams.errors import SlatestreamError
from streams.settings import Settings
from streams.worker.process import DIE_WITH_PARENT

LEAD_S = 0.2


def librdkafka_options(settings: Settings) -> dict[str, str]:
    """Return the connection options of librdkafka's clients."""
    options = {
        "bootstrap.servers": settings.bootstrap_servers,
        "security.protocol": settings.security_protocol,
    }
    if settings.ssl_cafile is not None:
        options["ssl.ca.location"] = str(settings.ssl_cafile)
    if settings.ssl_certificate is not None:
        options["ssl.certificate.location"] = str(settings.ssl_certificate)
        options["ssl.key.location"] = str(settings.ssl_key)
    if settings.security_protocol.startswith("SASL"):
        if settings.sasl_password is None:
            raise SlatestreamError("bench cannot load brokers that ask for OAUTHBEARER")
        options["sasl.mechanism"] = settings.sasl_mechanism
        options["sasl.username"] = str(settings.sasl_username)
        options["sasl.password"] = settings.sasl_password.get_secret_value()
    return options


class LoadProcess:
    """A generator that is ready to begin. It is killed with the process that started it."""

    def __init__(self, work: Work) -> None:
        self._kind = work.kind
        self._process = subprocess.Popen(
            [*DIE_WITH_PARENT, sys.executable, "-m", "streams.bench.generator"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._write(json.dumps(msgspec.to_builtins(work)))
        self._read("ready")

    def begin(self, at: float) -> None:
        """Let it send from this moment of `time.monotonic` on."""
        self._write(repr(at))

    def result(self) -> Outcome:
        """Wait until it is done."""
        return msgspec.json.decode(self._read(), type=Outcome)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _read(self, wanted: str | None = None) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        if not line or (wanted is not None and line != wanted):
            raise SlatestreamError(
                f"the {self._kind} load generator ended with code {self._process.wait()} and said {line!r}"
            )
        return line


def run_together(*works: Work) -> list[Outcome]:
    """Run generators from one moment on, and return what became of each."""
    started: list[LoadProcess] = []
    try:
        for work in works:
            started.append(LoadProcess(work))
        at = time.monotonic() + LEAD_S
        for process in started:
            process.begin(at)
        return [process.result() for process in started]
    finally:
        for process in started:
            process.__exit__()
