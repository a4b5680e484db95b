"""Files as people have them give the dataset that they mean, and what was made of them is said."""

import gzip
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from model_core.data.datasets import load_recbole
from model_core.inputs.corpus import rating_actions
from streams.commands.dataset import HowRead, read_data, show_reading
from streams.errors import SlatestreamError
from streams.importing.dataset import ORDER_FROM_MS, Reading, read_dataset
from streams.importing.faults import FileError
from streams.importing.options import Choices
from streams.settings import Settings

ACTIONS = ("view", "click", "like", "purchase", "dislike")
BEGIN = 1_700_000_000
ROWS = [(f"u{n % 7}", f"i{n % 5}", 5 - n % 4, BEGIN + 600 * n) for n in range(35)]
INTER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
ITEM = "item_id:token\ttitle:token_seq\tgenre:token_seq\n"
PLAIN = INTER + "".join(f"{user}\t{item}\t{rating}\t{time}\n" for user, item, rating, time in ROWS)


def choices(**told: Any) -> Choices:
    return Choices(known_actions=ACTIONS, latest_ms=1_800_000_000_000, **told)


def read(folder: Path, files: dict[str, str | bytes], *, name: str = "shop", **told: str) -> Reading:
    place = folder / name
    place.mkdir()
    for file, text in files.items():
        (place / file).write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_dataset(place, choices(), tuple(told.items()))


def events(reading: Reading) -> list[tuple[str, str, str, int]]:
    log = reading.dataset.interactions
    return list(
        zip(
            log.user_ids.tolist(), log.item_ids.tolist(), reading.actions, log.timestamps_ms.tolist(),
            strict=True,
        )
    )  # fmt: skip


EXPECTED = [(u, i, "like" if rating >= 4 else "view", 1000 * time) for u, i, rating, time in ROWS]


def by_row(form: str, header: str, rows: list[Any] = ROWS) -> str:
    return header + "".join(form.format(*row) for row in rows)


def dated(form: str) -> str:
    moments = [(u, i, r, np.datetime64(t, "s").astype(object)) for u, i, r, t in ROWS]
    return by_row("{0}\t{1}\t{2}\t" + form + "\n", INTER, moments)


SAME: dict[str, dict[str, str | bytes]] = {
    "as RecBole has it": {"shop.inter": PLAIN},
    "a byte order mark and CRLF": {"shop.inter": b"\xef\xbb\xbf" + PLAIN.replace("\n", "\r\n").encode()},
    "empty lines": {"shop.inter": PLAIN.replace("u3\ti3", "\n\nu3\ti3") + "\n\n"},
    "a ragged line": {"shop.inter": PLAIN + "u1\ti1\n"},
    "packed": {"shop.inter.gz": gzip.compress(PLAIN.encode(), mtime=0)},
    "commas and quotes": {"clicks.csv": by_row('"{0}","{1}",{2},{3}\n', "userId,movieId,rating,timestamp\n")},
    "semicolons": {"clicks.csv": by_row("{0};{1};{2};{3}\n", "user_id;item_id;rating;timestamp\n")},
    "names of reviews": {
        "shop.inter": PLAIN.replace("item_id", "business_id")
        .replace("rating", "stars")
        .replace("timestamp", "date")
    },
    "other order of columns": {"shop.csv": by_row("{3},{2},{1},{0}\n", "ts,stars,asin,reviewerID\n")},
    "milliseconds": {"shop.inter": by_row("{0}\t{1}\t{2}\t{3}000\n", INTER)},
    "microseconds": {"shop.inter": by_row("{0}\t{1}\t{2}\t{3}000000\n", INTER)},
    "nanoseconds": {"shop.inter": by_row("{0}\t{1}\t{2}\t{3}000000000\n", INTER)},
    "ISO dates": {"shop.inter": dated("{3:%Y-%m-%d %H:%M:%S}")},
    "ISO dates with a zone": {"shop.inter": dated("{3:%Y-%m-%dT%H:%M:%S}Z")},
    "a scale to ten": {
        "shop.inter": by_row("{0}\t{1}\t{2}\t{3}\n", INTER, [(u, i, 2 * r, t) for u, i, r, t in ROWS])
    },
    "parted in two": {
        "shop.train.inter": INTER + "".join(PLAIN.splitlines(keepends=True)[1:20]),
        "shop.test.inter": INTER + "".join(PLAIN.splitlines(keepends=True)[20:]),
    },
    "each row three times": {"shop.tsv": INTER + "".join(3 * f"{line}\n" for line in PLAIN.splitlines()[1:])},
}


