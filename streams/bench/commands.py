"""The `slatestream bench` commands."""

import typer

from streams.bench.freshness import freshness_command
from streams.bench.ingest import ingest_command
from streams.bench.prequential import prequential_command

bench_app = typer.Typer(no_args_is_help=True, help="Measure speed and quality through the real topics.")
bench_app.command("freshness")(freshness_command)
bench_app.command("ingest")(ingest_command)
bench_app.command("prequential")(prequential_command)
