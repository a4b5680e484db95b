"""`slatestream list`: what is trending, popular or fresh, or met together with an item."""

from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from streams.api.answers import ItemList
from streams.commands.ask import HERE, AsJson, Url, ask
from streams.errors import SlatestreamError
from streams.events import MAX_SLATE, encode

ROWS = 10


def list_command(
    name: Annotated[str, typer.Argument(help="trending, popular, fresh, or similar.")] = "trending",
    item: Annotated[str | None, typer.Argument(help="Id of an item, for similar ones.")] = None,
    k: Annotated[int, typer.Option("--k", min=1, max=MAX_SLATE, help="Items in the list.")] = ROWS,
    filters: Annotated[
        list[str] | None, typer.Option("--filter", help="relation:value that items must have.")
    ] = None,
    url: Url = HERE,
    as_json: AsJson = False,
) -> None:
    """Show items that are the same for everybody: trending, popular, fresh, or similar to one.

    slatestream list trending --k 5

    slatestream list similar i1 --filter genre:Crime
    """
    if (item is not None) != (name == "similar"):
        raise SlatestreamError("list: similar takes the id of an item, and no other list takes one")
    wanted: dict[str, list[str]] = {}
    for pair in filters or []:
        relation, _, value = pair.partition(":")
        wanted.setdefault(relation, []).append(value)
    answer = ask(
        "list",
        url,
        lambda client: (
            client.list(name, k, filters=wanted) if item is None else client.similar(item, k, filters=wanted)
        ),
    )
    if as_json:
        print(encode(answer).decode())
    else:
        show_list(answer, Console(highlight=False))


def show_list(answer: ItemList, console: Console) -> None:
    """Show the items with titles and scores."""
    whose = "" if answer.item_id is None else f" to {escape(answer.item_id)}"
    if not answer.items:
        console.print(f"Nothing is {answer.name}{whose}")
        return
    table = Table(title=f"{answer.name.capitalize()}{whose}", title_justify="left")
    table.add_column("", justify="right")
    table.add_column("item", overflow="fold")
    table.add_column("score", justify="right", no_wrap=True)
    for place, one in enumerate(answer.items, 1):
        name = escape(one.item_id)
        if one.title and one.title != one.item_id:
            name = f"{escape(one.title)} [dim]{name}[/]"
        table.add_row(str(place), name, f"{one.score:,.4g}")
    console.print(table)
