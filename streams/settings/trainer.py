"""Settings of the trainer, and of how a new release is tried before it serves everybody."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field

from streams.settings.rules import Fraction, Positive


class TrainerSettings(BaseModel):
    """Triggers and gates of training, and trials of a release as a shadow or a canary."""

    trainer_every_events: Positive = Field(
        10_000, description="`slatestream trainer` trains after this many new clicks and rewarded slates."
    )
    trainer_every_minutes: Annotated[float, Field(gt=0)] = Field(
        60.0, description="It also trains after this many minutes, if there is any new data."
    )
    trainer_drift: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="It also trains when scores have drifted: when the population stability index between "
        "the latest 10,000 scores of the live release and its first reaches this; 0.25 is a good choice.",
    )
    trainer_held_out_hours: Annotated[float, Field(gt=0)] = Field(
        24.0,
        description="Latest hours of clicks, by event time, on which a new release is compared with the live "
        "one: never less than a fiftieth of them, nor more than a fifth.",
    )
    trainer_margin: Fraction = Field(
        0.1,
        description="Share of the live release's NDCG@10 that a new one may lose, with 95 % confidence, and "
        "be promoted nevertheless; one that is better on average loses nothing.",
    )
    trainer_refit_days: Annotated[float, Field(ge=0)] = Field(
        14.0,
        description="Days of feedback from which a new release's policy learns, in that release's features, "
        "before it serves: 0 lets it begin with what it was trained to think.",
    )
    trainer_recipe: Path | None = Field(
        None, description="TOML file as of `slatestream train --recipe`; the live release's sizes otherwise."
    )
    trainer_private_key: Path | None = Field(
        None, description="PEM file of the Ed25519 key that signs what is trained; see `release_public_keys`."
    )
    trainer_nice: Annotated[int, Field(ge=0, le=19)] = Field(
        15, description="Niceness of a training's process."
    )
    trainer_threads: Positive = Field(1, description="Threads of a training.")
    trainer_memory_mb: Positive | None = Field(
        None, description="Memory of a training, beyond which it ends and is tried again."
    )
    trainer_shadow: bool = Field(
        False,
        description="What passes the gates answers live requests as a shadow first, and serves nobody, "
        "before it is promoted or serves as a canary.",
    )
    trainer_canary: bool = Field(
        False, description="What passes the gates is not promoted at once, but serves as a canary first."
    )

    # Shadow
    shadow_share: Annotated[float, Field(gt=0.0, le=0.5)] = Field(
        0.2, description="Of the requests, which a shadow answers as well where there is room."
    )
    shadow_least_slates: Positive = Field(
        1_000, description="Closed slates of such requests before a shadow is decided on."
    )
    shadow_hours: Annotated[float, Field(gt=0)] = Field(
        6.0, description="Hours after which a shadow with fewer slates is rejected."
    )

    # Canary
    canary_share: Annotated[float, Field(gt=0.0, le=0.5)] = Field(
        0.05, description="Of the users, whom a release serves first as a canary."
    )
    canary_least_slates: Positive = Field(
        1_000, description="Closed slates of the canary and of the live release before it is decided."
    )
    canary_hours: Annotated[float, Field(gt=0)] = Field(
        24.0, description="Hours after which a canary is decided with the slates that there are."
    )
    canary_harm: Fraction = Field(
        0.05,
        description="Share of what a slate earns that a canary may surely not lose: then it is promoted.",
    )
