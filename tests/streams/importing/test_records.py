from pathlib import Path
from typing import Any

import pytest

from streams.events import Click, Content, UserUpdate, decode_click, decode_content, decode_user
from streams.importing.columns import make_plan
from streams.importing.faults import FileError, Refused
from streams.importing.options import Choices
from streams.importing.records import make_maker, records
from streams.importing.tables import open_table

NOW_MS = 1_764_000_000_000
ACTIONS = ("view", "click", "like", "purchase", "dislike")
DECODE = {"clicks": decode_click, "content": decode_content, "users": decode_user}


def read(
    folder: Path, name: str, lines: list[str], *, told: dict[str, str] | None = None, **choices: Any
) -> tuple[list[Any], Refused, dict[str, str]]:
    """What records a file gives, what it refuses, and in words how it was read."""
    path = folder / name
    path.write_text("\n".join(lines) + "\n")
    plan = make_plan(open_table(path), told=tuple((told or {}).items()))
    make, how = make_maker(plan, Choices(known_actions=ACTIONS, latest_ms=NOW_MS, **choices))
    refused = Refused(name)
    values = [DECODE[plan.kind](value) for _, _, value in records(plan, make, refused)]
    return values, refused, how


def clicks(folder: Path, lines: list[str], **options: Any) -> list[Click]:
    return read(folder, "events.csv", lines, **options)[0]


def test_ratings_are_likes_and_views_and_ids_stay_what_they_are(tmp_path: Path) -> None:
    found = clicks(
        tmp_path,
        [
            "user_id,item_id,rating,timestamp",
            "nan,007,5,1700000000",
            "1e5,7,3,1700000001",
            "-1,inf,4,1700000002",
        ],
    )
    assert [(one.user_id, one.item_id, one.action) for one in found] == [
        ("nan", "007", "like"),
        ("1e5", "7", "view"),
        ("-1", "inf", "like"),
    ]
    assert found[0].timestamp_ms == 1_700_000_000_000


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("session_id,item_id,timestamp", "u1,i1,1700000000"),
        ("user_id,business_id,stars,date", "u1,i1,5,1700000000"),
        ("customer_id,article_id,price,t_dat", "u1,i1,0.5,2023-11-14 22:13:20"),
        ("userId,movieId,rating,timestamp", "u1,i1,5,1700000000"),
        ("reviewerID,asin,overall,unixReviewTime", "u1,i1,5,1700000000"),
        ("buyer_user_key,product_code,when_it_was", "u1,i1,1700000000000"),
        ("visitor,article,when,what", "u1,i1,2023-11-14 22:13:20,view"),
        ("reader,article,at", "u1,i1,1700000000"),
        ("id,member,film,seen_on", "7,u1,i1,2023-11-14T22:13:20Z"),
        ("Session ID,Account,SKU,Occurred At", "s9,u1,i1,11/14/2023 10:13:20 PM"),
        ("Bruger-nr.;Vare;Beløb;Købsdato", "u1;i1;12,50;14.11.2023 22:13:20"),
        ("Kundennummer;Artikel;Zeitpunkt", "u1;i1;14.11.2023 22:13:20"),
        ("Användare;Vara;Betyg;Tid", "u1;i1;5;2023-11-14 22:13:20"),
        ("id_usuario;película;calificación;fecha", "u1;i1;5;14/11/2023 22:13:20"),
        ("Utilisateur;Id Produit;Horodatage", " u1 ;i1;14-11-2023 22:13:20"),
    ],
)
def test_columns_are_found_under_the_names_that_others_use(tmp_path: Path, header: str, row: str) -> None:
    (click,) = clicks(tmp_path, [header, row])
    assert (click.user_id, click.item_id, click.timestamp_ms) == ("u1", "i1", 1_700_000_000_000)


