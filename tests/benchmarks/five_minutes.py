"""How long it takes until a stranger's data is served, by the commands that README.md and deploy/ name.

`python -m tests.benchmarks.five_minutes --ratings ratings.csv --items movies.csv` takes a stranger's CSV by
`slatestream quickstart`; `--impressions behaviors.tsv.gz --news news.tsv.gz` (NeMig's files) takes a stream
of another shape: impressions and articles as a site might say them lie in topics of an own broker, whose
partitioner is another one, and are mapped. Making these topics is the site's work and is not counted.

Printed are the commands, the seconds until a slate of ten came, and the seconds of processor time of all that
ran. A part whose files are not given is left out, and named.
"""

import argparse
import csv
import gzip
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kafka import KafkaProducer

from streams.broker.embedded import EmbeddedBroker
from streams.kafka.topic_admin import admin_client
from streams.settings import load_settings
from streams.worker.process import process_cpu_seconds
from tests.benchmarks.inputs import faults_told

ROOT = Path(__file__).resolve().parents[2]
PROMISE_S = 300.0
PARTITIONS = 3
FIRST_MS = 1_640_995_200_000
STEP_MS = 60_000
SITE = ("site.news", "site.impressions")


class Commands:
    """Runs commands of `slatestream` in a folder, and counts them."""

    def __init__(self, folder: Path, variables: dict[str, str]) -> None:
        self.folder = folder
        self.environment = {**os.environ, **variables, "COLUMNS": "120", "PYTHONPATH": str(ROOT)}
        self.typed: list[str] = []
        self.began = time.perf_counter()

    def start(self, line: str, said: Path) -> subprocess.Popen[bytes]:
        """Start a command that stays; what it says goes to a file."""
        with said.open("wb") as file:
            return subprocess.Popen(
                self._words(line), cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL,
                stdout=file, stderr=file,
            )  # fmt: skip

    def run(self, line: str) -> str:
        """Run a command to its end, which must be a good one; return what it printed."""
        done = subprocess.run(
            self._words(line), cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"{line} ended with code {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def _words(self, line: str) -> list[str]:
        self.typed.append(line)
        return [sys.executable, "-m", "streams.cli", *shlex.split(line)]

    def report(self, name: str, said: str) -> None:
        """Print what was typed, and how long it took."""
        seconds = time.perf_counter() - self.began
        spent = sum(os.times()[2:4]) + sum(map(process_cpu_seconds, children()))
        print(f"{name}: a slate after {seconds:.0f} s ({PROMISE_S:.0f} promised), {len(self.typed)} commands")
        print(f"  {spent:.0f} s of processor time; {said}")
        for line in self.typed:
            print(f"  slatestream {line}")


def children() -> list[int]:
    """Processes that descend from this one."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found - {os.getpid()})


def stranger_s_csv(folder: Path, ratings: Path, items: Path | None) -> None:
    """Serve files with `quickstart`, which has to understand them by itself."""
    commands, said = Commands(folder, {}), folder / "said.txt"
    files = " ".join(shlex.quote(str(file.absolute())) for file in (ratings, items) if file is not None)
    process = commands.start(f"quickstart {files} --yes", said)
    try:
        while (found := re.search(r"^Ask +slatestream (recommend .*)$", said.read_text(), re.M)) is None:
            if process.poll() is not None:
                raise SystemExit(said.read_text())
            time.sleep(0.5)
        answer = json.loads(commands.run(f"{found[1]} --json"))
        check(answer)
        commands.report("a stranger's CSV", f"fallback {answer['fallback']}")
    finally:
        process.terminate()
        process.wait()


def foreign_stream(folder: Path, impressions: Path, news: Path) -> None:
    """Serve topics of another shape by a mapping that `init` proposes."""
    with EmbeddedBroker(data_dir=folder / "kafka") as broker:
        user = publish(broker.bootstrap_servers, impressions, news)
        commands = Commands(folder, {"KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers})
        commands.run("init site.news --feeds content --yes --answer item_id=nid")
        commands.run("init site.impressions --yes")
        commands.run("map mapping.toml --sample")
        commands.environment["SLATESTREAM_MAPPING"] = "mapping.toml"
        commands.run("topics create")
        with worker(commands, folder / "worker.log") as url:
            answer = json.loads(commands.run(f"recommend {user} --url {url} --json"))
            check(answer)
            titles = [one["title"] for one in answer["slate"]]
            commands.report("a foreign stream", f"fallback {answer['fallback']}, such as {titles[0]!r}")


@contextmanager
def worker(commands: Commands, said: Path) -> Iterator[str]:
    """Run a worker until it is ready, which it is once it has taken all that lies in the topics."""
    process = commands.start("worker --port 0", said)
    try:
        while (found := re.search(r"listening on (http://[^,\s]+)", said.read_text())) is None or not ready(
            found[1]
        ):
            if process.poll() is not None:
                raise SystemExit(said.read_text())
            time.sleep(0.5)
        yield found[1]
    finally:
        process.terminate()
        process.wait()


def ready(url: str) -> bool:
    """Ask `/readyz`."""
    return subprocess.run(["curl", "-sf", f"{url}/readyz"], capture_output=True, check=False).returncode == 0


def publish(servers: str, impressions: Path, news: Path) -> str:
    """Publish articles and impressions as a site might say them; return a reader with clicks.

    NeMig's impressions have no times: they come a minute apart, in the order of the file.
    """
    reader = ""
    with admin_client(load_settings(bootstrap_servers=servers)) as admin:
        admin.create_topics({name: {"num_partitions": PARTITIONS, "replication_factor": 1} for name in SITE})
        admin.wait_for_topics(list(SITE))
    producer = KafkaProducer(bootstrap_servers=servers, acks="all", linger_ms=20)
    with gzip.open(news, "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            about = {"subject": row["subtopic"], "mood": row["sentiment"]}
            article = {"nid": row["news_id"], "headline": row["title"], "abstract": row["abstract"], **about}
            send(producer, SITE[0], row["news_id"], article)
    with gzip.open(impressions, "rt", encoding="utf-8", newline="") as file:
        for number, (name, who, _, shown) in enumerate(csv.reader(file, delimiter="\t")):
            places = [one.rpartition("-") for one in shown.split()]
            when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime((FIRST_MS + number * STEP_MS) / 1000))
            seen = [{"article": article, "clicked": clicked == "1"} for article, _, clicked in places]
            if not reader and any(one["clicked"] for one in seen):
                reader = who
            said = {"impression": int(name), "reader": {"number": who}, "at": when, "shown": seen}
            send(producer, SITE[1], name, said)
    producer.flush()
    producer.close()
    return reader


def send(producer: KafkaProducer, topic: str, key: str, value: object) -> None:
    """Put a record where the site's partitioner has it, which is none of ours: by the key's last digits."""
    place = int(re.sub(r"\D", "", key)[-6:]) % PARTITIONS
    producer.send(topic, json.dumps(value).encode(), key=key.encode(), partition=place)


def check(answer: dict[str, list[dict[str, str]]]) -> None:
    """A slate is whole, and its items have titles."""
    slate = answer["slate"]
    if len(slate) != 10 or not all(one.get("title") for one in slate):
        raise SystemExit(f"the slate must have ten items with titles, got {slate}")


def main() -> None:
    """Run the parts whose files are given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for name in ("ratings", "items", "impressions", "news"):
        parser.add_argument(f"--{name}", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="five-minutes-") as folder:
        if given.ratings is None:
            print("a stranger's CSV: left out, no --ratings")
        else:
            (own := Path(folder) / "csv").mkdir()
            stranger_s_csv(own, given.ratings, given.items)
        if given.impressions is None or given.news is None:
            print("a foreign stream: left out, no --impressions and --news")
        else:
            (own := Path(folder) / "stream").mkdir()
            foreign_stream(own, given.impressions, given.news)


if __name__ == "__main__":
    with faults_told():
        main()
