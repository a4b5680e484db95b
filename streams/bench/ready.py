"""`slatestream bench ready`: how long a worker takes from its start to ready, and its memory then."""

import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from streams.bench.options import Set, kinds_among, settings_given
from streams.bench.report import print_table, speaker, write_report
from streams.bench.steps import Steps
from streams.bench.world import random_release
from streams.releases.options import check_release
from streams.session.cluster import cluster
from streams.session.machine import machine
from streams.session.shutdown import clean_exit
from streams.settings import Settings
from streams.worker.process import WorkerError, WorkerProcess, same_topics

READY_S = 300.0
LOOK_S = 0.01
EXPECTED_S = 30.0
# Which caches are empty at a cold start, by the variables that name them.
COLD = {
    ", modules never compiled": ("PYTHONPYCACHEPREFIX",),
    ", modules and kernels never compiled": ("PYTHONPYCACHEPREFIX", "NUMBA_CACHE_DIR"),
}
KINDS = {"none": "without a release", "release": "with a release"}
# What a worker on these libraries cannot do without: the calibration.
LIBRARIES = "import aiokafka, faust, msgspec, numba, numpy, onnxruntime, pydantic_settings"


@dataclass(frozen=True, slots=True)
class Start:
    """A start of a worker: seconds to ready and of processor time until then, and MiB resident.

    Those when it is ready, and once it has idled.
    """

    what: str
    ready_s: float
    cpu_s: float
    ready_mib: float
    idle_mib: float


def ready_command(
    times: Annotated[int, typer.Option(min=1, help="Starts of each kind; the medians are shown.")] = 3,
    idle: Annotated[float, typer.Option(min=0, help="Seconds after ready until memory is read.")] = 12.0,
    kinds: Annotated[
        str, typer.Option(help="Start with no release (none), with one (release) or both, comma-separated.")
    ] = "none,release",
    release: Annotated[
        Path | None,
        typer.Option(help="Release to start with; unset, one of random weights is made."),
    ] = None,
    cold: Annotated[
        bool,
        typer.Option(
            "--cold", help="Also start once with modules never compiled, and once with kernels neither."
        ),
    ] = False,
    set_: Set = None,
    out: Annotated[Path, typer.Option(help="Folder for ready.json and the worker's log.")] = Path(
        "build/bench"
    ),
) -> None:
    """Measure how soon a worker is ready, with and without a release, and what it weighs then.

    State and topics are empty, files are in the page cache. The clock starts when the process does and stops
    when /readyz answers 200, looked at every 10 ms. --cold gives one start of each kind an empty cache of
    Python modules, as in an environment whose kernels were compiled when it was made (the image, `make env`),
    and one more an empty cache of kernels, too, as after a bare `pip install`. Beside it stands the time that
    a Python process takes to import the libraries a worker is built on, measured in the same way: no worker
    on them is quicker than that. On a machine that has other work to do, believe that ratio and the processor
    time.

    slatestream bench ready --cold
    """
    check_release(release)
    console = Console()
    say = speaker(console)
    given = settings_given(set_ or [])
    wanted = kinds_among(KINDS, kinds)
    with clean_exit(console):
        if "release" in wanted and release is None:
            say("Making a release of random weights (kept for the next time) ...")
            release = random_release(out / "random-release")
        with_values = {"none": given, "release": given | {"release": str(release)}}
        warm: list[tuple[str, tuple[str, ...]]] = [("", ())] * times
        coldness = warm + (list(COLD.items()) if cold else [])
        steps = Steps([EXPECTED_S] * (len(wanted) * len(coldness)), say)
        starts: list[Start] = []
        imports = [import_seconds() for _ in range(times)]
        for kind in wanted:
            what, values = KINDS[kind], with_values[kind]
            for suffix, empty in coldness:
                name = f"{what}{suffix}"
                steps.begin(name)
                with cluster(lambda _: None, "ready", partitions=4) as settings:
                    starts.append(start_once(name, settings, values, idle, out / "ready-worker.log", empty))
                say(f"  ready after {starts[-1].ready_s:.2f} s, {starts[-1].idle_mib:.0f} MiB idle")
        medians = summary(starts)
        base = statistics.median(imports)
        print_table(
            console,
            "Start of a worker, medians",
            ("start", "ready s", "over imports alone", "CPU s", "MiB when ready", "MiB idle"),
            [
                [row["what"], row["ready_s"], row["ready_s"] / base]
                + [row["cpu_s"], row["ready_mib"], row["idle_mib"]]
                for row in medians
            ],
        )
        say(f"importing the libraries alone: {base:.2f} s")
        say(f"machine: {machine()}")
        write_report(
            out / "ready.json",
            {
                "starts": [asdict(one) for one in starts],
                "medians": medians,
                "imports_s": base,
                "settings": given,
            },
            say,
        )


def start_once(
    what: str, settings: Settings, values: dict[str, Any], idle: float, log: Path, empty: tuple[str, ...]
) -> Start:
    """Start a worker on empty topics, wait until it is ready, and let it idle.

    `empty` are variables that name folders of compiled code: each gets one that is empty.
    """
    log.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="slatestream-cold-", ignore_cleanup_errors=True) as caches:
        variables = {name: str(Path(caches) / name.lower()) for name in empty}
        worker = WorkerProcess(same_topics(settings, **values), log=log, variables=variables)
        began = time.monotonic()
        with worker:
            while not worker.is_ready():
                worker.check()
                if time.monotonic() - began > READY_S:
                    raise WorkerError(f"the worker is not ready after {READY_S:.0f} s:\n{worker.log_tail()}")
                time.sleep(LOOK_S)
            ready_s, cpu_s = time.monotonic() - began, worker.cpu_seconds()
            ready_mib = worker.resident_bytes() / 2**20
            time.sleep(idle)
            return Start(what, ready_s, cpu_s, ready_mib, worker.resident_bytes() / 2**20)


def import_seconds() -> float:
    """Seconds that a Python process takes to import what a worker is built on."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", LIBRARIES], check=True, stdin=subprocess.DEVNULL)
    return time.monotonic() - began


def summary(starts: list[Start]) -> list[dict[str, Any]]:
    """Medians of each kind of start, in order of appearance."""
    rows = []
    for what in dict.fromkeys(start.what for start in starts):
        same = [start for start in starts if start.what == what]
        row: dict[str, Any] = {"what": what, "starts": len(same)}
        for name in ("ready_s", "cpu_s", "ready_mib", "idle_mib"):
            row[name] = statistics.median(getattr(start, name) for start in same)
        rows.append(row)
    return rows
