import pytest

from online_learning.experiments.segment import Segment


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("events<20", [(0, {}), (19, {})], [(20, {}), (400, {})]),
        ("events>=20", [(20, {}), (400, {})], [(0, {}), (19, {})]),
        (" events < 1 ", [(0, {})], [(1, {})]),
        ("country=fr", [(0, {"country": "fr"})], [(0, {}), (5, {"country": "de"}), (5, {"state": "fr"})]),
        ("plan = gold", [(9, {"plan": "gold"})], [(9, {"plan": "golden"})]),
    ],
)
def test_a_segment_has_whom_it_names(text: str, inside: list, outside: list) -> None:
    segment = Segment.parse(text)
    assert all(segment.has(events, attributes) for events, attributes in inside)
    assert not any(segment.has(events, attributes) for events, attributes in outside)


def test_users_move_between_segments_of_events_only() -> None:
    assert Segment.parse("events<20").moves
    assert not Segment.parse("country=fr").moves


@pytest.mark.parametrize(
    "text", ["", "events", "events>5", "events<-1", "=x", "country=", "a b=c", "events<x"]
)
def test_what_is_no_condition_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="segment must be 'events<N', 'events>=N' or 'attribute=value'"):
        Segment.parse(text)
