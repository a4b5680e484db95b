"""`slatestream recommend`, `user` and `item`: what a running worker serves and knows, in readable form."""

import time
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from streams.api.answers import ItemState, Slate, UserState, Weighed
from streams.commands.ask import HERE, AsJson, Url, ask
from streams.events import MAX_SLATE, encode

ROWS = 10
BAR = 16
NO_ITEM = "none is described yet, or the user has seen or blocked all that can be served"


def recommend_command(
    user: Annotated[str, typer.Argument(help="Id of a user; one that never came gets what is popular.")],
    k: Annotated[int, typer.Option("--k", min=1, max=MAX_SLATE, help="Items in the slate.")] = ROWS,
    url: Url = HERE,
    as_json: AsJson = False,
) -> None:
    """Ask for a slate, as an application does: it is published and learned from.

    slatestream recommend u1 --k 5

    Exit code 0: there is a slate; 1: it is empty; 2: refused; 3: no worker answers.
    """
    answer = ask("recommend", url, lambda client: client.recommend(user, k, titles=True))
    if as_json:
        print(encode(answer).decode())
    else:
        show_slate(answer, Console(highlight=False))
    if not answer.slate:
        raise typer.Exit(1)


def user_command(
    user: Annotated[str, typer.Argument(help="Id of a user that the worker knows.")],
    url: Url = HERE,
    as_json: AsJson = False,
    rows: Annotated[int, typer.Option(min=1, max=50, help="Events and affinities shown.")] = ROWS,
) -> None:
    """Show what a worker knows of a user: history, affinities, what the user states.

    slatestream user u1
    """
    answer = ask("user", url, lambda client: client.user(user))
    if as_json:
        print(encode(answer).decode())
    else:
        show_user(answer, rows, Console(highlight=False))


def item_command(
    item: Annotated[str, typer.Argument(help="Id of an item.")],
    url: Url = HERE,
    as_json: AsJson = False,
    rows: Annotated[int, typer.Option(min=1, max=50, help="Neighbours shown.")] = ROWS,
) -> None:
    """Show what a worker knows of an item: content, popularity, what is met together with it.

    slatestream item i1 --rows 20
    """
    answer = ask("item", url, lambda client: client.item(item))
    if as_json:
        print(encode(answer).decode())
    else:
        show_item(answer, rows, Console(highlight=False))


def show_slate(answer: Slate, console: Console) -> None:
    """Show a slate with titles, propensities and reasons."""
    table = Table(title=f"For {escape(answer.user_id)}", title_justify="left")
    table.add_column("", justify="right")
    table.add_column("item", overflow="fold")
    table.add_column("score", justify="right", no_wrap=True)
    table.add_column("propensity", justify="right", no_wrap=True)
    table.add_column("because", overflow="fold")
    for one in answer.slate:
        title = one.title
        name = f"{escape(title)} [dim]{escape(one.item_id)}[/]" if title and title != one.item_id else None
        table.add_row(
            str(one.position + 1),
            name or escape(one.item_id),
            f"{one.score:.4f}",
            f"{one.propensity:.3f}",
            escape("; ".join(one.reasons)),
        )
    if answer.slate:
        console.print(table)
    else:
        console.print(f"No item for {escape(answer.user_id)}: {NO_ITEM}")
    kind = "" if answer.propensity_kind == "exact" else f" ({answer.propensity_kind})"
    console.print(
        f"policy {answer.policy}, version {answer.policy_version:,}{kind}; model "
        f"{answer.model_version or 'none'}; {answer.latency_ms:.1f} ms\nrequest {answer.request_id}",
        markup=False,
        soft_wrap=True,
    )
    if answer.fallback:
        why = {"no_release": "no release: co-visits and popularity chose"}.get(
            answer.fallback, answer.fallback
        )
        console.print(f"[yellow]fallback[/]: {escape(why)}")


def show_user(answer: UserState, rows: int, console: Console) -> None:
    """Show a user: facts, history, affinities."""
    console.print(f"[bold]{escape(answer.user_id)}[/], partition {answer.partition}")
    facts = [
        ("events", f"{answer.events:,}: " + ", ".join(f"{n:,} {name}" for name, n in answer.actions.items()))
    ]
    facts += [(name, value) for name, value in answer.attributes.items()]
    facts += [("prefers", ", ".join(answer.preferences))] if answer.preferences else []
    facts += [("quarantine", "what this user does counts for nobody else")] if answer.quarantined else []
    facts += [("suspicion", f"{answer.suspicion:.2f}")] if answer.suspicion >= 1 else []
    facts += [("blocked", ", ".join(answer.blocked_items))] if answer.blocked_items else []
    facts += [("friends", f"{answer.friends:,}")] if answer.friends else []
    _print_facts(facts, console)
    history = Table(title="History, the latest to come first", title_justify="left")
    history.add_column("when", no_wrap=True)
    history.add_column("what", no_wrap=True)
    history.add_column("item", overflow="fold")
    for met in answer.history[:rows]:
        history.add_row(moment(met.timestamp_ms), met.action, _named(met.item_id, met.title))
    console.print(history)
    if answer.affinities:
        console.print(_weights("Affinities", answer.affinities[:rows]))


def show_item(answer: ItemState, rows: int, console: Console) -> None:
    """Show an item: facts, edges, neighbours."""
    console.print(f"[bold]{escape(answer.title or answer.item_id)}[/] [dim]{escape(answer.item_id)}[/]")
    state = "can be served" if answer.eligible else "cannot be served now"
    facts = [("state", state if answer.described else "met in clicks; `content` has not described it")]
    facts.append(("popularity", f"{answer.popularity:,} events that speak for it"))
    if answer.published_ms:
        facts.append(("published", moment(answer.published_ms)))
    relations: dict[str, list[str]] = {}
    for relation, entity in answer.edges:
        relations.setdefault(relation, []).append(entity)
    facts += [(relation, ", ".join(entities)) for relation, entities in relations.items()]
    _print_facts(facts, console)
    if answer.neighbours:
        console.print(_weights("Met together with it", answer.neighbours[:rows]))


def _print_facts(facts: list[tuple[str, str]], console: Console) -> None:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(f"  {escape(name)}", escape(value))
    console.print(table)


def _weights(title: str, weighed: list[Weighed]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("name", overflow="fold")
    table.add_column("weight", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True, width=BAR)
    most = max(abs(one.weight) for one in weighed) or 1.0
    for one in weighed:
        bar = "█" * round(BAR * abs(one.weight) / most)
        style = "red" if one.weight < 0 else "green"
        table.add_row(_named(one.name, one.title), f"{one.weight:.3g}", f"[{style}]{bar}[/]")
    return table


def _named(item_id: str, title: str) -> str:
    if not title or title == item_id:
        return escape(item_id)
    return f"{escape(title)} [dim]{escape(item_id)}[/]"


def moment(time_ms: int) -> str:
    """Return a time as a reader wants it, in UTC; only the day where that is long ago."""
    when = datetime.fromtimestamp(time_ms / 1000, UTC)
    is_old = time.time() - time_ms / 1000 > 300 * 86_400
    return f"{when:%Y-%m-%d}" if is_old else f"{when:%Y-%m-%d %H:%M}"
