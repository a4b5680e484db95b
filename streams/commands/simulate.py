"""`slatestream simulate`: users with a known truth, in memory or over the real topics."""

import asyncio
import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from model_core.data.datasets import load_recbole
from streams.commands.option_checks import check_device
from streams.commands.stages import show_stages
from streams.commands.tastes import fit_tastes
from streams.demo.dataset import fetch
from streams.errors import SlatestreamError
from streams.session.shutdown import clean_exit
from streams.settings import load_settings

if TYPE_CHECKING:
    from online_learning.simulator.config import SimulatorConfig
    from online_learning.simulator.taste import Tastes

_MEMORY, _TOPICS, _USERS = "In memory", "Over the topics", "What users are like"

Policies = Annotated[
    list[str],
    typer.Option(
        "--policy",
        help="reinforce, ppo, dqn, sarsa, or a policy of the settings, random, popularity; may be repeated.",
        rich_help_panel=_MEMORY,
    ),
]


def _share(text: str) -> Any:
    return typer.Option(min=0.0, max=1.0, help=text, rich_help_panel=_USERS)


Satiation = Annotated[
    float | None, _share("Of an item's appeal, gone when they have had enough of its like.")
]
Boredom = Annotated[float | None, _share("Probability that they leave because of a slate of such items.")]
Drift = Annotated[
    float | None,
    typer.Option(min=0.0, help="What a slate's time does to a taste, in deviations.", rich_help_panel=_USERS),
]
ColdUsers = Annotated[float | None, _share("Of the users, whose taste nobody knows before.")]
ColdItems = Annotated[float | None, _share("Of the items, of which nobody knows who likes them.")]
Bots = Annotated[float | None, _share("Of the users, who click at random.")]


def simulate_command(
    data: Annotated[Path | None, typer.Option(help="Folder in RecBole's format instead of ML-100K.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of users and all they do.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for figures and picture.")] = Path("build/simulate"),
    policy: Policies = ["reinforce", "ppo", "dqn", "sarsa", "thompson", "linucb", "random", "popularity"],  # noqa: B006
    users: Annotated[int, typer.Option(min=1, help="Users of a round.", rich_help_panel=_MEMORY)] = 96,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of learning.", rich_help_panel=_MEMORY)] = 40,
    measured: Annotated[
        int, typer.Option(min=1, help="Users that all are measured on.", rich_help_panel=_MEMORY)
    ] = 600,
    exploration: Annotated[float, typer.Option(min=0, help="Of bandits.", rich_help_panel=_MEMORY)] = 0.1,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.", rich_help_panel=_MEMORY)] = "auto",
    topics: Annotated[
        bool, typer.Option("--topics", help="Be the users of a worker that runs.", rich_help_panel=_TOPICS)
    ] = False,
    requests: Annotated[int, typer.Option(min=1, help="Slates to ask for.", rich_help_panel=_TOPICS)] = 2_000,
    at_once: Annotated[int, typer.Option(min=1, help="Users at a time.", rich_help_panel=_TOPICS)] = 16,
    k: Annotated[
        int, typer.Option("--k", min=1, max=100, help="Items a slate.", rich_help_panel=_TOPICS)
    ] = 10,
    config: Annotated[
        Path | None, typer.Option("--config", help="TOML file with settings.", rich_help_panel=_TOPICS)
    ] = None,
    sessions: Annotated[int, typer.Option(min=1, help="Visits of a user.", rich_help_panel=_USERS)] = 3,
    satiation: Satiation = None,
    boredom: Boredom = None,
    drift: Drift = None,
    cold_users: ColdUsers = None,
    cold_items: ColdItems = None,
    bots: Bots = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the figures as JSON, on stdout; all else on stderr.")
    ] = False,
) -> None:
    """Let simulated users, whose taste is fitted on real ratings, judge policies.

    They look at upper positions more, tire of what they see, lose patience, leave and come back; what they
    would have clicked is known, and with it the regret. In memory each policy learns from the same users, and
    is then measured on others. With --topics they are clients of the worker that runs on the topics of the
    settings: content and users are published, slates asked for, and clicks sent.

    slatestream simulate --policy thompson --policy linucb --rounds 10
    """
    console = Console(stderr=as_json)
    given = {
        "satiation": satiation, "boredom": boredom, "drift": drift, "cold_users": cold_users,
        "cold_items": cold_items, "bots": bots,
    }  # fmt: skip
    check_device(device)
    with clean_exit(console):
        dataset = load_recbole(fetch(data, say=console.print))
        try:
            behaviour = make_config(sessions=sessions, **given)
            if topics:
                from streams.commands.simulate_topics import Visit, show_visits, visit_topics

                visits = asyncio.run(
                    visit_topics(
                        load_settings(config), dataset, behaviour,
                        Visit(requests=requests, at_once=at_once, k=k, seed=seed), say=console.print,
                    )
                )  # fmt: skip
                summary = show_visits(visits, out, console)
                if as_json:
                    print(json.dumps(summary))
                return
            tastes = fit_tastes(dataset, seed=seed)
            figures = _race(
                tastes, behaviour, tuple(policy), out, console,
                seed=seed, users=users, rounds=rounds, measured=measured, exploration=exploration,
                device=device,
            )  # fmt: skip
        except ValueError as error:
            raise SlatestreamError(f"simulate: {error}") from error
    _show(figures, console)
    console.print(f"Figures and picture in {out}", soft_wrap=True)
    if as_json:
        print(json.dumps(figures))


