"""Decides for a worker whether a request for a slate is parsed at all."""

from streams.api.door import Door
from streams.kafka.partitioner import partition_of
from streams.metrics import Metrics
from streams.serving.server import Server
from streams.settings import Settings
from streams.worker.partitions import Partitions


def slate_door(settings: Settings, partitions: Partitions, server: Server, metrics: Metrics) -> Door:
    """Return what refuses a request for a slate as its handler would, and counts it."""

    def has_room(user_id: str, inside: int) -> bool:
        # Who has to ask another worker is told so even when there is no room here.
        return server.has_room(inside) or not partitions.owns(partition_of(user_id, settings.partitions))

    def refused() -> None:
        metrics.count_events("requests", "refused")
        metrics.count_http("recommendations", 503, 0.0)

    return Door(has_room, refused)
