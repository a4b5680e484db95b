"""The worker of a quickstart: started, caught up, shown, and kept running until Ctrl-C."""

import contextlib
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from rich.console import Console
from rich.markup import escape

from streams.api.answers import Slate
from streams.commands.ask import HERE, ask
from streams.commands.look import show_slate
from streams.kafka.connected import run_connected
from streams.quickstart.folder import Folder
from streams.quickstart.steps import Say, needs_no_encoder
from streams.session.changing_over import change_over
from streams.settings import Settings
from streams.worker.process import (
    COMMAND,
    MetricsReading,
    WorkerError,
    WorkerProcess,
    same_topics,
)

DAY_MS = 86_400_000
SHOWN = 10
POLL_S = 0.2
TOLD_S, MAX_S = 5.0, 30.0
"""Between two words about how far the worker is, at first and at most."""
STUCK_S = 120.0
"""After so long without a record taken or an item encoded, the worker is given up."""


@dataclass(frozen=True, slots=True)
class Serving:
    """Address of the worker that serves, and whether it keeps running."""

    port: int
    console_port: int
    stays: bool


@dataclass(frozen=True, slots=True)
class Wanted:
    """A worker to be started.

    Attributes
    ----------
    settings : of the broker
    release : folder; None to serve without one
    config : file with settings that it is to be given
    follows : whether it changes over to a release of the folder's store once one is promoted
    """

    settings: Settings
    folder: Folder
    release: Path | None
    serving: Serving
    config: Path | None
    say: Say
    follows: bool = False


@dataclass(frozen=True, slots=True)
class Served:
    """A worker that serves: an example, and the release that it is of."""

    worker: WorkerProcess
    wanted: Wanted
    slate: Slate
    release: Path | None

    @property
    def console(self) -> str:
        """Address of its console."""
        return f"http://127.0.0.1:{self.wanted.serving.console_port}"

    def as_json(self) -> dict[str, Any]:
        """Return it as one finds it with --json."""
        return {
            "url": self.worker.url,
            "console": self.console,
            "bootstrap_servers": self.wanted.settings.bootstrap_servers,
            "release": None if self.release is None else str(self.release),
            "user": self.slate.user_id,
            "slate": [one.item_id for one in self.slate.slate],
        }

    def show(self, console: Console) -> None:
        """Show a slate, and how to ask for more."""
        show_slate(self.slate, console)
        if not self.wanted.serving.stays:
            console.print("\n--no-serve ends it here; the same command without it goes on and serves.")
            return
        user, url = self.slate.user_id, self.worker.url
        there = "" if url == HERE else f" --url {url}"
        path = quote(user, safe="")
        kafka = f"KAFKA_BOOTSTRAP_SERVERS={self.wanted.settings.bootstrap_servers}"
        config = self.wanted.config
        same = "" if config is None else f" --config {shlex.quote(str(config))}"
        lines = (
            ("Console", self.console),
            ("This user", f"{self.console}/user?id={path}"),
            ("Ask", f"slatestream recommend {shlex.quote(user)}{there}"),
            ("or", f"curl '{url}/v1/recommendations/{path}?k=10'"),
            ("Status", f"{kafka} slatestream status{there}{same}"),
            ("More data", f"{kafka} slatestream import MORE.csv{same}"),
        )
        console.print()
        for name, line in lines:
            console.print(f"[bold]{name:<12}[/]{escape(line)}", soft_wrap=True)

    def wait(self, say: Say) -> None:
        """Stay until Ctrl-C; raise WorkerError if the worker ends by itself."""
        say("\nCtrl-C stops it; the same command goes on from here.")
        try:
            while True:
                self.worker.check()
                time.sleep(1.0)
        except KeyboardInterrupt:
            say("Stopping the worker and the broker ...")


