import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.releases.changes import (
    LONGEST_TEXT,
    ReleaseChange,
    Trial,
    decode_change,
    encode_change,
    fold_changes,
    live_at,
)
from streams.releases.commands import superfluous

VERSION = "0123456789ab"


def changes(text: str) -> list[ReleaseChange]:
    """Of "pa pb ra xb": promote a, promote b, roll back to a, refuse b; at 1, 2, 3 and 4 ms.

    j rejects, i pins and u unpins; c is a canary. "pb@3" decides on the canary of 3 ms.
    """
    kinds = {
        "p": "promote", "r": "rollback", "x": "refuse", "j": "reject", "i": "pin", "u": "unpin", "c": "canary"
    }  # fmt: skip
    found = []
    for at, word in enumerate(text.split(), 1):
        version, _, decides = word[1:].partition("@")
        trial = Trial(0.05, 100, 3600.0, 0.05) if word[0] == "c" else None
        found.append(
            ReleaseChange(
                kinds[word[0]],
                version,
                "me",
                at,  # type: ignore[arg-type]
                trial=trial,
                decides_ms=int(decides) if decides else None,
            )  # fmt: skip
        )
    return found


@pytest.mark.parametrize(
    ("text", "stack"),
    [
        ("", []),
        ("pa", ["a"]),
        ("pa pa", ["a"]),
        ("pa pb", ["a", "b"]),
        ("pa pb ra", ["a"]),
        ("pa pb ra pc", ["a", "c"]),
        ("pa pb pc rb ra", ["a"]),
        ("pa pb pa", ["a", "b", "a"]),
        ("pa pb pa rb", ["a", "b"]),
        ("pa xb", ["a"]),
        ("rz", ["z"]),
        ("pa jb", ["a"]),
        ("pa pb ib pc ra", ["a", "b"]),
        ("pa pb ib ub pc", ["a", "b", "c"]),
        ("pa pb ia pc", ["a", "b", "c"]),
    ],
)
def test_what_serves_is_what_was_promoted_last_and_not_rolled_back_or_is_pinned(text: str, stack: list[str]):
    assert fold_changes(changes(text)).served == stack


@given(st.lists(st.tuples(st.sampled_from("prx"), st.sampled_from("abc"))))
def test_the_last_promotion_or_rollback_names_what_serves(words: list[tuple[str, str]]):
    done = changes(" ".join(kind + version for kind, version in words))
    named = [change.version for change in done if change.change != "refuse"]

    assert fold_changes(done).served[-1:] == named[-1:]


@pytest.mark.parametrize(
    ("said", "stack", "late"),
    [
        ([("p", "a", ""), ("p", "b", "a")], ["a", "b"], set()),
        ([("p", "a", ""), ("p", "b", "a"), ("p", "c", "a")], ["a", "b"], {2}),
        ([("p", "a", ""), ("p", "b", "a"), ("p", "c", "b"), ("r", "a", "b")], ["a", "b", "c"], {3}),
        ([("p", "a", ""), ("p", "b", "a"), ("r", "a", "b"), ("p", "c", "b")], ["a"], {3}),
        ([("p", "a", ""), ("p", "b", "")], ["a"], {1}),
        ([("p", "a", ""), ("x", "a", "z"), ("p", "b", None)], ["a", "b"], set()),
    ],
)
def test_of_two_who_change_the_same_the_second_changes_nothing(
    said: list[tuple[str, str, str | None]], stack: list[str], late: set[int]
):
    kinds = {"p": "promote", "r": "rollback", "x": "refuse"}
    done = [
        ReleaseChange(kinds[kind], version, "me", at, replaces=replaces)  # type: ignore[arg-type]
        for at, (kind, version, replaces) in enumerate(said)
    ]
    state = fold_changes(done)
    assert (state.served, state.void) == (stack, late)


