"""`slatestream init`: a mapping file for a topic or a file, proposed from a sample of it."""

import asyncio
import json
import shlex
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from streams.errors import ConfigurationError, SlatestreamError
from streams.kafka.topics import topic_partitions
from streams.mapping.inspect import inspect, why_repartition
from streams.mapping.map_command import Outcome, outcomes_of
from streams.mapping.propose import Proposal, propose
from streams.mapping.sample import Sample, Sampled, sample_file, sample_topic
from streams.settings import Settings, load_settings
from streams.settings.presets import write_preset
from streams.settings.sources import IDS, parse_sources

HEAD = """\
# Which of your topics feed slatestream, and where each field comes from. `slatestream map FILE --sample`
# shows what it makes of records; a worker reads it with SLATESTREAM_MAPPING=FILE.
#
# A field is a path ("user.id", "tags[0]", "lines[].sku", "$key", "$header.name", "$timestamp"), or a table:
#   { path = "user.id", as = "text" }                   numbers become their digits
#   { path = "type", values = { seen = "view" } }       each value becomes another
#   { path = "at", unit = "s" }                         a time; also ms, us, ns, iso
#   { path = "tags", split = "|" }                      a text becomes a list
#   { template = "{shop}:{sku}" }, { constant = "x" }, { path = "x", default = "y" }
"""


def init_command(
    origin: Annotated[str | None, typer.Argument(help="A topic, or a file of JSON Lines.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Mapping file (mapping.toml), added to if it is there. Of a preset: slatestream.toml."
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(help="Write settings to begin with instead: shop, video, music, travel, social, ...."),
    ] = None,
    feeds: Annotated[str | None, typer.Option(help="clicks, content, users or requests.")] = None,
    topic: Annotated[str | None, typer.Option(help="Of a file: the topic it is of.")] = None,
    answer: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE of a question, such as user_id=who.id; repeatable.")
    ] = None,
    answers: Annotated[Path | None, typer.Option(help="TOML file with such answers.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Ask nothing: take what is proposed.")] = False,
    records: Annotated[int, typer.Option(min=1, max=100_000, help="How many to look at.")] = 500,
    as_json: Annotated[
        bool, typer.Option("--json", help="Say what came of it as JSON; ask nothing, as with --yes.")
    ] = False,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file with settings.")] = None,
) -> None:
    """Propose a mapping from a sample of a topic or a file, and write it with comments that explain it.

    slatestream init shop.events

    slatestream init events.jsonl --topic shop.events --feeds clicks --yes

    slatestream init --preset shop

    It asks on a terminal what it cannot know; scripts give --yes, and --answer for what has no proposal.
    """
    if preset is not None:
        _init_preset(preset, origin, out or Path("slatestream.toml"), as_json=as_json)
        return
    if origin is None:
        raise SlatestreamError("name a topic or a file of JSON Lines, or settings to begin with by --preset")
    out = out or Path("mapping.toml")
    settings = load_settings(config)
    asker = Answers(_given(answer or (), answers), ask=sys.stdin.isatty() and not (yes or as_json))
    sample, name = _sampled(settings, origin, topic, records)
    if feeds is not None and feeds not in IDS:
        raise SlatestreamError(f"--feeds must be one of {', '.join(IDS)}, got {feeds!r}")
    found = inspect(sample.records)
    proposal = propose(found, name, asker, feeds=feeds, actions=tuple(settings.actions))
    asker.refuse_unused()
    if proposal.each is not None:
        proposal.repartition = "A record holds several events, which one offset cannot stand for"
    elif sample.partitions:
        proposal.repartition = _why(settings, proposal, sample)
    try:
        before = out.read_text(encoding="utf-8") if out.is_file() else HEAD
    except (OSError, UnicodeDecodeError) as error:
        raise SlatestreamError(f"--out {out} cannot be added to: {error}") from None
    text = before.rstrip("\n") + "\n\n" + proposal.toml()
    parse_sources(text, str(out))
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SlatestreamError(f"--out {out} cannot be written: {error.strerror}") from None
    made = _made(settings, proposal, sample.records, out) | {
        "unread": found.unread,
        "too_long": len(sample.faults),
        "next": _next(out, proposal.topic, origin, config, alone=before == HEAD),
    }
    if as_json:
        print(json.dumps(made))
    else:
        _report(made)


def _init_preset(name: str, origin: str | None, out: Path, *, as_json: bool) -> None:
    if origin is not None:
        raise SlatestreamError(f"--preset is of no topic or file, got {origin!r}: run init once for each")
    write_preset(name, out)
    if as_json:
        print(json.dumps({"preset": name, "settings": str(out)}))
        return
    typer.echo(f"{out}: settings for {name}, a comment each. Start with `slatestream worker --config {out}`")


