"""Templates to pages: numbers, times and lengths as a person reads them. Everything is escaped."""

import math
from datetime import UTC, datetime
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape

NOTHING = "–"
INKS = ("thompson", "softmax", "greedy", "linucb", "rl", "epsilon-greedy", "popularity", "random")
"""Policies that have a colour of their own."""


def number(value: float | None, places: int | None = None) -> str:
    """Return a number with thousands apart; places are chosen by size where they are not given.

    >>> number(1234567), number(3.14159), number(0.01234), number(4.8e-7), number(None)
    ('1,234,567', '3.14', '0.0123', '4.8e-07', '–')
    """
    if value is None or value != value:
        return NOTHING
    size = abs(value)
    if places is None:
        if 0 < size < 1e-3:
            return f"{value:.1e}"
        places = 0 if size >= 100 or float(value).is_integer() else 1 if size >= 10 else 2 if size >= 1 else 4
    return f"{value:,.{places}f}"


def plain(value: float) -> str:
    """Return a setting's number as it was written.

    >>> plain(0.2), plain(3000000), plain(0.002)
    ('0.2', '3,000,000', '0.002')
    """
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"


def size(nbytes: float) -> str:
    """Return a number of bytes in the unit that suits it.

    >>> size(999), size(96_620_000)
    ('999 B', '96.6 MB')
    """
    step = 0
    while nbytes >= 1000 and step < 4:
        nbytes, step = nbytes / 1000, step + 1
    return f"{nbytes:.{1 if step else 0}f} {('B', 'kB', 'MB', 'GB', 'TB')[step]}"


def ink(policy: str) -> str:
    """Return the class of the colour that stands for a policy, and its kin, on every page.

    >>> ink("thompson-disjoint:exploration=2"), ink("random"), ink("another")
    ('ink-0', 'ink-7', 'ink-1')
    """
    name = policy.partition(":")[0]
    place = next((at for at, kin in enumerate(INKS) if name.startswith(kin)), sum(name.encode()))
    return f"ink-{place % len(INKS)}"


def percent(value: float | None, places: int = 1) -> str:
    """Return a share as a percentage.

    >>> percent(0.1234)
    '12.3 %'
    """
    return NOTHING if value is None or value != value else f"{100 * value:.{places}f} %"


def signed(value: float) -> str:
    """Return a number with its sign.

    >>> signed(-0.5), signed(1)
    ('-0.500', '+1.000')
    """
    return f"{value:+.3f}"


def moment(ms: float | None) -> str:
    """Return a time in UTC.

    >>> moment(1_700_000_000_000)
    '2023-11-14 22:13:20'
    """
    try:
        return NOTHING if not ms else f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError, OSError):  # written by somebody else
        return f"{ms} ms"


def duration(seconds: float | None) -> str:
    """Return a length of time in the unit that suits it.

    >>> duration(0.2), duration(75), duration(7300)
    ('0.2 s', '1 min 15 s', '2 h 1 min')
    """
    if seconds is None:
        return NOTHING
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} days"


def link(path: str, **values: object) -> str:
    """Return a path with a query, whatever the values hold.

    >>> link("user", id="a&b")
    '/user?id=a%26b'
    """
    given = {name: str(value) for name, value in values.items() if value not in (None, "")}
    return f"/{path}?{urlencode(given)}" if given else f"/{path}"


def shorten(text: str, most: int = 60) -> str:
    """Return a text cut to a length.

    >>> shorten("abcdef", 4)
    'abc…'
    """
    return text if len(text) <= most else f"{text[: most - 1]}…"


def commands(text: str) -> Markup:
    """Return a text whose parts between backticks are set as code.

    >>> str(commands("run `a < b`."))
    'run <code>a &lt; b</code>.'
    """
    parts = text.split("`")
    if len(parts) % 2 == 0:  # one of them has no other
        return escape(text)
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if place % 2 else escape(part)
        for place, part in enumerate(parts)
    )


def environment() -> Environment:
    """Return the environment of the console's templates: whatever they are given is escaped."""
    made = Environment(
        loader=PackageLoader("streams.console"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        number=number,
        plain=plain,
        removeprefix=str.removeprefix,
        size=size,
        ink=ink,
        percent=percent,
        signed=signed,
        moment=moment,
        duration=duration,
        shorten=shorten,
        commands=commands,
    )
    made.tests["finite"] = math.isfinite
    made.globals.update(link=link)
    return made
