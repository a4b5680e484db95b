"""Events of the canary: a user of its own on each partition, an item of its own, and requests for previews.

Users and item are in the state like any, so the whole way is tried. What others get does not change. The item
is described by nobody, so it is in no slate, and a user who met nothing else pairs it with nothing. The slate
is a preview (`Request`), so it is no impression, has no reward and is in no experiment.
"""

import uuid

from streams.errors import SlatestreamError
from streams.events import Click, Request
from streams.kafka.partitioner import partition_of
from streams.kafka.topics import fed_directly
from streams.settings import Settings

NAME = "slatestream-canary"
"""Id of the item, and what the users' ids begin with."""


def probe_users(partitions: int) -> list[str]:
    """Return ids of users, one for each partition, in its order."""
    users: dict[int, str] = {}
    number = 0
    while len(users) < partitions:
        user_id = f"{NAME}-{number}"
        users.setdefault(partition_of(user_id, partitions), user_id)
        number += 1
    return [users[partition] for partition in range(partitions)]


def probe_action(settings: Settings) -> str:
    """Return the action that weighs least of those that ask for no slate by themselves.

    Raises
    ------
    SlatestreamError
        If all of them do, or clicks are read from another topic than `clicks`.
    """
    if topic := fed_directly(settings).get("clicks"):
        raise SlatestreamError(f"canary: clicks are read from {topic}, which only its own producers write to")
    quiet = {name: weight for name, weight in settings.actions.items() if name not in settings.recommend_on}
    if not quiet:
        raise SlatestreamError("canary: needs an action that is not in `recommend_on`")
    return min(quiet, key=lambda name: abs(quiet[name]))


def probe_click(user_id: str, action: str, *, timestamp_ms: int) -> Click:
    """Return a click of a probe user."""
    return Click(
        event_id=f"{NAME}-{uuid.uuid4().hex}",
        user_id=user_id,
        item_id=NAME,
        action=action,
        timestamp_ms=timestamp_ms,
    )


def probe_request(user_id: str, *, timestamp_ms: int, k: int) -> Request:
    """Return a request of a probe user."""
    return Request(
        request_id=f"{NAME}-{uuid.uuid4().hex}",
        user_id=user_id,
        timestamp_ms=timestamp_ms,
        k=k,
        preview=True,
    )
