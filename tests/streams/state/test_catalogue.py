from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.state.catalogue import MAX_EDGES, Catalogue
from streams.state.item_index import ItemIndex
from streams.state.item_rows import encode_deletion, encode_item_state
from streams.state.rows import SCHEMA_VERSION

NOW = 1_700_000_000_000


def described(item="a", *, offset=0, partition=0, **changes):
    fields = {
        "title": item.upper(),
        "text": np.ones(4, np.float32),
        "image": None,
        "audio": None,
        "attributes": {"genre": ["Drama"]},
        "triples": [],
        "available": True,
        "published_ms": None,
        "expires_ms": None,
    }
    value = encode_item_state(content_id=item, partition=partition, offset=offset, **(fields | changes))
    return SimpleNamespace(key=item.encode(), value=value, timestamp=NOW)


def written(record, day):
    """The record as one that was written so many days later."""
    return SimpleNamespace(**(vars(record) | {"timestamp": NOW + day * 86_400_000}))


def tombstone(item="a"):
    return SimpleNamespace(key=item.encode(), value=None, timestamp=NOW)


def deletion(item="a", *, offset=0, partition=0):
    value = encode_deletion(content_id=item, partition=partition, offset=offset)
    return SimpleNamespace(key=item.encode(), value=value, timestamp=NOW)


def make(*records, now_ms=NOW):
    index = ItemIndex(now_s=now_ms // 1000)
    catalogue = Catalogue(index)
    catalogue.apply(records)
    return catalogue, index


def eligible(catalogue, index, now=NOW):
    out = np.ones(len(index) + 2, np.bool_)
    catalogue.eligible(now, out)
    assert not out[len(index) :].any()
    return {index.ids[row] for row in np.flatnonzero(out)}


def rows_with(catalogue, relation, values):
    """Rows of the items that have an edge of this relation to one of the values, ascending."""
    return np.unique(np.concatenate([np.zeros(0, np.int32), *catalogue.postings(relation, values)]))


def test_an_old_deletion_of_an_item_that_is_not_known_makes_no_row():
    later = NOW + 2 * 86_400_000
    _, index = make(tombstone("x"), deletion("y", offset=3), now_ms=later)
    assert len(index) == 0
    catalogue, index = make(described("y", offset=2), deletion("y", offset=3), now_ms=later)
    assert (catalogue.n_live, len(index)) == (0, 1)


def test_items_are_eligible_once_described():
    catalogue, index = make(described("a"), described("b"))
    index.rows_of(["clicked, never described"])

    assert eligible(catalogue, index) == {"a", "b"}
    assert catalogue.n_live == 2
    assert catalogue.title(index.row_of("a")) == "A"
    assert catalogue.title(99) == ""


@given(
    st.lists(st.sampled_from(["described", "deleted", "again", "gone"]), min_size=1, max_size=8), st.data()
)
def test_since_when_an_item_exists_is_the_same_however_its_records_are_read(told, data):
    kinds = {
        "described": lambda at: described(offset=at),
        "again": lambda at: described(offset=at, since_ms=NOW - 1),
        "deleted": lambda at: deletion(offset=at),
        "gone": lambda at: tombstone(),
    }
    records = [written(kinds[kind](at), at) for at, kind in enumerate(told)]
    together, _ = make(*records)
    cut = data.draw(st.integers(0, len(records)))
    apart, _ = make(*records[:cut])
    for record in records[cut:]:
        apart.apply([record])
    assert together.described_ms("a") == apart.described_ms("a")


def test_an_item_exists_since_it_was_first_described_after_it_was_last_deleted():
    first, again = written(described(offset=0), 0), written(described(offset=1), 1)
    gone, back = written(deletion(offset=2), 2), written(described(offset=3), 3)
    for records, day in (([first, again], 0), ([first, gone, back], 3), ([first, again, gone], None)):
        catalogue, _ = make(*records)
        assert catalogue.described_ms("a") == (None if day is None else NOW + day * 86_400_000)
    catalogue, _ = make(written(described(offset=1, since_ms=NOW), 1))
    assert catalogue.described_ms("a") == NOW
    assert catalogue.described_ms("b") is None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"available": False}, set()),
        ({"expires_ms": NOW}, set()),
        ({"expires_ms": NOW + 1}, {"a"}),
        ({"published_ms": NOW + 1}, set()),
        ({"published_ms": NOW}, {"a"}),
    ],
    ids=str,
)
def test_eligibility_follows_availability_and_dates(changes, expected):
    assert eligible(*make(described("a", **changes))) == expected


