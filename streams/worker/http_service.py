"""The state that the HTTP handlers read, and lookup of a partition's owner."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from yarl import URL

from streams.api.answers import PartitionState, Title
from streams.api.problems import NO_STORE, Problem
from streams.errors import OwnershipLost
from streams.metrics import Metrics
from streams.serving.explainer import Explainer
from streams.serving.lane import Lanes
from streams.serving.lists import Lists
from streams.serving.ranking_inputs import RankingInputs
from streams.serving.server import Server
from streams.settings import Settings
from streams.state.shard import Shard
from streams.worker.inspect import Inspector
from streams.worker.partitions import Partitions
from streams.worker.quarantine import Quarantines
from streams.worker.ready_log import lacking
from streams.worker.suspects import Suspects


@dataclass(frozen=True, slots=True)
class Service:
    """The parts of a worker that the HTTP handlers use.

    Attributes
    ----------
    explainer : returns that of the release that serves a user
    owner_url : where another worker's partition is answered for, None if nobody has said so
    lanes : say which release serves
    ranking : adds to a list what a device ranks its items by
    metrics : counts what is refused
    title : of an item
    digest : digest of the state and the next offset of clicks by partition
    state : rows of a bucket of a shard
    quarantines, suspects : who is in quarantine, and who may be thought of
    render : body and content type of `/metrics`
    """

    settings: Settings
    partitions: Partitions
    server: Server
    explainer: Callable[[str], Explainer]
    inspector: Inspector
    lanes: Lanes
    lists: Lists
    ranking: RankingInputs
    metrics: Metrics
    title: Title
    owner_url: Callable[[int], str | None]
    digest: Callable[[], dict[str, Any]]
    state: Callable[..., Awaitable[PartitionState]]
    quarantines: Quarantines
    suspects: Suspects
    render: Callable[[], Awaitable[tuple[bytes, str]]]


SERVICE = web.AppKey("service", Service)


def check_answered_here(http: web.Request, partition: int) -> None:
    """Redirect to the worker that owns the partition, or say why nobody answers now."""
    service = http.app[SERVICE]
    if not service.partitions.owns(partition):
        owner = service.owner_url(partition)
        if owner is None:
            raise Problem(503, f"no worker owns partition {partition} yet; try again")
        # As it was asked for: written anew, %40 would be @, and %2E%2E another path.
        raise web.HTTPTemporaryRedirect(URL(f"{owner}{http.rel_url}", encoded=True), headers=NO_STORE)
    if not service.partitions.is_ready():
        raise Problem(503, f"not ready yet: {', '.join(lacking(service.partitions.readiness()))}")


def partition_named(http: web.Request, text: str) -> int:
    """Return the partition that a path names; a problem where there is none."""
    n = http.app[SERVICE].settings.partitions
    if text not in map(str, range(n)):
        raise Problem(404, f"there is no such partition; there are those from 0 to {n - 1}")
    return int(text)


async def admin_shard(http: web.Request, partition: int) -> Shard:
    """Return an owned shard, for what the admin port answers: where that is one of its own, none redirects.

    Raises
    ------
    Problem
        If the partition is not owned here, or is moving.
    """
    service = http.app[SERVICE]
    if service.settings.admin_port is not None and not service.partitions.owns(partition):
        raise Problem(404, f"partition {partition} is not owned here: ask the other workers")
    check_answered_here(http, partition)
    try:
        return await service.partitions.shard(partition)
    except OwnershipLost:
        raise Problem(503, f"partition {partition} is going to another worker; try again") from None
