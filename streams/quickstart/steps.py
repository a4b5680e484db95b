"""The steps of a quickstart up to its worker: files are looked at, published, and a release is trained."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from model_core.release.folder import read_release
from streams.broker.embedded import EmbeddedBroker
from streams.commands.training_result import beaten_by, surely_better
from streams.errors import SlatestreamError
from streams.importing.command import check_usable, rejected_rows, share_rejected
from streams.importing.options import Choices
from streams.importing.run import Options, Source, import_files
from streams.importing.show import show_outcomes, shown_progress
from streams.kafka.connected import run_connected
from streams.kafka.publish_rows import publish_rows
from streams.kafka.publisher import Publisher
from streams.kafka.topic_admin import create_topics
from streams.quickstart.counts import Met
from streams.quickstart.folder import Folder
from streams.session.training import run_train
from streams.settings import Settings, load_settings
from streams.worker.process import environment, same_topics

Say = Callable[[str], None]
QUICK_EVENTS = 300_000
MAX_QUICK = 3


def look(
    console: Console,
    settings: Settings,
    sources: Sequence[Source],
    choices: Choices,
    options: Options,
    *,
    tolerate: float,
    rejected: Path | None,
) -> Met:
    """Read all files without publishing anything, and show what is in them and what is rejected.

    Raises
    ------
    SlatestreamError
        If nothing can be made of a file's rows, or more of them are rejected than is tolerated.
    """
    met = Met(frozenset(settings.positive_actions))
    dry = replace(options, dry_run=True)
    with shown_progress(console) as progress, rejected_rows(rejected, sources) as sink:
        work = import_files(settings, sources, choices, dry, progress=progress, rejected=sink, see=met.see)
        outcomes = asyncio.run(work)
    show_outcomes(console, outcomes, dry_run=True)
    check_usable(outcomes)
    console.print(f"[bold]{escape(met.summary())}[/]", soft_wrap=True)
    for line in met.warnings():
        console.print(f"[yellow]{escape(line)}[/]", soft_wrap=True)
    if not met.events:
        raise SlatestreamError("no row is an interaction that could be learned from or counted")
    if (share := share_rejected(outcomes)) > tolerate:
        raise SlatestreamError(
            f"{share:.0%} of the rows were rejected, more than {tolerate:.0%}: read the columns otherwise "
            "(--map, --actions, --time-format), or go on without these rows with --tolerate"
        )
    return met


@contextlib.contextmanager
def broker(folder: Folder, config: Path | None, say: Say) -> Iterator[Settings]:
    """Run the folder's broker; give settings of it, with the topics made."""
    say("Starting a Kafka broker (the first time its jars are fetched with Maven) ...")
    with EmbeddedBroker(data_dir=folder.broker) as running:
        settings = load_settings(config, bootstrap_servers=running.bootstrap_servers)
        create_topics(settings)
        say(f"Kafka listens on {running.bootstrap_servers}, its log is in {folder.broker}.")
        yield settings


def publish(
    console: Console,
    settings: Settings,
    folder: Folder,
    met: Met,
    sources: Sequence[Source],
    choices: Choices,
    options: Options,
) -> None:
    """Publish what the files hold; one that was interrupted goes on from what the broker confirmed."""
    own = replace(options, cluster=folder.kept.id)
    with shown_progress(console) as progress:
        run_connected(settings, "quickstart", _publish_ids(settings, met))
        work = import_files(settings, sources, choices, own, progress=progress)
        outcomes = run_connected(settings, "quickstart", work)
    for one in outcomes:
        rate = one.published / max(one.seconds, 1e-9)
        console.print(
            f"{escape(str(one.source.path))} → {one.source.plan.kind}: {one.published:,} records published "
            f"in {one.seconds:.1f} s ({rate:,.0f}/s)" + (f", {one.before:,} before" if one.before else ""),
            soft_wrap=True,
        )  # fmt: skip
    folder.keep(imported=True)


async def _publish_ids(settings: Settings, met: Met) -> None:
    publisher = Publisher(settings)
    try:
        await publisher.start()
        await publish_rows(settings, publisher, "content", met.content())
    finally:
        await publisher.stop()


def is_trained(folder: Folder, how: str) -> bool:
    """Tell whether a release lies there that was trained so."""
    return folder.kept.trained == how and folder.release.is_dir()


def train(
    settings: Settings, folder: Folder, how: str, even_if_worse: bool, config: Path | None, say: Say
) -> Path | None:
    """Train a release from the topics, or take the one that was; None where none is to be served.

    A training that was killed goes on after its last whole epoch.

    Parameters
    ----------
    how : "quick", or "full" for as many epochs as `slatestream train` has
    """
    before = is_trained(folder, how)
    if before:
        say(f"Trained before: {folder.release}.")
    elif not _train(settings, folder, how, config, say):
        return None
    try:
        metrics = read_release(folder.release).metrics
    except ValueError as error:
        raise SlatestreamError(f"{error}; --restart begins anew") from None
    if surely_better(metrics) and not even_if_worse:
        for line in beaten_by(metrics) if before else ():
            say(line)
        say("So co-visits and popularity are served. --even-if-worse serves the release all the same.")
        return None
    return folder.release


def _train(settings: Settings, folder: Folder, how: str, config: Path | None, say: Say) -> bool:
    if missing := _missing():
        say(f"Training needs {missing}: pip install 'slatestream[train]', and start this again.")
    else:
        say("Training on clicks and content as the topics have them; Ctrl-C and the same command go on.")
        arguments = ["--from-topics", "--out", str(folder.release)]
        arguments += ["--epochs", str(quick_epochs(folder.kept.events))] if how == "quick" else []
        arguments += [] if config is None else ["--config", str(config.absolute())]
        code = run_train(arguments, variables=environment(same_topics(settings)))
        if code == 0:
            folder.keep(trained=how)
            return True
        say(f"Training ended with code {code}; what it said is above.")
    say("Serving goes on without a release: co-visits and popularity.")
    return False


def quick_epochs(events: int) -> int:
    """Return how often a quick training sees so many events: about as long for many as for some."""
    return min(max(QUICK_EVENTS // max(events, 1), 1), MAX_QUICK)


def _missing() -> str | None:
    """Name a package that training needs and that is not there."""
    from streams.cli import TRAIN

    return next((name for name in TRAIN if find_spec(name) is None), None)


def needs_no_encoder(release: Path | None) -> dict[str, Any]:
    """Return settings of a worker whose text encoder cannot be had: it keeps no text vectors."""
    return {"text_encoder": "none"} if release is None and _missing() else {}
