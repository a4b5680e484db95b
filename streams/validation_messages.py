"""Rewords pydantic's messages as all other errors here are worded."""

import re

_WORDS = tuple(
    (re.compile(theirs), ours)
    for theirs, ours in (
        (r"Value error, ", ""),
        (r"Input should be a valid integer[^.:]*", "must be a whole number"),
        (r"Input should be a valid number[^.:]*", "must be a number"),
        (r"Input should be a valid boolean[^.:]*", "must be true or false"),
        (r"Input should be a valid string", "must be a text"),
        (r"Input should be a valid (tuple|list|array)", "must be a list"),
        (r"Input should be a valid (dictionary|mapping)", "must be a table"),
        (r"Input should be greater than or equal to", "must be at least"),
        (r"Input should be less than or equal to", "must be at most"),
        (r"Input should be greater than", "must be above"),
        (r"Input should be less than", "must be below"),
        (r"Input should be", "must be"),
        (r"String should have at least 1 character", "must not be empty"),
        (r"String should", "must"),
        (r"Field required", "is missing"),
    )
)


def in_plain_words(message: str) -> str:
    """Return a message of pydantic's as one of ours: a rule that follows the name of what breaks it."""
    for theirs, ours in _WORDS:
        message = theirs.sub(ours, message)
    return message