class Answers:
    """Answers questions: as given, else by asking, else by what is proposed."""

    def __init__(self, given: Mapping[str, str], *, ask: bool) -> None:
        self._given = dict(given)
        self._asks = ask
        self._used: set[str] = set()

    def __call__(self, name: str, question: str, choices: Sequence[str], guess: str | None) -> str:
        """Return the answer to a question.

        Raises
        ------
        SlatestreamError
            If nobody knows it.
        """
        self._used.add(name)
        if name in self._given:
            return self._given[name]
        if self._asks:
            typer.echo(f"{question}  [{', '.join(choices)}]")
            return str(typer.prompt(f"  {name}", default=guess))
        if guess is None:
            raise SlatestreamError(
                f"{question} Say it with --answer {name}=VALUE; there is {', '.join(choices) or 'nothing'}"
            )
        return guess

    def refuse_unused(self) -> None:
        """Refuse answers to questions that nobody asked: they are misspelt."""
        if unused := self._given.keys() - self._used:
            raise SlatestreamError(
                f"nobody asked {', '.join(sorted(unused))}; "
                f"the questions were {', '.join(sorted(self._used))}"
            )


def _given(pairs: Sequence[str], path: Path | None) -> dict[str, str]:
    found: dict[str, str] = {}
    if path is not None:
        try:
            found |= _flat(tomllib.loads(path.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
            why = getattr(error, "strerror", None) or error
            raise ConfigurationError(f"--answers {path}: {why}") from None
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise SlatestreamError(f"--answer must be NAME=VALUE, got {pair!r}")
        found[name] = value
    return found


def _flat(table: Mapping[str, Any], before: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in table.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{before}{name}.")
        else:
            found[before + name] = str(value)
    return found


def _sampled(settings: Settings, origin: str, topic: str | None, most: int) -> tuple[Sample, str]:
    path = Path(origin)
    if path.is_file():
        name = topic or path.name.partition(".")[0]
        return sample_file(path, name, most), name
    if path.is_dir():
        raise SlatestreamError(f"{origin} is a folder: name a file of it, or a topic")
    if path.suffix in (".jsonl", ".ndjson", ".json"):
        raise SlatestreamError(f"{origin}: no such file")
    return asyncio.run(sample_topic(settings, origin, most)), origin


def _why(settings: Settings, proposal: Proposal, sample: Sample) -> str | None:
    """Say why the topic is to be repartitioned, as far as the sample tells."""
    text = HEAD + proposal.toml()
    outcomes = outcomes_of(settings, parse_sources(text, "of the proposal")[0], sample.records)
    ids = [_key(outcome) for outcome in outcomes]
    wanted = topic_partitions(settings, proposal.feeds)
    why = why_repartition(sample.records, ids, sample.partitions, wanted)
    return None if why is None else why[0].upper() + why[1:]


def _key(outcome: Outcome) -> str | None:
    key = outcome.events[0].key if outcome.events else None
    return None if key is None else key.decode(errors="replace")


def _next(out: Path, topic: str, origin: str, config: Path | None, *, alone: bool) -> str:
    """Return the command that shows what the mapping makes of the same records."""
    words = ["slatestream", "map", str(out), "--sample"]
    words += ["--file", origin] if Path(origin).is_file() else []
    words += [] if alone else ["--topic", topic]
    words += [] if config is None else ["--config", str(config)]
    return shlex.join(words)


def _made(settings: Settings, proposal: Proposal, records: Sequence[Sampled], out: Path) -> dict[str, Any]:
    """Return what the mapping is and what it makes of the sample."""
    source = parse_sources(proposal.toml(), str(out))[0]
    outcomes = outcomes_of(settings, source, records)
    failed = [outcome for outcome in outcomes if outcome.why is not None]
    events = sum(len(outcome.events) for outcome in outcomes if outcome.why is None)
    return {
        "mapping": str(out),
        "topic": proposal.topic,
        "feeds": proposal.feeds,
        "repartition": proposal.repartition,
        "records": len(outcomes),
        "events": events,
        "failed": len(failed),
        "first_failure": failed[0].why if failed else None,
    }


def _report(made: Mapping[str, Any]) -> None:
    typer.echo(f"{made['mapping']}: {made['topic']} feeds {made['feeds']}")
    if made["repartition"] is not None:
        typer.echo(f"repartition: {made['repartition']}")
    typer.echo(f"of {made['records']} records: {made['events']} events, {made['failed']} failed")
    if made["records"] and not made["events"] and not made["failed"]:
        typer.echo(
            "all of them are left out: see `where` and `values` in the file, or say what an action is, as "
            "--answer action.THEIRS=OURS"
        )
    if made["failed"]:
        typer.echo(f"the first that failed: {made['first_failure']}")
    typer.echo(f"see them with `{made['next']}`, and change what is wrong in the file")
    typer.echo(
        f"then start a worker with it: SLATESTREAM_MAPPING={shlex.quote(made['mapping'])} slatestream worker"
    )
    if made["unread"] or made["too_long"]:
        typer.echo(
            f"not read: {made['unread']} records that are no JSON objects, {made['too_long']} long lines"
        )
