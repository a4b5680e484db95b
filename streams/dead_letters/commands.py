"""`slatestream dead-letters`: what was refused and why, and how to have it taken after all."""

import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from streams.dead_letters.log import Choice, Held, read_letters
from streams.dead_letters.replay import input_of, refusal, replay, why_not
from streams.dead_letters.show import as_line, readable, show_letter, show_letters
from streams.errors import SlatestreamError
from streams.events import DEAD_LETTER_REASONS
from streams.kafka.connected import run_connected
from streams.kafka.topic_admin import ConfigFile
from streams.kafka.topics import TOPICS, topic_name
from streams.ope.command import duration_s
from streams.settings import Settings, load_settings

Number = Annotated[int, typer.Argument(min=0, help="Number of the letter, as `list` shows it.")]
Topic = Annotated[str | None, typer.Option(help="Only of this topic, without the prefix: clicks, ...")]
Reason = Annotated[str | None, typer.Option(help=f"Only of this reason: {', '.join(DEAD_LETTER_REASONS)}.")]
Last = Annotated[str | None, typer.Option(help="Only of so long ago: 90s, 30m, 1h or 2d.")]
Lines = Annotated[bool, typer.Option("--json", help="A line of JSON a letter, values in base64.")]

dead_letters_app = typer.Typer(
    no_args_is_help=True,
    help="""Look at the records that could not be used, mend them, and replay them.

    A worker that refuses a record goes on, and writes the record and the reason to the topic dead-letters,
    where it is kept for 30 days.

    `list` shows what was refused, `show` one record with its value, `replay` sends records to their topics
    again: all of a kind, once what was wrong with the workers is mended, or one with another value.""",
)


@dead_letters_app.command("list")
def list_command(
    topic: Topic = None,
    reason: Reason = None,
    last: Last = None,
    limit: Annotated[int, typer.Option(min=0, help="Show the newest so many; all are counted.")] = 20,
    json_lines: Lines = False,
    config: ConfigFile = None,
) -> None:
    """Show the newest dead letters, and how many there are of each topic and reason.

    slatestream dead-letters list --last 1h --reason invalid

    slatestream dead-letters list --limit 100000 --json | jq .error
    """
    settings = load_settings(config)
    choice = _choice(settings, topic, reason, last)

    async def read() -> tuple[deque[Held], Counter[tuple[str, str]]]:
        newest: deque[Held] = deque(maxlen=limit)
        counts: Counter[tuple[str, str]] = Counter()
        async for held in read_letters(settings, choice):
            newest.append(held)
            counts[held.letter.topic, held.letter.reason] += 1
        return newest, counts

    newest, counts = run_connected(settings, "dead-letters", read())
    if json_lines:
        for held in newest:
            print(as_line(held))
    else:
        show_letters(newest, counts, _console())


@dead_letters_app.command("show")
def show_command(
    number: Number,
    raw: Annotated[bool, typer.Option("--raw", help="Only the value, byte by byte, for a file.")] = False,
    json_lines: Lines = False,
    config: ConfigFile = None,
) -> None:
    """Show one dead letter: where its record lies, why it was refused, and its value.

    slatestream dead-letters show 12

    slatestream dead-letters show 12 --raw > value.json
    """
    held = _one(load_settings(config), number)
    if raw:
        sys.stdout.buffer.write(held.letter.value)
    elif json_lines:
        print(as_line(held))
    else:
        show_letter(held, _console())


@dead_letters_app.command("replay")
def replay_command(
    number: Annotated[
        int | None, typer.Argument(min=0, help="Number of one letter; without it, all that are chosen.")
    ] = None,
    topic: Topic = None,
    reason: Reason = None,
    last: Last = None,
    everything: Annotated[bool, typer.Option("--all", help="Every dead letter there is.")] = False,
    edit: Annotated[bool, typer.Option("--edit", help="Change the one's value in $EDITOR first.")] = False,
    value: Annotated[
        Path | None, typer.Option(help="File with the value that the one should have; - reads it.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Send also what a worker of these settings would refuse.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Say what was sent as JSON.")] = False,
    config: ConfigFile = None,
) -> None:
    """Send records that were refused to their topics again.

    Each is tried first: what a worker of these settings would refuse again stays where it is, and the reason
    is named. A record that has several letters, as after a crash, is sent once. Dead letters are not changed,
    so a record that is replayed twice counts twice.

    slatestream dead-letters replay 12 --edit

    slatestream dead-letters replay --reason unknown_action --last 1d  # once the settings know the action
    """
    settings = load_settings(config)
    if number is None and (edit or value is not None):
        raise SlatestreamError("--edit and --value are for one letter: name its number")
    if number is None and not (everything or topic or reason or last):
        raise SlatestreamError("name a letter's number, or choose some by --topic, --reason, --last or --all")
    if number is not None:
        held = _one(settings, number)
        chosen = [(held, _value(settings, held, edit, value))]
    else:
        choice = _choice(settings, topic, reason, last)
        chosen = [
            (held, held.letter.value)
            for held in run_connected(settings, "dead-letters", _collect(settings, choice))
        ]
    sound = _sound(settings, chosen, mended=edit or value is not None, force=force)
    if not sound:
        raise SlatestreamError("nothing is replayed")
    counts = Counter(held.letter.topic for held, _ in sound)
    what = ", ".join(f"{n:,} to {name}" for name, n in sorted(counts.items()))
    if not yes and not typer.confirm(f"Replay {what}?"):
        raise SlatestreamError("nothing is replayed")
    sent = run_connected(settings, "dead-letters", replay(settings, sound))
    if as_json:
        print(json.dumps({"replayed": sent, "topics": dict(sorted(counts.items()))}))
    else:
        print(f"replayed {sent:,}: {what}")