@pytest.mark.parametrize("column", ["tracker_key", "whom"])
def test_rows_whose_item_repeats_beside_another_id_are_interactions(tmp_path: Path, column: str) -> None:
    lines = [f"{column},article,price", "u1,i1,5.5", "u2,i1,5.5", "u1,i2,7.0", "u3,i1,5.5"]
    found = clicks(tmp_path, lines)
    assert [(one.user_id, one.item_id) for one in found] == [
        ("u1", "i1"), ("u2", "i1"), ("u1", "i2"), ("u3", "i1"),
    ]  # fmt: skip


def test_rows_whose_user_repeats_beside_another_id_are_interactions(tmp_path: Path) -> None:
    (first, *_) = clicks(tmp_path, ["shopper,thing", "u1,i1", "u1,i2", "u2,i1"])
    assert (first.user_id, first.item_id) == ("u1", "i1")


@pytest.mark.parametrize(
    "lines",
    [
        ["article,shelf_key", "i1,s1", "i2,s1", "i3,s2"],  # each item once
        ["article,category_key", "i1,c1", "i1,c2", "i2,c1"],  # what items share
        ["article,headline,variant_id", "i1,Coat,v1", "i1,Coat,v2", "i2,Hat,v3"],  # items have titles
        ["article,tracker_key,shelf_key", "i1,u1,s1", "i1,u2,s1", "i2,u1,s2"],  # which of the two?
        ["article,colour", "i1,red", "i1,blue", "i2,red"],  # no ids
    ],
)
def test_a_catalogue_is_not_taken_for_interactions(tmp_path: Path, lines: list[str]) -> None:
    path = tmp_path / "items.csv"
    path.write_text("\n".join(lines) + "\n")
    assert make_plan(open_table(path), told=()).kind == "content"


@pytest.mark.parametrize(
    ("header", "kind"),
    [("id,title,year", "content"), ("id,name,age", "users"), ("id,sex,occupation", "users")],
)
def test_a_plain_id_is_of_what_stands_beside_it(tmp_path: Path, header: str, kind: str) -> None:
    path = tmp_path / "list.csv"
    path.write_text(f"{header}\n1,a,20\n2,b,30\n")
    plan = make_plan(open_table(path), told=())
    assert (plan.kind, plan.fields[{"content": "item_id", "users": "user_id"}[kind]]) == (kind, "id")


@pytest.mark.parametrize(
    "time",
    ["1700000000", "1700000000000", "1700000000000000", "1700000000000000000", "2023-11-14T22:13:20Z",
     "2023-11-14 22:13:20", "2023-11-14 23:13:20+01:00", "2023/11/14 22:13:20", "2023-11-14 22:13:20 UTC"],
)  # fmt: skip
def test_times_are_read_in_any_unit_and_as_dates(tmp_path: Path, time: str) -> None:
    (click,) = clicks(tmp_path, ["user,item,time", f"u1,i1,{time}"])
    assert click.timestamp_ms == 1_700_000_000_000


def test_dates_with_the_year_last_must_tell_the_day_from_the_month(tmp_path: Path) -> None:
    lines = ["user,item,date", "u1,i1,01/02/2024", "u2,i1,03/02/2024"]
    with pytest.raises(FileError, match=r"such as '01/02/2024'.*--time-format '%d/%m/%Y', or '%m/%d/%Y'"):
        clicks(tmp_path, lines)
    _, _, how = read(tmp_path, "events.csv", [*lines, "u3,i1,02/13/2024"])
    assert how["timestamp"].startswith("as %m/%d/%Y, in UTC")
    found = clicks(tmp_path, [line.replace("/", ".") for line in lines])
    assert found[0].timestamp_ms == 1_706_745_600_000  # the first of February
    found, refused, _ = read(tmp_path, "events.csv", [*lines, *["u3,i1,13/02/2024"] * 20, "u4,i1,02/13/2024"])
    assert refused.counts == {"time": 1}


def test_numbers_with_a_decimal_comma_are_read_and_thousands_are_not(tmp_path: Path) -> None:
    lines = ["user;item;rating;price;time", "u1;i1;4,5;1,50;1700000000", "u1;i2;3,5;1,500;1700000001"]
    found, refused, _ = read(tmp_path, "events.csv", lines)
    assert [(one.action, one.value) for one in found] == [("like", 1.5)]
    assert refused.counts == {"number": 1}


