"""The stateful job of the comparison on Quix Streams: arguments are servers, input, output, group, state."""

import sys

from quixstreams import Application

KEPT, EVERY = 50, 10


def count(click, state):
    """Keep the user's last items and count them; say so at every tenth."""
    user = state.get("user") or {"count": 0, "items": []}
    user["count"] += 1
    user["items"] = [*user["items"], click["item_id"]][-KEPT:]
    state.set("user", user)
    if user["count"] % EVERY == 0:
        return {"user_id": click["user_id"], "events": user["count"]}
    return None


servers, source, target, group, folder = sys.argv[1:]
app = Application(
    broker_address=servers,
    consumer_group=group,
    auto_offset_reset="earliest",
    state_dir=folder,
    use_changelog_topics=True,
    processing_guarantee="at-least-once",
    auto_create_topics=True,
)
clicks = app.dataframe(app.topic(source, value_deserializer="json"))
told = clicks.apply(count, stateful=True)
told[told.apply(lambda value: value is not None)].to_topic(app.topic(target, value_serializer="json"))
app.run()
