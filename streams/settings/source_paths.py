"""Paths into a record, as a mapping file writes them: `user.id`, `tags[0]`, `lines[].sku`, `$key.id`."""

import re
from dataclasses import dataclass
from functools import lru_cache

EVERY = -(1 << 62)
"""The step `[]`: every element of a list."""

Step = str | int

ROOTS = ("$", "@", "$key", "$header", "$event", "$timestamp", "$offset", "$partition", "$topic", "$index")
SCALARS = ("$timestamp", "$offset", "$partition", "$topic", "$index")
_STEP = re.compile(r"""\.?(?:"((?:[^"\\]|\\.)+)"|([^.\[\]"'\s]+))|\[\s*(-?\d+)?\s*\]|\['([^']+)'\]""")
_HOLE = re.compile(r"\{\{|\}\}|\{([^{}]+)\}|[{}]")


@dataclass(frozen=True, slots=True)
class Path:
    """A place in a record.

    Attributes
    ----------
    root : "$" the value, "@" the element of `each`, "$key", "$header", "$event" the envelope, or what the
        broker says of the record
    steps : names of fields, numbers of elements, `EVERY`
    """

    text: str
    root: str
    steps: tuple[Step, ...]

    @property
    def collects(self) -> bool:
        """Whether it names a list of places."""
        return EVERY in self.steps


@lru_cache(maxsize=4096)
def parse(text: str) -> Path:
    """Read a path.

    Raises
    ------
    ValueError
        Saying where it stops to be one.
    """
    root, at = "$", 0
    if text[:1] in ("$", "@"):
        found = re.match(r"[$@][a-z]*", text)
        assert found is not None
        root, at = found[0], found.end()
        if root not in ROOTS:
            raise ValueError(f"path {text!r}: {root} is none of {', '.join(ROOTS)}")
    steps: list[Step] = []
    while at < len(text):
        found = _STEP.match(text, at)
        if found is None or (text[at] == "." and at == 0) or (steps and text[at] not in ".["):
            raise ValueError(
                f'path {text!r}: no path from {text[at:]!r} on; write a.b, a[0], a[].b or a."b c"'
            )
        quoted, plain, number, bracketed = found.groups()
        if quoted is not None:
            steps.append(quoted.replace('\\"', '"').replace("\\\\", "\\"))
        elif plain is not None or bracketed is not None:
            steps.append(plain or bracketed)
        else:
            steps.append(EVERY if number is None else int(number))
        at = found.end()
    if not text or (root in SCALARS and steps):
        raise ValueError(f"path {text!r}: " + (f"{root} has no parts" if text else "must not be empty"))
    if root == "$header" and not (len(steps) == 1 and isinstance(steps[0], str)):
        raise ValueError(f"path {text!r}: a header is named, such as $header.ce_id")
    return Path(text, root, tuple(steps))


@lru_cache(maxsize=1024)
def parse_template(text: str) -> tuple[str | Path, ...]:
    """Read a template: texts and the paths between them. `{{` and `}}` are braces.

    Raises
    ------
    ValueError
        If a brace has no partner, or what is in braces is no path.
    """
    parts: list[str | Path] = []
    at = 0
    for hole in _HOLE.finditer(text):
        parts.append(text[at : hole.start()])
        at = hole.end()
        if hole[1] is not None:
            parts.append(parse(hole[1].strip()))
        elif hole[0] in ("{{", "}}"):
            parts.append(hole[0][0])
        else:
            raise ValueError(f"template {text!r}: the brace at {hole.start()} has no partner")
    parts.append(text[at:])
    return tuple(part for part in parts if part != "")