def test_days_are_read_and_so_is_a_format_that_is_said(tmp_path: Path) -> None:
    assert clicks(tmp_path, ["user,item,day", "u1,i1,20231114"])[0].timestamp_ms == 1_699_920_000_000
    (click,) = clicks(tmp_path, ["user,item,date", "u1,i1,14.11.2023"], time_format="%d.%m.%Y")
    assert click.timestamp_ms == 1_699_920_000_000


def test_times_of_an_unknown_form_are_shown_with_what_to_say(tmp_path: Path) -> None:
    with pytest.raises(
        FileError, match=r"column 'date' must hold times, got such as '14 Nov 2023'.*--time-format"
    ):
        clicks(tmp_path, ["user,item,date", "u1,i1,14 Nov 2023"])


def test_a_file_without_times_is_in_its_own_order(tmp_path: Path) -> None:
    found = clicks(tmp_path, ["user,item", "u1,i1", "u1,i2", "u1,i1"])
    times = [one.timestamp_ms for one in found]
    assert len(found) == 3
    assert times == sorted(set(times))
    assert times[-1] <= NOW_MS


def test_rows_that_cannot_be_used_are_counted_with_their_lines(tmp_path: Path) -> None:
    rows = ["user,item,time", *(f"u{n},i{n},{1_700_000_000 + n}" for n in range(20))]
    rows += [
        ",i1,1700000000",
        "u1,i1,yesterday",
        "u1,i1,1900000000",
        f"{'u' * 513},i1,1700000000",
        "u1,i1,12",
    ]
    found, refused, _ = read(tmp_path, "events.csv", rows)
    assert len(found) == 20
    assert refused.counts == {"no_id": 1, "time": 2, "future": 1, "long_id": 1}
    assert refused.examples["no_id"][0]["line"] == 22
    assert refused.examples["time"][0]["error"] == "timestamp must be seconds since 1970, got 'yesterday'"


def test_the_same_event_has_the_same_id_wherever_it_stands_and_counts_once(tmp_path: Path) -> None:
    lines = ["user,item,rating,time", "u1,i1,5,1700000000", "u2,i2,3,1700000000", "u1,i1,5,1700000000"]
    found, refused, _ = read(tmp_path, "events.csv", lines)
    assert refused.left_out == {"repeat": 1}
    again = clicks(tmp_path, [lines[0], lines[2], lines[1]])
    assert {one.event_id for one in again} == {one.event_id for one in found}


@pytest.mark.parametrize(
    ("second", "third"),
    [
        ("u1,i1,5,2023-11-14", "u1,i1,5,2023-11-14"),
        ("u1,i1,4.5,2023-11-14 10:00", "u1,i1,4,2023-11-14 10:00"),
    ],
)
def test_rows_that_may_be_two_events_of_a_day_or_differ_in_a_column_are_kept(
    tmp_path: Path, second: str, third: str
) -> None:
    lines = ["user,item,rating,time", "u2,i2,3,2023-11-14", second, third]
    found, refused, _ = read(tmp_path, "events.csv", lines)
    assert len({one.event_id for one in found}) == 3
    assert refused.left_out == {}
    again = clicks(tmp_path, lines)
    assert [one.event_id for one in again] == [one.event_id for one in found]


def test_times_to_the_day_are_said_to_be(tmp_path: Path) -> None:
    _, _, how = read(tmp_path, "events.csv", ["user,item,time", "u1,i1,20231114", "u1,i2,20231115"])
    assert "to the day: rows that are the same are as many events" in how["timestamp"]


def test_ratings_that_are_all_the_same_are_clicks_and_said_to_be(tmp_path: Path) -> None:
    found, _, how = read(
        tmp_path, "events.csv", ["user,item,rating,time", "u1,i1,1.0,1700000000", "u1,i2,1.0,1700000000"]
    )
    assert {one.action for one in found} == {"click"}
    assert "every rating is 1" in how["action"]


