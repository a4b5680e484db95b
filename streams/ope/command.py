"""`slatestream ope`: what every candidate policy would earn, by the live log, a part of it, or a file."""

import asyncio
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, get_args

import typer
from aiokafka.errors import KafkaError
from rich.console import Console

from online_learning.ope.slates import SLATE_ESTIMATORS
from streams.errors import SlatestreamError
from streams.kafka.reader import read_partition
from streams.kafka.topic_admin import check_topics
from streams.kafka.topics import topic_name, topic_partitions
from streams.ope.estimates import DEFAULT_ESTIMATORS, Sampling
from streams.ope.live import Window, follow
from streams.ope.log import Reward, SlateLog
from streams.ope.report import Report, as_json, count, evaluate_columns, show
from streams.session.shutdown import clean_exit
from streams.settings import Settings, load_settings

SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def ope_command(
    file: Annotated[
        Path | None, typer.Option(help="Evaluate a file with a `feedback` record a line, and end.")
    ] = None,
    from_topics: Annotated[
        bool, typer.Option("--from-topics", help="Evaluate all that `feedback` holds, and end.")
    ] = False,
    last: Annotated[
        str | None, typer.Option(help="Evaluate what was fed back in the last 90s, 30m, 1h or 2d, and end.")
    ] = None,
    estimator: Annotated[
        list[str] | None,
        typer.Option(help=f"{', '.join(SLATE_ESTIMATORS)}, or all; may be repeated. By default snrips."),
    ] = None,
    positions: Annotated[
        int | None, typer.Option(min=1, help="Evaluate the first so many positions of each slate.")
    ] = None,
    reward: Annotated[
        str, typer.Option(help="responses: items responded to; weights: the actions' weights, summed.")
    ] = "responses",
    window: Annotated[int, typer.Option(min=1, help="Live: the latest so many slates.")] = 20_000,
    every: Annotated[float, typer.Option(min=0.1, help="Live: seconds between two verdicts.")] = 5.0,
    host: Annotated[str, typer.Option(help="Live: address the metrics are served on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Live: of the metrics; 0 takes any.")] = 6067,
    resamples: Annotated[int, typer.Option(min=100, help="Of the bootstrap, which draws users.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0,
    plot: Annotated[Path | None, typer.Option(help="Draw the intervals into this PNG.")] = None,
    printed: Annotated[
        bool, typer.Option("--json", help="Print all figures as JSON; the tables go to stderr.")
    ] = False,
    report_file: Annotated[
        Path | None, typer.Option("--report", help="Write all figures into this JSON file.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file with settings.")] = None,
) -> None:
    """Estimate from logged slates what every candidate policy would have earned, beside the live one.

    Without --file, --from-topics or --last it follows `feedback` and judges its latest slates again and
    again, with metrics for Prometheus, until Ctrl-C.

    Candidates are named to the worker, e.g. SLATESTREAM_CANDIDATE_POLICIES='["softmax:temperature=0.05"]'.
    It logs with each slate how probable the slate would be under each of them; that is all this needs. Where
    the log cannot bear an estimate, it is refused with the reason, and the longest beginning of the slates
    that can be estimated is given instead.

    Each slate is judged by itself, in the state that the live policy led to: what another policy's slates
    would have changed for later visits is not in the estimate.

    slatestream ope --last 1h --positions 3

    slatestream ope --file feedback.jsonl --estimator all --json
    """
    estimators = _estimators(estimator or list(DEFAULT_ESTIMATORS))
    if reward not in get_args(Reward):
        raise SlatestreamError(f"--reward must be one of {', '.join(get_args(Reward))}, got {reward!r}")
    chosen: Reward = "weights" if reward == "weights" else "responses"
    sampling = Sampling(resamples=resamples, seed=seed)
    settings, console = load_settings(config), Console(stderr=printed)
    offline = file is not None or from_topics or last is not None
    if file is not None and (from_topics or last is not None):
        raise SlatestreamError("ope needs at most one of --file and --from-topics or --last")
    if not offline:
        if plot is not None or report_file is not None or printed:
            raise SlatestreamError(
                "--plot, --report and --json need an end: give --file, --from-topics or --last"
            )
        judged = Window(window, every, chosen, estimators, positions, sampling)
        with clean_exit(console):
            _connected(
                lambda: asyncio.run(follow(settings, judged, host=host, port=port, console=console)), settings
            )
        return
    log = SlateLog(frozenset(settings.positive_actions), reward=chosen)
    if file is not None:
        read_file(file, log.add)
    else:
        since = 0 if last is None else int(1000 * (time.time() - duration_s(last)))
        _connected(lambda: asyncio.run(read_topic(settings, log.add, since_ms=since)), settings)
    columns = log.columns()
    if file is not None and not len(columns):
        why = f"; the first: {log.first_malformed}" if log.first_malformed else ""
        raise SlatestreamError(f"{file}: no usable record of feedback in {log.read} lines{why}")
    report = evaluate_columns(columns, count(log, columns), chosen, estimators, sampling, positions)
    show(report, console)
    told = json.dumps(as_json(report, sampling), indent=2)
    if printed:
        print(told)
    _write(report, told, plot, report_file)


def _estimators(names: list[str]) -> list[str]:
    if names == ["all"]:
        return list(SLATE_ESTIMATORS)
    for name in names:
        if name not in SLATE_ESTIMATORS:
            known = ", ".join(SLATE_ESTIMATORS)
            raise SlatestreamError(f"--estimator must be one of {known} or all, got {name!r}")
    return list(dict.fromkeys(names))


def duration_s(text: str) -> float:
    """Return the seconds of a duration such as 90s, 30m, 1h or 2d."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    if found is None:
        raise SlatestreamError(f"--last must be a number and s, m, h or d, such as 1h, got {text!r}")
    return float(found[1]) * SECONDS[found[2]]


def read_file(path: Path, add: Callable[[bytes], None]) -> None:
    """Hand on each line of a file that is not empty."""
    try:
        with path.open("rb") as lines:
            for row in lines:
                if row.strip():
                    add(row)
    except OSError as error:
        raise SlatestreamError(f"{path}: {error.strerror}") from None


async def read_topic(settings: Settings, add: Callable[[bytes | None], None], *, since_ms: int = 0) -> None:
    """Hand on what `feedback` holds from a broker time on."""
    for partition in range(topic_partitions(settings, "feedback")):
        topic = topic_name(settings, "feedback")
        async for records in read_partition(settings, topic, partition, since_ms=since_ms):
            for record in records:
                add(record.value)


def _connected(work: Callable[[], None], settings: Settings) -> None:
    check_topics(settings)
    try:
        work()
    except KafkaError as error:
        raise SlatestreamError(f"ope: {settings.bootstrap_servers}: {error}") from None


def _write(report: Report, told: str, plot: Path | None, file: Path | None) -> None:
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(told + "\n", encoding="utf-8")
    if plot is not None:
        from streams.ope.plot import plot_report

        plot_report(report, plot)
