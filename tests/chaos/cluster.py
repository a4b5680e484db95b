"""The broker of chaos runs: a wire for each worker, and, where that may be, a disk that can be filled."""

import contextlib
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Self

from streams.broker.embedded import HOST, EmbeddedBroker
from streams.broker.ports import keep_port, port_of
from tests.chaos.network import Wire

DISK_MIB = 512


class Cluster:
    """A broker and what stands between it and its workers.

    Parameters
    ----------
    wires : how many

    Attributes
    ----------
    disk : the folder that is all of the broker's disk; None where this process may mount none
    """

    broker: EmbeddedBroker
    wires: list[Wire]
    disk: Path | None

    def __init__(self, *, wires: int) -> None:
        self._n_wires = wires
        self._open = ExitStack()

    def __enter__(self) -> Self:
        """Start the broker."""
        with self._open:
            self.disk = self._open.enter_context(_small_disk())
            # While the broker is stopped, too, nobody else is given its ports.
            kept = [self._open.enter_context(closing(keep_port())) for _ in range(1 + self._n_wires)]
            direct, *ports = map(port_of, kept)
            self.wires = [self._open.enter_context(Wire(port)) for port in ports]
            names = [f"WIRE{n}" for n in range(self._n_wires)]
            told = [f"{name}://{HOST}:{wire.port}" for name, wire in zip(names, self.wires, strict=True)]
            self.broker = EmbeddedBroker(
                port=direct,
                data_dir=None if self.disk is None else self.disk / "kafka",
                listeners={name: (port, "PLAINTEXT") for name, port in zip(names, ports, strict=True)},
                properties={"advertised.listeners": ",".join([f"BROKER://{HOST}:{direct}", *told])},
            )
            self._open.enter_context(self.broker)
            self._open = self._open.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """End it all."""
        self._open.close()

    @contextmanager
    def kept_if_it_fails(self, folder: Path) -> Iterator[None]:
        """Copy what the broker has and said into a folder if something fails."""
        try:
            yield
        except BaseException:
            folder.mkdir(parents=True, exist_ok=True)
            to = folder / "broker"
            subprocess.run(["cp", "-r", "--sparse=always", self.broker.data_dir, to], check=False)
            raise

    @contextmanager
    def full_disk(self) -> Iterator[None]:
        """Leave no byte free on the broker's disk."""
        assert self.disk is not None
        filler = self.disk / "filler"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(65_536))
        try:
            yield
        finally:
            filler.unlink()


@contextmanager
def _small_disk() -> Iterator[Path | None]:
    with tempfile.TemporaryDirectory(prefix="slatestream-disk-") as folder:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", folder]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            yield None
            return
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)
