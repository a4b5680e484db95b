"""`slatestream explain`: ask the running worker what a user's score for an item is made of."""

from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from streams.api.answers import Contribution, Explanation
from streams.commands.ask import HERE, AsJson, Url, ask
from streams.events import encode

BAR, SHORT_BAR = 12, 5  # characters to each side, in a wide terminal and in a narrow one
WIDE = 110  # columns
KINDS = {
    "history": "read by the model",
    "entity": "near to the user",
    "modality": "the item",
    "covisits": "co-visits",
    "ease": "EASE",
    "popularity": "popularity",
}


def explain_command(
    user: Annotated[str, typer.Argument(help="Id of a user that the worker knows.")],
    item: Annotated[str, typer.Argument(help="Id of an item of the catalogue.")],
    url: Url = HERE,
    as_json: AsJson = False,
    rows: Annotated[int, typer.Option(min=1, help="Contributions shown one by one, the largest.")] = 20,
) -> None:
    """Show what a user's score for an item is made of, and the path that leads there.

    Contributions and base sum to the logit of the score. Without a release the score of co-visits and
    popularity is explained instead.

    slatestream explain u1 i1
    """
    answer = ask("explain", url, lambda client: client.explain(user, item))
    if as_json:
        print(encode(answer).decode())
        return
    _show(answer, rows, Console())


def _show(answer: Explanation, rows: int, console: Console) -> None:
    console.print(escape(answer.summary), soft_wrap=True, highlight=False)
    title = f"{answer.title or answer.item_id} for {answer.user_id}, {answer.unit} by contribution"
    table = Table(title=escape(title), title_justify="left")
    for name in (answer.unit, "±", "against | for"):
        table.add_column(name, justify="right" if name != "against | for" else "left", no_wrap=True)
    table.add_column("through")
    table.add_column("what", overflow="fold")
    table.add_row(f"{answer.base:+.4f}", "", "", "base", "nothing known of user and item")
    bar = BAR if console.width >= WIDE else SHORT_BAR
    scale = max((abs(one.value) for one in answer.contributions), default=0.0)
    for one in answer.contributions[:rows]:
        table.add_row(*_cells(one, scale, bar))
    if rest := answer.contributions[rows:]:
        label = f"{len(rest)} more"
        table.add_row(*_cells(Contribution("", "", label, sum(one.value for one in rest)), scale, bar))
    table.add_section()
    table.add_row(f"{answer.value:+.4f}", "", "", "sum", f"score {answer.score:.6f}")
    console.print(table)
    sampled = f"{answer.orders} sampled orders" if answer.orders else "exact, nothing sampled"
    console.print(
        f"completeness error {answer.completeness_error:.1e}, {sampled}, {answer.runs} runs of "
        f"model {answer.model_version}",
        highlight=False,
    )
    for line in _notes(answer):
        console.print(escape(line), soft_wrap=True, highlight=False)


def _cells(one: Contribution, scale: float, width: int) -> tuple[str, str, str, str, str]:
    length = round(width * abs(one.value) / scale) if scale else 0
    left, right = ("", "█" * length) if one.value >= 0 else ("█" * length, "")
    colour = "green" if one.value >= 0 else "red"
    bar = f"[{colour}]{left:>{width}}│{right:<{width}}[/]"
    error = f"{one.error:.4f}" if one.error else ""
    return f"{one.value:+.4f}", error, bar, KINDS.get(one.kind, ""), escape(one.label)


def _notes(answer: Explanation) -> list[str]:
    notes = []
    if (path := answer.path) is not None:
        to = answer.title or answer.item_id
        notes.append(
            f"path: {answer.user_id} ─{path.action}→ {path.title or path.item_id} ─{path.relation}→ "
            f"{path.entity} ←{path.relation}─ {to}"
        )
    if answer.fallback is not None:
        notes.append(f"not the model's: {answer.fallback}")
    if answer.not_yet is not None:
        notes.append(answer.not_yet)
    elif not answer.eligible:
        notes.append("in no slate of this user now: seen, blocked, or not available")
    return notes
