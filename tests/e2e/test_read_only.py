"""A worker whose sources and home cannot be written, as in a container with a read-only root."""

from pathlib import Path

import pytest

from streams.worker.process import COMMAND
from tests.e2e.client import Client, film, item_ids
from tests.e2e.conftest import StartWorker
from tests.read_only import can_be


@pytest.mark.skipif(not can_be(), reason="only root on Linux can make folders read-only for one process")
def test_a_worker_that_can_write_nowhere_serves_by_the_kernels_that_are_there(
    client: Client, start_worker: StartWorker, tmp_path: Path
) -> None:
    client.content(*(film(f"f{number}", f"Film {number}") for number in range(3)))
    worker = start_worker(command=("tests.read_only", *COMMAND))
    client.click("u", "f0")
    client.flush()
    assert sorted(item_ids(client.ask("u", k=3))) == ["f1", "f2"]
    said = (tmp_path / "worker-1.log").read_text()
    assert "kernels cannot be written (Read-only file system): " in said
    assert "compiling kernels" not in said
    assert worker.stop() == 0
