"""One chaos run: workers on a real broker, traffic, and faults in an order that a seed decides."""

import os
import random
import signal
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

from kafka.errors import KafkaError

from streams.events import Recommendation, Request
from streams.kafka.partitioner import partition_of
from streams.settings import Settings, load_settings
from streams.verify.compare import COMPARED
from streams.worker.process import WorkerProcess, same_topics
from tests.chaos.cluster import Cluster
from tests.chaos.network import Wire
from tests.chaos.verifying import verified_here
from tests.chaos.worker import CLOCK, NO_DISK
from tests.e2e.client import Client, film, wait_until
from tests.e2e.conftest import FAST
from tests.e2e.test_recovery import folded_digest, live_digest, owned, verified

PLAIN: dict[str, Any] = {
    "flush_interval_ms": None,
    "shared_flush_interval_ms": None,
    "session_timeout_ms": 3_000,
}
"""Workers flush as by default: what is killed has more to flush, and what waits costs half."""
DEADLINE_S = 300.0  # where others have the processors, a worker alone takes two minutes to start
END_S = 25.0  # a worker gives up by itself soon after
MAX_WORKERS = 4
CLICKS = 150  # between two faults
USERS, ITEMS = 40, 30


def of_tree(tree: Path | None) -> dict[str, str]:
    """Variables that let Python take the code of another tree than this one."""
    return {} if tree is None else {"PYTHONPATH": str(tree), "PYTHONSAFEPATH": "1"}


