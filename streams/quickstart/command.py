"""`slatestream quickstart`: from somebody's files to a trained worker that serves."""

import contextlib
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape

from streams.importing.columns import MissingColumn
from streams.importing.command import (
    Action,
    Actions,
    As,
    Columns,
    Files,
    LikeFrom,
    ListSeparator,
    Map,
    Rejected,
    Separator,
    TimeFormat,
    Unit,
    check_rejected,
    reading,
)
from streams.importing.options import Choices
from streams.importing.prompts import asker, understand
from streams.importing.run import Options, Source
from streams.importing.show import show_sources
from streams.quickstart.checks import check_settings, check_tools, ports
from streams.quickstart.folder import Folder, open_folder
from streams.quickstart.serve import Served, Serving, Wanted, changed_over, served
from streams.quickstart.steps import broker, is_trained, look, publish, train
from streams.session.shutdown import clean_exit
from streams.settings import Settings, load_settings

TOLERATED = 0.1
FOLDER = Path("build/quickstart")
STEPS = 4
NONE = "none"

Where = Annotated[Path, typer.Option(help="Folder of the broker's log, the release and the worker's log.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Go on without a question once the files are read.")]
Tolerate = Annotated[float, typer.Option(min=0, max=1, help="Share of rows that may be rejected.")]
Train = Annotated[
    Literal["quick", "full", "none"],
    typer.Option(help="How long a release is trained while the worker serves without it already."),
]
Port = Annotated[
    int | None, typer.Option(min=1, max=65535, help="Of HTTP; 6066 or a free one when not said.")
]
ConsolePort = Annotated[
    int | None, typer.Option(min=1, max=65535, help="Of the console; 6070 or a free one when not said.")
]
AsJson = Annotated[
    bool, typer.Option("--json", help="When it serves, and anew with a release, say where: a line of JSON.")
]


@dataclass(frozen=True, slots=True)
class Asked:
    """Options of a quickstart beside those of reading files."""

    train: str
    even_if_worse: bool
    serving: Serving
    as_json: bool
    yes: bool
    tolerate: float
    rejected: Path | None
    config: Path | None


def quickstart_command(
    files: Files,
    told: Map = None,
    kind: As = None,
    action: Action = None,
    actions: Actions = None,
    like_from: LikeFrom = None,
    time_unit: Unit = None,
    time_format: TimeFormat = None,
    separator: Separator = None,
    list_separator: ListSeparator = None,
    columns: Columns = None,
    rejected: Rejected = None,
    tolerate: Tolerate = TOLERATED,
    yes: Yes = False,
    folder: Where = FOLDER,
    restart: Annotated[
        bool, typer.Option("--restart", help="Remove what the folder holds, and begin anew.")
    ] = False,
    train: Train = "quick",
    even_if_worse: Annotated[
        bool, typer.Option("--even-if-worse", help="Serve a release that simple models surely outdo.")
    ] = False,
    no_serve: Annotated[
        bool, typer.Option("--no-serve", help="End when the worker serves, with an example.")
    ] = False,
    port: Port = None,
    console_port: ConsolePort = None,
    as_json: AsJson = False,
    config: Annotated[Path | None, typer.Option(help="TOML file with settings.")] = None,
) -> None:
    """Serve recommendations from files of interactions, and of items and users where there are any.

    Reads them, shows what it understood, and asks before it goes on; starts a Kafka broker, publishes what
    was read and runs a worker with a console until Ctrl-C. The worker serves co-visits and popularity at
    once, and a release as soon as it is trained. Started again with the same files, it goes on where it was.

    Exit code 0: done, or stopped while serving; 1: said no, or no release could be trained; 2: not possible;
    130: interrupted before it served.

    slatestream quickstart ratings.csv movies.csv
    """
    console = Console(stderr=as_json, highlight=False)
    settings = load_settings(config)
    check_settings(settings)
    serving = Serving(*ports(port, console_port), stays=not no_serve)
    choices, options = reading(
        settings, told=told, kind=kind, action=action, actions=actions, like_from=like_from,
        time_unit=time_unit, time_format=time_format, separator=separator, list_separator=list_separator,
        columns=columns,
    )  # fmt: skip
    asked = Asked(
        train=train, even_if_worse=even_if_worse, as_json=as_json, yes=yes, serving=serving,
        tolerate=tolerate, rejected=rejected, config=config,
    )  # fmt: skip
    with clean_exit(console):
        known = understand(
            files, choices, options,
            ask=asker(console, quiet=yes), say=partial(console.print, markup=False), check=_check_kinds,
        )  # fmt: skip
        sources, choices, options = known.sources, known.choices, known.options
        check_rejected(rejected, sources)
        show_sources(console, sources)
        with console.status("Looking for Java, Kafka and the text encoder ..."):
            check_tools(settings, train=asked.train != NONE)
        with open_folder(folder, _identity(sources, choices), restart=restart) as opened:
            done = _Quickstart(console, settings, opened, asked).run(sources, choices, options)
        raise typer.Exit(0 if done else 1)


