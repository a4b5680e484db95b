"""Settings of the release that serves, and of how requests are answered."""

from datetime import UTC, tzinfo
from pathlib import Path
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, Field, field_validator, model_validator

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
    budget_attribute: Annotated[str, Field(min_length=1)] | None = Field(
        None,
        description="Attribute of an item whose value is its budget for a day, e.g. daily_budget: it is "
        "spent evenly over the day, and then the item is not offered until the next. Unset, none has one.",
    )
    budget_price_attribute: Annotated[str, Field(min_length=1)] | None = Field(
        None, description="Attribute whose value is what one slate or action costs; unset, each costs 1."
    )
    budget_spent_by: str | None = Field(
        None, description="Action on an item that spends of its budget; unset, each slate with the item does."
    )
    budget_time_zone: str = Field(
        "UTC", description="Where the day of budgets begins at midnight, e.g. Europe/Berlin."
    )
    read_your_writes_ms: Annotated[int, Field(ge=0, le=60_000)] = Field(
        1_000, description="How long a request may wait for its user's clicks acknowledged before it."
    )

    @property
    def budget_zone(self) -> tzinfo:
        """Time zone of `budget_time_zone`."""
        return _zone(self.budget_time_zone)

    @field_validator("budget_time_zone")
    @classmethod
    def _check_time_zone(cls, name: str) -> str:
        try:
            _zone(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(
                f"budget_time_zone must be a time zone that this machine knows, got {name!r}"
            ) from None
        return name

    @model_validator(mode="after")
    def _check_budgets(self) -> Self:
        for name in ("budget_price_attribute", "budget_spent_by"):
            if getattr(self, name) is not None and self.budget_attribute is None:
                raise ValueError(f"{name} is of budgets: set budget_attribute, too")
        return self


def _zone(name: str) -> tzinfo:
    return UTC if name == "UTC" else ZoneInfo(name)  # which needs files that not every machine has
