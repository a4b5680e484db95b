"""`slatestream bench mapping`: what it costs that clicks are of another shape.

The same clicks are read twice in turn, in this process and on one thread: as a topic of our own has them, and
as a shop might say them, nested and in other words, through a mapping. Each is decoded alone, and decoded and
folded into a shard of its own as a worker does it. Figures are processor time, so that what else the machine
does counts little; of several rounds the quickest counts.
"""

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from model_core.signals.config import SignalConfig
from streams.bench.report import machine, speaker, write_report
from streams.bench.wide import START_MS, wide_clicks
from streams.decoding.clicks import ClickColumns, click_columns
from streams.events import Click, decode_click
from streams.kafka.columns import TIMESTAMP, RecordColumns
from streams.mapping.click_reader import ClickReader
from streams.metrics import Metrics
from streams.settings import DEFAULT_ACTIONS, Settings
from streams.settings.sources import parse_sources
from streams.state.item_index import ItemIndex
from streams.state.shard import Shard
from streams.state.shard_factory import ShardFactory

BATCH = 5_000  # clicks of one fetch
MAPPING = """
[[source]]
topic = "shop"
feeds = "clicks"
where = [{ path = "bot", is_not = true }]
[source.fields]
event_id = "id"
user_id = { path = "user.number", as = "text" }
item_id = "object.sku"
action = { path = "type", values = { product_seen = "view", product_opened = "click", liked = "like" } }
timestamp_ms = { path = "sent_at", unit = "iso" }
request_id = "object.list"
position = "object.rank"
dwell_ms = "read_ms"
"""


def mapping_command(
    events: Annotated[int, typer.Option(min=10_000, help="Clicks.")] = 200_000,
    rounds: Annotated[int, typer.Option(min=1, help="Of both, one after the other.")] = 7,
    seed: Annotated[int, typer.Option(min=0, help="Of the clicks.")] = 1,
    out: Annotated[Path, typer.Option(help="Folder for mapping.json.")] = Path("build/bench"),
) -> None:
    """Measure the same clicks plain and through a mapping, and print the ratio.

    slatestream bench mapping
    """
    console = Console()
    say = speaker(console)
    plain, mapped = _batches(events, seed)
    codes = {name: code for code, name in enumerate(DEFAULT_ACTIONS)}
    reader = ClickReader(parse_sources(MAPPING, "of this benchmark")[0], codes, 86_400_000)

    def read_plain(records: RecordColumns) -> ClickColumns:
        return click_columns(records, codes, 86_400_000)

    kinds: dict[str, tuple[list[RecordColumns], Read]] = {
        "plain": (plain, read_plain),
        "mapped": (mapped, reader),
    }
    figures = {what: dict.fromkeys(kinds, float("inf")) for what in ("decoded", "decoded and folded")}
    for _ in range(rounds):
        for name, (batches, read) in kinds.items():
            shard = _shard()
            taken = {
                "decoded": _seconds(partial(_decode, batches, read)),
                "decoded and folded": _seconds(partial(_fold, batches, read, shard)),
            }
            for what, seconds in taken.items():
                figures[what][name] = min(figures[what][name], 1e9 * seconds / events)
    say(f"{events:,} clicks of {len(plain[0].raw) / BATCH:.0f} and {len(mapped[0].raw) / BATCH:.0f} bytes")
    for what, ns in figures.items():
        ratio = ns["mapped"] / ns["plain"]
        say(f"{what}: plain {ns['plain']:,.0f} ns, mapped {ns['mapped']:,.0f} ns a click, ratio {ratio:.2f}")
    say(f"machine: {machine()}")
    write_report(out / "mapping.json", {"events": events, "rounds": rounds, "seed": seed, "ns": figures}, say)


Read = Callable[[RecordColumns], ClickColumns]


def _batches(events: int, seed: int) -> tuple[list[RecordColumns], list[RecordColumns]]:
    """The clicks of the wide topic as one of our own has them, and as a shop says them."""
    rows = [row for chunk in wide_clicks(events, seed=seed) for row in chunk]
    plain = [(user.encode(), value) for user, value in rows]
    mapped = [(user.encode(), msgspec.json.encode(_said(decode_click(value)))) for user, value in rows]
    return list(_cut(plain)), list(_cut(mapped))


def _said(click: Click) -> dict[str, object]:
    second, fraction = divmod(click.timestamp_ms, 1000)
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
    return {
        "id": click.event_id,
        "type": "product_opened",
        "sent_at": f"{moment}.{fraction:03d}Z",
        "user": {"number": int(click.user_id[1:]), "plan": "free"},
        "object": {"sku": click.item_id, "rank": click.position, "list": click.request_id},
        "read_ms": click.dwell_ms,
        "bot": False,
    }


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