def test_a_label_of_0_is_no_click(tmp_path: Path) -> None:
    found, refused, _ = read(
        tmp_path, "events.csv", ["user,item,label,time", "u1,i1,1,1700000000", "u1,i2,0,1700000000"]
    )
    assert [one.item_id for one in found] == ["i1"]
    assert refused.left_out == {"label_0": 1}
    assert not refused.counts


@pytest.mark.parametrize(
    ("column", "up", "down"),
    [
        ("vote", "up", "down"),
        ("liked", "1", "-1"),
        ("rating", "1.0", "-1.0"),
        ("action", "thumbs_up", "Thumbs-Down"),
        ("reaction", "\N{THUMBS UP SIGN}", "\N{THUMBS DOWN SIGN}"),
    ],
)
def test_thumbs_up_and_down_are_likes_and_dislikes(tmp_path: Path, column: str, up: str, down: str) -> None:
    lines = [f"user,item,time,{column}"] + [
        f"u{n},i{n},170000000{n},{said}" for n, said in enumerate((up, down, ""))
    ]
    found, refused, how = read(tmp_path, "events.csv", lines)
    assert [one.action for one in found] == ["like", "dislike", "view"]
    assert "up is a like, down a dislike, neither a view" in how.values()
    assert not refused.counts


def test_what_is_neither_up_nor_down_further_on_costs_its_row(tmp_path: Path) -> None:
    lines = ["user,item,time,vote"] + [
        f"u{n},i,170000{n},{'up' if n % 2 else 'down'}" for n in range(1000, 4000)
    ]
    _, refused, _ = read(tmp_path, "events.csv", [*lines, "u,i,1700009999,sideways"])
    assert refused.counts == {"number": 1}
    assert refused.examples["number"][0]["error"] == "vote must be up or down, got 'sideways'"


@pytest.mark.parametrize(("yes", "no"), [("true", "False"), ("yes", "no"), ("1", "0"), ("t", "f")])
def test_a_label_may_be_a_word(tmp_path: Path, yes: str, no: str) -> None:
    rows = [f"u1,i1,1700000000,{yes}", f"u1,i2,1700000001,{no}"]
    found, refused, _ = read(tmp_path, "a.csv", ["user,item,time,clicked", *rows])
    assert ([one.action for one in found], refused.left_out) == (["click"], {"label_0": 1})
    found, _, _ = read(tmp_path, "b.csv", ["user,item,time,liked", *rows])
    assert [one.action for one in found] == ["like"]


def test_actions_are_translated_and_unknown_ones_named(tmp_path: Path) -> None:
    lines = ["user,item,event,time", "u1,i1,view,1700000000", "u1,i2,add_to_cart,1700000000"]
    lines += ["u1,i3,zoom,1700000000", "u1,i4,wishlist,1700000000"]
    found, refused, _ = read(tmp_path, "events.csv", lines, actions={"wishlist": "like"})
    assert [one.action for one in found] == ["view", "click", "like"]
    assert "'zoom'" in refused.examples["unknown_action"][0]["error"]
    with pytest.raises(FileError, match="the settings know no action 'love'"):
        clicks(tmp_path, lines, action="love")


def test_actions_of_other_languages_are_known(tmp_path: Path) -> None:
    found = clicks(tmp_path, ["bruger;vare;handling;tid", "u;i;Køb;1700000000", "u;i;visning;1700000001"])
    assert [one.action for one in found] == ["purchase", "view"]


def test_ids_that_a_tool_made_floats_are_whole_again_only_if_all_are(tmp_path: Path) -> None:
    assert clicks(tmp_path, ["user,item", "42.0,7.0", "43.0,8.0"])[0].user_id == "42"
    assert clicks(tmp_path, ["user,item", "42.0,7.0", "v1.0,8.0"])[0].user_id == "42.0"


