"""An item's budget for a day, kept to by worker processes on a real broker, whichever of them dies."""

import json
import os
import signal
import urllib.request
from datetime import UTC, datetime

from streams.events import Content
from streams.worker.process import WorkerProcess
from tests.e2e.client import Client, wait_until
from tests.e2e.conftest import StartWorker

BUDGET = 3


def late_zone() -> str:
    """A time zone where it is between ten and eleven in the evening: there is time, and most may be spent."""
    hours = 22 - datetime.now(UTC).hour
    hours = hours - 24 if hours > 14 else hours
    return f"Etc/GMT{-hours:+d}" if hours else "UTC"


def asked(worker: WorkerProcess, n: int, mark: str) -> int:
    """How many of n slates the advertisement is in."""
    shown = 0
    for number in range(n):
        url = f"{worker.url}/v1/recommendations/u{number % 7}?k=2&request_id={mark}{number}"
        with urllib.request.urlopen(url, timeout=60) as answer:
            shown += "ad" in [item["item_id"] for item in json.loads(answer.read())["slate"]]
    return shown


def test_a_budget_is_spent_once_though_the_worker_is_killed(
    client: Client, start_worker: StartWorker
) -> None:
    values = {"budget_attribute": "daily_budget", "budget_time_zone": late_zone(), "seen_actions": []}
    client.content(
        Content("ad", "Boots", attributes={"daily_budget": [str(BUDGET)]}), Content("house ad", "Come in")
    )
    client.flush()
    worker = start_worker(**values)
    shown, number = 0, 0

    def spent() -> bool:
        nonlocal shown, number
        number += 1
        shown += asked(worker, 1, f"a{number}-")
        return shown == BUDGET

    wait_until(spent, "the budget is spent")
    wait_until(
        lambda: (read := worker.metrics()) and read.total("budget_items", state="spent") == 1,
        "the worker knows that it is spent",
    )
    assert asked(worker, 20, "b") == 0
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    other = start_worker(**values)
    assert asked(other, 20, "c") == 0
    read = other.metrics()
    assert read is not None
    assert read.total("budget_spent_ratio") == 1
    assert read.total("budget_overspent_ratio") == 0
