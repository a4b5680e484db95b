"""How a quickstart says how long its worker still takes."""

from streams.quickstart.serve import Pace


def test_the_time_left_is_told_by_the_pace_since_the_first_texts_were_encoded() -> None:
    pace = Pace(1_000)
    pace.saw(0, 10.0)
    assert pace.in_words(20.0) == ""
    pace.saw(100, 30.0)
    assert pace.in_words(30.0) == ""
    pace.saw(400, 45.0)
    assert pace.in_words(45.0) == "; 30 s left"
    pace.saw(1_000, 75.0)
    assert pace.in_words(75.0) == ""
