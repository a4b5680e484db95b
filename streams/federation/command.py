"""`slatestream federate`: what several sites count together, without telling each other what they counted."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from streams.commands.dataset import Data, HowRead, LikeFrom, Map, Strict, check_there, read_data
from streams.commands.option_checks import check_release_folder
from streams.errors import SlatestreamError
from streams.kafka.connected import run_connected
from streams.kafka.topic_admin import ConfigFile
from streams.settings import load_settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from model_core.release.folder import Release
    from online_learning.statistics.sums import Statistics
    from streams.federation.files import RoundPlan
    from streams.settings import Settings

AsJson = Annotated[bool, typer.Option("--json", help="Print what came of it as JSON.")]
RoundFile = Annotated[Path, typer.Argument(help="File of the round, the same at all sites.")]
KeyFile = Annotated[Path, typer.Option(help="File with this site's key.")]
Base = Annotated[Path, typer.Option(help="Folder of the release that all sites have.")]
Sums = Annotated[
    Literal["pairs", "policy", "both"],
    typer.Option(
        "--sums",
        help="pairs: how many users like both of two items, for co-visits and EASE; policy: what workers "
        "have learned from slates.",
    ),
]

federate_app = typer.Typer(
    no_args_is_help=True,
    help="""Sum over several sites what each one counted, so that nobody can read a single site's counts.

    All sites serve one release. Each makes a key; one of them, or a coordinator, begins a round with all
    public keys; each site makes its share; the shares are added up to a release. A share looks random, and
    masks cancel in the sum of all.

    slatestream federate key a.key

    slatestream federate round round.json --release R --site a=HEX --site b=HEX --site c=HEX

    slatestream federate share round.json --key a.key --release R --data ratings.csv --out a.share

    slatestream federate sum round.json a.share b.share c.share --release R --out build/releases/summed

    Compare the fingerprint of the round over another channel before you make a share: whoever handed out
    false keys could read it.""",
)


@contextmanager
def _said() -> Iterator[None]:
    """Turn what is wrong with files and numbers into the command's error."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise SlatestreamError(f"federate: {error}") from error


@federate_app.command("key")
def key_command(
    key: Annotated[Path, typer.Argument(help="File of the key; must not exist.")],
    as_json: AsJson = False,
) -> None:
    """Make a site's key, and print its public part.

    slatestream federate key a.key
    """
    from streams.federation.files import write_key

    with _said():
        public = write_key(key)
    print(json.dumps({"file": str(key), "public_key": public}) if as_json else public)


@federate_app.command("round")
def round_command(
    out: Annotated[Path, typer.Argument(help="File of the round, to hand to all sites.")],
    release: Base,
    site: Annotated[
        list[str], typer.Option("--site", help="NAME=HEX, a site and its public key; three or more.")
    ],
    sums: Sums = "pairs",
    name: Annotated[str, typer.Option(help="Name of the round; a random one without.")] = "",
    as_json: AsJson = False,
) -> None:
    """Begin a round: name the sites, their keys, and what is summed.

    slatestream federate round round.json --release R --site a=HEX --site b=HEX --site c=HEX
    """
    import secrets

    from model_core.release.folder import read_release
    from streams.federation.files import round_plan, write_round
    from streams.federation.sums import KINDS, size_of

    with _said():
        keys: dict[str, bytes] = {}
        for one in site:
            called, equals, key = one.partition("=")
            if not (called and equals) or called in keys:
                raise ValueError(f"--site must be NAME=HEX, each name once, got {one!r}")
            try:
                keys[called] = bytes.fromhex(key)
            except ValueError:
                raise ValueError(f"--site {called}: the key must be in hex, got {key!r}") from None
        base = read_release(release)
        kinds = KINDS if sums == "both" else (sums,)
        plan = round_plan(name or secrets.token_hex(8), base.version, kinds, size_of(base, kinds), keys)
        write_round(out, plan)
    _show(Console(stderr=True), out, plan)
    if as_json:
        print(json.dumps(_told(plan)))


