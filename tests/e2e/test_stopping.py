"""A worker that is told to stop under load: nobody's answer is cut, and it ends soon."""

import http.client
import json
import os
import signal
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

from streams.worker.process import WorkerProcess
from tests.e2e.client import Client, film, wait_until
from tests.e2e.conftest import StartWorker

ASKING = 8


def asked(worker: WorkerProcess, path: str) -> tuple[int, bytes] | None:
    """Status and body; None where nobody takes the connection any more. An answer that is cut raises."""
    try:
        with urllib.request.urlopen(f"{worker.url}{path}", timeout=30) as answer:
            return int(answer.status), answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
    except urllib.error.URLError as error:
        if not isinstance(error.reason, ConnectionRefusedError | ConnectionResetError):
            raise
        return None
    except http.client.RemoteDisconnected:
        raise
    except ConnectionResetError:  # it was still in the queue of the listener
        return None


def ask_on(worker: WorkerProcess, path: str) -> list[tuple[int, bytes]]:
    """Every answer until nobody is there."""
    answers = []
    while (answer := asked(worker, path)) is not None:
        answers.append(answer)
    return answers


def test_a_worker_that_stops_under_load_cuts_no_answer_and_is_not_ready_meanwhile(
    client: Client, start_worker: StartWorker
) -> None:
    worker = start_worker()
    client.content(*(film(f"i{n}", f"Film {n}") for n in range(20)))
    assert worker.pid is not None
    with ThreadPoolExecutor(ASKING + 1) as threads:
        slates = [threads.submit(ask_on, worker, f"/v1/recommendations/u{n}?k=3") for n in range(ASKING)]
        readiness = threads.submit(ask_on, worker, "/readyz")
        wait_until(
            lambda: (read := worker.metrics()) and read.total("slates_total") > 50, "slates are being served"
        )
        for number in range(2_000):
            client.click(f"u{number % 97}", f"i{number % 20}")
        client.flush()
        os.kill(worker.pid, signal.SIGTERM)
        answers = [answer for one in slates for answer in one.result()]
        states = [status for status, _ in readiness.result()]
    assert worker.stop() == 0
    assert {status for status, _ in answers} <= {200, 503}
    served = [json.loads(body) for status, body in answers if status == 200]
    assert len(served) > 50
    assert all(slate["user_id"].startswith("u") for slate in served)  # each is a whole answer
    assert states[-1] == 503
