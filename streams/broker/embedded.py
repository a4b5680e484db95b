"""A real Kafka broker for the demo, the test suite and a laptop: Apache Kafka in KRaft mode, no Docker.

The jars come from Maven once, by `deploy/kafka/pom.xml`, and are kept in a cache. The broker is one JVM,
controller and broker in one, bound to 127.0.0.1, with a data folder of its own.
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from pathlib import Path
from types import FrameType, TracebackType
from typing import Annotated, Self

import typer

from streams.broker.config import Listeners, write_config
from streams.broker.jars import class_archive, find_java, kafka_jars
from streams.broker.ports import HOST, keep_port, port_of
from streams.errors import BrokerError
from streams.kafka.topic_admin import create_others
from streams.settings import load_settings

START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 30.0
ARCHIVE_TIMEOUT_S = 180.0  # for a JVM that writes an archive when it ends: four seconds of a processor
_ARCHIVE = "classes.jsa"
_META = "meta.properties"
_ENDED_BY_SIGTERM = 143
# Part of util-linux, so on every Debian and Ubuntu; without it a killed parent leaves its broker running.
_DIE_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL") if shutil.which("setpriv") else ()


class EmbeddedBroker:
    """A Kafka broker that lives as long as this object is open.

    Use it as a context manager, or call `start` and `close`. `stop` keeps the data, and a `start` after
    it serves the same data on the same port.

    Parameters
    ----------
    port : int
        Port to listen on; 0 takes a free one.
    data_dir : Path, optional
        Where the log lives. A folder that is given is kept; without one a temporary folder is made and
        removed by `close`.
    heap : str
        The JVM's largest heap, as in `-Xmx`.
    listeners, properties
        See `streams.broker.config.write_config`.

    Notes
    -----
    The JVM is killed when the thread that called `start` ends, however it ends: a killed parent leaves
    no broker behind. So start it from the main thread, or from one that outlives the broker.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        data_dir: Path | None = None,
        heap: str = "1g",
        listeners: Listeners | None = None,
        properties: Mapping[str, str] | None = None,
    ) -> None:
        if not 0 <= port <= 65535:
            raise ValueError(f"port must be in [0, 65535], got {port}")
        if not re.fullmatch(r"\d+[kmgKMG]", heap):
            raise ValueError(f"heap must be a number with k, m or g, such as '1g', got {heap!r}")
        self._port = port
        self._given_port = port
        self._data_dir = data_dir
        self._is_temporary = data_dir is None
        self._heap = heap
        self._listeners = listeners
        self._properties = properties
        self._process: subprocess.Popen[bytes] | None = None
        self._kept: socket.socket | None = None  # its port, while it is stopped too
        self._archive: Path | None = None  # what the JVM is to make when it ends

    @property
    def bootstrap_servers(self) -> str:
        """`host:port` for clients; known once the broker has started."""
        if not self._port:
            raise BrokerError("the broker has no port before it has started")
        return f"{HOST}:{self._port}"

    @property
    def data_dir(self) -> Path:
        """The folder with the log, the configuration and `broker.log`."""
        if self._data_dir is None:
            raise BrokerError("the broker has no data folder before it has started")
        return self._data_dir

    @property
    def pid(self) -> int:
        """Process id of the JVM."""
        if self._process is None:
            raise BrokerError("the broker is not running")
        return self._process.pid

    def start(self) -> None:
        """Start the broker and return once it answers a client.

        Raises
        ------
        BrokerError
            When Java or Maven is missing, the port is taken, or the broker does not come up; the message
            says what to do.
        """
        if self._process is not None:
            raise BrokerError("the broker is already running")
        java = find_java()
        jars = kafka_jars()
        if self._data_dir is None:
            self._data_dir = Path(tempfile.mkdtemp(prefix="slatestream-kafka-"))
        self._data_dir = self._data_dir.absolute()
        self._data_dir.mkdir(parents=True, exist_ok=True)
        try:
            self._keep_port()
            self._launch(java, jars)
        except BaseException:
            self._give_up_port()
            raise

    def stop(self) -> None:
        """Stop the JVM cleanly, by force after a deadline. The data stays; no-op when not running."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S if self._archive is None else ARCHIVE_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        archive, self._archive = self._archive, None
        if archive is not None and process.returncode == _ENDED_BY_SIGTERM:
            self._keep_archive(archive)

    def close(self) -> None:
        """Stop the JVM and remove the data folder if it is a temporary one."""
        self.stop()
        self._give_up_port()
        if self._is_temporary and self._data_dir is not None:
            shutil.rmtree(self._data_dir, ignore_errors=True)
            self._data_dir = None
            self._port = self._given_port

    def wait(self) -> int:
        """Block until the JVM ends by itself, and return its exit code."""
        if self._process is None:
            raise BrokerError("the broker is not running")
        return self._process.wait()

    def log_tail(self, lines: int = 15) -> str:
        """Return the last lines that the broker logged or printed."""
        text = ""
        for name in ("broker.out", "broker.log"):
            path = self.data_dir / name
            if path.is_file():
                text += path.read_text(errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _keep_port(self) -> None:
        if self._kept is not None:
            return
        try:
            self._kept = keep_port(self._port)
        except OSError as error:
            raise BrokerError(
                f"port {self._port} on {HOST} cannot be used ({error.strerror}): stop what listens there, or "
                "choose another port"
            ) from None
        self._port = port_of(self._kept)

    def _give_up_port(self) -> None:
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def _launch(self, java: str, jars: Path) -> None:
        with contextlib.closing(keep_port()) as controller:
            properties, log4j = write_config(
                self.data_dir,
                host=HOST,
                port=self._port,
                controller_port=port_of(controller),
                listeners=self._listeners,
                properties=self._properties,
            )
            self._run(java, jars, properties, log4j)

    def _run(self, java: str, jars: Path, properties: Path, log4j: Path) -> None:
        data_dir = self.data_dir
        classpath = f"{jars}/*"
        if not (data_dir / "log" / _META).is_file():
            _format_storage(java, classpath, properties, jars.with_name(f"{jars.name}-storage"))
        # Logs of an earlier run would be mistaken for this one's.
        (data_dir / "broker.log").unlink(missing_ok=True)
        archive = class_archive(java, jars)
        if archive.is_file():
            classes = f"-XX:SharedArchiveFile={archive}"
        else:
            self._archive, classes = archive, f"-XX:ArchiveClassesAtExit={data_dir / _ARCHIVE}"
        command = [
            *_DIE_WITH_PARENT,
            *(java, classes, "-Xms256m", f"-Xmx{self._heap}", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20"),
            # The compiler that optimises takes a whole processor for as long as such a broker mostly lives,
            # and what it makes is no quicker: a broker copies bytes and calls the system.
            "-XX:TieredStopAtLevel=1",
            *("-Djava.awt.headless=true", f"-Dlog4j2.configurationFile={log4j.name}"),
            *("-cp", classpath, "kafka.Kafka", properties.name),
        ]
        with (data_dir / "broker.out").open("wb") as output:
            # Its own session: Ctrl-C must reach the worker first, and the broker only through `stop`.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=data_dir,
                env=_environment(),
            )
        try:
            self._await_ready()
        except BaseException:
            self.stop()
            raise

    def _keep_archive(self, archive: Path) -> None:
        """Keep the archive of classes that the JVM has made, for the next start, if it can be."""
        partial = archive.with_name(f"{archive.name}.{os.getpid()}")
        with contextlib.suppress(OSError):
            shutil.move(self.data_dir / _ARCHIVE, partial)
            partial.replace(archive)

    def _await_ready(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if (code := self._process.poll()) is not None:
                raise BrokerError(
                    f"the Kafka broker ended with code {code} while starting; its last words:\n"
                    f"{self.log_tail()}"
                )
            if _answers(self._port):
                return
            time.sleep(0.02)
        raise BrokerError(
            f"the Kafka broker did not answer on {HOST}:{self._port} within {START_TIMEOUT_S:.0f} s; its "
            f"last words:\n{self.log_tail()}"
        )


def _format_storage(java: str, classpath: str, properties: Path, kept: Path) -> None:
    """Let Kafka's tool format the data folder, once: a JVM takes a second, and only two names are others.

    Parameters
    ----------
    kept : where what the tool has written is, or is to be
    """
    storage = properties.parent / "log"
    if kept.is_dir():
        shutil.copytree(kept, storage, dirs_exist_ok=True)
        said = (kept / _META).read_text()
        (storage / _META).write_text(
            re.sub(r"(?m)^(cluster\.id|directory\.id)=.*$", lambda name: f"{name[1]}={_new_id()}", said)
        )
        return
    command = [java, "-XX:TieredStopAtLevel=1", "-cp", classpath, "kafka.tools.StorageTool", "format"]
    command += [f"--cluster-id={_new_id()}", "--config", properties.name]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=properties.parent, env=_environment()
    )
    if done.returncode:
        raise BrokerError(f"Kafka could not format its data folder:\n{(done.stdout + done.stderr).strip()}")
    partial = kept.with_name(f"{kept.name}.{os.getpid()}")
    with contextlib.suppress(OSError):  # it may be read-only, or another process was faster
        shutil.copytree(storage, partial)
        partial.rename(kept)
    shutil.rmtree(partial, ignore_errors=True)


def _new_id() -> str:
    return urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()


def _environment() -> dict[str, str]:
    """Return the environment of a JVM to which a folder's name is UTF-8, whatever the locale is."""
    return {**os.environ, "LC_ALL": "C.UTF-8"}