def _sound(
    settings: Settings, chosen: list[tuple[Held, bytes]], *, mended: bool, force: bool
) -> list[tuple[Held, bytes]]:
    """Keep what a worker would take, and say on stderr what is left out and why."""
    now_ms = int(time.time() * 1000)
    sound: list[tuple[Held, bytes]] = []
    left_out: Counter[str] = Counter()
    for held, value in chosen:
        why = None if mended else why_not(settings, held)
        if why is None and not force:
            why = refusal(settings, held.letter.topic, value, now_ms, key=held.key)
        if why is None:
            sound.append((held, value))
        else:
            left_out[f"{held.letter.topic}: {why}"] += 1
    for why, n in left_out.most_common():
        print(f"left out {n:,} of {why}", file=sys.stderr)
    return sound


def _value(settings: Settings, held: Held, edit: bool, file: Path | None) -> bytes:
    if edit and file is not None:
        raise SlatestreamError("--edit and --value are two ways to say one thing: give one")
    if input_of(settings, held.letter.topic) is None:
        raise SlatestreamError(f"dead letter {held.number}: {why_not(settings, held)}")
    if file is not None:
        return _read(file)
    if not edit:
        return held.letter.value
    before = readable(held.letter.value)
    after = _edited(before)
    if after.strip() == before.strip():
        raise SlatestreamError("nothing was changed, so nothing is replayed")
    return after.strip().encode()


def _edited(text: str) -> str:
    """Let the person's editor change a text."""
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    with tempfile.TemporaryDirectory(prefix="slatestream-") as folder:
        file = Path(folder) / "value.json"
        file.write_text(text, encoding="utf-8")
        try:
            subprocess.run([*shlex.split(editor), str(file)], check=True)
        except (OSError, ValueError, subprocess.CalledProcessError) as error:
            raise SlatestreamError(f"the editor {editor!r} ($VISUAL, $EDITOR) failed: {error}") from None
        return file.read_text(encoding="utf-8")


def _read(file: Path) -> bytes:
    if str(file) == "-":
        return sys.stdin.buffer.read()
    try:
        return file.read_bytes()
    except OSError as error:
        raise SlatestreamError(f"--value {file}: {error.strerror}") from None


def _one(settings: Settings, number: int) -> Held:
    found = run_connected(settings, "dead-letters", _collect(settings, Choice(numbers=(number,))))
    if not found:
        raise SlatestreamError(f"there is no dead letter {number}: see `slatestream dead-letters list`")
    return found[0]


async def _collect(settings: Settings, choice: Choice) -> list[Held]:
    """Return the chosen letters; of a record that has several, as one read again after a crash, the last."""
    letters: dict[tuple[object, ...], Held] = {}
    async for held in read_letters(settings, choice):
        letter = held.letter
        letters[letter.topic, letter.partition, letter.offset, letter.value] = held
    return list(letters.values())


def _choice(settings: Settings, topic: str | None, reason: str | None, last: str | None) -> Choice:
    if topic is not None and topic not in TOPICS:
        raise SlatestreamError(f"--topic must be one of {', '.join(TOPICS)}, got {topic!r}")
    if reason is not None and reason not in DEAD_LETTER_REASONS:
        raise SlatestreamError(f"--reason must be one of {', '.join(DEAD_LETTER_REASONS)}, got {reason!r}")
    return Choice(
        topic=None if topic is None else topic_name(settings, topic),
        reason=reason,
        since_ms=0 if last is None else int(1000 * (time.time() - duration_s(last))),
    )


def _console() -> Console:
    # Piped output is as wide as it needs to be: a table folded at 80 columns is hard to search.
    return Console(width=None if sys.stdout.isatty() else 160, highlight=False)