def _check_kinds(sources: list[Source]) -> None:
    """Raise MissingColumn without a file of interactions: of the largest file, which most likely is one."""
    if any(source.plan.kind == "clicks" for source in sources):
        return
    missing = {"content": "user_id", "users": "item_id"}
    found = "; ".join(
        f"{source.path} has {'items' if source.plan.kind == 'content' else 'users'} alone, "
        f"or needs --map {missing[source.plan.kind]}=COLUMN (one of {', '.join(_others(source))})"
        for source in sources
    )
    largest = max(sources, key=lambda source: source.path.stat().st_size)
    raise MissingColumn(
        largest.plan.table, (missing[largest.plan.kind],), _others(largest),
        f"quickstart needs a file of interactions, each of a user with an item: {found}",
    )  # fmt: skip


def _others(source: Source) -> dict[str, str]:
    return {
        name: one for name, one in source.plan.examples().items() if name not in source.plan.fields.values()
    }


def _identity(sources: list[Source], choices: Choices) -> dict[str, Any]:
    """Return what decides the records, by which a quickstart that is started again knows its own."""
    said = asdict(choices)
    del said["latest_ms"]
    files, columns, layout = {}, {}, {}
    for source in sources:
        file, name = source.path.stat(), str(source.path.absolute())
        files[name] = [file.st_size, file.st_mtime_ns]
        columns[name] = {**source.plan.fields, **source.plan.attributes}
        layout[name] = source.plan.table.layout
    return {"files": files, "columns": columns, "layout": layout, "choices": said}


class _Enough(Exception):
    """It was stopped while it served, which is no interruption."""


class _Quickstart:
    """One run: its steps in order, each with what it needs from those before."""

    def __init__(self, console: Console, settings: Settings, folder: Folder, asked: Asked) -> None:
        self._console = console
        self._settings = settings
        self._folder = folder
        self._asked = asked

    def run(self, sources: list[Source], choices: Choices, options: Options) -> bool:
        """Run every step; return whether all came out as asked."""
        folder, asked, say = self._folder, self._asked, self._say
        self._step(1, "Read")
        met = None
        if folder.kept.imported:
            say(f"Published before, in {folder.path}; --restart begins anew.")
            if asked.rejected is not None:
                say(f"No row is read anew, so that --rejected {asked.rejected} is not written.")
        else:
            met = look(
                self._console, self._settings, sources, choices, options,
                tolerate=asked.tolerate, rejected=asked.rejected,
            )  # fmt: skip
            if not self._goes_on():
                return False
            counts = {"events": met.events, "items": len(met.items | met.described)}
            folder.keep(user=met.example(), first_ms=met.first_ms, **counts)
        with contextlib.ExitStack() as stack:
            self._step(2, "Publish")
            settings = stack.enter_context(broker(folder, asked.config, say))
            if met is not None:
                publish(self._console, settings, folder, met, sources, choices, options)
            self._step(3, "Train")
            work = partial(train, settings, folder, asked.train, asked.even_if_worse, asked.config, say)
            serving: Served | None = None
            if asked.train == NONE:
                say("No release is wanted: co-visits and popularity.")
                release = None
            elif not asked.serving.stays or is_trained(folder, asked.train):
                release = work()
            else:
                try:
                    release, serving = self._trained_beside(settings, work, stack)
                except _Enough:
                    return True
            self._step(4, "Serve")
            if serving is None:
                serving = stack.enter_context(served(self._worker(settings, release)))
            self._show(serving)
            if asked.serving.stays:
                serving.wait(say)
        return release is not None or asked.train == NONE

    def _trained_beside(
        self, settings: Settings, work: Callable[[], Path | None], stack: contextlib.ExitStack
    ) -> tuple[Path | None, Served | None]:
        """Train a release while a worker without one serves, which then changes over to it.

        Returns
        -------
        The release, None where none is to be served; and the worker, None where one has to be started.
        """
        with contextlib.ExitStack() as beside:
            serving = beside.enter_context(served(self._worker(settings, None, follows=True)))
            self._show(serving)
            self._say("\nIt serves co-visits and popularity until the release is trained; Ctrl-C stops it.")
            try:
                release = work()
                changed = serving if release is None else changed_over(serving, release)
            except KeyboardInterrupt:
                self._say("Stopping the training, the worker and the broker: the same command goes on.")
                raise _Enough from None
            if changed is not None:
                stack.enter_context(beside.pop_all())
            return release, changed

    def _worker(self, settings: Settings, release: Path | None, *, follows: bool = False) -> Wanted:
        asked = self._asked
        return Wanted(settings, self._folder, release, asked.serving, asked.config, self._say, follows)

    def _show(self, serving: Served) -> None:
        """Show where it serves and an example."""
        serving.show(self._console)
        if self._asked.as_json:
            print(json.dumps(serving.as_json()), flush=True)

    def _goes_on(self) -> bool:
        """Ask somebody who sits there whether all was understood."""
        if self._asked.yes or not (sys.stdin.isatty() and self._console.is_terminal):
            return True
        try:
            if typer.confirm("Is that right? Go on", default=True, err=self._asked.as_json):
                return True
        except typer.Abort:
            raise KeyboardInterrupt from None
        self._say(
            "Nothing was published. --map FIELD=COLUMN names a column, --actions THEIRS=OURS an action, --as "
            "what a file holds; slatestream quickstart --help has the rest."
        )
        return False

    def _step(self, number: int, name: str) -> None:
        self._console.print(f"\n[bold]{number} of {STEPS}: {name}[/]")

    def _say(self, text: str) -> None:
        self._console.print(escape(text), soft_wrap=True)
