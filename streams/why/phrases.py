"""Reasons in words."""

import re
from functools import lru_cache

_VERBS = {
    "like": "liked", "click": "looked at", "view": "viewed", "purchase": "bought", "dislike": "disliked",
    "skip": "skipped", "save": "saved", "share": "shared", "play": "played", "rate": "rated",
}  # fmt: skip
_PREPOSITIONS = ("by", "in", "of", "from", "with", "at", "for", "to", "on")

# Identifiers that mean nothing to a reader: Freebase, Wikidata, UUIDs, long hexadecimal, bare numbers.
_OPAQUE = re.compile(
    r"/?[mg][./][0-9a-z_]+|Q\d+|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]+|(?=.*\d)[0-9a-f]{12,}|\d{5,}",
    re.IGNORECASE,
)


def verb(action: str) -> str:
    """Past tense of an action's name, itself where it is not known."""
    return _VERBS.get(action, action)


def relation_name(relation: str) -> str:
    """Relation as words: "directed_by" -> "directed by", "film.film.director" -> "director"."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", re.split(r"[./#]", relation.strip("./#"))[-1])
    return " ".join(words.replace("_", " ").replace("-", " ").split()).lower()


def entity_name(entity: str) -> str:
    """Entity as words, without a "kind:" before it; "" if it is an identifier that means nothing."""
    name = re.sub(r"^[A-Za-z_]+:(?=\S)", "", entity.strip()).replace("_", " ").strip()
    return "" if _OPAQUE.fullmatch(name.replace(" ", "_")) else name


@lru_cache(maxsize=1 << 16)
def link(relation: str, entity: str) -> str:
    """Say what two items share: "directed by Ridley Scott", "genre Comedy", "the same director"."""
    kind, name = relation_name(relation), entity_name(entity)
    if name:
        return f"{kind} {name}" if kind else name
    if kind.rpartition(" ")[2] in _PREPOSITIONS:
        return f"also {kind} the same"
    return f"the same {kind}" if kind else "something in common"


def because_of(action: str, title: str, relation: str, entity: str) -> str:
    """Say that the user did something with an item that shares an entity."""
    return f"because you {verb(action)} {title}: {link(relation, entity)}"


def because_chosen(relation: str, entity: str) -> str:
    """Say that the user stated a preference."""
    return f"because you chose {link(relation, entity)}"


def taken_lately(times: float) -> str:
    """Say how often an item was taken in the last hour."""
    return f"taken by about {times:.0f} others in the last hour"


def liked_by_friends(friends: int) -> str:
    """Say how many friends liked an item, and not which."""
    return f"liked by {friends} of your friends"


def often_enjoyed(title: str) -> str:
    """Say that users of one item like another."""
    return f"often enjoyed by people who liked {title}"
