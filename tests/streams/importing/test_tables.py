import gzip
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from streams.importing.faults import FileError
from streams.importing.lines import BOM, MAX_LINE
from streams.importing.tables import open_table


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def good(path: Path, **options: object) -> list[tuple[int, list[object]]]:
    return [(row[0], list(row[1])) for row in open_table(path, **options).rows() if len(row) == 2]  # type: ignore[arg-type]


def bad(path: Path) -> list[tuple[int, str]]:
    return [(row[0], row[1].reason) for row in open_table(path).rows() if len(row) == 3]


@pytest.mark.parametrize("separator", [",", "\t", ";", "|", "::"])
def test_the_separator_is_found(tmp_path: Path, separator: str) -> None:
    text = "\n".join(separator.join(row) for row in (["user", "item", "time"], ["u1", "i1", "5"])) + "\n"
    path = write(tmp_path / "file.txt", text)
    assert open_table(path).columns == ["user", "item", "time"]
    assert good(path) == [(2, ["u1", "i1", "5"])]


def test_a_byte_order_mark_and_windows_line_ends_are_no_part_of_a_value(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", b"\xef\xbb\xbfuser,item\r\nu1,i1\r\n\r\nu2,i2")
    assert open_table(path).columns == ["user", "item"]
    assert good(path) == [(2, ["u1", "i1"]), (4, ["u2", "i2"])]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_file_in_utf_16_is_read_by_its_byte_order_mark(tmp_path: Path, encoding: str, packed: bool) -> None:
    rows = [(f"ü{n}", "\N{THUMBS UP SIGN}") for n in range(30_000)]
    text = "\ufeffuser,item\r\n" + "".join(f"{user},{item}\r\n" for user, item in rows)
    data = text.encode(encoding)
    path = write(tmp_path / "a.csv", gzip.compress(data, 1) if packed else data)
    assert open_table(path).columns == ["user", "item"]
    assert good(path) == [(n + 2, list(row)) for n, row in enumerate(rows)]


def test_utf_16_without_its_mark_is_told_how_to_convert(tmp_path: Path) -> None:
    for name in ("UTF-16LE", "UTF-16BE"):
        path = write(tmp_path / "a.csv", "user,item\nu1,i1\n".encode(name))
        with pytest.raises(FileError, match=f"convert it, as `iconv -f {name} -t UTF-8 a.csv` does"):
            open_table(path)


def test_a_quoted_value_may_have_a_line_end_in_it_and_lines_are_still_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", 'item,title\ni1,"Alien,\nthe ""first"""\ni2,Heat\n')
    assert good(path) == [(2, ["i1", 'Alien,\nthe "first"']), (4, ["i2", "Heat"])]


@pytest.mark.parametrize("at", [0, 5_000, 19_999])
def test_a_quotation_mark_that_is_never_closed_costs_its_row_alone(tmp_path: Path, at: int) -> None:
    rows = [f"u{n},i{n},note" for n in range(20_000)]
    rows[at] = 'u,i,"oops'
    path = write(tmp_path / "a.csv", "user,item,note\n" + "\n".join(rows) + "\n")
    assert bad(path) == [(at + 2, "quotes")]
    assert [line for line, _ in good(path)] == [line for line in range(2, 20_002) if line != at + 2]


def test_excel_s_line_about_the_separator_is_no_header(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", BOM + b"sep=;\r\nuser;item\r\nu,1;i1\r\n")
    assert open_table(path).columns == ["user", "item"]
    assert good(path) == [(3, ["u,1", "i1"])]


def test_any_letter_may_separate(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "user^item\nu^i\n")
    table = open_table(path, separator="^")
    assert (table.columns, "'^'" in table.about) == (["user", "item"], True)


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_a_file_that_is_damaged_further_on_is_named(tmp_path: Path, name: str) -> None:
    rng = np.random.default_rng(0)
    rows = [f"u{n}" for n in rng.integers(0, 1 << 60, 60_000).tolist()]
    text = "user,item\n" + "".join(f"{row},i\n" for row in rows)
    if name.endswith("jsonl"):
        text = "".join(f'{{"user": "{row}", "item": "i"}}\n' for row in rows)
    packed = gzip.compress(text.encode(), mtime=0)
    for data in (packed[: len(packed) * 3 // 4], packed[:-2_000] + b"x" * 2_000):
        path = write(tmp_path / f"{name}.gz", data)
        with pytest.raises(FileError, match=rf"{name}.gz is damaged, and cannot be read to its end"):
            list(open_table(path).rows())


def test_times_of_parquet_finer_than_pythons_are_read_to_the_microsecond(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    times = pyarrow.array([1_700_000_000_123_456_789], pyarrow.timestamp("ns", tz="UTC"))
    parquet.write_table(pyarrow.table({"user": ["u"], "time": times}), path)
    ((_, row),) = good(path)
    assert row[1].isoformat() == "2023-11-14T22:13:20.123456+00:00"  # type: ignore[attr-defined]


def test_ends_of_lines_that_no_reader_takes_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"lines that end with CR alone: convert it, as `tr '.r' '.n'`"):
        open_table(write(tmp_path / "a.csv", "user,item\ru1,i1\ru2,i2\r"))


def test_a_quotation_mark_between_tabs_is_a_letter(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", 'item\ttitle\ni1\t"Heat\ni2\tAlien\n')
    assert good(path) == [(2, ["i1", '"Heat']), (3, ["i2", "Alien"])]


def test_a_row_of_another_length_costs_itself_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "user,item\nu1,i1\nu2\nu3,i3\n")
    assert good(path) == [(2, ["u1", "i1"]), (4, ["u3", "i3"])]
    assert bad(path) == [(3, "columns")]


def test_a_quotation_mark_that_is_never_closed_ends_somewhere(tmp_path: Path) -> None:
    rest = "u9,i9\n" * (MAX_LINE // 6 + 1000)
    path = write(tmp_path / "a.csv", 'user,item\nu1,i1\nu2,"i2\n' + rest)
    assert bad(path)[0] == (3, "quotes")
    assert good(path)[0] == (2, ["u1", "i1"])
    assert good(path)[-1][1] == ["u9", "i9"]


def test_a_line_of_256_megabytes_costs_neither_memory_nor_its_neighbours(tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    before = "user,item\n" + "u1,i1\n" * 50_000
    with path.open("wb") as file:
        file.write(before.encode())
        file.seek(256 * 1024**2, 1)  # a hole: it reads as zeros
        file.write(b"\nu2,i2\n")
    assert bad(path) == [(50_002, "too_long")]
    assert good(path)[-1] == (50_003, ["u2", "i2"])


def test_a_line_that_is_no_utf_8_is_named_and_a_file_of_windows_is_read(tmp_path: Path) -> None:
    late = write(tmp_path / "late.csv", b"user,item\n" + b"u1,i1\n" * 60_000 + b"u2,\xff\n")
    assert bad(late) == [(60_002, "encoding")]
    whole = write(tmp_path / "windows.csv", "item,title\ni1,Café\n".encode("cp1252"))
    assert good(whole) == [(2, ["i1", "Café"])]
    assert "cp1252" in open_table(whole).about


def test_recbole_s_types_are_taken_off_the_names(tmp_path: Path) -> None:
    path = write(tmp_path / "ml.v2.inter", "user_id:token\titem_id:token\trating:float\nu1\ti1\t5\n")
    assert open_table(path).columns == ["user_id", "item_id", "rating"]


@pytest.mark.parametrize(
    ("name", "line", "column"),
    [
        ("ratings.dat", "1::1193::5::978300760", "rating"),
        ("u.data", "196\t242\t3\t881250949", "rating"),
        ("movies.dat", "1::Toy Story (1995)::Animation|Comedy", "genre"),
        ("u.user", "1|24|M|technician|85711", "occupation"),
        ("u.item", "1|Toy Story (1995)|01-Jan-1995||http://x|" + "|".join("0001110000000000000"), "Comedy"),
    ],
)
def test_movielens_files_have_no_header(tmp_path: Path, name: str, line: str, column: str) -> None:
    path = write(tmp_path / name, line + "\n")
    assert column in open_table(path).columns
    assert len(good(path)) == 1


def test_a_packed_file_is_read_like_a_plain_one(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv.gz", gzip.compress(b"user,item\nu1,i1\n"))
    assert good(path) == [(2, ["u1", "i1"])]


def test_json_lines_have_the_columns_of_all_objects(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"user": "u1"}\nnothing\n{"item": 7, "user": "u2"}\n[1]\n')
    assert open_table(path).columns == ["user", "item"]
    assert good(path) == [(1, ["u1", None]), (3, ["u2", 7])]
    assert bad(path) == [(2, "json"), (4, "json")]


def test_parquet_is_read_row_by_row(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"user": ["u1", "u2"], "item": [7, None]}), path)
    assert open_table(path).columns == ["user", "item"]
    assert good(path) == [(1, ["u1", 7]), (2, ["u2", None])]


def test_columns_without_a_name_as_spreadsheets_leave_them_are_passed_over(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", ",user,item,,\n0,u1,7,,\n1,u2,8,,\n")
    assert open_table(path).columns == ["", "user", "item", "", ""]
    assert [row for _, row in good(path)] == [["0", "u1", "7", "", ""], ["1", "u2", "8", "", ""]]


def test_a_file_without_a_header_is_read_with_names(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "1,31,2.5\n1,1029,3.0\n")
    with pytest.raises(FileError, match="line 1 is no header but values, '1,31,2.5': name its 3 columns"):
        open_table(path)
    assert good(path, names=["user", "item", "rating"])[0] == (1, ["1", "31", "2.5"])


@pytest.mark.parametrize(
    ("begin", "message"),
    [
        (b"", "is empty"),
        (b"\n \r\n", "is empty"),
        (b"\x00\x01\x02\x03binary", "is binary: CSV, TSV, JSON lines"),
        (b"PK\x03\x04rest", "is a zip archive: unpack it first"),
        (b"PAR1 and no more", "cannot be read as Parquet"),
        (b'[{"user": 1}]', "is one JSON array: write an object a line"),
        (b"just words\nand words\n", "line 1 is one value, 'just words': no tab, comma"),
        (b"user,item,user\n1,2,3\n", "line 1 has the column 'user' more than once"),
        (b"\x1f\x8b\x08broken", "cannot be unpacked"),
        (b"x" * 300_000, "line 1 has no end"),
    ],
)
def test_what_is_no_table_says_what_it_is(tmp_path: Path, begin: bytes, message: str) -> None:
    with pytest.raises(FileError, match=message):
        open_table(write(tmp_path / "file", begin))


def test_a_folder_and_a_missing_file_are_named(tmp_path: Path) -> None:
    write(tmp_path / ".hidden", "")
    write(tmp_path / "ratings.csv", "a,b\n")
    with pytest.raises(FileError, match=r"is a folder: name its files, such as .*ratings\.csv"):
        open_table(tmp_path)
    with pytest.raises(FileError, match=r"none\.csv cannot be read: No such file"):
        open_table(tmp_path / "none.csv")
