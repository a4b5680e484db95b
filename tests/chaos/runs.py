"""One chaos run: workers on a real broker, traffic, and faults in an order that a seed decides."""

import os
import random
import signal
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from kafka.errors import KafkaError

from streams.broker.embedded import EmbeddedBroker
from streams.events import Recommendation
from streams.settings import Settings
from streams.worker.process import WorkerProcess, same_topics
from tests.e2e.client import Client, film, wait_until
from tests.e2e.conftest import FAST
from tests.e2e.test_recovery import folded_digest, live_digest, owned

SESSION_MS = 3_000
DEADLINE_S = 120.0
MOST_WORKERS = 3
CLICKS = 150  # between two faults
FAULTS = ("kill", "kill_all", "stop", "freeze", "join", "leave", "broker")


class Run:
    """Workers, what was published, and the faults.

    Parameters
    ----------
    seed : decides the order of the faults, whom they hit, and the traffic
    directory : takes the workers' logs
    """

    def __init__(self, settings: Settings, broker: EmbeddedBroker, *, seed: int, directory: Path) -> None:
        self._settings = settings
        self._broker = broker
        self._draw = random.Random(seed)
        self._directory = directory
        self._open = ExitStack()
        self._workers: list[WorkerProcess] = []
        self._started = self._clicks = 0
        self._requests: list[str] = []
        self.done: list[str] = []
        """The faults so far."""

    def __enter__(self) -> Self:
        """Start two workers, and publish items."""
        self._client = self._open.enter_context(Client(self._settings))
        self._start()
        self._start()
        self._client.content(*(film(f"i{n}", f"Film {n}") for n in range(30)))
        return self

    def __exit__(self, *_: object) -> None:
        """End everything."""
        self._open.close()

    def traffic(self) -> None:
        """Publish clicks and some requests; the broker has acknowledged them on return."""
        for _ in range(CLICKS):
            self._client.click(f"u{self._draw.randrange(40)}", f"i{self._draw.randrange(33)}")
            self._clicks += 1
            if self._draw.random() < 0.04:
                self._requests.append(self._client.request(f"u{self._draw.randrange(40)}"))
        self._client.flush()

    def fault(self, name: str | None = None) -> None:
        """Let something go wrong; without a name, what the seed says."""
        name = name or self._draw.choice(FAULTS)
        self.done.append(name)
        faults: dict[str, Callable[[], None]] = {
            "kill": self._kill,
            "kill_all": self._kill_all,
            "stop": self._stop,
            "freeze": self._freeze,
            "join": self._join,
            "leave": self._leave,
            "broker": self._restart_broker,
        }
        faults[name]()

    def check(self) -> None:
        """Check the promise: state is the fold of the log, and each request has one slate."""
        for worker in self._workers[1:]:
            self._end(worker)
        last = self._workers[0]
        n = self._settings.partitions
        self._eventually(lambda: owned(last) == n, "the worker that is left owns everything")
        self._eventually(lambda: len(self._client.records("clicks")) >= self._clicks, "the log is read")
        expected = folded_digest(self._client)
        self._eventually(lambda: live_digest(last) == expected, "the live state is the fold of the log")
        self._eventually(lambda: set(self._requests) <= self._slates().keys(), "every request is answered")
        several = {name: found for name, found in self._slates().items() if len(set(found)) > 1}
        assert not several, self._say(f"requests with several slates: {several}")
        assert self._client.dead_letters() == [], self._say("dead letters")
        # What is on the changelog is the same: a worker that knows nothing restores it.
        self._end(last)
        restored = self._start()
        self._eventually(lambda: live_digest(restored) == expected, "what is restored is the fold of the log")

    # Faults

    def _kill(self) -> None:
        self._end(self._draw.choice(self._workers), signal.SIGKILL)
        self.traffic()
        self._start()

    def _kill_all(self) -> None:
        self.traffic()  # something is being folded and flushed
        for worker in list(self._workers):
            self._end(worker, signal.SIGKILL)
        self._start()

    def _stop(self) -> None:
        self.traffic()
        self._end(self._draw.choice(self._workers))
        self._start()

    def _freeze(self) -> None:
        if len(self._workers) == 1:
            self._start()
        frozen = self._draw.choice(self._workers)
        others = [worker for worker in self._workers if worker is not frozen]
        n = self._settings.partitions
        self.traffic()
        assert frozen.pid is not None
        os.kill(frozen.pid, signal.SIGSTOP)
        try:
            self.traffic()
            self._eventually(lambda: sum(map(owned, others)) == n, "the others own everything")
            self.traffic()
        finally:
            os.kill(frozen.pid, signal.SIGCONT)
        self.traffic()

    def _join(self) -> None:
        joining = self._start(ready=False) if len(self._workers) < MOST_WORKERS else None
        self.traffic()
        if joining is not None:  # one that starts while there is no broker ends, and says so
            joining.wait_ready()

    def _leave(self) -> None:
        if len(self._workers) > 1:
            self._end(self._draw.choice(self._workers))
        self.traffic()

    def _restart_broker(self) -> None:
        self.traffic()
        self._broker.stop()
        self._broker.start()
        self.traffic()

    # Workers

    def _start(self, *, ready: bool = True) -> WorkerProcess:
        self._started += 1
        values = same_topics(self._settings, **(FAST | {"session_timeout_ms": SESSION_MS}))
        worker = WorkerProcess(values, log=self._directory / f"worker-{self._started}.log")
        self._open.enter_context(worker)
        self._workers.append(worker)
        if ready:
            worker.wait_ready()
        return worker

    def _end(self, worker: WorkerProcess, how: signal.Signals = signal.SIGTERM) -> None:
        self._workers.remove(worker)
        if how == signal.SIGKILL:
            assert worker.pid is not None
            os.kill(worker.pid, how)
        code = worker.stop()
        assert how == signal.SIGKILL or code == 0, self._say(f"exit code {code}:\n{worker.log_tail(40)}")

    def _slates(self) -> dict[str, list[tuple[str, ...]]]:
        """What was published for each request."""
        found = defaultdict(list)
        for slate in self._client.recommendations():
            found[slate.request_id].append(_shown(slate))
        return found

    def _eventually(self, condition: Callable[[], bool], what: str) -> None:
        def holds() -> bool:
            try:
                return condition()
            except (OSError, KafkaError):  # a worker that starts, a broker that comes back
                return False

        wait_until(holds, self._say(what), timeout_s=DEADLINE_S)

    def _say(self, what: str) -> str:
        return f"{what} (after {', '.join(self.done)})"


def _shown(slate: Recommendation) -> tuple[str, ...]:
    return tuple(item.item_id for item in slate.slate)
