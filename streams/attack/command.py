"""`slatestream attack`: push items by fake users, and see what that does and when it is over."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from model_core.data.datasets import load_recbole
from streams.attack.fakes import KINDS
from streams.attack.run import AFTER, BEFORE, DURING, AttackPlan, Course, Stage, run
from streams.attack.site import MemorySite
from streams.attack.topics import TopicSite, check_test_cluster
from streams.bench.report import write_report
from streams.demo.dataset import fetch
from streams.errors import ConfigurationError, SlatestreamError
from streams.items.table import load_scorer
from streams.releases.options import check_release
from streams.session.machine import machine
from streams.settings import Settings, load_settings

WITHOUT, DEFENDED = "no attack", "attacked, defences on"
USERS_BOUNDED, UNDEFENDED = "attacked, surges not bounded", "attacked, defences off"
OFF: dict[str, dict[str, float]] = {
    DEFENDED: {},
    USERS_BOUNDED: {"surge_bound": 0},
    UNDEFENDED: {"surge_bound": 0, "influence_per_hour": 0},
}
"""What is changed of how a release reads users, by the name of the course."""
BACK = 1.1
"""Times the hit ratio without an attack up to which targets count as back to normal."""
# Nobody waits here, so that batches are the same each time: clicks have been folded, and everything that is
# asked for at a time is in flight.
PATIENT: dict[str, Any] = {"max_in_flight": 100_000, "max_queue_ms": 10**9, "read_your_writes_ms": 0}


def attack_command(
    kind: Annotated[str, typer.Argument(help=f"How fakes act: {', '.join(KINDS)}.")] = "bandwagon",
    share: Annotated[float, typer.Option(min=0, max=1, help="Fakes, as a share of honest users.")] = 0.01,
    events: Annotated[int, typer.Option(min=1, help="Clicks of each fake; honest users have 106.")] = 106,
    targets: Annotated[int, typer.Option(min=1, help="Unpopular items that are pushed.")] = 5,
    before: Annotated[int, typer.Option(min=1, help="Honest events before fakes act.")] = 1_000,
    during: Annotated[int, typer.Option(min=1, help="Honest events while fakes act.")] = 2_000,
    after: Annotated[int, typer.Option(min=1, help="Honest events that are watched afterwards.")] = 2_000,
    panel: Annotated[int, typer.Option(min=1, help="Honest users whose slates are looked at.")] = 300,
    data: Annotated[Path | None, typer.Option(help="Folder in RecBole's format instead of ML-100K.")] = None,
    release: Annotated[Path | None, typer.Option(help="Release folder; none without.")] = None,
    policy: Annotated[str, typer.Option(help="Of the worker in memory.")] = "greedy",
    learn: Annotated[
        bool, typer.Option("--learn", help="Let it learn from slates before likes; fakes ask for some, too.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of targets, panel and fakes.")] = 0,
    seeds: Annotated[int, typer.Option(min=1, help="So many seeds from it on, added up; in memory.")] = 1,
    on_topics: Annotated[
        bool,
        typer.Option("--on-topics", help="On a worker of the cluster that runs and knows nothing yet."),
    ] = False,
    test_cluster: Annotated[
        bool, typer.Option("--test-cluster", help="Say that nobody is served from these topics.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder for attack.json, by moment.")] = Path("build/bench"),
    as_json: Annotated[bool, typer.Option("--json", help="Print that as JSON, and no tables.")] = False,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file with settings.")] = None,
) -> None:
    """Let fake users push unpopular items into honest users' slates, and say what comes of it.

    On a worker in memory, which touches no cluster, it is done without the attack, with it, with it while no
    surge is bounded (surge_bound = 0), and while no user is bounded either (influence_per_hour = 0). With
    --on-topics it is done once, on a worker that runs.

    slatestream attack bandwagon --share 0.01 --seeds 4
    """
    check_release(release)
    if kind not in KINDS:
        raise SlatestreamError(f"KIND must be one of {', '.join(KINDS)}, got {kind!r}")
    console = Console(highlight=False, stderr=as_json)
    encoder = {"text_encoder": "none"} if release is None else {}
    patient = {**PATIENT, **encoder, "policy": policy}
    settings = load_settings(config, release=release, **({} if on_topics else patient))
    if on_topics:
        check_test_cluster(settings, said=test_cluster)
    plan = AttackPlan(
        kind=kind, share=share, events=events, n_targets=targets, before=before, during=during, after=after,
        panel=panel, seed=seed, learn=learn,
    )  # fmt: skip
    dataset = load_recbole(fetch(data, say=console.print))
    plans = [replace(plan, seed=seed + n) for n in range(1 if on_topics else seeds)]
    try:
        stages = [Stage.of(dataset, one) for one in plans]
    except ValueError as error:
        raise SlatestreamError(str(error)) from None
    courses: dict[str, Course] = {}
    for stage, one in zip(stages, plans, strict=True):
        if on_topics:
            courses = {DEFENDED: asyncio.run(_on_topics(settings, stage, one))}
            continue
        for name, course in asyncio.run(_in_memory(settings, stage, one)).items():
            if name in courses:
                courses[name].add(course)
            else:
                courses[name] = course
    report = figures(courses, plan, stages)
    if as_json:
        print(json.dumps(report))
    else:
        _print(console, report, courses)
    write_report(out / "attack.json", report, lambda text: console.print(text, soft_wrap=True))


async def _on_topics(settings: Settings, stage: Stage, plan: AttackPlan) -> Course:
    async with TopicSite(settings) as site:
        return await run(site, stage, plan, attack=True)


async def _in_memory(settings: Settings, stage: Stage, plan: AttackPlan) -> dict[str, Course]:
    if not (settings.influence_per_hour and settings.surge_bound) and settings.release is None:
        raise ConfigurationError("influence_per_hour and surge_bound must not be 0 to be compared with none")
    courses = {}
    for name in (WITHOUT, *OFF):
        scorer, attack = load_scorer(settings), name != WITHOUT
        signals = replace(scorer.release.signals, **OFF.get(name, {}))  # type: ignore[arg-type]
        scorer.release = replace(scorer.release, signals=signals)
        start_ms = int(stage.warm.timestamps_ms[0])
        async with MemorySite(settings, scorer, start_ms, learn=plan.learn) as site:
            courses[name] = await run(site, stage, plan, attack=attack)
    return courses


def figures(courses: dict[str, Course], plan: AttackPlan, stages: list[Stage]) -> dict[str, Any]:
    """Return what is to be said of some courses, with every moment."""
    normal = courses.get(WITHOUT)
    return {
        "plan": asdict(plan),
        "targets": [[stage.item_ids[row] for row in stage.targets.tolist()] for stage in stages],
        "machine": machine(),
        "courses": {
            name: {
                "fake_events": course.fake_events,
                "bounded": course.bounded,
                "phases": {
                    phase: {
                        "hit_ratio": course.hit_ratio(phase),
                        "exposure": course.exposure(phase),
                        "honest": course.honest(phase),
                    }
                    for phase in (BEFORE, DURING, AFTER)
                },
                "suspicion": {who: quantiles(found) for who, found in course.suspicion.items()},
                "recovered_after": None if normal is None else recovered(course, normal, plan),
                "moments": [asdict(one) for one in course.moments],
            }
            for name, course in courses.items()
        },
    }


def quantiles(found: Sequence[float]) -> dict[str, float]:
    """Return the least, the middle, the upper and the most of some numbers."""
    at = {"least": 0.0, "median": 0.5, "95 %": 0.95, "99 %": 0.99, "most": 1.0}
    return {name: float(np.quantile(np.array(found), q)) for name, q in at.items()}


def recovered(course: Course, normal: Course, plan: AttackPlan) -> int | None:
    """Return how many honest events after the fakes the targets were back to normal to stay, None if not.

    Normal is `BACK` times what the panel sees without an attack at that moment, and one slate.
    """
    end, back = plan.before + plan.during, None
    for ours, theirs in zip(course.moments, normal.moments, strict=True):
        if ours.event <= end or not ours.slates:
            continue
        if ours.targeted > BACK * theirs.targeted + 1:
            back = None
        elif back is None:
            back = ours.event - end
    return back


def _print(console: Console, report: dict[str, Any], courses: dict[str, Course]) -> None:
    plan = report["plan"]
    table = Table(
        title=f"{plan['kind']}: {plan['share']:.1%} fakes of {plan['events']} clicks, targets "
        f"{'; '.join(', '.join(one) for one in report['targets'])}",
        title_justify="left",
    )
    for column in ("", "phase", "targets' hit ratio", "exposure", "honest hit", "fake clicks", "bounded"):
        table.add_column(column)
    for name, course in report["courses"].items():
        for phase, found in course["phases"].items():
            counts = [f"{course['fake_events']:,}", str(course["bounded"])] if phase == DURING else ["", ""]
            table.add_row(
                name if phase == BEFORE else "", phase, f"{found['hit_ratio']:.4f}",
                f"{found['exposure']:.5f}", f"{found['honest']:.4f}", *counts,
            )  # fmt: skip
    console.print(table)
    _print_looks(console, courses)
    for name, course in report["courses"].items():
        for who, found in course["suspicion"].items():
            told = ", ".join(f"{at} {value:.2f}" for at, value in found.items())
            console.print(f"{name}: suspicion of {who}: {told}")
        if name != WITHOUT and WITHOUT in courses:
            back = course["recovered_after"]
            said = "not within what was watched" if back is None else f"{back:,} honest events later"
            console.print(f"{name}: targets are back to normal {said}")


def _print_looks(console: Console, courses: dict[str, Course]) -> None:
    """Print the panel's slates with a target, look by look, by the minutes of the stream."""
    table = Table(title="Of the panel's slates, those with a target", title_justify="left")
    looks = {name: [one for one in course.moments if one.slates] for name, course in courses.items()}
    table.add_column("minute", justify="right")
    table.add_column("phase")
    for name in courses:
        table.add_column(name, justify="right")
    for row in zip(*looks.values(), strict=True):
        start = next(iter(courses.values())).moments[0].time_ms
        minute = f"{(row[0].time_ms - start) // 60_000:,}"
        table.add_row(minute, row[0].phase, *(f"{one.targeted} / {one.slates}" for one in row))
    console.print(table)
