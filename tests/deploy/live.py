"""A worker with traffic, and a Prometheus that scrapes it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer.testing
import yaml

from streams.broker.ports import keep_port, port_of
from streams.cli import app
from streams.settings import Settings
from streams.trainer.drift import SCORES
from streams.worker.process import DIE_WITH_PARENT, WorkerProcess, environment, same_topics
from tests.e2e.client import Client, film

RULES = Path(__file__).resolve().parents[2] / "deploy" / "prometheus"
FILMS = [film(f"f{number}", f"Film {number}", genre=["Drama"]) for number in range(8)]
WINDOW_MS = 1_000


class Traffic:
    """Rounds of clicks, requests and HTTP that move every metric."""

    def __init__(self, client: Client, worker: WorkerProcess) -> None:
        self._client = client
        self._worker = worker
        self._round = 0
        client.content(*FILMS)
        for number in range(len(FILMS)):
            self._click("sated", f"f{number}")
        client.flush()

    def round(self) -> None:
        """Ask for slates over both ways, click on what they show, and do what goes wrong in practice."""
        client = self._client
        self._round += 1
        for number in range(16):
            user = f"u{self._round}-{number}"
            slate = json.loads(self._get(f"/v1/recommendations/{user}?k=3"))
            if (items := [item["item_id"] for item in slate.get("slate", ())]) and number % 3:
                self._click(user, items[number % len(items)], request_id=slate["request_id"])
        client.request("asks-by-topic", k=3)
        for path in ("/v1/recommendations/sated?k=3", "/v1/recommendations/web?k=0", "/readyz", "/nowhere"):
            self._get(path)
        for number in range(12):  # on every partition: later clicks close the slates
            self._click(f"late{number}", "f0", action="view")
        client.send("clicks", "bad", b"{")
        client.producer.send("live.people", b'{"who": "u0-0"}')
        client.send("clicks", "other-key", {"event_id": f"k{self._round}", "user_id": "u0-0", "item_id": "f1",
                    "action": "click", "timestamp_ms": int(1000 * time.time())})  # fmt: skip
        client.flush()

    def _click(self, user: str, item: str, **fields: str) -> None:
        self._client.click(user, item, **fields, timestamp_ms=int(1000 * time.time()))

    def _get(self, path: str) -> bytes:
        try:
            with urllib.request.urlopen(f"{self._worker.url}{path}", timeout=60) as answer:
                body: bytes = answer.read()
                return body
        except urllib.error.HTTPError as answer:
            with answer:
                return answer.read()


@contextmanager
def beside(settings: Settings, command: str, *options: str, **more: Any) -> Iterator[tuple[str, int]]:
    """Run `slatestream ope`, `canary` or `trainer`, with more settings; give its host:port and process id."""
    variables = os.environ | environment(same_topics(settings, **more)) | {"COLUMNS": "400"}
    live = subprocess.Popen(
        [
            *DIE_WITH_PARENT, sys.executable, "-u", "-m", "streams.cli", command, "--port", "0", *options,
        ],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=variables,
    )  # fmt: skip
    with live:
        try:
            assert live.stdout is not None
            yield urllib.parse.urlsplit(live.stdout.readline().split()[-1]).netloc, live.pid
        finally:
            live.kill()


def start_experiment(settings: Settings) -> None:
    """Start an A/B test of the live policy and another."""
    started = typer.testing.CliRunner().invoke(
        app,
        [
            "experiment",
            "start",
            "hot",
            "--variant",
            "control=live",
            "--variant",
            "b=epsilon-greedy:epsilon=1",
        ],
        env=environment(same_topics(settings, policy="epsilon-greedy")),
    )
    assert started.exit_code == 0, (started.output, started.exception)


def send_scores(client: Client, version: str) -> None:
    """Publish as many scores of a release as a trainer compares, an hour apart; only it reads these."""
    now_ms, each = int(time.time() * 1000), 200
    for number in range(2 * SCORES // each):
        slate = [{"score": (number + place) % each / each} for place in range(each)]
        at_ms = now_ms - 3_600_000 * number
        value = json.dumps({"slate": slate, "model_version": version, "timestamp_ms": at_ms})
        client.send("feedback", "scores", value.encode())
    client.flush()


SECONDS = {"5m": 5, "10m": 5, "15m": 6, "30m": 120, "1h": 8, "6h": 9, "3d": 12, "7d": 60, "30d": 30}
"""How long a quicker window is. Half an hour is that over which a worker has to start four times."""


def quicker(rules: str) -> str:
    """The same rules in seconds: what lasts for 2 is told, and a wait of a minute is one of a second.

    Impressions are as few, and a trainer waits half a minute, as it always does, before it tries again.
    """
    rules = rules.replace('runs_total{outcome="failed"}[1h]', 'runs_total{outcome="failed"}[30m]')
    rules = re.sub(r"\[(\w+)\]", lambda found: f"[{SECONDS[found[1]]}s]", rules)
    rules = re.sub(r"\bfor: \w+", "for: 2s", rules)
    rules = rules.replace("_impressions_total[8s])) > 1000", "_impressions_total[8s])) > 50")
    return rules.replace("_lag_seconds) > 60", "_lag_seconds) > 1")


class Prometheus:
    """A Prometheus with the committed rules, quicker than the committed configuration.

    Parameters
    ----------
    in_seconds : see `quicker`
    token : shown to workers, beside the configuration in the file that this names
    """

    def __init__(
        self,
        program: str,
        folder: Path,
        targets: dict[str, list[str]],
        *,
        in_seconds: bool = False,
        token: str = "",
    ) -> None:
        self._kept = keep_port()
        port = port_of(self._kept)
        self.url = f"http://127.0.0.1:{port}"
        config = yaml.safe_load((RULES / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        assert {job["job_name"] for job in config["scrape_configs"]} == targets.keys()
        for job in config["scrape_configs"]:
            job["static_configs"] = [{"targets": targets[job["job_name"]]}]
        for name in config["rule_files"]:
            text = (RULES / name).read_text()
            rules = yaml.safe_load(quicker(text) if in_seconds else text)
            for group in rules["groups"]:
                group["interval"] = "1s"
            (folder / name).write_text(yaml.safe_dump(rules))
        (folder / "worker.token").write_text(token)
        self._config, self._file = config, folder / "prometheus.yml"
        self._file.write_text(yaml.safe_dump(config))
        self._log = (folder / "prometheus.log").open("wb")
        self._process = subprocess.Popen(
            [
                *DIE_WITH_PARENT, program, f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=self._log, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def scrape(self, job: str, target: str) -> None:
        """Scrape another target of a job from now on."""
        (found,) = (one for one in self._config["scrape_configs"] if one["job_name"] == job)
        found["static_configs"][0]["targets"].append(target)
        self._file.write_text(yaml.safe_dump(self._config))
        self._process.send_signal(signal.SIGHUP)  # by which it reads its configuration again

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        self._kept.close()
        self._log.close()

    def ask(self, path: str, **parameters: str) -> Any:
        """What its API answers; None while it does not."""
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.loads(answer.read())["data"]
        except urllib.error.HTTPError as error:
            with error:
                said = error.read().decode()
            if error.code != 503:  # 503 while it starts
                raise AssertionError(f"{parameters}: {said}") from None
            return None
        except OSError:
            return None

    def fired(self, within_s: int) -> set[str]:
        """Names of the alerts that fire, or have fired within so many seconds."""
        found = self.ask("query", query=f'last_over_time(ALERTS{{alertstate="firing"}}[{within_s}s])')
        return {one["metric"]["alertname"] for one in (found or {"result": []})["result"]}

    def firing(self) -> set[str]:
        """Names of the alerts that fire now."""
        found = self.ask("alerts") or {"alerts": []}
        return {one["labels"]["alertname"] for one in found["alerts"] if one["state"] == "firing"}

    def has(self, query: str) -> bool:
        """Whether a query gives numbers now."""
        found = self.ask("query", query=query.replace("$__rate_interval", "10s"))
        return found is not None and any(one["value"][1] != "NaN" for one in found["result"])


def selectors(query: str) -> set[str]:
    """The series that a query reads."""
    names = r"(?<![\w:.\"])(?:slatestream[\w:]*|process_\w+|up)(?:\{[^}]*\})?"
    return {found.replace("{}", "") for found in re.findall(names, query)}


def missing(prometheus: Prometheus, traffic: Traffic, queries: set[str], *, within_s: float) -> set[str]:
    """Send traffic until every query has given numbers; return those that have not in time."""
    deadline = time.monotonic() + within_s
    while queries and time.monotonic() < deadline:
        traffic.round()
        queries = {query for query in queries if not prometheus.has(query)}
    return queries
