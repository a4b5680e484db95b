"""Commands that change what serves: promote, canary, shadow, rollback, pin, unpin."""

import json
from collections.abc import Coroutine
from typing import Annotated, Any

import typer

from streams.kafka.connected import run_connected
from streams.releases import actions
from streams.releases.actions import Actor, Done, servable, share_of
from streams.releases.options import (
    AsJson,
    By,
    ConfigFile,
    Reason,
    StoreUrl,
    Version,
    open_store,
    whoami,
)
from streams.settings import Settings, load_settings


def promote_command(
    version: Version,
    store: StoreUrl = None,
    reason: Reason = "",
    by: By = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Let a release of the store serve, once it has passed what a worker checks when it loads it.

    slatestream release promote 3f9c --reason 'better on the last day'
    """
    settings = load_settings(config)
    chosen = servable(settings, open_store(settings, store), version)
    _run(settings, actions.promote(settings, chosen, _actor(by, reason)), as_json)


def canary_command(
    version: Version,
    share: Annotated[
        str | None,
        typer.Option(help="Of the users, such as 5% or 0.05; the setting `canary_share` otherwise."),
    ] = None,
    store: StoreUrl = None,
    reason: Reason = "",
    by: By = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Let a release serve a share of the users; by what they take it is promoted or rolled back by itself.

    Said again of the same release, it goes on with another share, and is compared anew. `rollback` ends it.

    slatestream release canary 3f9c --share 5%
    """
    settings = load_settings(config)
    found, part = open_store(settings, store), None if share is None else share_of(share)
    chosen = servable(settings, found, version)
    _run(settings, actions.begin_canary(settings, chosen, _actor(by, reason), share=part), as_json)


def shadow_command(
    version: Version,
    store: StoreUrl = None,
    reason: Reason = "",
    by: By = None,
    then_canary: Annotated[
        bool, typer.Option("--then-canary", help="What passes serves as a canary first.")
    ] = False,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Let a release answer live requests as well and serve nobody; what that says promotes or rejects it.

    One worker does so, for a share of its requests (`shadow_share`), where there is room. `rollback` ends it.

    slatestream release shadow 3f9c
    """
    settings = load_settings(config)
    chosen = servable(settings, open_store(settings, store), version)
    who = _actor(by, reason)
    _run(settings, actions.begin_shadow(settings, chosen, who, then_canary=then_canary), as_json)


def rollback_command(
    reason: Reason = "",
    by: By = None,
    store: StoreUrl = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """End a canary or shadow; without one, bring back what served before the present release, and so on.

    slatestream release rollback --reason 'click-through fell'
    """
    settings = load_settings(config)
    found = open_store(settings, store)
    _run(settings, actions.roll_back(settings, found, _actor(by, reason)), as_json)


def pin_command(
    reason: Reason = "", by: By = None, config: ConfigFile = None, as_json: AsJson = False
) -> None:
    """Keep the release that serves: until `unpin` no other is promoted, by whomever.

    slatestream release pin --reason 'a sale is on'
    """
    settings = load_settings(config)
    _run(settings, actions.pin(settings, _actor(by, reason)), as_json)


def unpin_command(
    reason: Reason = "", by: By = None, config: ConfigFile = None, as_json: AsJson = False
) -> None:
    """Unpin, so that other releases can be promoted again.

    slatestream release unpin
    """
    settings = load_settings(config)
    _run(settings, actions.unpin(settings, _actor(by, reason)), as_json)


def _actor(by: str | None, reason: str) -> Actor:
    return Actor(by or whoami(), reason)


def _run(settings: Settings, work: Coroutine[Any, Any, Done], as_json: bool) -> None:
    done = run_connected(settings, "release", work)
    print(json.dumps({"version": done.version, "before": done.before}) if as_json else done.said)