def test_the_rows_that_changed_are_told_and_among_them_those_that_are_gone():
    catalogue, index = make()
    records = [described("a"), described("b"), described("a", offset=1, title="New"), tombstone("b")]

    assert catalogue.apply(records).tolist() == [index.row_of("a"), index.row_of("b")]
    assert catalogue.title(index.row_of("a")) == "New"
    assert catalogue.apply([]).tolist() == []


def test_an_older_row_never_replaces_a_newer_one_of_its_partition():
    catalogue, index = make(described("a", offset=5, title="New"))
    catalogue.apply([described("a", offset=4, title="Old")])
    assert catalogue.title(0) == "New"

    catalogue.apply([described("a", offset=5, title="Encoded again")])
    assert catalogue.title(0) == "Encoded again"
    catalogue.apply([described("a", offset=0, partition=1, title="Moved")])
    assert catalogue.title(0) == "Moved"
    assert len(index) == 1


@pytest.mark.parametrize("removal", [tombstone(), deletion(offset=6)], ids=["tombstone", "deletion"])
def test_a_deleted_item_is_gone_until_it_is_published_again(removal):
    catalogue, index = make(described("a", offset=5))
    catalogue.apply([removal])

    assert eligible(catalogue, index) == set()
    assert catalogue.n_live == 0
    assert catalogue.title(0) == ""
    assert rows_with(catalogue, "genre", ["Drama"]).tolist() == []
    assert not catalogue.embeddings("text", np.array([0]), 4)[1].any()
    assert not catalogue.edges(np.array([0]), 3)[2].any()
    catalogue.apply([described("a", offset=5)])  # read again after a crash
    assert eligible(catalogue, index) == set()
    catalogue.apply([described("a", offset=7)])
    assert eligible(catalogue, index) == {"a"}


def test_deleting_what_was_never_there_is_no_matter():
    catalogue, index = make(tombstone("x"), tombstone("x"), deletion("y", offset=3))
    catalogue.apply([described("y", offset=2)])

    assert catalogue.n_live == 0
    assert eligible(catalogue, index) == set()


def test_filters_find_attributes_and_triples_and_follow_changes():
    catalogue, index = make(
        described("a", attributes={"genre": ["Drama", "Comedy"]}),
        described("b", attributes={"genre": ["Comedy"], "country": ["Drama"]}),
        described("c", attributes={}, triples=[("genre", "Drama")]),
    )

    def found(relation, values):
        return sorted(index.ids[row] for row in rows_with(catalogue, relation, values))

    assert found("genre", ["Drama"]) == ["a", "c"]
    assert found("genre", ["Drama", "Comedy"]) == ["a", "b", "c"]
    assert found("country", ["Drama"]) == ["b"]
    assert found("genre", ["Unknown"]) == found("unknown", ["Drama"]) == found("genre", []) == []
    catalogue.apply([described("a", offset=1, attributes={"genre": ["Horror"]})])
    assert found("genre", ["Drama"]) == ["c"]
    assert found("genre", ["Horror"]) == ["a"]


def test_edges_are_attributes_then_triples_without_repeats():
    catalogue, _ = make(
        described(
            "a", attributes={"genre": ["x", "y", "x"]}, triples=[("genre", "y"), ("by", "z"), ("by", "x")]
        )
    )
    entities, relations, mask = catalogue.edges(np.array([0, 5]), 5)

    names = [
        (catalogue.relations[r], catalogue.entities[e])
        for r, e in zip(relations[0], entities[0], strict=True)
    ]
    assert names[:4] == [("genre", "x"), ("genre", "y"), ("by", "z"), ("by", "x")]
    assert mask.tolist() == [[True] * 4 + [False], [False] * 5]
    assert entities[1].tolist() == [0] * 5
    assert catalogue.edges(np.array([0]), 2)[2].tolist() == [[True, True]]
    assert catalogue.edges(np.array([0]), MAX_EDGES + 3)[2].sum() == 4
    assert catalogue.degrees[catalogue.entity_row("y")] == 1


