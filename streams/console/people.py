"""What a user would be shown now, and why: for the user's page."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from streams.events import Explanation, Request
from streams.serving.explainer import Explainer, ExplanationError
from streams.serving.previews import Preview, Previews
from streams.state.shard import Shard
from streams.state.shared import SharedState


@dataclass(frozen=True, slots=True)
class Choice:
    """What a user would be shown, by every policy, the serving one first, and why one item of it."""

    slates: Sequence[Preview]
    titles: dict[str, str]
    explained: Explanation | None
    unexplained: str = ""


async def choose_for(
    previews: Previews,
    explainer: Explainer,
    shared: SharedState,
    shard: Shard,
    user_id: str,
    *,
    k: int,
    why: str,
) -> Choice:
    """Return what the user would be shown now, without showing it.

    Parameters
    ----------
    why : id of the item to explain; "" for the first of the slate
    """
    # The hour, and not the moment, is in the id: looked at again, the coins of a policy fall the same way.
    request_id = f"console {int(time.time()) // 3600} {user_id}"
    request = Request(request_id=request_id, user_id=user_id, timestamp_ms=int(1000 * time.time()), k=k)
    slates = await previews.of(request, shard)
    ids = {item.item_id for slate in slates for item in slate.slate}
    rows = {item_id: shared.index.row_of(item_id) for item_id in ids}
    titles = {item_id: shared.catalogue.title(row) for item_id, row in rows.items()}
    item_id = why or next((item.item_id for item in slates[0].slate), "")
    if not item_id:
        return Choice(slates, titles, None, "there is no item to explain")
    try:
        return Choice(slates, titles, await explainer.explain(user_id, item_id, shard.partition))
    except ExplanationError as error:
        return Choice(slates, titles, None, str(error))
