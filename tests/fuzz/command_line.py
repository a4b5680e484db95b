"""`python -m tests.fuzz.command_line --seconds 60`: odd arguments for every command.

Each command gets options and arguments at random, of odd values for their kinds: numbers out of every range,
files that are missing, empty, binary or of another kind. It must end with a documented exit code and without
a traceback; what goes on for longer than `--limit` has taken its arguments, and is stopped. Kafka is where
the settings say, and nowhere without them. Exit code 1: something was found.
"""

import argparse
import contextlib
import os
import random
import signal
import sys
import tempfile
import time
import traceback
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import typer

from streams.cli import app, main
from streams.errors import EXIT_CODES

LIMIT_S = 4.0
NOWHERE = {
    "SLATESTREAM_BOOTSTRAP_SERVERS": "127.0.0.1:1",
    "SLATESTREAM_CONNECT_TIMEOUT_MS": "100",
    "SLATESTREAM_TEXT_ENCODER": "none",
    "COLUMNS": "100",
}
FILES = {
    "empty": b"", "bin": bytes(range(256)) * 20, "bad.csv": b'a;b\n"', "x.json": b"{}", "list.json": b"[1,2",
    "x.toml": b"k = 1\n", "bad.toml": b"k = = 1\n", "l.jsonl": b'{"a": 1}\n[]\nnull\n{"request_id": 5}\n',
    "folder/manifest.json": b"[]",
    "good.csv": b"user,item,rating,time\n"
    + b"".join(b"u%d,i%d,%d,%d\n" % (n % 9, n % 7, 1 + n % 5, 1_700_000_000 + n) for n in range(99)),
}  # fmt: skip
PATHS = [*FILES, "none", "none/none", "folder", "good.csv/x", "a" * 300, ""]
NUMBERS = {
    "int": ["0", "-1", "1", "7", "1000000000", "2147483648", "1" + "0" * 20, "x", "1.5", ""],
    "float": ["0", "-1", "nan", "inf", "-inf", "1e308", "1e-308", "0.5", "2", "x", ""],
}
TEXTS = [
    "", "x", "a" * 300, "ü\n", "{", "%s", "[red]", "u1", "1h", "-5m", "a=b", "=", "a=", "control=live",
    "b=softmax",
    "b=softmax:temperature=0", "clicks", "99", "-1", "genre:Drama", "a:b:c", "1,2", "1,-2", "nan", "http://",
    "http://127.0.0.1:1", "https://127.0.0.1:1/x", "None", "../..", "latest", *PATHS,
]  # fmt: skip
STAYS = {"broker", "demo", "quickstart", "worker"}
"""Commands that run on for minutes whatever they are given."""


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every command with the words that name it."""
    if not hasattr(command, "list_commands"):
        yield path, command
        return
    for name in command.list_commands(None):
        if path or name not in STAYS:
            yield from commands(command.get_command(None, name), (*path, name))


def values_of(parameter: Any) -> list[str] | None:
    """Return what a parameter may be given; None for a flag."""
    if getattr(parameter, "is_flag", False):
        return None
    kind = parameter.type_descriptor.annotation
    if chosen := [one for one in typing.get_args(kind) if isinstance(one, str)]:
        return [*chosen, "nope", ""]
    if kind is Path:
        return PATHS
    return NUMBERS.get(getattr(kind, "__name__", ""), TEXTS)


def invocation(path: Sequence[str], command: Any, rng: random.Random) -> list[str]:
    """Return a command line: what is required, and a few options."""
    options = [one for one in command.params if one.opts[0].startswith("-")]
    words = list(path)
    for one in command.params:
        if one not in options and (one.required or rng.random() < 0.6):
            words.append(rng.choice(values_of(one) or ["x"]))
    needed = [one for one in options if one.required]
    others = [one for one in options if one not in needed and one.name != "help"]
    for one in needed + rng.sample(others, min(len(others), rng.choice((0, 1, 1, 2, 3)))):
        values = values_of(one)
        words += [one.opts[-1]] if values is None else [one.opts[-1], rng.choice(values)]
    return words


def run(words: Sequence[str], *, limit_s: float) -> tuple[int | None, str]:
    """Run a command line in its own process; return its exit code (None: it was stopped) and its output."""
    with tempfile.TemporaryFile() as out:
        pid = os.fork()
        if pid == 0:
            os.setsid()
            for stream in (1, 2):
                os.dup2(out.fileno(), stream)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os._exit(_ended(words))
        deadline = time.monotonic() + limit_s
        while not (done := os.waitpid(pid, os.WNOHANG))[0] and time.monotonic() < deadline:
            time.sleep(0.005)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)  # what it has started, too
        if not done[0]:
            os.waitpid(pid, 0)
        out.seek(0)
        return os.waitstatus_to_exitcode(done[1]) if done[0] else None, out.read().decode(errors="replace")


def _ended(words: Sequence[str]) -> int:
    sys.argv = ["slatestream", *words]
    code: Any = 0
    try:
        main()
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
        code = 70
    sys.stdout.flush()
    sys.stderr.flush()
    return code if isinstance(code, int) else 70


def fault(code: int | None, said: str) -> str | None:
    """Say what is wrong with how a command ended; None where nothing is."""
    if "Traceback" in said:
        return "a traceback"
    if code is not None and code not in EXIT_CODES:
        return f"exit code {code}"
    return "exit code 2 without a word" if code == 2 and not said.strip() else None


def fuzz(folder: Path, *, seed: int, runs: int | None, seconds: float, only: Sequence[str] = ()) -> list[str]:
    """Run odd command lines in a folder; return what was found."""
    for name, data in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    os.environ.update({name: value for name, value in NOWHERE.items() if name not in os.environ})
    os.chdir(folder)
    known = [one for one in commands(typer.main.get_command(app)) if not only or one[0][0] in only]
    rng, found, n, end = random.Random(seed), list[str](), 0, time.monotonic() + seconds
    while time.monotonic() < end and n != runs:
        n += 1
        words = invocation(*rng.choice(known), rng)
        code, said = run(words, limit_s=LIMIT_S)
        if (wrong := fault(code, said)) is not None:
            found.append(f"{wrong}: {words}\n{said[-2000:]}")
    print(f"{n:,} command lines, {len(found)} found")
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.command_line")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--runs", type=int, help="at most so many")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=(), help="commands; all without")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        wrong = fuzz(
            Path(place), seed=options.seed, runs=options.runs, seconds=options.seconds, only=options.only
        )
    print(*wrong, sep="\n\n")
    sys.exit(1 if wrong else 0)
