"""A worker's state from its `/metrics` and `/readyz`, for `slatestream status`."""

import http.client
import json
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import msgspec

from streams.client.http import token_of_environment
from streams.events import UNDECODABLE
from streams.straight_http import open_straight
from streams.worker.process import MetricsReading
from streams.worker.ready_log import lacking

TIMEOUT_S = 30.0
INPUTS = ("clicks", "content", "users", "requests")
STAGES = {"request to slate": "request_to_publish", "click to fold": "click_to_fold"}


@dataclass(frozen=True, slots=True)
class Scrape:
    """One look at a worker."""

    at: float
    metrics: MetricsReading
    readiness: Mapping[str, Any]


@dataclass(slots=True)
class Worker:
    """A worker as a status shows it.

    Attributes
    ----------
    events_per_s, slates_per_s : between the last two looks
    latencies_ms : (p50, p99) by what is timed, between the last two looks, or ever where nothing happened
    lag : (records, seconds) by topic and partition
    missing : what readiness lacks
    refused : the release that is to serve and is refused, "" for none
    canary, canary_share : the release that serves a share of the users beside it, "" for none
    """

    url: str
    answers: bool = False
    ready: bool = False
    missing: list[str] = field(default_factory=list)
    events_per_s: dict[str, float] = field(default_factory=dict)
    slates_per_s: float = 0.0
    latencies_ms: dict[str, tuple[float, float]] = field(default_factory=dict)
    lag: dict[str, dict[int, tuple[int, float]]] = field(default_factory=dict)
    release: str = ""
    provider: str = ""
    refused: str = ""
    canary: str = ""
    canary_share: float = 0.0
    policies: list[str] = field(default_factory=list)
    policy_version: int = 0
    partitions: int = 0
    users: int = 0
    items: int = 0
    dead_letters: int = 0
    memory_mib: float = 0.0
    error: str = ""

    @property
    def lag_records(self) -> int:
        """Records that wait, over all topics and partitions."""
        return sum(records for parts in self.lag.values() for records, _ in parts.values())

    @property
    def lag_seconds(self) -> float:
        """For how long the oldest of them has waited."""
        return max((seconds for parts in self.lag.values() for _, seconds in parts.values()), default=0.0)

    def as_json(self) -> dict[str, Any]:
        """Return it as one finds it with --json."""
        return asdict(self) | {"lag_records": self.lag_records, "lag_seconds": self.lag_seconds}


def read(url: str, *, also: Collection[int] = (), timeout_s: float = TIMEOUT_S) -> bytes:
    """Return what a URL answers, with the token of `SLATES_TOKEN`.

    Parameters
    ----------
    also : statuses beside 200 whose body is an answer

    Raises
    ------
    OSError
        If nothing answers, or the answer is a refusal: with its reason.
    """
    token = token_of_environment()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with open_straight(urllib.request.Request(url, headers=headers), timeout_s=timeout_s) as answer:
            return bytes(answer.read())
    except http.client.HTTPException as error:
        raise OSError(f"what answers is no worker ({type(error).__name__})") from None
    except urllib.error.HTTPError as error:
        body = error.read()
        if error.code in also:
            return body
        try:
            raise OSError(msgspec.json.decode(body)["detail"]) from None
        except (*UNDECODABLE, KeyError, TypeError):
            raise OSError(f"it answered {error.code}") from None


def scrape(url: str, *, timeout_s: float = TIMEOUT_S) -> Scrape | str:
    """Look at a worker; return why that was not possible where it was not."""
    base = url.rstrip("/")
    try:
        readiness = json.loads(read(f"{base}/readyz", also=(503,), timeout_s=timeout_s))
        if not isinstance(readiness, dict):
            raise ValueError("what answers is no worker: /readyz is no JSON object")
        text = read(f"{base}/metrics", timeout_s=timeout_s).decode()
        return Scrape(time.monotonic(), MetricsReading(text), readiness)
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", error))