@federate_app.command("share")
def share_command(
    round_file: RoundFile,
    key: KeyFile,
    release: Base,
    out: Annotated[Path, typer.Option(help="File of the share, to hand to whoever adds them up.")],
    data: Data = None,
    from_topics: Annotated[
        bool, typer.Option("--from-topics", help="Count `clicks` and `content` instead of --data.")
    ] = False,
    told: Map = None,
    like_from: LikeFrom = None,
    strict: Strict = False,
    as_json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """Make this site's share of a round, once: a second one would tell what has changed.

    The policy's sums are read from the topics, as workers have stored them.

    slatestream federate share round.json --key a.key --release R --from-topics --out a.share
    """
    import numpy as np

    from model_core.privacy.secure_sum import masked
    from model_core.release.folder import read_release
    from streams.federation.files import read_key, read_round, use_once, write_share
    from streams.federation.sums import PAIRS, POLICY, policy_of

    settings, console = load_settings(config), Console(stderr=True)
    check_there(data)
    with _said():
        if not out.parent.is_dir() or out.is_dir():  # before the round is used up
            raise ValueError(f"--out must be a file in a folder that exists, got {out}")
        plan, own, base = read_round(round_file), read_key(key), read_release(release)
        _check_release(plan, base)
        if PAIRS in plan.sums and (data is None) != from_topics:
            raise ValueError("exactly one of --data and --from-topics is needed")
        parts = []
        if PAIRS in plan.sums:
            parts.append(_pairs(settings, base, data, HowRead(told or (), like_from, strict), console))
        if POLICY in plan.sums:
            parts.append(policy_of(run_connected(settings, "federate", _stored(settings, base))))
        site, share = masked(np.concatenate(parts), own, plan.round)
        use_once(key, plan.round)
        write_share(out, site, plan.round, share)
    _show(console, round_file, plan)
    console.print(f"Share of {site} in {out}.")
    if as_json:
        print(json.dumps(_told(plan) | {"site": site, "file": str(out)}))


@federate_app.command("sum")
def sum_command(
    round_file: RoundFile,
    shares: Annotated[list[Path], typer.Argument(help="Files of all sites' shares.")],
    release: Base,
    out: Annotated[
        Path, typer.Option(help="Folder of the release that has the sums; replaced if it exists.")
    ],
    as_json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """Add the shares of all sites up, and write a release that has the sums where the base has its own.

    slatestream federate sum round.json a.share b.share c.share --release R --out build/releases/summed
    """
    from model_core.privacy.secure_sum import unmasked
    from model_core.release.folder import read_release
    from streams.federation.files import read_round, read_share
    from streams.federation.sums import write_summed

    check_release_folder(out)
    settings = load_settings(config)
    with _said():
        plan = read_round(round_file)
        _check_release(plan, read_release(release))
        by_site: dict[str, NDArray[np.uint64]] = {}
        for path in shares:
            site, share = read_share(path, plan.round)
            if site in by_site:
                raise ValueError(f"{path} is a second share of site {site!r}")
            by_site[site] = share
        total = unmasked(by_site, plan.round)
        made = write_summed(release, out, plan.sums, total, settings, plan.round.name)
    Console(stderr=True).print(
        f"Release {made.version} in {out}: {' and '.join(plan.sums)} of {len(by_site)} sites.",
        highlight=False,
    )
    if as_json:
        print(json.dumps(_told(plan) | {"release": made.version, "folder": str(out)}))


def _check_release(plan: "RoundPlan", release: "Release") -> None:
    from streams.federation.sums import size_of

    if (release.version, size_of(release, plan.sums)) != (plan.release, plan.round.size):
        raise ValueError(
            f"--release must be {plan.release}, of which the round sums, and is {release.version}: sums of "
            "different models must not be added"
        )


def _pairs(
    settings: "Settings", release: "Release", data: Path | None, how: HowRead, console: Console
) -> "NDArray[np.float64]":
    import numpy as np

    from streams.commands.training_log import read_topics
    from streams.federation.sums import pairs_of

    dataset, actions = read_topics(settings) if data is None else read_data(data, settings, how, console)
    liked = np.array([settings.actions[action] >= 1.0 for action in actions], np.bool_)
    log = dataset.interactions[liked]
    return pairs_of(log.user_ids, log.item_ids, release)


async def _stored(settings: "Settings", release: "Release") -> "Statistics":
    """Statistics that workers have learned from slates of the release, over all partitions."""
    from streams.federation.sums import stored_policy
    from streams.kafka.log import KafkaLog
    from streams.verify.command import committed_offsets

    return await stored_policy(settings, KafkaLog(settings), release, partial(committed_offsets, settings))


def _show(console: Console, path: Path, plan: "RoundPlan") -> None:
    asked = plan.round
    console.print(
        f"Round {asked.name} in {path}: {asked.subject}, sites {', '.join(sorted(asked.sites))}; fingerprint "
        f"{asked.digest[:32]}", highlight=False, soft_wrap=True,
    )  # fmt: skip


def _told(plan: "RoundPlan") -> dict[str, object]:
    asked = plan.round
    return {
        "round": asked.name, "fingerprint": asked.digest, "base": plan.release, "sums": plan.sums,
        "sites": sorted(asked.sites),
    }  # fmt: skip
