"""A worker imports nothing that trains, and nothing that only commands need."""

import json
from pathlib import Path

import pytest

from streams.settings import Settings
from streams.worker.process import WorkerProcess, same_topics
from tests.e2e.client import Client, film, item_ids, wait_until
from tests.tiny_encoder import write_tiny_encoder

# Where scipy is installed, numba looks at its version and for its BLAS: neither counts.
NEEDLESS = {
    "fastavro", "google.protobuf",
    "gymnasium", "jinja2", "kafka", "matplotlib", "onnx", "optuna", "pandas", "peft", "rich",
    "scipy.sparse", "scipy.special", "scipy.stats", "sklearn", "streams.console", "tensorboard",
    "torch", "torch_geometric", "transformers",
}  # fmt: skip
# Runs a worker until it is told to stop, then writes the names of all that it imported.
WATCHED = """
import json, sys
from pathlib import Path
from streams.commands.worker import worker_command
worker_command()
Path({out!r}).write_text(json.dumps(sorted(sys.modules)))
"""


def test_a_worker_that_encodes_and_serves_has_imported_nothing_that_it_does_not_need(
    kafka_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tiny_encoder(tmp_path / "encoder")
    (tmp_path / "watched_worker.py").write_text(WATCHED.format(out=str(tmp_path / "modules.json")))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path.cwd()}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    values = same_topics(kafka_settings, text_encoder=str(tmp_path / "encoder"))
    worker = WorkerProcess(values, log=tmp_path / "worker.log", command=("watched_worker",))
    with Client(kafka_settings) as client, worker:
        worker.wait_ready()
        client.content(film("a", "space robots part 1", genre=["court"]), film("b", "love letters part 2"))
        client.click("u", "a")
        client.flush()
        wait_until(lambda: item_ids(client.ask("u", k=2)) == ["b"], "the item not seen is served")
        assert worker.stop() == 0, worker.log_tail()
    imported = set(json.loads((tmp_path / "modules.json").read_text()))
    assert {"onnxruntime", "tokenizers", "numba"} <= imported
    assert sorted(imported & NEEDLESS) == []
