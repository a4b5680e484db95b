"""Makes odd inputs of good ones: bytes, tokens and structure changed, by a seeded generator."""

import random
import re
from collections.abc import Sequence

LONGEST = 1 << 16
TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|-?[0-9][0-9.eE+-]*|[{}\[\],:]|[A-Za-z_]+|[^\s]', re.DOTALL)
WORDS = (
    b"null",
    b"true",
    b"false",
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b"0",
    b"-0",
    b"-1",
    b"1",
    b"1.0",
    b"1e999",
    b"-1e999",
    b"1e-999",
    b"9223372036854775807",
    b"9223372036854775808",
    b"-9223372036854775809",
    b"18446744073709551616",
    b"1764000000000",
    b"1764000000000.0",
    b"1764000000",
    b"99999999999",
    b"100000000000",
    b"9999999999999",
    b"10000000000000",
    b"0.1",
    b"01",
    b"1.",
    b".5",
    b"+1",
    b"0x10",
    b"123456789012345678",
    b"1234567890123456789",
    b"1" * 400,
    b"0." + b"3" * 30,
    b'""',
    b'"a"',
    b'"\\u0000"',
    b'"\x00"',
    b'"\\ud800"',
    b'"\\ud83d\\ude80"',
    b'"\xff"',
    b'"\xed\xa0\x80"',
    '"é"'.encode(),
    '"🚀"'.encode(),
    b'"\\n\\r\\t\\b\\f\\/\\\\\\""',
    b'"a\nb"',
    b'"' + b"x" * 128 + b'"',
    b'"' + b"x" * 129 + b'"',
    b'"' + b"x" * 512 + b'"',
    b'"' + b"x" * 513 + b'"',
    b"[]",
    b"{}",
    b"[[]]",
    b'[""]',
    b'{"":""}',
    b"[null]",
    b"[" * 40 + b"]" * 40,
    b"[" * 5_000,
    b'{"a":' * 40 + b"1" + b"}" * 40,
    b'{"a":' * 5_000,
    b",",
    b":",
    b"//",
    b'"2025-11-24T16:00:00Z"',
    b'"2025-11-24 16:00"',
    b'"1764000000000"',
    b"\x00",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\x1f\x8b",
    b"\x00\x00\x00\x00\x01",
    b"\t",
    b"\r\n",
    b"\x0b",
    b"\x7f",
    b"\xc2\x85",
    b"\xe2\x80\xa8",
    b";",
    b"|",
    b"::",
    b"'",
    b'"',
    b'""""',
    b"%",
    b"%00",
    b"%ff",
    b"%F0%9F%9A%80",
    b"&",
    b"=",
    b"k=1",
    b"..",
    b"/",
)


class Mutator:
    """Changes inputs of a pool, which grows by what turns out to be new.

    Parameters
    ----------
    words : that may come in where a token stood, beside `WORDS`
    """

    def __init__(self, seeds: Sequence[bytes], words: Sequence[bytes], seed: int) -> None:
        self.pool = list(seeds)
        self._words = [*WORDS, *words]
        self._random = random.Random(seed)

    def __call__(self) -> bytes:
        """Return the next input: one of the pool, changed one to five times."""
        chosen = self._random
        value = chosen.choice(self.pool)
        for _ in range(1 + int(chosen.expovariate(0.9)) % 5):
            value = chosen.choice(_CHANGES)(self, value)
        return value[:LONGEST]

    def _word(self, value: bytes) -> bytes:
        """Put a word, or a token of another input, where a token stood."""
        tokens = list(TOKEN.finditer(value[:4096]))
        if not tokens:
            return self._random.choice(self._words)
        token = self._random.choice(tokens)
        if self._random.random() < 0.2 and (others := TOKEN.findall(self._random.choice(self.pool)[:4096])):
            word = self._random.choice(others)
        else:
            word = self._random.choice(self._words)
        return value[: token.start()] + word + value[token.end() :]

    def _drop(self, value: bytes) -> bytes:
        at, end = self._span(value)
        return value[:at] + value[end:]

    def _double(self, value: bytes) -> bytes:
        at, end = self._span(value)
        return value[:end] + value[at:end] * self._random.choice((1, 1, 2, 16)) + value[end:]

    def _move(self, value: bytes) -> bytes:
        at, end = self._span(value)
        rest = value[:at] + value[end:]
        to = self._random.randint(0, len(rest))
        return rest[:to] + value[at:end] + rest[to:]

    def _splice(self, value: bytes) -> bytes:
        other = self._random.choice(self.pool)
        return value[: self._random.randint(0, len(value))] + other[self._random.randint(0, len(other)) :]

    def _flip(self, value: bytes) -> bytes:
        if not value:
            return bytes([self._random.randrange(256)])
        at = self._random.randrange(len(value))
        return value[:at] + bytes([value[at] ^ 1 << self._random.randrange(8)]) + value[at + 1 :]

    def _put(self, value: bytes) -> bytes:
        at = self._random.randint(0, len(value))
        odd = self._random.randbytes(self._random.choice((1, 1, 1, 2, 4, 8)))
        return value[:at] + odd + value[at + self._random.randint(0, len(odd)) :]

    def _cut(self, value: bytes) -> bytes:
        return value[: self._random.randint(0, len(value))]

    def _span(self, value: bytes) -> tuple[int, int]:
        at = self._random.randint(0, len(value))
        return at, min(len(value), at + self._random.choice((1, 1, 2, 4, 8, 16, 64, 256)))


_CHANGES = (
    Mutator._word, Mutator._word, Mutator._word, Mutator._drop, Mutator._double, Mutator._move,
    Mutator._splice, Mutator._flip, Mutator._put, Mutator._cut,
)  # fmt: skip
