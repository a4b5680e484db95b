"""Settings of the release that serves, and of how requests are answered."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from streams.events import MAX_SLATE
from streams.settings.rules import Positive


class ServingSettings(BaseModel):
    """The release and its encoders, and how many requests are answered at a time."""

    release: Path | None = Field(None, description="Release folder; popularity and co-visits without one.")
    release_store: str | None = Field(
        None,
        min_length=1,
        description="Folder or fsspec URL (s3://...) of releases: a worker serves the one that was promoted "
        "last (`slatestream release promote`). A `release` that is set is served instead.",
    )
    release_public_keys: Path | None = Field(
        None,
        description="PEM file of Ed25519 keys: a release that none of them has signed is refused; unset, it "
        "need not be signed.",
    )
    text_encoder: str = Field(
        "minilm", description="'minilm', a Hugging Face name or a folder; 'none' keeps no text vectors."
    )
    image_encoder: Path | None = Field(None, description="ONNX file: bytes' pixels -> embedding.")
    audio_encoder: Path | None = None
    require_gpu: bool = Field(False, description="Refuse to start without the CUDA provider.")
    inference_threads: Positive = 1
    k_default: Annotated[int, Field(ge=1, le=MAX_SLATE)] = 10
    max_batch: Annotated[int, Field(ge=1, le=1024)] = 32
    max_in_flight: Positive = Field(
        256, description="Requests that are answered at a time; `when_overloaded` decides about further ones."
    )
    max_in_flight_bytes: Positive = Field(64 * 1024 * 1024, description="The same by their size.")
    max_queue_ms: Positive = Field(
        500,
        description="The same by the time that it takes to answer them, as long as the last batches took; a "
        "fifth of it once so many have been there for half a second.",
    )
    when_overloaded: Literal["refuse", "fallback"] = Field(
        "refuse",
        description="What to do with a request without room. refuse: on Kafka it waits in its topic, "
        "over HTTP it gets 503. fallback: it gets popular items (fallback 'overloaded').",
    )
    max_request_age_ms: Positive | None = Field(
        None,
        description="A request that has waited in its topic for longer is answered from a list of popular "
        "items (fallback 'overloaded'), so that what comes after it waits little longer; unset, each has a "
        "slate of the model, however late.",
    )
    prerequisites_attribute: Annotated[str, Field(min_length=1)] | None = Field(
        None,
        description="Attribute of an item whose values are the ids of items that come first, e.g. requires: "
        "a user is offered the item once they have done all of them (`done_actions`). Unset, no item waits.",
    )
    read_your_writes_ms: Annotated[int, Field(ge=0, le=60_000)] = Field(
        1_000, description="How long a request may wait for its user's clicks acknowledged before it."
    )
