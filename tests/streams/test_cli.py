import compileall
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from streams.bench.commands import COMMANDS as BENCHMARKS
from streams.bench.commands import bench_app
from streams.cli import COMMANDS, TRAIN, app, main
from streams.errors import EXIT_CODES
from streams.lazy_commands import summary
from tests.deploy.test_documented_commands import refuse_unknown


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["slatestream", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_bad_configuration_is_a_message_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SLATESTREAM_PARTITIONS", "0")
    assert run(monkeypatch, "topics", "describe") == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("slatestream: Bad configuration:\n  partitions:")
    assert "Traceback" not in shown.err


def test_a_missing_configuration_file_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(monkeypatch, "topics", "create", "--config", str(tmp_path / "none.toml")) == 2
    assert f"--config {tmp_path}/none.toml: no such file" in capsys.readouterr().err


def test_a_bad_heap_is_a_message_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "broker", "--heap", "lots") == 2
    assert capsys.readouterr().err == (
        "slatestream: heap must be a number with k, m or g, such as '1g', got 'lots'\n"
    )


def test_the_help_names_every_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--help") == 0
    shown = capsys.readouterr().out
    assert [name for name in COMMANDS if f" {name} " not in shown] == []


def test_the_help_says_what_each_exit_code_means(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--help") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert [code for code, what in EXIT_CODES.items() if f"{code} {what}" not in shown] == []


def test_a_level_of_logging_that_there_is_not_is_a_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "worker", "--log-level", "loud") == 2
    shown = capsys.readouterr().err
    assert "'--log-level': 'loud' is not one of" in shown
    assert "Traceback" not in shown


def test_the_version_is_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "--version") == 0
    assert capsys.readouterr().out.startswith("slatestream 0.")