def test_lists_are_parted_at_what_stands_between_their_parts(tmp_path: Path) -> None:
    lines = [
        "item_id:token\ttitle:token_seq\tgenre:token_seq",
        "i0\tT\tAction|Adventure",
        "i1\tT\tSci-Fi, Drama",
    ]
    lines += ["i2\tT\t['Comedy', 'Drama']", "i3\tT\tScience Fiction|Drama"]
    found, _, _ = read(tmp_path, "genres.item", lines)
    assert [one.attributes["genre"] for one in found] == [
        ["Action", "Adventure"],
        ["Sci-Fi", "Drama"],
        ["Comedy", "Drama"],
        ["Science Fiction", "Drama"],
    ]
    plain = [lines[0], "i0\tT\tAction Adventure"]
    assert read(tmp_path, "genres.item", plain)[0][0].attributes["genre"] == ["Action", "Adventure"]


def test_a_title_is_found_by_its_values(tmp_path: Path) -> None:
    lines = ["film;url;code;kind;titel"]
    lines += [f"{n};http://x/{n};ab-{n};{'long' if n % 2 else 'short'};Le film de {n}" for n in range(9)]
    found, _, _ = read(tmp_path, "filme.csv", lines)
    assert [one.title for one in found] == [f"Le film de {n}" for n in range(9)]
    assert found[1].attributes == {"kind": ["long"]}
    (untitled, *_), _, _ = read(tmp_path, "filme.csv", [line.rpartition(";")[0] for line in lines])
    assert untitled.title == untitled.item_id


def test_items_have_titles_years_texts_and_what_they_share(tmp_path: Path) -> None:
    lines = ["movieId,title,genres,year,plot,imdb_url", "1,Alien,Horror|Sci-Fi,1979,A ship.,http://x"]
    found, _, _ = read(tmp_path, "movies.csv", [*lines, "2,Heat,(no genres listed),,,"])
    assert found == [
        Content(
            item_id="1", title="Alien (1979)", text="A ship.", attributes={"genre": ["Horror", "Sci-Fi"]}
        ),
        Content(item_id="2", title="Heat"),
    ]


def test_users_state_what_recurs_among_them(tmp_path: Path) -> None:
    lines = ["user_id,age,occupation,preferences"] + [
        f"u{n},{20 + n % 5},writer,Drama|Comedy" for n in range(80)
    ]
    found, _, _ = read(tmp_path, "users.csv", lines)
    assert found[0] == UserUpdate(
        user_id="u0", attributes={"age": "20", "occupation": "writer"}, preferences=["Drama", "Comedy"]
    )


def test_a_column_can_be_named_and_a_wrong_header_says_how(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"columns are a \(u1\), b \(i1\): say --map user_id"):
        clicks(tmp_path, ["a,b", "u1,i1"])
    (click,) = clicks(tmp_path, ["a,b", "u1,i1"], told={"user_id": "a", "item_id": "b"})
    assert (click.user_id, click.item_id) == ("u1", "i1")


def test_columns_that_nothing_is_made_of_are_named(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_text("user,item,time,mood\nu1,i1,1700000000,blue\n")
    assert make_plan(open_table(path), told=()).unread == ["mood"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", '{"user_id": "u1",\n', "has no line that is a JSON object"),
        ("a.csv", "user_id,item_id\n", "has a header and no row that can be read"),
    ],
)
def test_a_file_without_a_row_says_so_in_words_of_its_kind(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(FileError, match=message):
        make_plan(open_table(tmp_path / name), told=())


def test_friends_are_a_list_of_users_and_one_of_too_many_is_refused(tmp_path: Path) -> None:
    lines = ["user_id,friends", "u1,u2|u3", "u2,", f"u3,{'|'.join(f'f{n}' for n in range(1_001))}"]
    users, refused, _ = read(tmp_path, "users.csv", lines)
    assert [(one.user_id, one.friends) for one in users] == [("u1", ["u2", "u3"]), ("u2", [])]
    assert refused.counts == {"many_friends": 1}
