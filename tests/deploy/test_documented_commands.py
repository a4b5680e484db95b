"""Every command that README.md and the pages of deploy/ name is there, with the options it is given."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from streams.cli import app

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "deploy").glob("*.md")])
FENCED = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
CALL = re.compile(r"(?:^|\s|/)(slatestream|make|python -m) (?=[a-z-])(.*)")
UsageError: Any = typer.BadParameter.__base__
SHELL = re.compile(r"\s(?:#|\||&&|>|;|2>).*|\\$")


def calls(text: str) -> Iterator[tuple[str, list[str], bool]]:
    """Programs with their arguments, and whether it is a line of a block: one to be typed as it stands."""
    blocks = "\n".join(FENCED.findall(text)).replace("\\\n", " ")
    lines = [
        (line, True) for line in blocks.splitlines() if re.match(r" *(\$ |\w+=|\.venv|slate|make|pyth)", line)
    ]
    lines += [(line, False) for line in INLINE.findall(FENCED.sub("", text))]
    for line, whole in lines:
        if (found := CALL.search(line)) is not None:
            yield found[1], shlex.split(SHELL.sub("", found[2])), whole


def refuse_unknown(command: Any, words: list[str], whole: bool) -> None:
    """Parse the words as the command would, without running it.

    In the midst of a sentence a command is named without what it needs.
    """
    if words[:1] in (["--help"], ["--version"], ["--install-completion"], ["--show-completion"]):
        return
    try:
        context = command.make_context("slatestream", list(words))
        if hasattr(command, "resolve_command") and words:
            _, found, rest = command.resolve_command(context, words)
            refuse_unknown(found, rest, whole)
    except typer.Exit:  # --help of a command
        return
    except UsageError as error:
        if whole or type(error).__name__ not in ("NoArgsIsHelpError", "MissingParameter"):
            raise


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_names_no_command_and_no_option_that_there_is_not(page: Path) -> None:
    root = typer.main.get_command(app)
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for program, words, whole in calls(page.read_text()):
        if program == "make":
            assert words[0] in targets, (page.name, words)
        elif program == "python -m":
            module = ROOT.joinpath(*words[0].split("."))
            ours = words[0].partition(".")[0] in ("tests", "streams", "deploy")
            assert not ours or module.with_suffix(".py").is_file() or (module / "__main__.py").is_file(), (
                words
            )
        else:
            try:
                refuse_unknown(root, words, whole)
            except UsageError as error:
                pytest.fail(f"{page.name}: slatestream {' '.join(words)}: {error.format_message()}")


def test_commands_are_found_in_blocks_and_in_sentences() -> None:
    text = "Say `slatestream import` or\n\n```sh\n$ A=1 slatestream import a.csv  # all\n```\n`make demo`"
    assert list(calls(text)) == [
        ("slatestream", ["import", "a.csv"], True),
        ("slatestream", ["import"], False),
        ("make", ["demo"], False),
    ]
    root = typer.main.get_command(app)
    for words in (["imprt", "a.csv"], ["import", "a.csv", "--dry-runs"], ["import", "--as", "x", "a.csv"]):
        with pytest.raises(UsageError):
            refuse_unknown(root, words, whole=True)
