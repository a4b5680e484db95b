import pytest

from streams.bench.steps import Steps, duration


def told(seconds: list[float], passed: list[float]) -> list[str]:
    """What is said when steps begin at these moments."""
    moments, lines = iter(passed), []
    steps = Steps(seconds, lines.append, clock=lambda: next(moments))
    for number in range(len(passed)):
        steps.begin(f"step {number}")
    return lines


def test_the_time_left_is_what_was_planned_before_anything_is_known():
    assert told([10, 20, 30], [5.0]) == ["[1/3] step 0 (about 1 min 0 s left)"]


def test_the_time_left_follows_how_long_the_steps_take():
    assert told([10, 20, 30], [5.0, 25.0, 65.0])[1:] == [
        "[2/3] step 1 (about 1 min 40 s left)",  # twice as long as planned
        "[3/3] step 2 (about 1 min 0 s left)",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (61, "1 min 1 s"), (7265, "2 h 1 min")]
)
def test_durations_are_written_as_people_do(seconds: float, text: str):
    assert duration(seconds) == text
