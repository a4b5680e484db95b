import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streams.cli import app
from streams.errors import SlatestreamError
from streams.releases.actions import share_of

PAGE = Path(__file__).parents[3] / "deploy" / "releases.md"
SHOWN = [
    shlex.split(line, comments=True)[2:]
    for block in re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
    for line in block.splitlines()
    if line.startswith("slatestream release ")
]


@pytest.mark.parametrize("words", SHOWN, ids=" ".join)
def test_what_the_page_shows_is_a_command_with_these_options(words: list[str]):
    told = CliRunner().invoke(app, ["release", words[0], "--help"], env={"COLUMNS": "200"})

    assert told.exit_code == 0
    assert [word for word in words if word.startswith("--") and word not in told.output] == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["list"], "release_store must be set, or --store given"),
        (["put", "nowhere", "--store", "STORE"], "release must be a folder with a manifest.json"),
        (["show", "3f9c", "--store", "STORE"], "'3f9c' names none of: none"),
        (["history", "--at", "yesterday"], "--at must be an ISO time"),
        (["show", "3f9c", "--store", "nosuch://bucket"], "nosuch"),
        (["canary", "3f9c", "--store", "STORE"], "'3f9c' names none of: none"),
    ],
)
def test_a_mistake_is_a_message(words: list[str], said: str, tmp_path: Path):
    done = CliRunner().invoke(app, ["release", *(word.replace("STORE", str(tmp_path)) for word in words)])

    assert isinstance(done.exception, SlatestreamError)
    assert said in str(done.exception)


@pytest.mark.parametrize(("text", "share"), [("5%", 0.05), ("0.05", 0.05), ("50%", 0.5), ("0.1%", 0.001)])
def test_a_share_is_in_percent_or_not(text: str, share: float):
    assert share_of(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["0", "0%", "51%", "5", "-5%", "nan", "inf%", "five", "", "%"])
def test_a_share_that_no_canary_can_have_is_refused(text: str):
    with pytest.raises(SlatestreamError, match="--share must be above 0 and at most 50%"):
        share_of(text)
