"""The `slatestream` command.

Each command lives beside the code that it runs and is registered here with one line. A module imported
here is imported by every command, so it imports heavy libraries (torch, transformers) inside its functions.
"""

import sys

import typer

from streams.broker import broker_command
from streams.errors import SlatestreamError
from streams.topics import topics_app

app = typer.Typer(
    name="slatestream",
    help="A recommender that lives on Kafka: events in, slates out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("broker")(broker_command)
app.add_typer(topics_app, name="topics")


def main() -> None:
    """Run the command line; an error that the user can act on is a message, not a traceback."""
    try:
        app()
    except SlatestreamError as error:
        print(f"slatestream: {error}", file=sys.stderr)
        sys.exit(2)
