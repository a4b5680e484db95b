from pathlib import Path

import pytest

from streams.errors import SlatestreamError
from streams.quickstart.folder import NAME, open_folder

ASKED = {
    "files": {"a.csv": [10, 5]},
    "columns": {"a.csv": {"user_id": "u"}},
    "layout": {"a.csv": [",", "utf-8", "u", "v"]},
    "choices": {"action": None, "known": ("view",)},
}


def test_a_quickstart_goes_on_where_it_was_and_keeps_its_id(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "quickstart"
    with open_folder(path, ASKED) as folder:
        before = folder.kept.id
        folder.keep(imported=True, user="u1")
    with open_folder(path, ASKED) as folder:
        assert (folder.kept.id, folder.kept.imported, folder.kept.user) == (before, True, "u1")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("files", {"b.csv": [10, 5]}, r"of other files \(\{\"a.csv\":\[10,5\]\}, now \{\"b.csv\":"),
        ("columns", {"a.csv": {"user_id": "v"}}, "of other columns"),
        ("layout", {"a.csv": [",", "utf-8", "v", "u"]}, "of columns in another order"),
        (
            "choices",
            {"action": "like", "known": ("view",)},
            r"of other options \(\{\"action\":null\}, now \{\"action\":\"like\"\}\)",
        ),
    ],
)
def test_a_folder_of_another_quickstart_is_refused_and_begun_anew_when_told(
    tmp_path: Path, name: str, value: object, words: str
) -> None:
    with open_folder(tmp_path, ASKED) as folder:
        folder.keep(imported=True)
        folder.broker.mkdir()
    with pytest.raises(SlatestreamError, match=words), open_folder(tmp_path, ASKED | {name: value}):
        pass
    with open_folder(tmp_path, ASKED | {name: value}, restart=True) as folder:
        assert not folder.kept.imported
        folder.keep()
        assert not folder.broker.exists()


def test_what_was_only_looked_at_is_nobodys_yet(tmp_path: Path) -> None:
    with open_folder(tmp_path, ASKED):
        pass
    with open_folder(tmp_path, ASKED | {"files": {}}) as folder:
        assert folder.kept.asked["files"] == {}


def test_two_quickstarts_do_not_share_a_folder(tmp_path: Path) -> None:
    with (
        open_folder(tmp_path, ASKED),
        pytest.raises(SlatestreamError, match="another quickstart runs in"),
        open_folder(tmp_path, ASKED),
    ):
        pass


def test_what_was_there_stays_until_the_new_beginning_is_written_down(tmp_path: Path) -> None:
    with open_folder(tmp_path, ASKED) as folder:
        folder.keep(imported=True)
        folder.broker.mkdir()
    with open_folder(tmp_path, ASKED, restart=True):
        pass  # who is asked says no
    with open_folder(tmp_path, ASKED) as folder:
        assert folder.kept.imported
        assert folder.broker.is_dir()
    with open_folder(tmp_path, ASKED, restart=True) as folder:
        folder.keep(trained="quick")
        assert not folder.broker.exists()
        assert not folder.kept.imported


@pytest.mark.parametrize("restart", [False, True])
def test_a_folder_of_somebody_elses_is_left_alone(tmp_path: Path, restart: bool) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with (
        pytest.raises(SlatestreamError, match="must be empty or a quickstart's, and holds thesis.tex"),
        open_folder(tmp_path, ASKED, restart=restart),
    ):
        pass
    assert (tmp_path / "thesis.tex").read_text() == "x"


def test_a_folder_that_is_a_file_is_a_message(tmp_path: Path) -> None:
    (tmp_path / "here").write_text("")
    for path in (tmp_path / "here", tmp_path / "here" / "below", Path("/proc/quickstart")):
        with pytest.raises(SlatestreamError, match="--folder"), open_folder(path, ASKED):
            pass


def test_what_is_kept_and_damaged_is_a_message_and_can_be_begun_anew(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text("{")
    with pytest.raises(SlatestreamError, match="--restart begins anew"), open_folder(tmp_path, ASKED):
        pass
    with open_folder(tmp_path, ASKED, restart=True) as folder:
        assert not folder.kept.imported
