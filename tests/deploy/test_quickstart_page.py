"""Every snippet of deploy/quickstart.md: odd files in, a trained worker with a console out."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "deploy" / "quickstart.md"
BLOCK = re.compile(r"^```(\w*) ?(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
AT_ONCE, WITH_RELEASE = "until the release is trained", "Ctrl-C stops it; the same command"
DEADLINE_S = 600.0  # a machine may be slow, and busy with other tests


def blocks(kind: str) -> list[tuple[str, str]]:
    """Names and texts of the blocks of a kind."""
    return [(name, text) for found, name, text in BLOCK.findall(PAGE.read_text()) if found == kind]


@contextmanager
def started(command: str, folder: Path, said: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a command of the page as it stands there; what it says goes to a file."""
    program, *arguments = shlex.split(command)
    assert program == "slatestream"
    environment = {**os.environ, "COLUMNS": "100", "PYTHONPATH": str(ROOT)}
    with (
        said.open("w") as file,
        subprocess.Popen(
            [sys.executable, "-m", "streams.cli", *arguments],
            cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE if "--json" in arguments else file,
            stderr=file, text=True, env=environment,
        ) as process,
    ):  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the page's files, in which its commands run one after the other."""
    folder = tmp_path_factory.mktemp("shop")
    ((name, code),) = blocks("python")
    (folder / name).write_text(code)
    subprocess.run([sys.executable, name], cwd=folder, check=True)
    return folder


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return bytes(answer.read())


def wait_for(words: str, process: subprocess.Popen[str], said: Path) -> str:
    deadline = time.monotonic() + DEADLINE_S
    while words not in said.read_text():
        assert process.poll() is None, said.read_text()
        assert time.monotonic() < deadline, said.read_text()
        time.sleep(0.2)
    return said.read_text()


def check_slates(url: str) -> None:
    """Users of a kind are served things of that kind, by a release, though policies explore."""
    ours: list[bool] = []
    for n in range(20):
        answer: dict[str, Any] = json.loads(get(f"{url}/v1/recommendations/S{n}?k=10"))
        assert answer["fallback"] is None
        assert len(answer["slate"]) == 10
        ours += [int(one["item_id"].removeprefix("A-")) % 2 == n % 2 for one in answer["slate"]]
    assert sum(ours) > 121, sum(ours)  # of 200; by chance it would be 100, give or take 7


@pytest.mark.timeout(2400)
def test_the_page_runs_from_files_to_a_worker_that_goes_on_where_it_was(folder: Path) -> None:
    said = folder / "said.txt"
    (_, refused), (_, whole) = blocks("console")
    command, _, printed = refused.removeprefix("$ ").partition("\n")
    with started(command, folder, said) as process:
        assert process.wait(DEADLINE_S) == 2
    assert said.read_text() == printed

    command, _, printed = whole.removeprefix("$ ").partition("\n")
    with started(command, folder, said) as process:
        found = wait_for(AT_ONCE, process, said)
        lines = [line.rstrip() for line in found.splitlines()]
        wanted = printed.splitlines()
        assert wanted.pop() == "..."
        assert lines[: len(wanted)] == wanted
        asked = re.search(r"curl '(http://\S+)/v1/recommendations/(S\d+)\?k=10'", found)
        assert asked, found
        slate = json.loads(get(f"{asked[1]}/v1/recommendations/{asked[2]}?k=10"))
        assert (len(slate["slate"]), slate["fallback"]) == (10, "no_release")
        wait_for(WITH_RELEASE, process, said)
        check_slates(asked[1])
        console = re.search(r"^Console +(http://\S+)$", found, re.MULTILINE)
        assert console, found
        assert b"slatestream" in get(console[1])
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE_S) == 0
    assert "Traceback" not in said.read_text()

    ((_, again),) = blocks("sh")
    with started(again, folder, said) as process:
        out, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, said.read_text()
    assert "Published before" in said.read_text()
    assert "fallback: no release" in said.read_text()
    answer = json.loads(out)
    assert set(answer) == {"url", "console", "bootstrap_servers", "release", "user", "slate"}
    assert len(answer["slate"]) == 10

    with started(f"{again.strip()} --actions loved=like", folder, said) as process:
        process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 2
    assert "--restart removes it and begins anew" in said.read_text()


def test_the_page_has_blocks_of_every_kind() -> None:
    assert {kind for kind, _, _ in BLOCK.findall(PAGE.read_text())} == {"python", "console", "sh", ""}
