"""Each preset beside the default settings, on the data at hand that is nearest to it: likes foreseen.

A whole worker on a log in memory, without a release, takes the log in time order, a few events at a time. Of
the last part of the log, before each step, ten items are asked for whoever likes something in it; a hit is if
that is among them. Then the events are told, and policies learn. Both settings have the same events: each is
the action that says most nearly the same. Differences are paired over requests, 95 %.

These logs cannot show all: nothing in them is taken twice, and nobody knows what was shown, so policies learn
from what users happened to take of the slates made here.

    python -m tests.benchmarks.quality_presets FOLDER --preset video
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import typer
from numpy.typing import NDArray

from model_core.data.datasets import Dataset, Item
from model_core.release.baseline import BaselineScorer
from streams.attack.site import MemorySite
from streams.errors import SlatestreamError
from streams.events import Click, Content, Request, encode
from streams.settings import Settings, load_settings
from streams.settings.presets import presets
from tests.benchmarks import domains
from tests.benchmarks.inputs import faults_told

TOP = 10


class Near(NamedTuple):
    """The log that is nearest to a preset: how it is read, and which action an event is by its rating.

    ours : of the preset; default : of the default settings. Ratings of 4 and more are likes.
    """

    read: Callable[[Path], Dataset]
    ours: Callable[[float], str]
    default: Callable[[float], str]


def _films(folder: Path) -> Dataset:
    return domains.films(None).dataset


NEAR = {
    "video": Near(
        _films,
        lambda rating: (
            "finish" if rating >= 5 else "like" if rating >= 4 else "watch" if rating >= 3 else "dislike"
        ),
        lambda rating: "like" if rating >= 4 else "view" if rating >= 3 else "dislike",
    ),
    "shop": Near(lambda folder: domains.beauty(folder).dataset, lambda _: "purchase", lambda _: "purchase"),
    "social": Near(
        lambda folder: domains.news(folder).dataset,
        lambda rating: "like" if rating >= 4 else "hide",
        lambda rating: "like" if rating >= 4 else "dislike",
    ),
    "music": Near(lambda folder: domains.artists(folder).dataset, lambda _: "play", lambda _: "like"),
}


async def hits(
    settings: Settings, dataset: Dataset, action: Callable[[float], str], *, last: int, every: int, step: int
) -> NDArray[np.bool_]:
    """Whether each like that was asked for, of the last events, was among the ten: (n,) bool."""
    log = dataset.interactions
    users, items = log.user_ids.tolist(), log.item_ids.tolist()
    begin, found = max(0, len(log) - last), []

    def clicks(part: slice) -> list[Click]:
        return [
            Click(
                f"e{at}",
                users[at],
                items[at],
                action(float(log.ratings[at])),
                int(log.timestamps_ms[at]),
            )
            for at in range(*part.indices(len(log)))
        ]

    async with MemorySite(settings, BaselineScorer(), int(log.timestamps_ms[0]), learn=True) as site:
        await site.publish("content", ((item.item_id, encode(_content(item))) for item in dataset.items))
        for start in range(0, begin, 2_000):
            await site.click(clicks(slice(start, min(start + 2_000, begin))))
        for start in range(begin, len(log), step):
            part = slice(start, min(start + step, len(log)))
            asked = [at for at in range(part.start, part.stop) if log.ratings[at] >= 4 and at % every == 0]
            slates = await site.ask(
                [Request(f"r{at}", users[at], int(log.timestamps_ms[at]), k=TOP) for at in asked]
            )
            found += [items[at] in slate for at, slate in zip(asked, slates, strict=True)]
            await site.click(clicks(part))
    return np.array(found)


def _content(item: Item) -> Content:
    return Content(item.item_id, item.title, attributes=item.attributes)


def main(
    folder: Annotated[Path, typer.Argument(help="Holds idea-news, lastfm-kg-mm and s3rec.")],
    preset: Annotated[list[str], typer.Option(help=f"One of {', '.join(NEAR)}; several may be given.")],
    last: Annotated[int, typer.Option(help="Events of which the likes are asked for.")] = 4_000,
    every: Annotated[int, typer.Option(help="Likes at every so-manieth event are asked for.")] = 3,
    step: Annotated[int, typer.Option(help="Events between two askings, at most.")] = 25,
    ours: Annotated[
        list[str] | None, typer.Option(help="Setting of the preset to be another: temperature=0.1.")
    ] = None,
) -> None:
    """Print the share of likes that each setting foresees, and the difference."""
    if unknown := set(preset) - NEAR.keys():
        raise SlatestreamError(f"--preset must be one of {', '.join(NEAR)}, got {', '.join(sorted(unknown))}")
    print("| preset | likes | default | preset's | ahead |\n|---|---|---|---|---|")
    for name in preset:
        near = NEAR[name]
        dataset = near.read(folder)
        both = []
        changed = dict(one.split("=", 1) for one in ours or ())
        for config, action, others in (
            (None, near.default, {}), (presets()[name], near.ours, changed),
        ):  # fmt: skip
            settings = load_settings(config, text_encoder="none", partitions=2, **others)
            both.append(asyncio.run(hits(settings, dataset, action, last=last, every=every, step=step)))
        default, preset_s = both
        ahead = preset_s.astype(np.float64) - default
        error = 1.96 * ahead.std(ddof=1) / np.sqrt(len(ahead))
        print(
            f"| {name} | {len(ahead)} | {default.mean():.3f} | {preset_s.mean():.3f} | "
            f"{ahead.mean():+.3f} ± {error:.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    with faults_told():
        typer.run(main)