def seen(url: str, before: Scrape | None, now: Scrape | str) -> Worker:
    """Make of two looks at a worker what a status shows of it."""
    worker = Worker(url)
    if isinstance(now, str):
        worker.error = now
        return worker
    metrics, span = now.metrics, 0.0 if before is None else now.at - before.at
    worker.answers = True
    worker.ready = bool(metrics.total("ready"))
    # What readiness lacks is false; the counts among it are no conditions.
    worker.missing = lacking(now.readiness)
    for topic in INPUTS:
        worker.events_per_s[topic] = _rate(before, now, span, "events_total", topic=topic)
    worker.slates_per_s = _rate(before, now, span, "slates_total")
    for name, stage in STAGES.items():
        worker.latencies_ms[name] = _latency(None if before is None else before.metrics, metrics, stage)
    worker.lag = _lag(metrics)
    info = metrics.labels("release_info")
    worker.refused = next((one["version"] for one in metrics.labels("release_refused_info")), "")
    worker.canary = next((one["version"] for one in metrics.labels("release_canary_share")), "")
    worker.canary_share = metrics.total("release_canary_share")
    worker.release, worker.provider = next(((one["version"], one["provider"]) for one in info), ("", ""))
    worker.policies = sorted(
        policy
        for policy in {one["policy"] for one in metrics.labels("slates_total")}
        if metrics.total("slates_total", policy=policy)
    )
    worker.policy_version = int(metrics.total("policy_version"))
    worker.partitions = int(metrics.total("assigned_partitions"))
    worker.users = int(metrics.total("state_rows", kind="users"))
    worker.items = int(metrics.total("state_rows", kind="items"))
    worker.dead_letters = int(metrics.total("dead_letters_total"))
    worker.memory_mib = metrics.total("process_resident_memory_bytes") / 2**20
    return worker


def _rate(before: Scrape | None, now: Scrape, span: float, name: str, **labels: str) -> float:
    if before is None or span <= 0:
        return 0.0
    return max(now.metrics.total(name, **labels) - before.metrics.total(name, **labels), 0.0) / span


def _latency(before: MetricsReading | None, now: MetricsReading, stage: str) -> tuple[float, float]:
    buckets = now.buckets("stage_seconds", stage=stage)
    if before is not None:
        earlier = before.buckets("stage_seconds", stage=stage)
        recent = {bound: count - earlier.get(bound, 0.0) for bound, count in buckets.items()}
        buckets = recent if max(recent.values(), default=0.0) > 0 else buckets
    return 1000 * quantile(buckets, 0.5), 1000 * quantile(buckets, 0.99)


def quantile(buckets: Mapping[float, float], q: float) -> float:
    """Quantile of a histogram's cumulative counts by upper bound, linear within a bucket; 0 of none."""
    ordered = sorted(buckets.items())
    total = ordered[-1][1] if ordered else 0.0
    below, lower = 0.0, 0.0
    for bound, count in ordered:
        if total and count >= q * total:
            inside = (q * total - below) / max(count - below, 1e-12)
            return lower if bound == float("inf") else lower + inside * (bound - lower)
        below, lower = count, bound
    return 0.0


def _lag(metrics: MetricsReading) -> dict[str, dict[int, tuple[int, float]]]:
    found: dict[str, dict[int, tuple[int, float]]] = defaultdict(dict)
    for labels in metrics.labels("lag_records"):
        topic, partition = labels["topic"], labels["partition"]
        records = metrics.total("lag_records", topic=topic, partition=partition)
        seconds = metrics.total("lag_seconds", topic=topic, partition=partition)
        found[topic][int(partition)] = int(records), seconds
    return {topic: dict(sorted(parts.items())) for topic, parts in sorted(found.items())}


def watch(
    urls: Sequence[str], before: Mapping[str, Scrape], *, timeout_s: float = TIMEOUT_S
) -> tuple[list[Worker], dict[str, Scrape]]:
    """Look at workers again; return what is to be shown, and this look for the next time."""
    looks = {url: scrape(url, timeout_s=timeout_s) for url in urls}
    workers = [seen(url, before.get(url), look) for url, look in looks.items()]
    return workers, {url: look for url, look in looks.items() if isinstance(look, Scrape)}
