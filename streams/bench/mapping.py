"""`slatestream bench mapping`: what it costs that clicks are of another shape.

The same clicks are read several times in turn, in this process and on one thread: as a topic of our own has
them, and as others might say them (`streams.bench.shapes`), through a mapping. Each is decoded alone, and
decoded and folded into a shard of its own as a worker does it. Figures are processor time, so that what else
the machine does counts little; of several rounds the quickest counts.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from model_core.signals.config import SignalConfig
from streams.bench.avro_shapes import avro_shapes
from streams.bench.report import print_table, speaker, write_report
from streams.bench.shapes import SHAPES, Shape
from streams.bench.wide import START_MS, wide_clicks
from streams.decoding.clicks import ClickColumns, click_columns
from streams.events import decode_click
from streams.kafka.columns import TIMESTAMP, RecordColumns
from streams.mapping.click_reader import ClickReader
from streams.metrics import Metrics
from streams.session.machine import machine
from streams.settings import DEFAULT_ACTIONS, Settings
from streams.settings.sources import parse_sources
from streams.state.item_index import ItemIndex
from streams.state.shard import Shard
from streams.state.shard_factory import ShardFactory

BATCH = 5_000  # clicks of one fetch
PLAIN = "plain"


def mapping_command(
    events: Annotated[int, typer.Option(min=10_000, help="Clicks.")] = 50_000,
    rounds: Annotated[int, typer.Option(min=1, help="Of all shapes, one after the other.")] = 7,
    seed: Annotated[int, typer.Option(min=0, help="Of the clicks.")] = 1,
    out: Annotated[Path, typer.Option(help="Folder for mapping.json.")] = Path("build/bench"),
) -> None:
    """Measure the same clicks plain and through mappings, and print the ratios.

    slatestream bench mapping
    """
    console = Console()
    say = speaker(console)
    codes = {name: code for code, name in enumerate(DEFAULT_ACTIONS)}
    avro = avro_shapes()
    if not avro:
        say("Avro is not measured: pip install 'slatestream[registry]'")
    kinds = _kinds(events, seed, codes, SHAPES | avro)
    quickest = {name: [float("inf"), float("inf")] for name in kinds}
    for _ in range(rounds):
        for name, (batches, read) in kinds.items():
            works = partial(_decode, batches, read), partial(_fold, batches, read, _shard())
            for k, work in enumerate(works):
                quickest[name][k] = min(quickest[name][k], 1e9 * _seconds(work) / events)
    figures = {
        name: {
            "bytes": len(kinds[name][0][0].raw) / BATCH,
            "decoded_ns": decoded,
            "decoded_ratio": decoded / quickest[PLAIN][0],
            "folded_ns": folded,
            "folded_ratio": folded / quickest[PLAIN][1],
        }
        for name, (decoded, folded) in quickest.items()
    }
    print_table(
        console,
        f"{events:,} clicks, processor time of each; ratios to plain",
        ["clicks", "bytes", "decoded ns", "ratio", "and folded ns", "ratio"],
        [[name, *of.values()] for name, of in figures.items()],
    )
    say(f"machine: {machine()}")
    write_report(
        out / "mapping.json", {"events": events, "rounds": rounds, "seed": seed, "shapes": figures}, say
    )


Read = Callable[[RecordColumns], ClickColumns]


def _kinds(
    events: int, seed: int, codes: Mapping[str, int], shapes: Mapping[str, Shape]
) -> dict[str, tuple[list[RecordColumns], Read]]:
    """The clicks of the wide topic as one of our own has them and as others say them, and what reads each."""
    rows = [(user.encode(), value) for chunk in wide_clicks(events, seed=seed) for user, value in chunk]
    kinds: dict[str, tuple[list[RecordColumns], Read]] = {
        PLAIN: (list(_cut(rows)), lambda records: click_columns(records, codes, 86_400_000))
    }
    for name, shape in shapes.items():
        said = [(user, shape.write(decode_click(value))) for user, value in rows]
        source = parse_sources(shape.mapping, "of this benchmark")[0]
        reader = ClickReader(source, codes, 86_400_000, schemas=shape.schemas)
        kinds[name] = list(_cut(said)), reader
    return kinds


def _cut(rows: list[tuple[bytes, bytes]]) -> Iterator[RecordColumns]:
    for begin in range(0, len(rows), BATCH):
        columns = RecordColumns.of_rows(rows[begin : begin + BATCH])
        columns.topic = "shop"
        columns.offsets[:] += begin
        columns.table[:, TIMESTAMP] = START_MS + len(rows)
        yield columns


def _decode(batches: list[RecordColumns], read: Read) -> None:
    for records in batches:
        if len(read(records)) != len(records):
            raise ValueError("every click of the benchmark must be read")


def _fold(batches: list[RecordColumns], read: Read, shard: Shard) -> None:
    index, metrics = ItemIndex(), Metrics()
    positive = frozenset(name for name, weight in DEFAULT_ACTIONS.items() if weight >= 1)
    for records in batches:
        shard.fold(read(records), index, positive, metrics)


def _shard() -> Shard:
    return ShardFactory(Settings(), serving=lambda: ("none", 4), signals=SignalConfig()).shard(0)


def _seconds(work: Callable[[], None]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began
