"""The `slatestream bench` commands, each named here with one line and imported when it is asked for."""

import typer

from streams.lazy_commands import LazyCommands

COMMANDS = {
    "ingest": "streams.bench.ingest:ingest_command",
    "serve": "streams.bench.serve:serve_command",
    "ready": "streams.bench.ready:ready_command",
    "policy": "streams.bench.policy:policy_command",
    "mapping": "streams.bench.mapping:mapping_command",
    "restore": "streams.bench.restore:restore_command",
    "takeover": "streams.bench.takeover:takeover_command",
    "memory": "streams.bench.memory:memory_command",
    "score": "streams.bench.score:score_command",
    "scale": "streams.bench.scale:scale_command",
    "quick": "streams.bench.quick:quick_command",
    "sizing": "streams.bench.sizing:sizing_command",
    "swap": "streams.bench.swap:swap_command",
    "freshness": "streams.bench.freshness:freshness_command",
    "prequential": "streams.bench.prequential:prequential_command",
}


class BenchCommands(LazyCommands):
    """The benchmarks by name."""

    table = COMMANDS


bench_app = typer.Typer(
    cls=BenchCommands,
    no_args_is_help=True,
    help="Measure speed and quality through the real topics, each beside a calibration of the same run.",
)
