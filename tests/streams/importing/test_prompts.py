import os
import pty
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from streams.importing.faults import FileError
from streams.importing.options import Choices
from streams.importing.prompts import Understood, understand
from streams.importing.run import Options

CHOICES = Choices(known_actions=("view", "click", "like", "purchase", "dislike"), latest_ms=1_764_000_000_000)


def write(path: Path, lines: Sequence[str]) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


class Somebody:
    """Answers questions by their first words; says "" to others, and keeps what was asked and said."""

    def __init__(self, **answers: str) -> None:
        self.answers = answers
        self.asked: list[str] = []
        self.said: list[str] = []

    def ask(self, question: str, choices: Sequence[str], default: str) -> str:
        self.asked.append(question)
        answer = next((text for words, text in self.answers.items() if words in question), default)
        assert answer == default or answer in choices
        return answer

    def understand(self, *files: Path, **options: object) -> Understood:
        return understand(files, CHOICES, Options(**options), ask=self.ask, say=self.said.append)  # type: ignore[arg-type]


def test_columns_and_actions_that_nobody_knows_are_asked_for_and_said_once_more(tmp_path: Path) -> None:
    sales = write(
        tmp_path / "s.csv",
        ["Konto;Zahl;Moment;verb", "k1;z1;1700000000;sold", "k1;z2;1700000001;back", "k2;z1;1700000002;view"],
    )
    one = Somebody(**{"the user": "Konto", "the item": "Zahl", "'sold'": "purchase"})
    known = one.understand(sales)
    assert known.sources[0].plan.fields == {
        "user_id": "Konto", "item_id": "Zahl", "timestamp": "Moment", "action": "verb",
    }  # fmt: skip
    assert known.choices.actions == {"sold": "purchase", "back": "none"}
    assert one.said[-1] == (
        "The same without questions: --map user_id=Konto --map item_id=Zahl "
        "--actions sold=purchase --actions back=none"
    )
    assert "  Konto  k1" in one.said
    again = Somebody().understand(sales, told=known.options.told)
    assert again.sources[0].plan.fields == known.sources[0].plan.fields


def test_a_column_of_a_few_words_may_be_what_users_did(tmp_path: Path) -> None:
    rows = [f"k{n % 3},i{n},17000000{n:02d},{('lent', 'back')[n % 2]},{n % 2}" for n in range(20)]
    path = write(tmp_path / "s.csv", ["user,item,time,deed,shelf", *rows])
    one = Somebody(**{"say what a user did (deed: lent, back)": "deed", "'lent'": "purchase"})
    known = one.understand(path)
    assert known.choices.actions == {"lent": "purchase", "back": "none"}
    assert known.sources[0].plan.fields["action"] == "deed"
    assert "--map action=deed --actions lent=purchase --actions back=none" in one.said[-1]


def test_dates_that_do_not_tell_the_day_from_the_month_are_asked_about(tmp_path: Path) -> None:
    path = write(tmp_path / "s.csv", ["user,item,when", "u1,i1,01/02/2025", "u2,i1,03/04/2025"])
    one = Somebody(**{"Which of the two": "%m/%d/%Y"})
    known = one.understand(path)
    assert known.choices.time_format == "%m/%d/%Y"
    assert one.said[-1] == "The same without questions: --time-format %m/%d/%Y"
    with pytest.raises(FileError, match="none that tells the day from the month"):
        understand([path], CHOICES, Options(), ask=None, say=lambda text: None)


def test_a_catalogue_is_asked_for_its_items_alone(tmp_path: Path) -> None:
    one = Somebody(**{"the item": "nummer2"})
    one.understand(write(tmp_path / "g.csv", ["nummer2,title", "t1,Red coat", "t2,Blue coat"]))
    assert one.asked == ["Which column is the item? Enter where there is none"]


def test_two_files_may_have_two_names_for_one_field(tmp_path: Path) -> None:
    sales = write(tmp_path / "s.csv", ["user,thing,time", "u1,t1,1700000000", "u2,t1,1700000009"])
    goods = write(tmp_path / "g.csv", ["piece,label_text", "t1,Red coat", "t2,Blue coat"])
    known = Somebody().understand(sales, goods, told=(("item_id", "thing"), ("item_id", "piece")))
    assert [one.plan.fields["item_id"] for one in known.sources] == ["piece", "thing"]
    both = write(tmp_path / "b.csv", ["piece,thing,user", "t1,t1,u1"])
    with pytest.raises(FileError, match="has both 'thing' and 'piece': --map item_id must be one"):
        Somebody().understand(both, told=(("item_id", "thing"), ("item_id", "piece")))


def test_a_file_that_tells_all_is_asked_nothing_about(tmp_path: Path) -> None:
    one = Somebody()
    one.understand(write(tmp_path / "s.csv", ["user,item,time", "u1,i1,1700000000"]))
    assert (one.asked, one.said) == ([], [])


def test_where_nobody_answers_what_is_missing_is_the_error(tmp_path: Path) -> None:
    path = write(tmp_path / "s.csv", ["a,b", "u1,i1"])
    for ask in (None, Somebody().ask):
        with pytest.raises(FileError, match=r"its columns are a \(u1\), b \(i1\): say --map user_id=COLUMN"):
            understand([path], CHOICES, Options(), ask=ask, say=lambda text: None)


def test_the_command_asks_on_a_terminal(tmp_path: Path) -> None:
    path = write(tmp_path / "s.csv", ["Konto;Zahl", "k1;z1"])
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "streams.cli", "import", str(path), "--dry-run"]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        os.write(ours, b"nothing\nKonto\nZahl\n")
        said = b""
        try:
            while part := os.read(ours, 4096):
                said += part
        except OSError:  # the other side is gone
            pass
    os.close(ours)
    assert process.returncode == 0, said.decode()
    assert b"There is no 'nothing'." in said
    assert b"1 records would be published" in said