class Run:
    """Workers, and what was published; faults (`tests.chaos.faults`) are done to it.

    Parameters
    ----------
    seed : decides whom faults hit, and the traffic
    directory : takes the workers' logs
    tree : has the code of workers that start, see the attribute
    kinds : of state, compared in the end
    wires : its own, one for each worker that there may be; without, all of the cluster's
    quick : it begins with one worker, and checks in this process instead of in others
    values : settings of the workers, beside those of every test

    Attributes
    ----------
    workers : those that run, the longest first
    tree : has the code of the next worker that starts; None: this one
    draw : what decides
    clock : file that says by how many seconds the workers' wall clocks are off
    done : the faults so far, each with the seconds that it took
    has_statements : whether there is more to know of users than their clicks
    is_trimmed : whether the beginning of clicks is gone
    first_slates : seconds from a kill -9 until users of all partitions had a slate again
    """

    def __init__(
        self,
        settings: Settings,
        cluster: Cluster,
        *,
        seed: int,
        directory: Path,
        tree: Path | None = None,
        kinds: Sequence[str] = COMPARED,
        wires: Sequence[Wire] | None = None,
        quick: bool = False,
        **values: Any,
    ) -> None:
        self.settings = settings
        self.cluster = cluster
        self.wires = cluster.wires if wires is None else wires
        self.draw = random.Random(seed)
        self.workers: list[WorkerProcess] = []
        self.tree = tree
        self.clock = directory / "clock"
        self.done: list[str] = []
        self.first_slates: list[float] = []
        self.has_statements = False
        self.is_trimmed = False
        self._directory = directory
        self._kinds = kinds
        self._quick = quick
        self._values = FAST | values | PLAIN
        self._open = ExitStack()
        self._wires: dict[WorkerProcess, Wire] = {}
        self._started = self._clicks = 0
        self._requests: dict[str, str] = {}  # users by request

    def __enter__(self) -> Self:
        """Start two workers, or one, and publish items."""
        self.clock.write_text("0")
        self.client = self._open.enter_context(Client(self.settings))
        for worker in [self.start(ready=False) for _ in range(1 if self._quick else 2)]:
            worker.wait_ready()
        self.client.content(*(film(f"i{n}", f"Film {n}") for n in range(ITEMS)))
        return self

    def __exit__(self, *_: object) -> None:
        """End everything."""
        self._open.close()

    @contextmanager
    def doing(self, fault: str) -> Iterator[None]:
        """Note what is done, and how long it takes."""
        since = time.monotonic()
        self.done.append(fault)
        yield
        self.done[-1] = f"{fault} {time.monotonic() - since:.0f}"

    # Traffic

    def traffic(self, *, clicks: int = CLICKS, flush: bool = True) -> None:
        """Publish clicks, some on what slates showed, and requests.

        With `flush`, the broker has acknowledged them on return.
        """
        slates = self.client.recommendations()
        for _ in range(clicks):
            slate = self.draw.choice(slates) if slates and self.draw.random() < 0.2 else None
            if slate is not None and slate.slate:
                shown = self.draw.choice(slate.slate).item_id
                self.client.click(slate.user_id, shown, request_id=slate.request_id)
            else:
                self.client.click(self.user(), f"i{self.draw.randrange(ITEMS + 3)}")
            self._clicks += 1
            if self.draw.random() < 0.04:
                self._ask(f"r{len(self._requests)}", self.user())
            if self._requests and self.draw.random() < 0.01:
                self._ask(*self.draw.choice(list(self._requests.items())))
        if flush:
            self.client.flush()

    def user(self) -> str:
        """Return one of the users."""
        return f"u{self.draw.randrange(USERS)}"

    def _ask(self, request_id: str, user_id: str) -> None:
        self._requests[request_id] = user_id
        request = Request(request_id=request_id, user_id=user_id, timestamp_ms=self.client.now_ms)
        self.client.send("requests", user_id, request)

    def time_first_slates(self, since: float) -> None:
        """Note how long it takes, from a time on, until a user of each partition has a slate."""
        n = self.settings.partitions
        users = {partition_of(f"u{k}", n): f"u{k}" for k in range(USERS)}
        wanted = {f"r{len(self._requests) + k}": user for k, user in enumerate(users.values())}
        for request_id, user_id in wanted.items():
            self._ask(request_id, user_id)
        self.client.flush()
        self.eventually(lambda: wanted.keys() <= self.slates().keys(), "users of all partitions have slates")
        self.first_slates.append(time.monotonic() - since)

    # Workers

    def start(self, *, ready: bool = True, disk: bool = True) -> WorkerProcess:
        """Start a worker, with or without a disk; it is ready on return, unless that is not waited for."""
        self._started += 1
        wire = next(wire for wire in self.wires if wire not in self._wires.values())
        values = same_topics(self.settings, **self._values)
        worker = WorkerProcess(
            values | {"bootstrap_servers": f"127.0.0.1:{wire.port}"},
            log=self._directory / f"worker-{self._started}.log",
            command=("tests.chaos.worker", "worker"),
            variables={CLOCK: str(self.clock), **({} if disk else {NO_DISK: "1"}), **of_tree(self.tree)},
        )
        self._open.enter_context(worker)
        self.workers.append(worker)
        self._wires[worker] = wire
        if ready:
            worker.wait_ready()
        return worker

    def end(self, worker: WorkerProcess, how: signal.Signals = signal.SIGTERM) -> None:
        """End a worker; one that is told to must end well."""
        self.workers.remove(worker)
        if how == signal.SIGKILL:
            assert worker.pid is not None
            os.kill(worker.pid, how)
        elif worker.pid is not None:
            self._ask_to_end(worker.pid)
        code = worker.stop()
        self._wires.pop(worker)
        assert how == signal.SIGKILL or code == 0, self.say(f"exit code {code}:\n{worker.log_tail(200)}")

    @staticmethod
    def _ask_to_end(pid: int) -> None:
        """Return when a worker has ended that is told to; one that does not says what it waits for."""
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + END_S
        while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGUSR1)
                return
            time.sleep(0.05)

    def any_worker(self) -> WorkerProcess:
        """Return one of the workers."""
        return self.draw.choice(self.workers)

    def one_of_several(self) -> tuple[WorkerProcess, list[WorkerProcess]]:
        """Return a worker and the others; one is started where there is none."""
        if len(self.workers) == 1:
            self.start()
        one = self.any_worker()
        return one, [worker for worker in self.workers if worker is not one]

    def wire_of(self, worker: WorkerProcess) -> Wire:
        """What a worker reaches the broker by."""
        return self._wires[worker]

    def own_everything(self, workers: list[WorkerProcess]) -> None:
        """Wait until some workers own all partitions among them."""
        n = self.settings.partitions
        self.eventually(lambda: sum(map(owned, workers)) == n, f"{len(workers)} workers own everything")

    # Checks

    def check(self) -> None:
        """Check the promise: state is the fold of the log, and each request has one slate."""
        for worker in self.workers[1:]:
            self.end(worker)
        last = self.workers[0]
        self.own_everything([last])
        self.log_is_read()
        self._is_the_fold(last)
        self.eventually(lambda: self._requests.keys() <= self.slates().keys(), "every request is answered")
        several = {name: found for name, found in self.slates().items() if len(set(found)) > 1}
        assert not several, self.say(f"requests with several slates: {several}")
        assert self.client.dead_letters() == [], self.say("dead letters")
        # What is on the changelog is the same: a worker that knows nothing restores it.
        self.end(last)
        if not self._quick:
            self._is_the_fold(self.start())
        elif not self.is_trimmed:
            self._is_verified()

    def _is_the_fold(self, worker: WorkerProcess) -> None:
        """Wait until a worker that owns everything has what the log says; all kinds of rows are compared.

        `verify` reads all that users state, and cannot fold what is trimmed; the digest of the clicks that
        this run has read itself is the other way round.
        """
        if not self.has_statements and "items" in self._kinds:
            expected = folded_digest(self.client)
            self.eventually(lambda: live_digest(worker) == expected, "the state is the fold of the log")
        self._is_verified(worker)

    def _is_verified(self, worker: WorkerProcess | None = None) -> None:
        """Compare the fold with a worker, or with what a restart would give; all kinds must be compared."""
        if self._quick:
            values = same_topics(self.settings, **self._values)
            settings = load_settings(**{name: value for name, value in values.items() if value is not None})
            url = None if worker is None else worker.url
            found = verified_here(settings, url, from_changelog=self.is_trimmed)
        else:
            assert worker is not None
            options = ["--from-changelog"] if self.is_trimmed else []
            options += [f"--kind={kind}" for kind in self._kinds]
            found = verified(self.client, "--url", worker.url, *options, **self._values)
        assert found == set(self._kinds), self.say(f"only {found} were compared")

    def log_is_read(self) -> None:
        """Wait until the client has read every click."""
        self.eventually(lambda: len(self.client.records("clicks")) >= self._clicks, "the log is read")

    def slates(self) -> dict[str, list[tuple[str, ...]]]:
        """What was published for each request."""
        found = defaultdict(list)
        for slate in self.client.recommendations():
            found[slate.request_id].append(_shown(slate))
        return found

    def eventually(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until something holds."""

        def holds() -> bool:
            for worker in self.workers:
                worker.check()
            try:
                return condition()
            except (OSError, KafkaError):  # a worker that starts, a broker that comes back
                return False

        wait_until(holds, self.say(what), timeout_s=DEADLINE_S)

    def say(self, what: str) -> str:
        """Say when something was."""
        return f"{what} (after {', '.join(self.done)})"


def _shown(slate: Recommendation) -> tuple[str, ...]:
    return tuple(item.item_id for item in slate.slate)
