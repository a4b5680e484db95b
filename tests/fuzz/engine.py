"""Gives a decoder inputs without end; those that it answers in a new way breed others."""

import re
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tests.fuzz.mutate import Mutator

MAX_FINDINGS = 10
LONGEST_BRED = 8_192
MAX_TRIES = 5_000
"""To make one input smaller: a long one would take a try for each of its bytes, many times over."""
_DETAIL = re.compile(
    r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|\b[0-9a-f]{12}\b|\d+|`[^`]*`|\[[^\]]*\]""", re.DOTALL
)


class Target(Protocol):
    """A decoder, with what tells whether an answer of its is right.

    Attributes
    ----------
    seeds : good inputs
    words : that mean something to it
    batch : how many inputs it takes at a time
    """

    seeds: Sequence[bytes]
    words: Sequence[bytes]
    batch: int

    def check(self, inputs: list[bytes]) -> list[Hashable]:
        """Decode inputs; return for each what came of it, in few words.

        Raises
        ------
        Exception
            If the decoder does, or answers what it should not.
        """


@dataclass(slots=True)
class Outcome:
    """What came of so many inputs.

    Attributes
    ----------
    answers : how many ways of answering there were
    findings : inputs that the decoder did not bear, as small as they could be made, and what it did
    """

    inputs: int = 0
    seconds: float = 0.0
    answers: int = 0
    findings: list[tuple[bytes, str]] = field(default_factory=list)


def short(words: str) -> str:
    """Return an error without what is of this input alone."""
    return _DETAIL.sub("_", words)[:80]


def fuzz(
    target: Target, *, inputs: int, seed: int, tell: Callable[[Outcome], None] = lambda _: None
) -> Outcome:
    """Give a target so many inputs; stops early after `MAX_FINDINGS` findings."""
    outcome, seen = Outcome(), set[Hashable]()
    mutator = Mutator(target.seeds, target.words, seed)
    began = time.monotonic()
    first = list(target.seeds)
    while outcome.inputs < inputs and len(outcome.findings) < MAX_FINDINGS:
        some = first or [mutator() for _ in range(min(target.batch, inputs - outcome.inputs))]
        first = []
        try:
            answers = target.check(some)
        except Exception:
            answers = _one_by_one(target, some, outcome)
        for value, answer in zip(some, answers, strict=True):
            if answer not in seen:
                seen.add(answer)
                if len(value) <= LONGEST_BRED:
                    mutator.pool.append(value)
        outcome.inputs += len(some)
        outcome.seconds, outcome.answers = time.monotonic() - began, len(seen)
        tell(outcome)
    return outcome


def _one_by_one(target: Target, inputs: list[bytes], outcome: Outcome) -> list[Hashable]:
    answers: list[Hashable] = []
    for value in inputs:
        error = _fault(target, value)
        if error is None:
            answers += target.check([value])
            continue
        kind = type(error), short(str(error))
        answers.append(kind)
        if not any(words.startswith(f"{kind[0].__name__}: {kind[1]}") for _, words in outcome.findings):
            small = _smaller(target, value, type(error))
            last = _fault(target, small)
            outcome.findings.append((small, f"{kind[0].__name__}: {kind[1]} | {last!r}"))
    if all(_fault(target, value) is None for value in inputs):
        outcome.findings.append((b"", f"only together: {inputs!r}"))
    return answers


def _fault(target: Target, value: bytes) -> Exception | None:
    try:
        target.check([value])
    except Exception as error:
        return error
    return None


def _smaller(target: Target, value: bytes, kind: type[Exception]) -> bytes:
    """Leave out what is not needed for the same kind of error."""
    size, tries = max(len(value) // 2, 1), 0
    while tries < MAX_TRIES:
        at = 0
        while at < len(value) and tries < MAX_TRIES:
            shorter = value[:at] + value[at + size :]
            tries += 1
            if type(_fault(target, shorter)) is kind:
                value = shorter
            else:
                at += size
        if size == 1:
            break
        size = size // 2
    return value
