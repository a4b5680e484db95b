"""The stateful job of the comparison on Faust: arguments are servers, input, output, group, state."""

import sys
from pathlib import Path

import faust

KEPT, EVERY = 50, 10

servers, source, target, group, folder = sys.argv[1:]
app = faust.App(
    group,
    broker=f"kafka://{servers}",
    store="memory://",
    datadir=Path(folder),
    topic_partitions=4,
    topic_disable_leader=True,
    topic_allow_declare=True,
    consumer_auto_offset_reset="earliest",
    stream_wait_empty=False,
    web_enabled=False,
    processing_guarantee="at_least_once",
)
clicks = app.topic(source, key_type=str, key_serializer="raw", value_serializer="json")
told = app.topic(target, value_serializer="json")
users = app.Table("users", partitions=4)


@app.agent(clicks)
async def count(stream):
    """Keep each user's last items and count them; say so at every tenth."""
    async for click in stream:
        user_id = click["user_id"]
        user = users.get(user_id) or {"count": 0, "items": []}
        user = {"count": user["count"] + 1, "items": [*user["items"], click["item_id"]][-KEPT:]}
        users[user_id] = user
        if user["count"] % EVERY == 0:
            await told.send(key=user_id, value={"user_id": user_id, "events": user["count"]})


faust.Worker(app, loglevel="WARNING").execute_from_commandline()
