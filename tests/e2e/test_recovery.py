"""What a crash must not do: lose an event, count one twice, leave a request without its slate."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections import defaultdict
from typing import Any

from model_core.signals.config import SignalConfig
from streams.durability.digest import fold
from streams.events import Click, decode_click
from streams.worker.process import WorkerProcess, environment, same_topics
from tests.e2e.client import Client, film, wait_until
from tests.e2e.conftest import FAST, StartWorker

CLICKS = 3_000
SESSION_MS = 600_000  # what a killed worker owned is taken over long before


def live_digest(worker: WorkerProcess) -> str:
    with urllib.request.urlopen(f"{worker.url}/v1/digest", timeout=30) as answer:
        return str(json.loads(answer.read())["digest"])


def published_rows(worker: WorkerProcess) -> float:
    reading = worker.metrics()
    return reading.total("events_total", topic="user-state", outcome="published") if reading else 0.0


def folded_digest(client: Client) -> str:
    """Digest of the click log folded offline from its beginning."""
    logs: dict[int, list[tuple[int, Click]]] = defaultdict(list)
    for record in client.records("clicks"):
        logs[record.partition].append((record.offset, decode_click(record.value)))
    settings = client.settings
    folded = fold(
        {partition: logs[partition] for partition in range(settings.partitions)},
        actions=tuple(settings.actions),
        positive=settings.positive_actions,
        history_limit=settings.history_limit,
        neighbours=settings.covisit_neighbours,
        pairing=SignalConfig().pairing,
    )
    return folded.digest()


def test_after_kill_9_the_state_is_the_fold_of_the_log_and_every_request_is_answered(
    client: Client, start_worker: StartWorker
) -> None:
    worker = start_worker(session_timeout_ms=SESSION_MS)
    client.content(*(film(f"i{n}", f"Film {n}") for n in range(50)))
    requests = []
    for n in range(CLICKS):
        client.click(f"u{n % 40}", f"i{n * 7 % 53}", "view" if n % 3 == 0 else "like")
        if n % 100 == 0:
            client.click(f"u{n % 40}", "i1", event_id=f"e{n}")  # perhaps an event id that is in use
        if n % 50 == 0:
            requests.append(client.request(f"u{n % 40}"))
        if n == CLICKS // 2:
            wait_until(
                lambda: published_rows(worker) > 0,
                "some rows are durable",
            )
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGKILL)
    client.flush()
    restarted = start_worker(session_timeout_ms=SESSION_MS)
    wait_until(lambda: len(client.records("clicks")) >= CLICKS + CLICKS // 100, "the whole log is read")
    expected = folded_digest(client)
    wait_until(lambda: live_digest(restarted) == expected, "the live state is the fold of the log")
    wait_until(
        lambda: set(requests) <= {slate.request_id for slate in client.recommendations()},
        "every request is answered",
    )
    ids = [slate.request_id for slate in client.recommendations()]
    assert len(ids) == len(set(ids))


def test_a_worker_that_was_stopped_answers_as_if_it_never_had(
    client: Client, start_worker: StartWorker
) -> None:
    worker = start_worker()
    for n in range(300):
        client.click(f"u{n % 7}", f"i{n % 11}")
    client.flush()
    client.records("clicks")
    wait_until(lambda: len(client.records("clicks")) == 300, "the log is read")
    expected = folded_digest(client)
    wait_until(lambda: live_digest(worker) == expected, "all is folded")
    assert worker.stop() == 0
    assert {"users", "items"} <= verified(client, "--stored")
    restarted = start_worker()
    assert live_digest(restarted) == expected
    reading = restarted.metrics()
    assert reading is not None
    assert (
        reading.total("events_total", topic="clicks", outcome="replayed") == 0
    )  # a clean stop commits all that it folded


def test_a_second_worker_takes_over_and_nothing_is_lost_or_doubled(
    client: Client, start_worker: StartWorker
) -> None:
    first = start_worker(session_timeout_ms=SESSION_MS)
    client.content(*(film(f"i{n}", f"Film {n}") for n in range(20)))
    requests = []

    def traffic(begin: int, end: int) -> None:
        for n in range(begin, end):
            client.click(f"u{n % 23}", f"i{n * 3 % 20}")
            if n % 20 == 0:
                requests.append(client.request(f"u{n % 23}"))
        client.flush()

    traffic(0, 400)
    second = start_worker(session_timeout_ms=SESSION_MS)
    traffic(400, 800)
    wait_until(lambda: owned(first) == owned(second) == 2, "the partitions are shared")
    # A worker that does not own the user redirects to the one that does, once it has heard of it.
    asked = [f"recommendations/u{n}" for n in (1, 2, 3, 4)] + [f"explanations/u{n}/i0" for n in (1, 2, 3, 4)]
    everyone = [(worker, path) for worker in (first, second) for path in asked]
    wait_until(lambda: all(http_status(*each) == 200 for each in everyone), "each worker answers for all")
    assert verified(client, "--url", first.url) == {"users", "items", "slates", "policy"}
    assert first.pid is not None
    os.kill(first.pid, signal.SIGKILL)
    traffic(800, 1_200)
    wait_until(lambda: owned(second) == 4, "the second worker owns everything")
    wait_until(lambda: len(client.records("clicks")) == 1_200, "the whole log is read")
    expected = folded_digest(client)
    wait_until(lambda: live_digest(second) == expected, "the live state is the fold of the log")
    wait_until(
        lambda: set(requests) <= {slate.request_id for slate in client.recommendations()},
        "every request is answered",
    )


def verified(client: Client, *options: str, **settings: Any) -> set[str]:
    """Kinds of state of all partitions that `slatestream verify` finds equal."""
    command = [sys.executable, "-m", "streams.cli", "verify", "--json", *options]
    variables = os.environ | environment(same_topics(client.settings, **(FAST | settings)))
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(done.stdout)
    assert (said["equal"], said["differences"], len(said["partitions"])) == (True, 0, 4)
    return set.intersection(*(set(one["rows"]) for one in said["partitions"]))


def owned(worker: WorkerProcess) -> int:
    """Partitions that a worker owns and has restored."""
    with urllib.request.urlopen(f"{worker.url}/v1/digest", timeout=30) as answer:
        return len(json.loads(answer.read())["clicks"])


def http_status(worker: WorkerProcess, path: str) -> int:
    try:
        with urllib.request.urlopen(f"{worker.url}/v1/{path}", timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