@pytest.mark.parametrize(
    ("text", "stack", "canary", "late"),
    [
        ("pa cb", ["a"], 2, set()),
        ("cb", [], None, {0}),  # nothing serves that it could be compared with
        ("pa ca", ["a"], None, {1}),
        ("pa cb cc", ["a"], 2, {2}),  # one at a time
        ("pa cb cb", ["a"], 3, set()),  # with another share
        ("pa cb pb@2", ["a", "b"], None, set()),
        ("pa cb ra@2", ["a"], None, set()),
        ("pa cb ra@2 pb@2", ["a"], None, {3}),  # two take themselves for who decides
        ("pa cb pb@2 ra@2", ["a", "b"], None, {3}),
        ("pa cb cb pb@2", ["a"], 3, {3}),  # it was about the share of before
        ("pa cb pc", ["a", "c"], None, set()),
        ("pa cb xb jc", ["a"], 2, set()),  # who decides says what a refusal leads to
        ("pa ia cb", ["a"], None, {2}),
        ("pa cb ia", ["a"], None, set()),
        ("pa ia ua cb", ["a"], 4, set()),
        ("pa pb cc rb ra", ["a"], None, set()),
    ],
)
def test_a_canary_is_what_began_last_and_was_not_decided_on(
    text: str, stack: list[str], canary: int | None, late: set[int]
):
    found = fold_changes(changes(text))
    begun = None if found.canary is None else found.canary.timestamp_ms
    assert (found.served, begun, found.void) == (stack, canary, late)


def test_what_served_at_a_time_is_told():
    done = changes("pa pb ra")
    assert [live_at(done, at) for at in range(5)] == [None, "a", "b", "a", "a"]


def test_each_change_has_a_key_of_its_own_and_is_read_as_it_was_written():
    done = changes(f"p{'a' * 12} p{'a' * 12} x{'b' * 12}")
    rows = [encode_change(change) for change in done]

    assert len({key for key, _ in rows}) == 3
    assert [decode_change(value) for _, value in rows] == done


@pytest.mark.parametrize(
    "value",
    [
        *(
            msgspec.json.encode({"change": "promote", "version": version, "by": "x", "timestamp_ms": at})
            for version, at in (("/srv/data", 1), ("..", 1), ("", 1), ("a" * 12, 10**18), ("a" * 12, -1))
        ),
        None,
        b"",
        b"{}",
        b'{"change":"delete","version":"a"}',
        b"\xff",
        b"[" * 9999,
    ],
)
def test_what_is_no_change_says_nothing(value: bytes | None):
    assert decode_change(value) is None


def test_what_never_served_and_what_may_serve_again_is_kept():
    done = changes("pa pb pc rb pd")
    assert superfluous(["a", "b", "c", "d", "new"], done, keep=2) == ["a", "c"]
    assert superfluous(["a", "b", "c", "d", "new"], done, keep=5) == ["c"]
    assert superfluous(["a", "b", "c", "d", "new"], done + changes("ia"), keep=2) == ["c"]
    assert superfluous(["a", "b", "new"], changes("pa cb"), keep=1) == []
    assert superfluous(["a", "b", "new"], changes("pa cb ra"), keep=1) == ["b"]


def test_of_a_long_text_in_a_record_the_beginning_is_read_whoever_wrote_it():
    long = "x" * 900_000
    gates = [{"name": long, "passed": False, "reason": long}]
    raw = {
        "change": "reject",
        "version": VERSION,
        "by": long,
        "timestamp_ms": 1,
        "reason": long,
        "gates": gates,
    }
    change = decode_change(msgspec.json.encode(raw))
    assert change is not None
    (gate,) = change.gates
    for text in (change.by, change.reason, gate.name, gate.reason):
        assert text == "x" * LONGEST_TEXT + "…"
    assert decode_change(encode_change(change)[1]) == change


@pytest.mark.parametrize("version", [f"{VERSION}\n", f"{VERSION}0", VERSION[:-1], "../123456789"])
def test_a_version_is_twelve_hexadecimal_digits_and_nothing_else(version: str):
    raw = {"change": "promote", "version": version, "by": "ann", "timestamp_ms": 1}
    assert decode_change(msgspec.json.encode(raw)) is None