def test_a_command_that_is_misspelt_is_suggested(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "worke") == 2
    assert "Did you mean 'worker'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--help"], "export-user"),
        ([], "export-user"),
        (["wroker"], "Did you mean 'worker'"),
        (["bench", "--help"], "prequential"),
        (["bench", "sevre"], "Did you mean 'serve'"),
    ],
)
def test_commands_are_listed_and_suggested_without_their_modules(arguments: list[str], words: str) -> None:
    modules = {where.partition(":")[0] for where in [*COMMANDS.values(), *BENCHMARKS.values()]}
    script = (
        "import sys; from streams.cli import main\n"
        f"sys.argv = {['slatestream', *arguments]}\n"
        "try: main()\n"
        f"finally: print('LOADED', sorted(({modules} - {{'streams.bench.commands'}}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert words in done.stdout + done.stderr
    assert done.stdout.rstrip().endswith("LOADED []")


def test_the_summary_of_a_command_is_what_its_help_begins_with() -> None:
    for typed in (app, bench_app):
        group: Any = typer.main.get_group(typed)
        context = typer.Context(group)
        for name, where in group.table.items():
            assert summary(where) == group.get_command(context, name).help.split("\n\n")[0]


def test_a_command_whose_source_does_not_say_what_it_is_for_is_told() -> None:
    for where in ("streams.cli:GROUPS", "streams.cli:nothing", "streams.cli:_end"):
        with pytest.raises(LookupError, match=f"{where} has no help"):
            summary(where)


@pytest.mark.parametrize("arguments", [["import", "ü.csv", "--dry-run"], ["worker", "--help"]])
def test_a_terminal_without_a_letter_shows_its_code(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "ü.csv").write_text("user,item,time\nann,Amélie – Ω,1700000000\n")
    done = subprocess.run(
        [sys.executable, "-m", "streams.cli", *arguments],
        capture_output=True, text=True, check=False, cwd=tmp_path,
        env=os.environ | {"PYTHONIOENCODING": "ascii", "COLUMNS": "40"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\u" in done.stdout


def test_json_that_is_printed_is_ascii_for_a_code_of_a_letter_would_be_none_of_json() -> None:
    for path in (Path(__file__).parents[2] / "streams").rglob("*.py"):
        printed = re.search(r"(print|echo)\(json\.dumps\(.*ensure_ascii", path.read_text())
        assert printed is None, path


@pytest.fixture(params=["compiled", "archive"])
def installed(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    """How the packages are installed, and what to add to the path."""
    folder, root = tmp_path / "lib", Path(__file__).parents[2]
    for package in ("streams", "model_core", "online_learning"):
        shutil.copytree(root / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    if request.param == "archive":
        return "archive", Path(shutil.make_archive(str(folder), "zip", folder))
    compileall.compile_dir(folder, legacy=True, quiet=1)
    for source in folder.rglob("*.py"):
        source.unlink()
    return "compiled", folder


@pytest.mark.parametrize(("word", "words"), [("--help", "export-user"), ("wroker", "Did you mean 'worker'")])
def test_commands_are_listed_and_suggested_however_they_are_installed(
    installed: tuple[str, Path], tmp_path: Path, word: str, words: str
) -> None:
    how, path = installed
    script = f"import sys; sys.path.insert(0, {str(path)!r}); from streams.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script, word], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert "Traceback" not in done.stderr
    assert words in done.stdout + done.stderr
    if word == "--help":
        assert ("Run a real Kafka broker" in done.stdout) is (how == "archive")


def test_a_worker_waits_for_nothing_that_only_others_need() -> None:
    script = "import sys; import streams.cli, streams.worker.app; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(ran.stdout.split())
    assert {"numba", "faust"} <= loaded
    assert loaded & {"torch", "transformers", "matplotlib", "gymnasium", "optuna", "scipy.sparse"} == set()


def test_a_folder_where_the_processes_of_another_service_share_metrics_is_left_alone(tmp_path: Path) -> None:
    code = (
        "import contextlib, sys; sys.argv = ['slatestream', '--version']; from streams.cli import main\n"
        "with contextlib.suppress(SystemExit): main()\n"
        "from streams.metrics import Metrics; Metrics().ready.set(1)"
    )
    shared = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], env=shared, check=True, stdout=subprocess.DEVNULL)
    assert list(tmp_path.iterdir()) == []


def test_the_extra_that_trains_is_named_where_a_package_of_it_is_missing() -> None:
    code = (
        "import sys; sys.modules['torch'] = None; sys.argv = ['slatestream', 'train', '--data', 'none']; "
        "from streams.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "slatestream: needs torch: pip install 'slatestream[train]'"
    assert "Traceback" not in done.stderr


def test_the_packages_that_train_are_those_of_the_extra() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    wanted = {re.split("[><=]", line)[0] for line in project["optional-dependencies"]["train"]}
    assert {name.replace("_", "-") for name in TRAIN} == wanted


AVRO = """
[[source]]
topic = "t"
feeds = "users"
format = "avro"
fields.user_id = "u"
"""

STAY = {"worker", "broker"}
"""Run until they are stopped, and say what they do in a log."""
INTO_FILES = {f"bench {name}" for name in BENCHMARKS}
"""Write their figures as JSON into a file."""
JSON_ANYWAY = {"release show", "export-user"}


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every command that does something, with the words that call it."""
    if hasattr(command, "list_commands"):
        context = command.context_class(command)
        for name in command.list_commands(context):
            yield from leaves(command.get_command(context, name), (*path, name))
    else:
        yield " ".join(path), command


def test_every_command_and_option_says_what_it_does_and_has_json_for_programs() -> None:
    found = dict(leaves(typer.main.get_command(app)))
    assert [name for name, command in found.items() if not command.help] == []
    mute = [(name, one.name) for name, command in found.items() for one in command.params if not one.help]
    assert mute == []
    options = {
        name: {option for one in command.params for option in one.opts} for name, command in found.items()
    }
    assert {name for name in found if "--json" not in options[name]} <= STAY | INTO_FILES | JSON_ANYWAY


def test_every_command_has_an_example_that_it_takes_and_says_its_exit_codes() -> None:
    root = typer.main.get_command(app)
    for name, command in leaves(root):
        lines = command.help.split("\n\n")
        assert "\n" not in "".join(lines), f"the help of {name} does not flow to the width of a terminal"
        examples = [line for line in lines if re.match(rf"(\w+=\S+ )?slatestream {name}( |$)", line)]
        assert examples, f"{name} has no example"
        for line in examples:
            words = re.split(r" (?:[#|>] ?)", line.partition("slatestream ")[2])[0]
            refuse_unknown(root, shlex.split(words), whole=True)
        assert "Exit code 0" in command.help + (command.epilog or ""), name


def test_no_seed_is_below_0() -> None:
    found = dict(leaves(typer.main.get_command(app)))
    seeds = {name: one.min for name, command in found.items() for one in command.params if one.name == "seed"}
    assert "demo" in seeds
    assert {name for name, least in seeds.items() if least != 0} == set()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("broker", "--data-dir", "file"), 2, "file: File exists"),
        (("demo", "--out", "file"), 2, "file: File exists"),
        (("train", "--from-topics"), 3, "Kafka cannot be reached"),
        (("topics", "create"), 3, "Kafka cannot be reached"),
        (("init", "shop.events", "--yes"), 3, "Kafka cannot be reached"),
        (("import", "good.csv"), 3, "Kafka cannot be reached"),
        (("canary", "--once"), 3, "Kafka cannot be reached"),
        (("dead-letters", "list"), 3, "Kafka cannot be reached"),
        (("experiment", "list"), 3, "Kafka cannot be reached"),
        (("ope", "--from-topics"), 3, "Kafka cannot be reached"),
        (("recommend", "u1", "--url", "http://127.0.0.1:1"), 3, "no worker answers at http://127.0.0.1:1"),
        (("canary", "--host", "a" * 300), 2, "label too long); name others, port 0 for any"),
        (("recommend", "u\udcff"), 2, "'u\\udcff' is no UTF-8 text"),
        (("list", "trending", "--filter", "genre:\udcff"), 2, "'genre:\\udcff' is no UTF-8 text"),
        (("recommend", "u1", "--url", "here"), 2, "--url must begin with http:// or https://"),
        (("map", "none.toml"), 2, "mapping none.toml: No such file or directory"),
        (("map", "avro.toml"), 2, "source t is avro, so it needs the address of the schema registry"),
        (("map", "good.csv"), 2, "mapping good.csv: no TOML"),
        (("init", "none.jsonl"), 2, "none.jsonl: no such file"),
        (
            ("import", "wrong.csv"),
            2,
            "no column for a user or an item; its columns are a (1), b (2)",
        ),
        (("import", "file"), 2, "file is empty"),
        (("quickstart", "wrong.csv"), 2, "say --map user_id=COLUMN --map item_id=COLUMN"),
        (("quickstart", "good.csv", "--folder", "file"), 2, "--folder file: File exists"),
        (("config", "check", "--config", "."), 2, "--config .: a folder"),
        (("worker", "--config", "good.csv"), 2, "--config good.csv: no TOML"),
        (("worker", "--release", "none"), 2, "release must be a folder with a manifest.json, got 'none'"),
        (("train", "--data", "none"), 2, "--data none: no such folder or file"),
        (("tune", "--data", "none"), 2, "--data none: no such folder or file"),
        (("train", "--data", "good.csv", "--like-from", "nan"), 2, "--like-from must be a number, got nan"),
        (("demo", "--release", "none"), 2, "--release: release must be a folder with a manifest.json"),
        (("bench", "score", "--release", "file"), 2, "--release: release must be a folder with a"),
        (("bench", "score", "--dim", "47"), 2, "dim must be a multiple of heads=2, got 47"),
        (("bench", "serve", "--rates", "nan"), 2, "expected numbers from 0 on, comma-separated, got 'nan'"),
        (("simulate", "--data", "none"), 2, "--data none: no .inter file in this folder"),
        (("ope", "--file", "file"), 2, "file: no usable record of feedback in 0 lines"),
    ],
)
def test_what_cannot_be_done_is_a_message_and_an_exit_code(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    arguments: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    (tmp_path / "file").write_text("")
    (tmp_path / "good.csv").write_text("user,item,time\nu1,i1,1700000000\nu2,i2,1700000001\n")
    (tmp_path / "wrong.csv").write_text("a,b\n1,2\n")
    (tmp_path / "avro.toml").write_text(AVRO)
    assert run(monkeypatch, *arguments) == code
    shown = capsys.readouterr().err
    assert shown.startswith("slatestream: ") or "\nslatestream: " in shown
    assert message in shown


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("recommend u1 --url http://127.0.0.1:1 --json", 3, "no worker answers at http://127.0.0.1:1"),
        ("status --interval soon --json", 2, "Invalid value for '--interval'"),
        ("topics creat --json", 2, "No such command 'creat'"),
        ("import none.csv --json", 2, "none.csv"),
        ("release put none --store . --json", 2, "release must be a folder with a manifest.json"),
    ],
)
def test_with_json_an_error_is_an_object_on_stdout_and_a_message_on_stderr(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    words: str,
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, *words.split()) == code
    shown = capsys.readouterr()
    told = json.loads(shown.out)
    assert told["exit_code"] == code
    assert message in told["error"]
    assert "Traceback" not in shown.err


def completed(line: str, shell: str = "bash") -> list[str]:
    """What a shell is offered at the end of a line."""
    words = line.split(" ")
    environment = {
        **os.environ,
        "_SLATESTREAM_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
        "_TYPER_COMPLETE_ARGS": line,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    code = "import sys; sys.argv[0] = 'slatestream'; from streams.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code],
        capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "| torch\n" not in done.stderr
    return done.stdout.split("\n")


def test_a_shell_completes_commands_options_and_values() -> None:
    assert {"dead-letters"} == set(completed("slatestream dead")) - {""}
    assert "--like-from" in completed("slatestream import --l")
    assert {"clicks", "content"} <= set(completed("slatestream import --as c"))
    assert "replay" in completed("slatestream dead-letters r")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_gets_all_commands_without_their_modules(shell: str) -> None:
    found = " ".join(completed("slatestream ", shell))
    assert [name for name in COMMANDS if name not in found] == []


def test_completion_is_installed_for_a_shell(tmp_path: Path) -> None:
    code = "import sys; sys.argv[0] = 'slatestream'; from streams.cli import main; main()"
    environment = {**os.environ, "HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, "--install-completion", "bash"],
        capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (
        "_SLATESTREAM_COMPLETE=complete_bash"
        in (tmp_path / ".bash_completions" / "slatestream.sh").read_text()
    )
