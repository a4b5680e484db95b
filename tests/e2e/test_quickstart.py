"""`slatestream quickstart` as somebody runs it: odd files in, a trained worker with a console out."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

N_EVENTS, N_USERS, N_ITEMS = 1_200, 60, 100


def write_shop(folder: Path) -> list[str]:
    """Events and articles of a shop as Excel would save them: semicolons, a byte order mark, dates."""
    rng = np.random.default_rng(7)
    lines = ["Kunde;Artikelnr;Zeitpunkt;Aktion"]
    for n in range(N_EVENTS):
        user = int(rng.integers(N_USERS))
        item = int(rng.integers(N_ITEMS // 2)) * 2 + user % 2  # users of two kinds
        moment = f"2024-11-{1 + n // 48:02d} {n % 48 // 2:02d}:{n % 2 * 30:02d}:00"
        lines.append(f"K{user:04d};A-{item};{moment};{'gekauft' if n % 3 else 'gesehen'}")
    (folder / "verkauf.csv").write_bytes("\ufeff".encode() + "\r\n".join([*lines, ""]).encode())
    items = [f"A-{item};Ding {item};{'rot' if item % 2 else 'blau'}" for item in range(N_ITEMS)]
    (folder / "artikel.csv").write_text("\n".join(["Artikelnr;Name;Farbe", *items, ""]))
    return [
        "verkauf.csv", "artikel.csv", "--map", "user_id=Kunde", "--map", "item_id=Artikelnr",
        "--map", "action=Aktion", "--actions", "gekauft=purchase", "--actions", "gesehen=view",
    ]  # fmt: skip


@contextmanager
def started(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    with (
        (folder / "said.txt").open("w") as said,
        subprocess.Popen(
            [sys.executable, "-m", "streams.cli", "quickstart", *arguments, "--json"],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            env={**os.environ, "COLUMNS": "100", "PYTHONPATH": str(Path(__file__).parents[2])},
        ) as process,  # fmt: skip
    ):
        try:
            yield process
        finally:
            process.kill()


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return bytes(answer.read())


def test_a_strangers_files_are_served_from_and_the_same_command_goes_on(tmp_path: Path) -> None:
    arguments = [*write_shop(tmp_path), "--epochs", "1"]
    with started(tmp_path, *arguments) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        said = (tmp_path / "said.txt").read_text()
        assert line, said
        found = json.loads(line)
        _look_at(found, said)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    said = (tmp_path / "said.txt").read_text()
    assert re.search(rf"curl '{found['url']}/v1/recommendations/K\d+\?k=10'", said)
    assert "Traceback" not in said

    with started(tmp_path, *arguments, "--no-serve") as process:
        out, _ = process.communicate(timeout=120)
    said = (tmp_path / "said.txt").read_text()
    assert process.returncode == 0, said
    assert "Published before" in said
    assert "Trained before" in said
    assert len(json.loads(out)["slate"]) == 10

    with started(tmp_path, *arguments, "--actions", "geliebt=like") as process:
        process.communicate(timeout=60)
    assert process.returncode == 2
    assert "--restart removes it and begins anew" in (tmp_path / "said.txt").read_text().replace("\n", " ")


def _look_at(found: dict[str, Any], said: str) -> None:
    assert "user_id    from Kunde      as told" in said
    assert f"verkauf.csv → clicks: {N_EVENTS:,} records published" in said
    assert f"{N_EVENTS:,} events of {N_USERS} users with {N_ITEMS} items" in said
    answer: dict[str, Any] = json.loads(get(f"{found['url']}/v1/recommendations/{found['user']}?k=10"))
    kind = int(found["user"][1:]) % 2
    ours = [int(one["item_id"].removeprefix("A-")) % 2 == kind for one in answer["slate"]]
    assert len(ours) == 10
    assert answer["model_version"]
    assert sum(ours) >= 7, answer  # a chance would be 5
    assert b"slatestream" in get(found["console"])