def test_edges_beyond_the_limit_are_counted_and_still_filter():
    many = [f"e{k}" for k in range(MAX_EDGES + 3)]
    catalogue, _ = make(described("a", attributes={"tag": many}))

    assert catalogue.edges(np.array([0]), MAX_EDGES)[2].all()
    assert catalogue.truncated_edges == 3
    assert rows_with(catalogue, "tag", many[-1:]).tolist() == [0]
    catalogue.apply([tombstone("a")])
    assert catalogue.truncated_edges == 0


def test_embeddings_come_back_as_half_precision():
    text = np.array([0.1, -2.5, 1e6, 0.0], np.float32)
    catalogue, _ = make(
        described("a", text=text, image=np.ones(2, np.float32)),
        described("b", text=None),
        described("c", text=np.ones(3, np.float32)),
    )
    vectors, mask = catalogue.embeddings("text", np.array([0, 1, 2, 7]), 4)

    assert mask.tolist() == [True, False, False, False]
    np.testing.assert_allclose(vectors[0], [0.1, -2.5, 65504, 0], rtol=1e-3)
    assert not vectors[1:].any()
    assert catalogue.embeddings("text", np.array([2]), 3)[1].all()
    assert catalogue.embeddings("image", np.array([0, 1]), 2)[1].tolist() == [True, False]
    assert catalogue.embeddings("audio", np.array([0]), 0)[0].shape == (1, 0)
    catalogue.apply([described("a", offset=1, text=np.ones(3, np.float32))])
    assert not catalogue.embeddings("text", np.array([0]), 4)[1].any()
    assert catalogue.embeddings("text", np.array([0]), 3)[1].all()


def test_many_items_grow_the_tables():
    catalogue, index = make(*(described(f"i{k}", attributes={"n": [str(k)]}) for k in range(3000)))

    assert catalogue.n_live == 3000
    assert len(eligible(catalogue, index)) == 3000
    assert rows_with(catalogue, "n", ["2999"]).tolist() == [2999]
    assert catalogue.embeddings("text", np.arange(3000), 4)[1].all()
    assert catalogue.nbytes > 3000 * 8


changes = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from(["put", "delete", "tombstone"]), st.sampled_from("xyz"))
)


@given(changes)
def test_the_catalogue_is_the_last_word_on_each_item(log):
    catalogue, index = make()
    expected = {}
    for offset, (item, what, genre) in enumerate(log):
        if what == "put":
            catalogue.apply([described(item, offset=offset, attributes={"genre": [genre]})])
            expected[item] = genre
        else:
            catalogue.apply([deletion(item, offset=offset) if what == "delete" else tombstone(item)])
            expected.pop(item, None)

    assert eligible(catalogue, index) == expected.keys()
    assert catalogue.n_live == len(expected)
    for genre in "xyz":
        with_genre = {index.ids[row] for row in rows_with(catalogue, "genre", [genre])}
        assert with_genre == {item for item, its in expected.items() if its == genre}
        row = catalogue.entity_row(genre)
        assert row < 0 or catalogue.degrees[row] == len(with_genre)


def test_damaged_and_newer_rows_are_named():
    catalogue, _ = make()
    with pytest.raises(ValueError, match="item-state row b'a' is damaged"):
        catalogue.apply([SimpleNamespace(key=b"a", value=b"\x93\x01")])
    newer = msgspec.msgpack.encode([SCHEMA_VERSION + 1, "a"])
    with pytest.raises(
        ValueError, match="item-state row b'a' has schema version 2; this worker reads up to 1"
    ):
        catalogue.apply([SimpleNamespace(key=b"a", value=newer)])
