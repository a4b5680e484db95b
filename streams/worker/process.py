"""Run `slatestream worker` as a process of its own, and read what it says over HTTP."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from prometheus_client.parser import text_string_to_metric_families

from streams.broker.ports import keep_port, port_of
from streams.client.http import TOKEN_VARIABLE, token_of_environment
from streams.errors import SlatestreamError
from streams.settings import ENV_PREFIX, Settings
from streams.straight_http import open_straight

READY_TIMEOUT_S = 240.0
STOP_TIMEOUT_S = 40.0  # longer than a worker gives itself
POLL_S = 0.1
COMMAND = ("streams.cli", "worker")
HTTP_TIMEOUT_S = 30.0
# Part of util-linux; without it a parent that is killed leaves its worker running.
DIE_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL") if shutil.which("setpriv") else ()


def process_cpu_seconds(pid: int) -> float:
    """Seconds of processor time of a process and all its threads so far."""
    # After the name, which may hold spaces and parentheses: state is field 3, utime 14, stime 15.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class WorkerError(SlatestreamError):
    """The worker did not start, did not become ready, or ended by itself; the message has its last words."""


def same_topics(settings: Settings, **others: Any) -> dict[str, Any]:
    """Settings of a worker on the topics and in the group of `settings`, and what else it is given."""
    shared = ("bootstrap_servers", "topic_prefix", "group_id", "partitions")
    return {name: getattr(settings, name) for name in shared} | others


def environment(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables that give a process these settings; None leaves a setting as it is."""
    return {
        f"{ENV_PREFIX}{name.upper()}": value if isinstance(value, str) else _as_text(value)
        for name, value in values.items()
        if value is not None
    }


def _as_text(value: Any) -> str:
    return json.dumps(value) if isinstance(value, (dict, list, tuple, bool)) else str(value)


class MetricsReading:
    """The samples of one scrape of `/metrics`."""

    def __init__(self, text: str) -> None:
        self._samples = [
            (sample.name, sample.labels, sample.value)
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        ]

    def total(self, name: str, **labels: str) -> float:
        """Sum the samples of this name (`slatestream_` may be left out) whose labels include the given."""
        names = (name, f"slatestream_{name}")
        return sum(
            value
            for sample, have, value in self._samples
            if sample in names and labels.items() <= have.items()
        )

    def labels(self, name: str) -> list[dict[str, str]]:
        """Return the labels of each sample of this name; `slatestream_` may be left out of it."""
        names = (name, f"slatestream_{name}")
        return [dict(have) for sample, have, _ in self._samples if sample in names]

    def buckets(self, name: str, **labels: str) -> dict[float, float]:
        """Sum a histogram's cumulative counts by upper bound; `slatestream_` may be left out of its name."""
        names = (f"{name}_bucket", f"slatestream_{name}_bucket")
        found: dict[float, float] = {}
        for sample, have, value in self._samples:
            if sample in names and labels.items() <= have.items():
                bound = float(have["le"])
                found[bound] = found.get(bound, 0.0) + value
        return found


class WorkerProcess:
    """A worker with the environment of this process and some settings of its own.

    It is killed with the process that started it, whatever becomes of that.

    Parameters
    ----------
    settings
        Names and values of settings, e.g. ``{"topic_prefix": "demo.", "policy": "greedy"}``.
    log
        File that takes what it prints.
    command
        Module and arguments that Python runs.
    variables
        What else its environment has.
    port
        Where it answers HTTP; a free one without.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        *,
        log: Path,
        command: Sequence[str] = COMMAND,
        variables: Mapping[str, str] | None = None,
        port: int | None = None,
    ) -> None:
        if port is None:
            kept = keep_port()
            weakref.finalize(self, kept.close)  # while it is stopped, too, nobody else is given its port
            port = port_of(kept)
        self._port = port
        given = environment({"http_host": "127.0.0.1", **settings, "http_port": self._port})
        self._environment = {**(variables or {}), **given}
        self._log = log
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """URL of its HTTP API."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start it; it is not ready yet on return."""
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as output:
            # Its own session: Ctrl-C reaches it through `stop` only, after those who use it have ended.
            self._process = subprocess.Popen(
                [*DIE_WITH_PARENT, sys.executable, "-m", *self._command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, **self._environment},
            )

    def wait_ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Return once `/readyz` says so.

        Raises
        ------
        WorkerError
            If it ends or the time is up.
        """
        deadline = time.monotonic() + timeout_s
        while not self.is_ready():
            self.check()
            if time.monotonic() > deadline:
                raise WorkerError(
                    f"the worker is not ready after {timeout_s:.0f} s; its last words:\n{self.log_tail()}"
                )
            time.sleep(POLL_S)

    def check(self) -> None:
        """Raise WorkerError if it does not run any more."""
        code = None if self._process is None else self._process.poll()
        if self._process is None or code is not None:
            raise WorkerError(f"the worker ended with code {code}; its last words:\n{self.log_tail()}")

    def is_ready(self) -> bool:
        """Tell whether `/readyz` answers 200."""
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=HTTP_TIMEOUT_S) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    def metrics(self) -> MetricsReading | None:
        """Read `/metrics` now, with the token of `SLATES_TOKEN`; None when it does not answer.

        Raises
        ------
        WorkerError
            If the worker has ended, or asks for a token of scope `admin`.
        """
        self.check()
        token = token_of_environment()
        asked = urllib.request.Request(
            f"{self.url}/metrics", headers={"Authorization": f"Bearer {token}"} if token else {}
        )
        try:
            with open_straight(asked, timeout_s=HTTP_TIMEOUT_S) as answer:
                return MetricsReading(answer.read().decode())
        except urllib.error.HTTPError as error:
            if error.code in (401, 403):
                raise WorkerError(
                    f"/metrics asks for a token of scope admin: set {TOKEN_VARIABLE} to one"
                ) from None
            return None
        except (OSError, urllib.error.URLError):
            return None

    def resident_bytes(self) -> int:
        """Memory of the process that is in use, as the kernel counts it."""
        self.check()
        fields = Path(f"/proc/{self.pid}/statm").read_text().split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")

    def peak_bytes(self) -> int:
        """The most of it that was in use at a time, since the start or `forget_peak`."""
        self.check()
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024

    def forget_peak(self) -> None:
        """Reset `peak_bytes` to count from now on."""
        self.check()
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def cpu_seconds(self) -> float:
        """Processor time of the process and its threads since its start."""
        self.check()
        assert self.pid is not None
        return process_cpu_seconds(self.pid)

    def stop(self) -> int | None:
        """Ask it to end, by force after a deadline; return its exit code, None if it was not running."""
        process, self._process = self._process, None
        if process is None:
            return None
        process.terminate()
        try:
            return process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    def kill(self) -> None:
        """End it at once, as a crash would."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def log_tail(self, lines: int = 15) -> str:
        """Return the last lines that it printed."""
        if not self._log.is_file():
            return ""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:])

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def port_is_free(port: int) -> bool:
    """Tell whether nobody listens on a port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free_port(wanted: int = 0) -> int:
    """Return the port that is wanted if nobody has it, else another that is free."""
    if wanted and port_is_free(wanted):
        return wanted
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
