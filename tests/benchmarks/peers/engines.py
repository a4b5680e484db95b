"""How each peer is built and started: Java by Maven, Python in an environment of its own, under build/."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from streams.broker.jars import find_java

HERE = Path(__file__).resolve().parent
BUILD = Path("build/peers")
HEAP = "-Xmx2g"
# Flink's serializers look into classes of java.util, which Java 17 closes.
OPENED = [
    f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in ("java.lang", "java.util", "java.time")
]

Command = list[str]


@dataclass(frozen=True, slots=True)
class Engine:
    """A peer: what it is, how its program is made ready, and with what it is started.

    events_share is the share of the events that it is given: the slow ones are measured on fewer.
    """

    name: str
    title: str
    build: Callable[[], Command]
    events_share: float = 1.0


def maven(folder: str, *options: str) -> Callable[[], Command]:
    """Build a Maven project whose sources are newer than what was built; return the start of its command."""

    def build() -> Command:
        source, out = HERE / folder, (BUILD / folder).absolute()
        jar = out / "job-1.jar"
        newest = max(path.stat().st_mtime for path in source.rglob("*") if path.is_file())
        if not jar.is_file() or jar.stat().st_mtime < newest:
            run(["mvn", "-q", "-B", "-f", str(source / "pom.xml"), "package", f"-Dout={out}"])
        return [find_java(), HEAP, *options, "-cp", f"{jar}:{out}/lib/*", "LastItems"]

    return build


def python(script: str, requirement: str, *arguments: str) -> Callable[[], Command]:
    """Install a requirement into an environment of its own; return the start of the program's command."""

    def build() -> Command:
        folder = (BUILD / script).absolute()
        done = folder / f".{requirement}"
        if not done.is_file():
            uv = Path(sys.executable).with_name("uv")
            tool = str(uv) if uv.is_file() else shutil.which("uv") or "uv"
            run([tool, "venv", "-q", "--clear", "--python", sys.executable, str(folder)])
            run([tool, "pip", "install", "-q", "--python", f"{folder}/bin/python", requirement])
            done.touch()
        return [f"{folder}/bin/python", str(HERE / f"{script}_last_items.py"), *arguments]

    return build


def run(command: Command) -> None:
    """Run a command to its end; raise RuntimeError with its last words when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise RuntimeError(f"`{' '.join(command)}` failed:\n{said}")


ENGINES = {
    "kafka-streams": Engine(
        "kafka-streams", "Kafka Streams 4.1, in memory, cache and changelog", maven("kafka_streams")
    ),
    "flink": Engine(
        "flink", "Flink 1.20, hash map state, checkpoint every 5 s", maven("flink", *OPENED)
    ),
    "quix": Engine(
        "quix", "Quix Streams 3.28, RocksDB and changelog", python("quix", "quixstreams==3.28.1"), 0.2
    ),
    "faust": Engine(
        "faust", "Faust 0.15 with a Table, in memory", python("faust", "faust-streaming==0.15.3"), 0.03
    ),
}  # fmt: skip
