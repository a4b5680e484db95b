"""The action of each row: a column says it, or a label, a rating, a thumb up or down, or nobody does."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from streams.field_names import ACTIONS, AMOUNTS, folded
from streams.importing.columns import ColumnPlan
from streams.importing.faults import FileError, RowFault
from streams.importing.options import Choices
from streams.importing.values import are_verdicts, as_flag, as_text, as_verdict, make_number, numbers

LIKE_SHARE = 0.8  # of the highest rating: 4 of 5 stars, 8 of 10
NO_ACTION = "none"
"""What leaves a row out whose action means nothing to us."""
JUDGED = {"like", "dislike", "view"}
LIKES = ("like", "liked")
"""Labels of which a 1 is a like and no click."""

ActionOf: TypeAlias = Callable[[Sequence[Any]], str]


def make_action(plan: ColumnPlan, choices: Choices, told: dict[str, str]) -> ActionOf:
    """Return what makes an action of a row's values; `told` takes in words how.

    Raises
    ------
    FileError
        If an action that somebody named is none of the settings', or a column of ratings has none.
    """
    for name in {*choices.actions.values(), *([choices.action] if choices.action else [])}:
        if name not in (*choices.known_actions, NO_ACTION):
            raise FileError(f"the settings know no action {name!r}, but {', '.join(choices.known_actions)}")
    if choices.action is not None:
        told["action"] = f"{choices.action}, every one, as told"
        only = choices.action
        return lambda _: only
    columns = plan.table.columns
    if (judging := _judging(plan, choices)) is not None:
        told[judging] = "up is a like, down a dislike, neither a view"
        return _judged(columns.index(plan.fields[judging]), plan.fields[judging])
    if "action" in plan.fields:
        told["action"] = "what the file says" + "".join(f", {a} is {b}" for a, b in choices.actions.items())
        return _named_action(columns.index(plan.fields["action"]), choices)
    if "label" in plan.fields:
        return _labelled(plan, "label", choices, told)
    ratings = _ratings(plan)
    if ratings and (len(set(ratings)) > 1 or choices.like_from is not None):
        highest = next((top for top in (5.0, 10.0, 100.0) if max(ratings) <= top), max(ratings))
        if set(ratings) <= {0.0, 1.0} and choices.like_from is None:
            return _labelled(plan, "rating", choices, told)
        least = LIKE_SHARE * highest if choices.like_from is None else choices.like_from
        told["rating"] = f"{least:g} and more is a like, less a view"
        return _rated(columns.index(plan.fields["rating"]), plan.fields["rating"], least)
    only = "purchase" if folded(plan.fields.get("value", "")) in AMOUNTS else "click"
    only = only if only in choices.known_actions else choices.known_actions[0]
    same = f": every rating is {ratings[0]:g}" if ratings else ""
    told["action"] = f"{only}, every one{same}; --action says another"
    return lambda _: only


def _ratings(plan: ColumnPlan) -> list[float]:
    """Return the first ratings; a few that are no numbers are the faults of their rows."""
    texts = [value for value in plan.column("rating") if value not in (None, "")]
    found = [number for value in texts for number in numbers([value], comma=True)]
    if 2 * len(found) < len(texts):
        odd = next(value for value in texts if not numbers([value], comma=True))
        raise FileError(
            f"{plan.table.path} column {plan.fields['rating']!r} must hold numbers, got such as "
            f"{as_text(odd)[:40]!r}: say --map rating=COLUMN for another"
        )
    return found


def _named_action(place: int, choices: Choices) -> ActionOf:
    called, names = _action_names(choices), ", ".join(choices.known_actions)

    def make(values: Sequence[Any]) -> str:
        text = as_text(values[place])
        found = called(text)
        if found is None:
            raise RowFault(
                "unknown_action",
                f"the settings know no action {text[:40]!r}, but {names}: say --actions THEIRS=OURS",
            )
        if found == NO_ACTION:
            raise RowFault("no_action", f"{text[:40]!r} is none, as told", left_out=True)
        return found

    return make


def _action_names(choices: Choices) -> Callable[[str], str | None]:
    """Return what tells which action of ours a file's word is; None where nobody knows."""
    known = {name: name for name in choices.known_actions}
    aliases = {name: ours for name, ours in ACTIONS.items() if ours in known}

    def called(text: str) -> str | None:
        short = folded(text)
        return choices.actions.get(text) or known.get(text) or known.get(short) or aliases.get(short)

    return called


def unknown_actions(plan: ColumnPlan, choices: Choices) -> Counter[str]:
    """Count the actions among a file's first rows that nobody knows, the most frequent first."""
    if plan.kind != "clicks" or choices.action is not None or _judging(plan, choices) is not None:
        return Counter()
    called = _action_names(choices)
    counts = Counter(map(as_text, plan.column("action")))
    return Counter({text: n for text, n in counts.most_common() if called(text) is None})


def _judging(plan: ColumnPlan, choices: Choices) -> str | None:
    """Return the field whose column says thumb up or down."""
    for name in ("action", "label", "rating"):
        is_said = choices.actions if name == "action" else choices.like_from is not None
        if not is_said and are_verdicts(plan.column(name)) and set(choices.known_actions) >= JUDGED:
            return name
    return None


def _judged(place: int, column: str) -> ActionOf:
    def make(values: Sequence[Any]) -> str:
        action = "view" if values[place] in (None, "") else as_verdict(values[place])
        if action is None:
            raise RowFault("number", f"{column} must be up or down, got {as_text(values[place])[:40]!r}")
        return action

    return make


def _labelled(plan: ColumnPlan, name: str, choices: Choices, told: dict[str, str]) -> ActionOf:
    column = plan.fields[name]
    place = plan.table.columns.index(column)
    said = "like" if folded(column) in LIKES and "like" in choices.known_actions else "click"
    told[name] = f"1 is a {said}; 0 is none and left out"

    def make(values: Sequence[Any]) -> str:
        flag = as_flag(values[place])
        if flag is None:
            text = as_text(values[place])[:40]
            raise RowFault("number", f"{column} must be 1 or 0, true or false, got {text!r}")
        if not flag:
            raise RowFault("label_0", f"{column} is 0: shown, and no {said}", left_out=True)
        return said

    return make


def _rated(place: int, column: str, least: float) -> ActionOf:
    number = make_number(column, empty=True)

    def make(values: Sequence[Any]) -> str:
        rating = number(values[place])
        return "like" if rating is not None and rating >= least else "view"

    return make