@pytest.mark.parametrize("name", SAME)
def test_the_same_interactions_are_read_whatever_the_file(name: str, tmp_path: Path) -> None:
    assert events(read(tmp_path, SAME[name])) == EXPECTED


@pytest.mark.parametrize("name", ["shop.v2", "ml.sample.inter"])
def test_a_name_may_have_dots_in_it_strictly_read_or_not(name: str, tmp_path: Path) -> None:
    reading = read(tmp_path, {f"{name}.inter": PLAIN}, name=name)
    assert events(reading) == EXPECTED
    strict = load_recbole(tmp_path / name)
    assert strict.interactions.timestamps_ms.tolist() == [1000 * row[3] for row in ROWS]
    (other := tmp_path / "other").mkdir()
    (tmp_path / name / f"{name}.inter").rename(other / "ml.sample.inter")
    assert len(load_recbole(other).interactions) == len(ROWS)


def test_a_wellformed_folder_is_read_as_strictly(tmp_path: Path) -> None:
    header = (
        "item_id:token",
        "movie_title:token_seq",
        "release_year:token",
        "class:token_seq",
        "brand:token",
    )
    items = "\t".join((*header, "plot:token_seq\n")) + "".join(
        f"i{n}\tIn 199{n}\t199{n}\tDrama Crime\tB\tIt goes on\n" for n in range(5)
    )
    names = [f"{name}:token" for name in ("user_id", "age", "gender", "zip_code", "income", "preferences")]
    users = "\t".join(names) + "\n" + "".join(f"u{n}\t{20 + n}\tF\t1\t{n}.5\tjazz\n" for n in range(7))
    again = "".join(PLAIN.splitlines(keepends=True)[-3:])  # repeats are events, as RecBole has them
    reading = read(tmp_path, {"shop.inter": PLAIN + again, "shop.item": items, "shop.user": users})
    strict = load_recbole(tmp_path / "shop")
    assert reading.dataset.items == strict.items
    assert reading.dataset.users == strict.users
    assert reading.actions == rating_actions(strict.interactions)
    assert reading.remarks == []
    for name in ("user_ids", "item_ids", "timestamps_ms"):
        left, right = getattr(reading.dataset.interactions, name), getattr(strict.interactions, name)
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right)


def genres(tmp_path: Path, *names: str) -> list[list[str]]:
    table = ITEM + "".join(f"i{n}\tTitle {n}\t{name}\n" for n, name in enumerate(names))
    items = read(tmp_path, {"shop.inter": PLAIN, "shop.item": table}).dataset.items
    return [item.genres for item in items[: len(names)]]


@pytest.mark.parametrize(
    "form",
    [
        "Action|Sci-Fi Drama",
        "Action, Sci-Fi Drama",
        "['Action', 'Sci-Fi Drama']",
        '["Action","Sci-Fi Drama"]',
    ],
)
def test_genres_are_those_that_a_reader_would_name(form: str, tmp_path: Path) -> None:
    assert genres(tmp_path, form, form)[0] == ["Action", "Sci-Fi Drama"]


def test_columns_that_nobody_could_guess_are_named_by_whoever_knows(tmp_path: Path) -> None:
    table = by_row("{0}\t{1}\t{2}\t{3}\n", "who_knows\twhich\thow_good\twhen\n")
    with pytest.raises(
        FileError, match=r"who_knows \(u0\), which \(i0\), how_good \(5\), when.*--map user_id=COLUMN"
    ):
        read(tmp_path, {"a.tsv": table}, name="refused")
    told = {"user_id": "who_knows", "item_id": "which", "rating": "how_good"}
    assert events(read(tmp_path, {"a.tsv": table}, **told)) == EXPECTED
    with pytest.raises(FileError, match="--map rating=nope: no file has that column"):
        read(tmp_path, {"a.tsv": table}, name="again", **{**told, "rating": "nope"})


