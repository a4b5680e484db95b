"""The `slatestream` command.

Each command lives beside the code that it runs and is registered here with one line. A module imported
here is imported by every command, so it imports heavy libraries (torch, transformers) inside its functions.
"""

import sys

import typer

from streams.bench.commands import bench_app
from streams.broker import broker_command
from streams.compress import compress_command
from streams.demo.run import demo_command
from streams.errors import SlatestreamError
from streams.evaluate import evaluate_command
from streams.experiments.commands import experiment_app
from streams.explain import explain_command
from streams.ope.command import ope_command
from streams.simulate import simulate_command
from streams.topics import topics_app
from streams.train import train_command
from streams.tune import tune_command
from streams.worker import worker_command

app = typer.Typer(
    name="slatestream",
    help="A recommender that lives on Kafka: events in, slates out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("broker")(broker_command)
app.command("worker")(worker_command)
app.command("demo")(demo_command)
app.command("simulate")(simulate_command)
app.command("train")(train_command)
app.command("evaluate")(evaluate_command)
app.command("tune")(tune_command)
app.command("compress")(compress_command)
app.command("explain")(explain_command)
app.command("ope")(ope_command)
app.add_typer(topics_app, name="topics")
app.add_typer(experiment_app, name="experiment")
app.add_typer(bench_app, name="bench")


def main() -> None:
    """Run the command line; an error that the user can act on is a message, not a traceback."""
    try:
        app()
    except SlatestreamError as error:
        print(f"slatestream: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
