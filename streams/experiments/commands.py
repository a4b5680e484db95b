"""`slatestream experiment`: start, look at and stop experiments on live traffic."""

import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from online_learning.experiments.segment import Segment
from online_learning.experiments.summary import GUARDRAILS
from online_learning.policies.registry import Learning
from online_learning.statistics.posterior import LinearPrior
from streams.errors import SlatestreamError
from streams.experiments.definition import (
    Experiment,
    Variant,
    check_experiment,
    encode_experiment,
    kind_of,
)
from streams.experiments.log import read_experiments, read_log
from streams.experiments.report import make_report
from streams.experiments.show import as_json, duration, plot, show
from streams.kafka.connected import run_connected
from streams.kafka.publisher import Publisher
from streams.kafka.topics import topic_name
from streams.settings import Settings, load_settings

Name = Annotated[str, typer.Argument(help="Name of the experiment.")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="TOML file with settings.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

experiment_app = typer.Typer(
    no_args_is_help=True,
    help="""Try policies on a part of the users, see what they earn, and roll back, all without a restart.

    `start` splits users among variants by hashing their ids, so each keeps their variant.

    `status` compares the variants by what the log says, with intervals that hold however often you look.

    `stop` gives all users the live policy again at once.

    All policies learn from all users' clicks, so what is compared is how they choose, not what each would
    have learned alone.

    With --interleave, two policies fill each slate together, which finds a preference with fewer slates
    where many items are clicked. With one variant nothing is compared: it is the policy of a segment, or of
    all.""",
)


@experiment_app.command("start")
def start_command(
    name: Name,
    variant: Annotated[
        list[str],
        typer.Option(
            help="NAME=POLICY; the first is the control. The policy is 'live' or, say, 'thompson' or "
            "'softmax:temperature=0.05'; what it does not say is as in the settings."
        ),
    ],
    weight: Annotated[
        list[str] | None, typer.Option(help="NAME=WEIGHT of a variant that gets more or fewer users; 1 else.")
    ] = None,
    share: Annotated[float, typer.Option(help="Share of the users that take part, above 0, up to 1.")] = 1.0,
    segment: Annotated[
        str | None,
        typer.Option(help="Who may take part: 'events<20', 'events>=20' or 'attribute=value'."),
    ] = None,
    interleave: Annotated[
        bool, typer.Option("--interleave", help="Let two variants fill each slate together.")
    ] = False,
    guardrail: Annotated[
        list[str] | None,
        typer.Option(help=f"NAME=BOUND that no variant may exceed: {', '.join(GUARDRAILS)}."),
    ] = None,
    alpha: Annotated[
        float, typer.Option(help="Probability of a false alarm, however often one looks.")
    ] = 0.05,
    plan: Annotated[
        float,
        typer.Option(help="Slates after which the intervals are tightest: about as many as you expect."),
    ] = 10_000,
    config: ConfigFile = None,
    json_wanted: AsJson = False,
) -> None:
    """Start an experiment; running workers take it up at once.

    Half of the users are split between the live policy and another:

    slatestream experiment start cooler --share 0.5 --variant control=live --variant b=softmax:temperature=0.1

    Two policies fill each slate:

    slatestream experiment start duel --interleave --variant control=live --variant b=greedy

    A policy of new users, compared with nothing:

    slatestream experiment start newcomers --segment 'events<20' --variant all=softmax:temperature=0.3
    """
    settings = load_settings(config)
    variants = [Variant(*_pair("--variant", text, "NAME=POLICY")) for text in variant]
    variants = _weighted(variants, weight or [])
    experiment = Experiment(
        name=name,
        kind=kind_of(variants, interleave=interleave),
        variants=variants,
        started_ms=int(time.time() * 1000),
        share=share,
        segment=segment,
        guardrails=dict(_number("--guardrail", text, "NAME=BOUND") for text in guardrail or []),
        alpha=alpha,
        plan=plan,
    )
    learning = Learning.of(settings.policy, LinearPrior(np.zeros(1)))
    try:
        check_experiment(experiment, learning, settings.policy)
    except ValueError as error:
        raise SlatestreamError(f"experiment {name}: {error}") from None
    run_connected(settings, "experiment", _start(settings, experiment))
    if json_wanted:
        print(encode_experiment(experiment).decode())
        return
    print(f"{name} runs; see `slatestream experiment status {name}`, end it with `stop`.")
    if experiment.kind == "ab" and segment is not None and Segment.parse(segment).moves:
        print(
            "note: users leave this segment by what they do, and sooner where they do more; what is compared "
            "is what they did while in it"
        )


async def _start(settings: Settings, experiment: Experiment) -> None:
    known = (await read_experiments(settings)).get(experiment.name)
    if known is not None:
        state = "runs already" if known.running else "has run before, and its record is kept"
        raise SlatestreamError(f"experiment {experiment.name} {state}: choose another name")
    await _publish(settings, experiment)


@experiment_app.command("status")
def status_command(
    name: Annotated[str | None, typer.Argument(help="One experiment; without it, all that run.")] = None,
    json_wanted: AsJson = False,
    plot_file: Annotated[
        Path | None, typer.Option("--plot", help="Draw the interval over time into this PNG.")
    ] = None,
    config: ConfigFile = None,
) -> None:
    """Show what an experiment has found so far, from `recommendations` and `feedback`.

    A slate counts when it has closed (attribution_window_ms). The intervals are always valid: look as often
    as you like, and stop when you have seen enough. Exit code 1 when there is an alarm: users are not split
    as planned, or a guardrail is broken.

    slatestream experiment status cooler --plot cooler.png
    """
    settings, console = load_settings(config), Console()
    if plot_file is not None and name is None:
        raise SlatestreamError("--plot needs the name of an experiment")
    experiments = run_connected(settings, "experiment", read_experiments(settings))
    chosen = (
        [_known(experiments, name)] if name is not None else [e for e in experiments.values() if e.running]
    )
    if not chosen:
        print("no experiment runs; see `slatestream experiment list`")
    alarmed = False
    for experiment in chosen:
        log = run_connected(settings, "experiment", read_log(settings, experiment))
        report = make_report(experiment, log, int(time.time() * 1000))
        alarmed |= bool(report.alarms)
        if json_wanted:
            print(as_json(report))
        else:
            show(report, console)
        if plot_file is not None:
            plot(experiment, log, plot_file)
    if alarmed:
        raise typer.Exit(1)


@experiment_app.command("stop")
def stop_command(name: Name, config: ConfigFile = None, json_wanted: AsJson = False) -> None:
    """Give all users of an experiment the live policy again, at once; its record is kept.

    slatestream experiment stop cooler
    """
    settings = load_settings(config)

    async def stop() -> Experiment:
        experiment = _running(await read_experiments(settings), name)
        await _publish(settings, stopped := experiment.stopped(int(time.time() * 1000)))
        return stopped

    ended = run_connected(settings, "experiment", stop())
    if json_wanted:
        print(encode_experiment(ended).decode())
        return
    print(f"{name} is stopped after {duration(int(time.time() * 1000) - ended.started_ms)}.")


@experiment_app.command("share")
def share_command(
    name: Name,
    share: Annotated[float, typer.Argument(help="New share of the users, above the present one, up to 1.")],
    config: ConfigFile = None,
    json_wanted: AsJson = False,
) -> None:
    """Let more users take part; those who do already keep their variants.

    slatestream experiment share cooler 0.8
    """
    settings = load_settings(config)

    async def grow() -> Experiment:
        experiment = _running(await read_experiments(settings), name)
        if not experiment.share < share <= 1.0:
            raise SlatestreamError(
                f"share must be above the present {experiment.share:g} and at most 1, got {share:g}; to "
                "shrink an experiment, stop it and start another"
            )
        await _publish(settings, grown := experiment.grown(share))
        return grown

    grown = run_connected(settings, "experiment", grow())
    if json_wanted:
        print(encode_experiment(grown).decode())
        return
    print(f"{name} has a share of {share:g} now.")


@experiment_app.command("list")
def list_command(config: ConfigFile = None, json_wanted: AsJson = False) -> None:
    """List every experiment that was ever started.

    slatestream experiment list --json
    """
    settings = load_settings(config)
    experiments = run_connected(settings, "experiment", read_experiments(settings)).values()
    if json_wanted:
        print(f"[{', '.join(encode_experiment(one).decode() for one in experiments)}]")
        return
    table = Table()
    for column in ("name", "kind", "share", "segment", "variants", "state"):
        table.add_column(column, overflow="fold")
    now_ms = int(time.time() * 1000)
    for one in experiments:
        ran = duration((one.stopped_ms or now_ms) - one.started_ms)
        variants = "\n".join(f"{variant.name}={variant.policy}" for variant in one.variants)
        state = f"running for {ran}" if one.running else f"stopped after {ran}"
        table.add_row(one.name, one.kind, f"{one.share:g}", one.segment or "all", variants, state)
    Console(markup=False).print(table)


def _pair(option: str, text: str, form: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals or not value:
        raise SlatestreamError(f"{option} must be {form}, got {text!r}")
    return name, value


def _number(option: str, text: str, form: str) -> tuple[str, float]:
    name, value = _pair(option, text, form)
    try:
        return name, float(value)
    except ValueError:
        raise SlatestreamError(f"{option} must be {form} with a number, got {text!r}") from None


def _weighted(variants: list[Variant], texts: list[str]) -> list[Variant]:
    weights = dict(_number("--weight", text, "NAME=WEIGHT") for text in texts)
    if unknown := weights.keys() - {variant.name for variant in variants}:
        raise SlatestreamError(f"--weight names {sorted(unknown)}, which no --variant does")
    return [Variant(one.name, one.policy, weights.get(one.name, 1.0)) for one in variants]


def _known(experiments: dict[str, Experiment], name: str) -> Experiment:
    if name not in experiments:
        known = ", ".join(experiments) or "none"
        raise SlatestreamError(f"there is no experiment {name!r}; there are: {known}")
    return experiments[name]


def _running(experiments: dict[str, Experiment], name: str) -> Experiment:
    experiment = _known(experiments, name)
    if not experiment.running:
        raise SlatestreamError(f"experiment {name} has been stopped already")
    return experiment


async def _publish(settings: Settings, experiment: Experiment) -> None:
    publisher = Publisher(settings)
    await publisher.start()
    try:
        row = (experiment.name.encode(), encode_experiment(experiment))
        await publisher.publish(topic_name(settings, "experiments"), 0, [row])
    finally:
        await publisher.stop()