def test_without_times_the_order_of_the_files_stands_for_them(tmp_path: Path) -> None:
    lines = [f"{user}\t{item}\t{rating}\n" for user, item, rating, _ in ROWS]
    header = "user_id:token\titem_id:token\trating:float\n"
    whole = read(tmp_path, {"shop.inter": header + "".join(lines)})
    assert [event[:3] for event in events(whole)] == [event[:3] for event in EXPECTED]
    assert whole.dataset.interactions.timestamps_ms[0] >= ORDER_FROM_MS
    assert "order of the events" in whole.sources[0].told["timestamp"]
    parts = {"shop.a.inter": header + "".join(lines[:9]), "shop.b.inter": header + "".join(lines[9:])}
    (tmp_path / "shop").rename(tmp_path / "whole")
    assert [event[:3] for event in events(read(tmp_path, parts))] == [event[:3] for event in EXPECTED]


def test_numbers_that_are_no_times_are_an_order(tmp_path: Path) -> None:
    table = by_row("{0}\t{1}\t{2}\t{3}\n", INTER, [(u, i, r, n) for n, (u, i, r, _) in enumerate(ROWS)][::-1])
    reading = read(tmp_path, {"shop.inter": table})
    assert [event[:3] for event in events(reading)] == [event[:3] for event in EXPECTED]
    assert "order of the events" in reading.sources[0].told["timestamp"]


@pytest.mark.parametrize("column", ["rating", "label"])
def test_a_column_of_0_and_1_says_who_clicked(column: str, tmp_path: Path) -> None:
    rows = [(u, i, n % 2, t) for n, (u, i, _, t) in enumerate(ROWS)]
    reading = read(
        tmp_path, {"shop.inter": by_row("{0}\t{1}\t{2}\t{3}\n", INTER.replace("rating", column), rows)}
    )
    assert len(events(reading)) == len(ROWS) // 2
    assert set(reading.actions) == {"click"}
    assert reading.refused[0].left_out["label_0"] == 18


def test_ratings_that_are_all_the_same_are_clicks(tmp_path: Path) -> None:
    rows = [(u, i, 1.0, t) for u, i, _, t in ROWS]
    reading = read(tmp_path, {"shop.inter": by_row("{0}\t{1}\t{2}\t{3}\n", INTER, rows)})
    assert set(reading.actions) == {"click"}
    assert "every rating is 1" in reading.sources[0].told["action"]


def test_ids_are_what_they_say_and_whole_numbers_lose_the_point_that_a_tool_gave_them(tmp_path: Path) -> None:
    odd = ["nan", "null", "None", "NA", "007", "7", "1e5", "100000", "-1", "inf", "true", "0"]
    rows = [(a, b, 5, BEGIN + n) for n, (a, b) in enumerate(zip(odd, odd[::-1], strict=True))]
    reading = read(tmp_path, {"shop.inter": by_row("{0}\t{1}\t{2}\t{3}\n", INTER, rows)})
    assert set(reading.dataset.interactions.user_ids.tolist()) == set(odd)
    (tmp_path / "shop").rename(tmp_path / "odd")
    floats = by_row("{0}.0\t{1}.0\t{2}\t{3}\n", INTER, [(n % 7, n % 5, 5, BEGIN + n) for n in range(20)])
    items = ITEM + "".join(f"{n}\tTitle {n}\tDrama\n" for n in range(5))
    image = "item_id:token\timage:float_seq\n" + "".join(f"{n}.0\t0.5 {n}\n" for n in range(5))
    reading = read(tmp_path, {"shop.inter": floats, "shop.item": items, "shop.image": image})
    assert sorted({item.item_id for item in reading.dataset.items}) == [*"01234"]
    assert [item.image.tolist() for item in reading.dataset.items if item.image is not None][3] == [0.5, 3.0]
    assert "42.0 are read as 42" in reading.sources[0].told["user_id"]