def make_config(**given: Any) -> "SimulatorConfig":
    """Return the default behaviour with what is given, where that is not None."""
    from online_learning.simulator.config import SimulatorConfig

    return SimulatorConfig(**{name: value for name, value in given.items() if value is not None})


def _race(
    tastes: "Tastes",
    behaviour: "SimulatorConfig",
    names: tuple[str, ...],
    out: Path,
    console: Console,
    *,
    seed: int,
    users: int,
    rounds: int,
    measured: int,
    exploration: float,
    device: str,
) -> dict[str, dict[str, float]]:
    """Let every policy learn and be measured; write curves and figures."""
    import torch

    from online_learning.policies.registry import POLICIES
    from online_learning.rl.learners import LEARNERS
    from online_learning.rl.race import OPTIMUM, Race
    from streams.commands.reward_plot import plot_rewards

    for name in names:
        if name not in (*LEARNERS, *POLICIES):
            raise ValueError(f"policy must be one of {', '.join((*LEARNERS, *POLICIES))}, got {name!r}")
    torch.set_num_threads(1)  # networks this small are slower with more
    race = Race(tastes=tastes, config=behaviour, seed=seed, users=users, rounds=rounds)
    curves, played = {}, {OPTIMUM: race.optimum(measured)}
    with show_stages(console) as stages:
        for name in names:
            raced = race.learn(
                name, exploration=exploration, device=device, report=partial(stages.report, name)
            )
            curves[name] = raced.curve
            played[name] = race.measure(raced.policy, measured)
    figures = {name: of.figures() for name, of in played.items()}
    out.mkdir(parents=True, exist_ok=True)
    about = {"behaviour": asdict(behaviour), "seed": seed, "users": users, "rounds": rounds}
    text = json.dumps(about | {"measured": figures, "curves": curves}, indent=2)
    (out / "simulate.json").write_text(text + "\n", encoding="utf-8")
    ends = {name: of["reward"] for name, of in figures.items()}
    plot_rewards(
        out / "rewards.png", {name: np.array([of]) for name, of in curves.items()}, ends, users=users
    )
    return figures


def _show(figures: dict[str, dict[str, float]], console: Console) -> None:
    table = Table(title="Afterwards, on users that nobody learned from", title_justify="left")
    for column in ("policy", "clicks a user", "±", "slates a user", "regret a slate"):
        table.add_column(column, justify="left" if column == "policy" else "right")
    for name in sorted(figures, key=lambda name: -figures[name]["reward"]):
        of = figures[name]
        table.add_row(
            name, f"{of['reward']:.2f}", f"{of['error']:.2f}", f"{of['slates']:.1f}", f"{of['regret']:.3f}"
        )
    console.print(table)
    console.print("±: standard error over users. Regret: expected clicks less than the best slate had.")
