"""Asks on a terminal what files do not tell: which column is the user's, what an action means."""

import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import typer
from rich.console import Console

from streams.importing.actions import NO_ACTION, unknown_actions
from streams.importing.columns import MissingColumn
from streams.importing.faults import AmbiguousDates
from streams.importing.options import Choices
from streams.importing.run import Options, Source, plan_files
from streams.importing.values import as_text, numbers

MAX_ACTIONS = 24
TELLS = {"action", "label", "rating", "value"}
"""Fields of which each tells the action of a row."""
WHAT = {"user_id": "the user", "item_id": "the item"}


class Ask(Protocol):
    """Asks somebody one thing."""

    def __call__(self, question: str, choices: Sequence[str], default: str) -> str:
        """Return which of the choices it is; `default` where somebody only presses Enter."""


@dataclass(frozen=True, slots=True)
class Understood:
    """Files, and all that was said of them: by options, and in answer to questions."""

    sources: list[Source]
    choices: Choices
    options: Options


def understand(
    files: Sequence[Path],
    choices: Choices,
    options: Options,
    *,
    ask: Ask | None,
    say: Callable[[str], None],
    check: Callable[[list[Source]], None] = lambda sources: None,
) -> Understood:
    """Look at all files, as `plan_files` does, and ask for what they do not tell.

    Parameters
    ----------
    ask
        None where nobody is there: what is missing is an error.
    check
        Raises MissingColumn where the files together lack something.

    Raises
    ------
    FileError
        If a file cannot be imported.
    """
    answers: list[str] = []
    while True:
        try:
            sources = plan_files(files, choices, options)
            check(sources)
            break
        except MissingColumn as missing:
            if ask is None or not (found := _columns(missing, ask, say)):
                raise
            options = replace(options, told=(*options.told, *found))
            answers += [f"--map {shlex.quote(f'{name}={column}')}" for name, column in found]
        except AmbiguousDates as dates:
            if ask is None:
                raise
            say(str(dates))
            told = ask("Which of the two is it?", dates.formats, dates.formats[0])
            choices = replace(choices, time_format=told)
            answers.append(f"--time-format {shlex.quote(told)}")
    if ask is not None and (found := _action_columns(sources, choices, ask)):
        options = replace(options, told=(*options.told, *found))
        answers += [f"--map {shlex.quote(f'{name}={column}')}" for name, column in found]
        sources = plan_files(files, choices, options)
    if ask is not None and (actions := _actions(sources, choices, ask)):
        choices = replace(choices, actions={**choices.actions, **actions})
        answers += [f"--actions {shlex.quote(f'{theirs}={ours}')}" for theirs, ours in actions.items()]
        sources = plan_files(files, choices, options)
    if answers:
        say(f"The same without questions: {' '.join(answers)}")
    return Understood(sources, choices, options)


def _columns(missing: MissingColumn, ask: Ask, say: Callable[[str], None]) -> list[tuple[str, str]]:
    """Ask which columns these fields are; nothing where somebody names none."""
    what = " or ".join(WHAT[name] for name in missing.fields)
    say(f"{missing.table.path} has no column known to be {what}. Its columns, each with a value:")
    for column, example in missing.examples.items():
        say(f"  {column}  {example}")
    found: list[tuple[str, str]] = []
    for name in missing.fields:
        free = [column for column in missing.examples if column not in [taken for _, taken in found]]
        column = ask(f"Which column is {WHAT[name]}? Enter where there is none", free, "")
        if column:
            found.append((name, column))
    return found


def _action_columns(sources: Sequence[Source], choices: Choices, ask: Ask) -> list[tuple[str, str]]:
    """Ask which column says what a user did, where one may and none is known to."""
    found = []
    for plan in (source.plan for source in sources if source.plan.kind == "clicks"):
        few = [column for column in plan.unread if _are_few_words(plan.of(column))]
        if few and choices.action is None and not TELLS.intersection(plan.fields):
            examples = "; ".join(f"{one}: {', '.join(_words(plan.of(one))[:3])}" for one in few)
            question = (
                f"Does a column of {plan.table.path.name} say what a user did ({examples})? Enter for no"
            )
            if column := ask(question, few, ""):
                found.append(("action", column))
    return found


def _words(values: Sequence[object]) -> list[str]:
    return list(dict.fromkeys(text for value in values if (text := as_text(value).strip())))


def _are_few_words(values: Sequence[object]) -> bool:
    words = _words(values)
    return 2 <= len(words) <= MAX_ACTIONS and len(values) >= 4 * len(words) and not numbers(words)


def _actions(sources: Sequence[Source], choices: Choices, ask: Ask) -> dict[str, str]:
    """Ask what the actions are that nobody knows."""
    found: dict[str, str] = {}
    for source in sources:
        for theirs, n in list(unknown_actions(source.plan, choices).items())[:MAX_ACTIONS]:
            if theirs not in found:
                question = f"What is {theirs!r}, in {n:,} of the first {len(source.plan.values):,} rows?"
                found[theirs] = ask(question, [*choices.known_actions, NO_ACTION], NO_ACTION)
    return found


def asker(console: Console, *, quiet: bool) -> Ask | None:
    """Return what asks on this terminal; None where nobody sits there, or nothing is to be asked."""
    if quiet or not (sys.stdin.isatty() and console.is_terminal):
        return None

    def ask(question: str, choices: Sequence[str], default: str) -> str:
        console.print(f"{question}  [{', '.join(choices)}]", markup=False, soft_wrap=True)
        while True:
            try:
                answer: str = typer.prompt(
                    " ",
                    prompt_suffix="> ",
                    default=default,
                    show_default=bool(default),
                    err=console.stderr,
                )
            except typer.Abort:
                raise KeyboardInterrupt from None
            if answer == default or answer in choices:
                return answer
            console.print(f"There is no {answer!r}.", markup=False)

    return ask