@contextlib.contextmanager
def served(wanted: Wanted) -> Iterator[Served]:
    """Run a worker with a console, give it when it has taken all that lies in the topics, and end it.

    Raises
    ------
    WorkerError
        If it does not start, ends by itself, or goes no further.
    """
    settings, folder, release, config = wanted.settings, wanted.folder, wanted.release, wanted.config
    say = wanted.say
    given = same_topics(
        settings,
        release=None if release is None else str(release.absolute()),
        release_store=str(folder.store.absolute()) if wanted.follows else None,
        console_port=wanted.serving.console_port,
        **keeps_users(settings, folder.kept.first_ms, int(time.time() * 1000), say),
        **needs_no_encoder(release),
    )
    command = COMMAND if config is None else (*COMMAND, "--config", str(config.absolute()))
    folder.worker_log.unlink(missing_ok=True)
    say(f"Starting the worker; its log is {folder.worker_log} ...")
    with WorkerProcess(given, log=folder.worker_log, command=command, port=wanted.serving.port) as worker:
        caught_up(worker, folder.kept.items, say)
        yield Served(worker, wanted, _example(worker, folder), release)


def _example(worker: WorkerProcess, folder: Folder) -> Slate:
    user = folder.kept.user or "somebody"
    slate: Slate = ask("quickstart", worker.url, lambda client: client.recommend(user, SHOWN, titles=True))
    return slate


def changed_over(serving: Served, release: Path) -> Served | None:
    """Let the worker change over to a release while it serves; None where it has to be started with it.

    Raises
    ------
    WorkerError
        If the worker ends.
    """
    settings, folder, say = serving.wanted.settings, serving.wanted.folder, serving.wanted.say
    change = change_over(settings, serving.worker, folder.store, release, by="quickstart", say=say)
    if run_connected(settings, "quickstart", change):
        return replace(serving, release=release, slate=_example(serving.worker, folder))
    say(f"It cannot, {folder.worker_log} says why: it is started anew.")
    return None


def keeps_users(settings: Settings, first_ms: int, now_ms: int, say: Say) -> dict[str, Any]:
    """Return settings that let no user of old files be forgotten as idle: requests are of now."""
    ttl, days = settings.user_ttl_days, (now_ms - first_ms) / DAY_MS
    if ttl is None or days < ttl:
        return {}
    say(f"The first event is {days:,.0f} days old: users are kept as long (user_ttl_days; {ttl:g} usually).")
    return {"user_ttl_days": round(days + ttl, 1)}


def caught_up(worker: WorkerProcess, items: int, say: Say) -> None:
    """Wait until the worker is ready, which it is once it has taken all that lies in its topics.

    Parameters
    ----------
    items : how many there are, whose texts are encoded

    Raises
    ------
    WorkerError
        If it ends, or goes no further for two minutes.
    """
    told = moved = time.monotonic()
    pause = TOLD_S
    begin = before = Taken(0, 0)
    encoding = Pace(items)
    while not worker.is_ready():
        time.sleep(POLL_S)
        now, taken = time.monotonic(), taken_by(worker.metrics())
        if taken is not None and taken != before:
            before, moved = taken, now
            encoding.saw(taken.encoded, now)
        if now - moved > STUCK_S:
            raise WorkerError(
                f"the worker goes no further ({before.in_words()}); its last words:\n{worker.log_tail()}"
            )
        if before != begin and now - told >= pause:
            told, pause = now, min(1.5 * pause, MAX_S)
            say(f"The worker has {before.in_words()}{encoding.in_words(now)}.")


class Pace:
    """Estimates the remaining time from how fast texts are encoded, which is most of the work."""

    def __init__(self, items: int) -> None:
        self._items = items
        self._first: tuple[int, float] | None = None
        self._encoded = 0

    def saw(self, encoded: int, now: float) -> None:
        """Take how many are encoded by now, in seconds of any clock."""
        self._encoded = encoded
        if encoded and self._first is None:
            self._first = encoded, now

    def in_words(self, now: float) -> str:
        """Say how long the rest takes; nothing before that can be said."""
        if self._first is None or not self._first[0] < self._encoded < self._items:
            return ""
        done, seconds = self._encoded - self._first[0], now - self._first[1]
        return f"; {seconds * (self._items - self._encoded) / done:,.0f} s left"


class Taken(NamedTuple):
    """Progress of a worker: records not processed yet, and items whose texts are encoded."""

    left: int
    encoded: int

    def in_words(self) -> str:
        """Say it."""
        return f"{self.left:,} records left, and {self.encoded:,} items encoded"


def taken_by(metrics: MetricsReading | None) -> Taken | None:
    """Return how far a worker is; None where it does not say."""
    if metrics is None:
        return None
    return Taken(int(metrics.total("lag_records")), int(metrics.total("state_rows", kind="vectors")))
