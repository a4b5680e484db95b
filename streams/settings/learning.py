"""Settings of policies: which one serves, how it explores, and what it learns from."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, field_validator, model_validator

from online_learning.policies.options import EpsilonOptions, SoftmaxOptions, ThompsonOptions
from online_learning.types import PRIOR_PRECISION
from streams.events import MAX_FRIENDS, MAX_SLATE
from streams.settings.rules import Fraction, Positive


class LearningSettings(BaseModel):
    """The policies, their options, and how slates are rewarded."""

    policy: str = Field(
        "thompson",
        description="Chooses the slates: thompson, thompson-disjoint, thompson-logistic, linucb, "
        "linucb-disjoint, linucb-hybrid, softmax, diverse-softmax, epsilon-greedy, greedy, random, "
        "popularity or rl. The disjoint and hybrid ones keep a model per item shown.",
    )
    apprentice: bool = Field(
        False,
        description="Let `incumbent` serve, and `policy` only learn; with it in `candidate_policies`, "
        "`slatestream ope` says what it would earn.",
    )
    incumbent: str = Field(
        "greedy",
        description="Serves in apprentice mode by the release's own probabilities, as name or "
        "name:option=value,...: greedy takes the most probable items, softmax also explores.",
    )
    policy_release: Path | None = Field(
        None,
        description="Of rl, live, as a candidate or in an experiment: the folder written by "
        "`train --task policy` on slates of `release`.",
    )
    temperature: Annotated[float, Field(gt=0)] = Field(
        SoftmaxOptions().temperature, description="Of the softmax policies."
    )
    diversity: Annotated[float, Field(ge=0)] = Field(
        0.0, description="Of diverse-softmax: utility lost by an item that is just like one before it."
    )
    group_relation: str | None = Field(
        None, description="Of diverse-softmax: the attribute whose values `group_cap` is about, e.g. genre."
    )
    group_cap: Positive = Field(2, description="Most items of one such value in a slate.")
    fresh_share: Fraction = Field(
        0.0, description="Of diverse-softmax: share of positions kept for fresh items among the candidates."
    )
    fresh_candidates: Annotated[int, Field(ge=0, le=MAX_SLATE)] = Field(
        20, description="Fresh items, drawn anew for each request, that are candidates whatever their score."
    )
    trial_share: Fraction = Field(
        0.02,
        description="Share of positions for new items that hardly anybody has responded to, whatever the "
        "policy: one in the lower half of a slate at most.",
    )
    trial_likes: Positive = Field(
        10, description="Positive events after which an item is ranked like any other, and tried no more."
    )
    pinned: Annotated[tuple[str, ...], Field(max_length=MAX_SLATE)] = Field(
        (), description="Items at the top of every slate, after a request's own: see `Request.pinned`."
    )
    boosts: Annotated[dict[str, Annotated[float, Field(ge=-1e6, le=1e6)]], Field(max_length=MAX_SLATE)] = (
        Field({}, description="Item -> what is added to its utility, in units of reward.")
    )
    friends_boost: Annotated[float, Field(ge=0, le=1e6)] = Field(
        0.0,
        description="What the likes of a user's friends (`friends` in `users`) add to an item's utility at "
        "most, in units of reward: half of it where one liked it, three quarters where two did. 0: they add "
        "nothing, and no likes are kept for friends.",
    )
    friends_at_least: Annotated[int, Field(ge=1, le=MAX_FRIENDS)] = Field(
        2, description="Friends who must have liked an item before it is shown for that."
    )
    friends_days: Annotated[float, Field(gt=0, le=36_500)] = Field(
        7.0, description="How long friends' likes say something, by event time; of each, the last 8 likes do."
    )
    fresh_ms: Positive = Field(
        7 * 86_400_000,
        description="How long after published_ms an item is fresh; without one, how long after it was first "
        "described it may be on trial.",
    )
    exploration: Annotated[float, Field(ge=0)] = Field(
        ThompsonOptions().exploration, description="Posterior scale of Thompson and LinUCB."
    )
    epsilon: Fraction = Field(
        EpsilonOptions().epsilon, description="Share of positions that epsilon-greedy fills at random."
    )
    prior_precision: Annotated[float, Field(gt=0)] = Field(
        PRIOR_PRECISION,
        description="Trust in the release's probabilities against the rewards seen, relative to their size.",
    )
    candidate_policies: tuple[str, ...] = Field(
        (),
        max_length=16,
        description="Policies to be evaluated and not served, each as name or name:option=value,..., such as "
        "softmax:temperature=0.05 or greedy: `slatestream ope` says what they would earn.",
    )
    propensity_samples: Positive = Field(
        ThompsonOptions().propensity_samples, description="Monte Carlo samples of Thompson's propensities."
    )
    reward_half_life_ms: Positive | None = Field(
        None, description="Age at which the policy trusts a slate half as much; unset, it forgets nothing."
    )
    position_bias: Annotated[float, Field(ge=0, le=4)] | Literal["learned"] = Field(
        0.0,
        description="A number b: position p is taken to be looked at (p + 1) ** -b as often as the first. "
        "'learned': as often as the closed slates say.",
    )
    click_model: Literal["position", "cascade"] = Field(
        "position",
        description="What of a slate counts as looked at: each position as `position_bias` says, or all down "
        "to the last one responded to.",
    )
    learn_from: Literal["response", "reward"] = Field(
        "response",
        description="What the policy predicts: whether an item is responded to (by an action of weight 1 or "
        "more), or the sum of the weights of all actions. When it changes, learning begins anew.",
    )
    dwell_half_ms: dict[str, Annotated[float, Field(gt=0)]] = Field(
        {}, description="Action -> dwell_ms that earns half its weight: dwell / (dwell + half) of it."
    )
    learn_online: bool = Field(
        True,
        description="False: policies know what their release begins with, and learn nothing of slates while "
        "they serve; see `slatestream teach`.",
    )
    attribution_window_ms: Positive = Field(
        30 * 60_000, description="How long after a slate its items are rewarded, by event time."
    )
    attribution_windows_ms: dict[str, Positive] = Field(
        {}, description="Action -> a window of its own; what comes after the slate's corrects its feedback."
    )
    allowed_lateness_ms: Annotated[int, Field(ge=0)] = Field(
        0, description="How much later than the watermark an event may come and correct a slate's feedback."
    )
    pending_slates_bytes: Positive = Field(
        128 * 1024**2,
        description="Most memory of a partition's slates that can still be rewarded (about 10 kB each): "
        "beyond, the oldest are given up without feedback and counted.",
    )
    seed: int = 0

    @field_validator("policy")
    @classmethod
    def _check_policy(cls, name: str) -> str:
        from online_learning.policies.registry import find  # with its compiled kernels: not to read settings

        if not find(name).served:
            raise ValueError(f"policy must not be {name!r}, which no worker serves")
        return name

    @model_validator(mode="after")
    def _check_learnable(self) -> Self:
        from online_learning.policies.registry import find

        learns_from = find(self.policy).learns_from
        if (learns_from is None or learns_from.kind == "logistic") and self.learn_from != "response":
            raise ValueError(
                f"learn_from must be 'response' for policy {self.policy!r}, got {self.learn_from!r}"
            )
        if learns_from is not None and learns_from.kind == "logistic" and self.click_model != "position":
            raise ValueError(
                f"click_model must be 'position' for policy {self.policy!r}, got {self.click_model!r}"
            )
        if self.click_model == "cascade" and self.position_bias != 0.0:
            raise ValueError(f"position_bias must be 0 for click_model 'cascade', got {self.position_bias!r}")
        return self
