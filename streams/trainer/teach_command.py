"""`slatestream teach`: a release whose policy knows what its slates earned, with noise on what users did."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from streams.commands.option_checks import check_release_folder
from streams.errors import SlatestreamError
from streams.kafka.topic_admin import ConfigFile
from streams.settings import load_settings

if TYPE_CHECKING:
    from model_core.release.folder import Release
    from streams.settings import Settings
    from streams.trainer.private_teaching import OwnSlates


def teach_command(
    release: Annotated[Path, typer.Option(help="Folder of the release that has served.")],
    out: Annotated[Path, typer.Option(help="Folder of the release that knows; replaced if it exists.")],
    epsilon: Annotated[float, typer.Option(help="Privacy loss of one user at most; above 0.")],
    delta: Annotated[
        float, typer.Option(help="Chance that it is more; far below 1 / (number of users).")
    ] = 1e-5,
    impressions: Annotated[
        float, typer.Option(help="Of a user, about, that count in full; of more, each counts less.")
    ] = 20.0,
    feedback: Annotated[
        Path | None,
        typer.Option(help="File with a `feedback` record a line, instead of the topic; nobody is held."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what came of it as JSON.")] = False,
    config: ConfigFile = None,
) -> None:
    """Teach a release's policy what its slates earned, with user-level differential privacy.

    Reads `feedback`, and writes a release like the one that served, whose policy begins with noisy sums. With
    the setting `learn_online = false` workers learn nothing else of slates. Slates of the new release teach
    the next one, which costs its own epsilon; what all of them cost together is printed.

    slatestream teach --release build/release --epsilon 4 --out build/taught
    """
    from model_core.privacy.config import Promise
    from model_core.release.folder import read_release
    from streams.trainer.private_teaching import NOT_COVERED, teach

    check_release_folder(out)
    settings, console = load_settings(config), Console(stderr=True)
    try:
        promise = Promise(epsilon=epsilon, delta=delta)
        slates = _slates(settings, read_release(release), feedback)
        made = teach(release, out, slates, promise, settings, impressions=impressions)
    except (ValueError, OSError) as error:
        raise SlatestreamError(f"teach: {error}") from error
    told = made.training["learned"]["privacy"]
    console.print(
        f"Release {made.version} in {out}: taught by {len(slates):,} slates, epsilon {epsilon:g}, delta "
        f"{delta:g}; with what it promised before, epsilon {told['epsilon_in_all']:g}. Not covered: "
        f"{'; '.join(NOT_COVERED)}.",
        soft_wrap=True, markup=False, highlight=False,
    )  # fmt: skip
    if as_json:
        print(json.dumps({"release": made.version, "folder": str(out), "privacy": told}))


def _slates(settings: "Settings", release: "Release", file: Path | None) -> "OwnSlates":
    from streams.kafka.connected import run_connected
    from streams.ope.command import read_file
    from streams.trainer.private_teaching import OwnSlates

    if file is None:
        return run_connected(settings, "teach", _read_topic(settings, release))
    slates = OwnSlates(settings, release, is_held=lambda user_id: False)
    read_file(file, lambda value: slates.add([value]))
    return slates


async def _read_topic(settings: "Settings", release: "Release") -> "OwnSlates":
    from streams.ope.command import read_topic
    from streams.trainer.private_teaching import OwnSlates
    from streams.trainer.shown_slates import read_quarantine

    slates = OwnSlates(settings, release, is_held=await read_quarantine(settings))
    await read_topic(settings, lambda value: slates.add([value]))
    return slates
