"""The agents of a worker: what takes the records of each input."""

from collections.abc import Awaitable, Callable
from functools import partial

from streams.kafka.placement import Placement
from streams.kafka.record_batch import RecordBatch
from streams.mapping.click_reader import reader_of
from streams.mapping.schemas import schemas_of
from streams.mapping.translate import Translator
from streams.worker.agents.clicks import ClickAgent
from streams.worker.agents.content import ContentAgent
from streams.worker.agents.deletions import Deletions
from streams.worker.agents.mapped import MappedAgent, ReadyAgent
from streams.worker.agents.requests import RequestAgent
from streams.worker.agents.users import UserAgent
from streams.worker.assembly import Parts

Agent = Callable[[RecordBatch], Awaitable[None]]


def make_agents(parts: Parts) -> dict[str, Agent]:
    """Return the agents of a worker by the name of the topic that they read."""
    settings, metrics, inputs, index = parts.settings, parts.metrics, parts.inputs, parts.shared.index
    shard, dead_letters, clicks = parts.partitions.shard, parts.dead_letters, reader_of(settings)
    placement, deletions = Placement(settings.partitions, metrics), Deletions(metrics)
    item_state = parts.topics["item-state"]
    agents: dict[str, Agent] = {
        "clicks": ClickAgent(
            settings, shard, index=index, serve=parts.server.serve_click, placement=placement,
            dead_letters=dead_letters, metrics=metrics, threads=parts.folding, read=clicks,
        ),
        "content": ContentAgent(
            parts.content, publisher=parts.outputs.items, item_state=item_state, writes=parts.outputs.owns,
            lost=parts.partitions.start_over, ends=partial(parts.ends.of, item_state),
            position=partial(parts.shared_topics.position, "item-state"), inputs=inputs, index=index,
            catalogue=parts.shared.catalogue, deletions=deletions, dead_letters=dead_letters, metrics=metrics,
        ),
        "users": UserAgent(
            shard, index=index, flush=parts.flusher.flush_shard, placement=placement, deletions=deletions,
            dead_letters=dead_letters, metrics=metrics,
        ),
        "requests": RequestAgent(
            settings, shard, server=parts.server, inputs=inputs, placement=placement,
            dead_letters=dead_letters, metrics=metrics,
        ),
    }  # fmt: skip
    if clicks is not None:
        agents["clicks"] = ReadyAgent(clicks.ready, agents["clicks"])
    for source in settings.sources:
        if not source.repartition and source.feeds != "clicks":
            translator = Translator(source, schemas=schemas_of(settings, source))
            agents[source.feeds] = MappedAgent(
                translator, agents[source.feeds], dead_letters=dead_letters, metrics=metrics
            )
    return agents
