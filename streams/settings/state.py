"""Settings of events, of the state that is folded from them, and of its bounds."""

from typing import Annotated

from pydantic import BaseModel, Field

from model_core.signals.config import MAX_NEIGHBOURS, SignalConfig
from streams.settings.rules import Positive

DEFAULT_ACTIONS = {"view": 0.2, "click": 1.0, "like": 2.0, "purchase": 4.0, "dislike": -1.0}


class StateSettings(BaseModel):
    """Actions of events, the state kept of them, and its bounds."""

    # Events
    actions: dict[str, float] = Field(
        DEFAULT_ACTIONS, min_length=1, max_length=16, description="Action name -> reward weight."
    )
    seen_actions: tuple[str, ...] | None = Field(
        None, description="Actions after which an item is not recommended again; all when unset."
    )
    done_actions: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="Actions by which a user has done an item, of `prerequisites_attribute`; those of weight "
        "1 or more when unset.",
    )
    recommend_on: tuple[str, ...] = Field((), description="Actions that ask for a fresh slate by themselves.")
    max_future_ms: Annotated[int, Field(ge=0)] = Field(
        86_400_000, description="An event further than this ahead of its record's broker time is refused."
    )

    # State
    history_limit: Annotated[int, Field(ge=16, le=8192, multiple_of=16)] = Field(
        1024,
        description="Interactions kept per user, 15 more than are read: nothing, the seen filter included, "
        "reaches farther back. A release says how many it reads, and is refused where fewer are kept.",
    )
    covisit_neighbours: Annotated[int, Field(ge=1, le=MAX_NEIGHBOURS)] = Field(
        SignalConfig().neighbours,
        description="Neighbours kept per item and partition, where no release says how many.",
    )
    covisits_in_order: bool = Field(
        False,
        description="Count in co-visits which item came first: for items that are taken one soon after "
        "another, as news are. `slatestream train` reads it too, and says where it would rank better. Where "
        "no release says it.",
    )
    influence_per_hour: Annotated[int, Field(ge=0)] = Field(
        SignalConfig().influence_per_hour,
        description="Events of a user an hour that count in what users share (co-visits, popularity), an "
        "item once; 0 bounds nothing. Others are in the user's own history only. Where no release says it.",
    )
    surge_bound: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        SignalConfig().surge_bound,
        description="Recent likes of an item count up to this many times its earlier pace; 0 means no limit. "
        "A release that sets the limit overrides this.",
    )
    learned_slates_per_hour: Annotated[int, Field(ge=0, le=65_535)] = Field(
        100,
        description="Slates of a user's hour that policies learn from, by requests' times; of more they "
        "learn nothing, as of previews; 0 bounds nothing.",
    )
    quarantine_at: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        None,
        description="Suspicion at which a user is put into quarantine, see deploy/trust.md; unset, nobody is "
        "by itself.",
    )
    quarantine_days: Annotated[float, Field(gt=0, le=36_500)] | None = Field(
        None,
        description="Days after which a quarantine ends by itself; unset, it lasts until it is released.",
    )
    affinity_half_life_ms: Positive = Field(
        SignalConfig().affinity_half_life_ms,
        description="Decay of user-entity affinity, where no release says how fast.",
    )
    flush_interval_ms: Positive = Field(1_000, description="How often dirty rows go to the changelogs.")
    shared_flush_interval_ms: Positive = Field(
        5_000, description="The same for item statistics; up to three times as long while clicks change many."
    )

    # Bounds
    max_undescribed_items: Positive = Field(
        200_000,
        description="Items of a worker that were clicked or blocked and that nobody has described, or that "
        "were deleted. Beyond, those longest without a click make room once no user's history has them; "
        "clicks on items that find none are refused and counted. More than the items of the catalogue where "
        "clicks are read before content.",
    )
    undescribed_ttl_days: Annotated[float, Field(gt=0)] = Field(
        30.0,
        description="How long such an item is known after its last click, or longer while a user's history "
        "has it.",
    )

    max_users: Positive = Field(
        1_000_000,
        description="Users kept per partition: beyond, the longest idle are forgotten, and begin anew when "
        "they come back.",
    )
    user_ttl_days: Annotated[float, Field(gt=0)] | None = Field(
        365.0,
        description="How long a user is known after the last event, by event time; unset, for ever.",
    )
    erasure_ttl_days: Annotated[float, Field(gt=0)] = Field(
        100.0,
        description="How long the mark of an erased user is kept, so that old clicks that are read again do "
        "not bring the user back. Set it longer than the retention of `clicks`, 90 days.",
    )
    erase_share_hours: Annotated[float, Field(gt=0)] = Field(
        24.0,
        description="Hours after an erasure in which what the user taught is out of what policies have "
        "learned, too. What slates taught that can still be rewarded, and the user's share of items' "
        "statistics, are out at once.",
    )
    answered_requests: Positive = Field(
        200_000, description="Ids of answered requests remembered per partition, to answer none twice."
    )

    @property
    def actions_done(self) -> tuple[str, ...]:
        """Actions by which an item is done."""
        return self.positive_actions if self.done_actions is None else self.done_actions

    @property
    def positive_actions(self) -> tuple[str, ...]:
        """Actions that count as a response: those of weight 1 or more."""
        return tuple(name for name, weight in self.actions.items() if weight >= 1.0)
