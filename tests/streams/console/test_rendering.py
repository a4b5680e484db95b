"""Numbers and intervals as the console's pages show them."""

import math

import pytest

from streams.console.rendering import INKS, environment, ink, number, plain, size

PARTS = environment().get_template("parts.html").module


@pytest.mark.parametrize(
    ("value", "shown"),
    [(4.8e-7, "4.8e-07"), (0.0, "0"), (0.0123, "0.0123"), (-0.0004, "-4.0e-04"), (12.0, "12")],
)
def test_small_numbers_are_not_shown_as_nothing(value: float, shown: str) -> None:
    assert number(value) == shown


def test_settings_and_sizes_are_shown_as_they_are_written() -> None:
    assert [plain(value) for value in (0.2, 3_000_000, 2e-3)] == ["0.2", "3,000,000", "0.002"]
    assert [size(nbytes) for nbytes in (999, 96_620_000)] == ["999 B", "96.6 MB"]


def test_policies_that_are_often_compared_have_colours_of_their_own() -> None:
    assert len({ink(name) for name in INKS}) == len(INKS)
    assert ink("thompson-disjoint:exploration=2") == ink("thompson")


def test_an_interval_without_ends_is_not_drawn() -> None:
    assert str(PARTS.interval(-math.inf, 0.0, math.inf, 0.0, 0.0)).strip() == ""
    assert "too few yet" in str(PARTS.between(-math.inf, math.inf))
    assert "<rect" in str(PARTS.interval(-1.0, 0.0, 1.0, -1.0, 1.0, 0.0))
    assert "-1.000 … +1.000" in str(PARTS.between(-1.0, 1.0))