@pytest.mark.parametrize(
    ("head", "linked", "used", "remark"),
    [
        ("i", False, True, "its heads are read as ids of items"),
        ("m.", False, False, "shop.kg adds nothing: there is no .link beside it"),
        ("m.", True, True, None),
        ("other.", True, False, "shop.kg adds nothing: those that shop.link links"),
    ],
)
def test_a_graph_that_is_not_used_is_named(
    head: str, linked: bool, used: bool, remark: str | None, tmp_path: Path
) -> None:
    inter = INTER + "".join(f"u{n % 7}\ti{n % 12}\t5\t{BEGIN + n}\n" for n in range(24))
    kg = "head_id:token\trelation_id:token\ttail_id:token\n"
    kg += "".join(f"{head}{n}\tdirected_by\tp{n % 4}\n" for n in range(12))
    link = "item_id:token\tentity_id:token\n" + "".join(f"i{n}\tm.{n}\n" for n in range(12))
    files: dict[str, str | bytes] = {"shop.inter": inter, "shop.kg": kg}
    reading = read(tmp_path, files | ({"shop.link": link} if linked else {}))
    wanted = [("directed_by", "p1")] if used else []
    assert [item.triples for item in reading.dataset.items if item.item_id == "i5"] == [wanted]
    assert [one for one in reading.remarks if remark is None or remark not in one] == []
    assert bool(reading.remarks) == (remark is not None)


def test_what_is_described_twice_is_as_last_described_and_said(tmp_path: Path) -> None:
    items = ITEM + "i0\tFirst\tDrama\ni1\tOther\tDrama\ni0\tLast\tCrime\n"
    reading = read(tmp_path, {"shop.inter": PLAIN, "shop.item": items})
    assert next(item.title for item in reading.dataset.items if item.item_id == "i0") == "Last"
    assert any("1 items are described more than once" in remark for remark in reading.remarks)
    assert any("3 of 5 items are described nowhere" in remark for remark in reading.remarks)


def test_a_file_of_faults_is_refused_with_the_first_of_them(tmp_path: Path) -> None:
    broken = INTER + "".join(f"{u}\t{i}\tgood\t{t}\n" for u, i, _, t in ROWS[:8])
    with pytest.raises(FileError, match="shop.inter"):
        read(tmp_path, {"shop.inter": broken + PLAIN.partition("\n")[2]})


def test_a_folder_without_interactions_says_what_it_holds(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="has no table in it .* but notes.txt"):
        read(tmp_path, {"notes.txt": "hello"}, name="a")
    with pytest.raises(FileError, match="no table of interactions"):
        read(tmp_path, {"films.csv": "item_id,title\ni1,One\n"}, name="b")
    with pytest.raises(FileError, match="no such folder or file"):
        read_dataset(tmp_path / "nowhere", choices(), {})


def test_a_table_alone_is_a_dataset(tmp_path: Path) -> None:
    read(
        tmp_path,
        {"clicks.csv": by_row("{0},{1},{2},{3}\n", "user,item,rating,time\n"), "no.csv": "a,b\n1,2\n"},
    )
    assert events(read_dataset(tmp_path / "shop" / "clicks.csv", choices(), {})) == EXPECTED
    reading = read_dataset(tmp_path / "shop", choices(), {})
    assert any(remark.startswith("no.csv is not read: ") for remark in reading.remarks)


def said(show: Callable[[Console], object]) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    show(console)
    return console.export_text()


def test_what_was_understood_is_printed(tmp_path: Path) -> None:
    reading = read(tmp_path, {"shop.tsv": PLAIN + "u1\ti1\n" + PLAIN.splitlines()[1] + "\n"})
    text = said(lambda console: show_reading(console, reading))
    for words in (
        "becomes clicks",
        "4 and more is a like",
        "seconds since 1970",
        "35 rows used, 1 rejected, 1 left out",
        "line 37",
    ):
        assert words in text


def test_data_of_which_nothing_can_be_learned_is_refused_with_the_rule(tmp_path: Path) -> None:
    rows = by_row(
        "{0}\t{1}\t{2}\t{3}\n", INTER, [(u, i, 1 + n % 3, t) for n, (u, i, _, t) in enumerate(ROWS)]
    )
    read(tmp_path, {"shop.inter": rows})
    folder, console = tmp_path / "shop", Console(quiet=True)
    for strict in (False, True):
        with pytest.raises(SlatestreamError, match="all are view: a rating of four fifths"):
            read_data(folder, Settings(), HowRead(strict=strict), console)
        _, actions = read_data(folder, Settings(), HowRead(strict=strict, like_from=3.0), console)
        assert set(actions) == {"view", "like"}
    with pytest.raises(SlatestreamError, match="not read with --strict"):
        read_data(folder, Settings(), HowRead(("rating=x",), strict=True), console)