# ApiVersions v0, correlation id 1, no client id: the first thing that any client sends.
_API_VERSIONS = bytes.fromhex("0000000a 0012 0000 00000001 ffff")


def _answers(port: int) -> bool:
    """Tell whether a broker answers ApiVersions on the port."""
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=5) as connection:
        connection.sendall(_API_VERSIONS)
        answer = connection.recv(10, socket.MSG_WAITALL)  # length, correlation id, error code
        return len(answer) == 10 and answer[4:] == b"\x00\x00\x00\x01\x00\x00"
    return False


def broker_command(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on, on 127.0.0.1.")] = 9092,
    data_dir: Annotated[Path, typer.Option(help="Where the log is kept.")] = Path("build/kafka"),
    heap: Annotated[str, typer.Option(help="Largest heap of the JVM.")] = "1g",
    topic: Annotated[
        list[str] | None,
        typer.Option(help="A topic of yours to create; several times. Ours: `slatestream topics create`."),
    ] = None,
) -> None:
    """Run a real Kafka broker until Ctrl-C: one node, no Docker.

    For trials on one machine: no TLS, no passwords, bound to 127.0.0.1. Its log stays in --data-dir. It needs
    Java 17, and Maven the first time.

    slatestream broker --port 9092 --topic shop.events
    """
    try:
        broker = EmbeddedBroker(port=port, data_dir=data_dir, heap=heap)
    except ValueError as error:
        raise BrokerError(str(error)) from None

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    typer.echo("Starting Kafka (the first time its jars are fetched with Maven) ...")
    try:
        with broker:
            typer.echo(
                f"Kafka listens on {broker.bootstrap_servers}, data in {broker.data_dir}; Ctrl-C stops it."
            )
            if topic:
                create_others(load_settings(bootstrap_servers=broker.bootstrap_servers), topic)
                typer.echo(f"Topics: {', '.join(topic)}")
            code = broker.wait()
            tail = broker.log_tail()
        raise BrokerError(f"the Kafka broker ended with code {code}; its last words:\n{tail}")
    except KeyboardInterrupt:
        typer.echo("Kafka stopped.")
