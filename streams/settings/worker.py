"""Configuration: one place for every setting, read from the environment or a TOML file.

`SLATESTREAM_K_DEFAULT=20` or `k_default = 20` in the file given with `--config`; the environment wins.
"""

import logging
import os
import tomllib
from contextvars import ContextVar
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AliasChoices,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from model_core.signals.config import MAX_NEIGHBOURS, SignalConfig
from online_learning.policies.options import EpsilonOptions, SoftmaxOptions, ThompsonOptions
from online_learning.types import PRIOR_PRECISION
from streams.errors import ConfigurationError
from streams.events import MAX_SLATE
from streams.settings.faults import explain, explain_no_json, unknown_variables
from streams.settings.sources import (
    REGISTERED,
    FieldSource,
    Source,
    load_sources,
    registry_address,
    with_registry,
)
from streams.settings.tokens import TokenSettings

log = logging.getLogger("slatestream")

ENV_PREFIX = "SLATESTREAM_"

DEFAULT_ACTIONS = {"view": 0.2, "click": 1.0, "like": 2.0, "purchase": 4.0, "dislike": -1.0}

Positive = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class Settings(BaseSettings):
    """Every setting of slatestream with its default and its rule."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, extra="forbid", frozen=True, allow_inf_nan=False)

    # Kafka
    bootstrap_servers: str = Field(
        "127.0.0.1:9092",
        min_length=1,
        validation_alias=AliasChoices(
            "bootstrap_servers", f"{ENV_PREFIX}BOOTSTRAP_SERVERS", "KAFKA_BOOTSTRAP_SERVERS"
        ),
        description="Comma-separated host:port of the brokers (KAFKA_BOOTSTRAP_SERVERS works too).",
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] = "PLAIN"
    sasl_username: str | None = None
    sasl_password: SecretStr | None = None
    sasl_token_file: Path | None = Field(
        None,
        description="For OAUTHBEARER: the file with the token. It is read at each connection, so to renew "
        "the token write the file again.",
    )
    ssl_cafile: Path | None = Field(None, description="CA bundle; the system's when unset.")
    ssl_certificate: Path | None = Field(
        None, description="PEM file of the client certificate, where brokers ask for one."
    )
    ssl_key: Path | None = Field(None, description="PEM file of its key, without a password.")
    group_id: str = Field("slatestream", min_length=1, pattern=r"^[A-Za-z0-9._-]+$")
    topic_prefix: str = Field("", pattern=r"^[A-Za-z0-9._-]*$", description="Put before every topic.")
    partitions: Positive = Field(4, description="Partitions of every user-keyed topic (co-partitioned).")
    replication_factor: Positive = 1
    session_timeout_ms: Annotated[int, Field(ge=1_000)] = 10_000
    connect_timeout_ms: Annotated[int, Field(ge=0)] = Field(
        60_000,
        description="How long a worker waits at its start for a broker that nobody is at, before it ends.",
    )
    instance_id: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        None,
        description="Name of this worker in its group, its own and the same after each start, e.g. that of "
        "its pod: one that comes back then has its partitions as they were. Others wait `session_timeout_ms` "
        "for what it held, also after a stop. Two of one name take it from each other in turn.",
    )

    mapping: Path | None = Field(
        None,
        description="File that says which of your own topics feed the inputs, and how: `slatestream map`.",
    )
    registry: str | None = Field(
        None, description="Schema registry of mapped topics in Avro or Protobuf, where their file names none."
    )
    registry_username: str | None = None
    registry_password: SecretStr | None = None

    # Events
    actions: dict[str, float] = Field(
        DEFAULT_ACTIONS, min_length=1, max_length=16, description="Action name -> reward weight."
    )
    seen_actions: tuple[str, ...] | None = Field(
        None, description="Actions after which an item is not recommended again; all when unset."
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
    answered_requests: Positive = Field(
        200_000, description="Ids of answered requests remembered per partition, to answer none twice."
    )

    # Model and serving
    release: Path | None = Field(None, description="Release folder; popularity and co-visits without one.")
    release_store: str | None = Field(
        None,
        min_length=1,
        description="Folder or fsspec URL (s3://...) of releases: a worker serves the one that was promoted "
        "last (`slatestream release promote`). A `release` that is set is served instead.",
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
    read_your_writes_ms: Annotated[int, Field(ge=0, le=60_000)] = Field(
        1_000, description="How long a request may wait for its user's clicks acknowledged before it."
    )

    # Learning
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
    pinned: Annotated[tuple[str, ...], Field(max_length=MAX_SLATE)] = Field(
        (), description="Items at the top of every slate, after a request's own: see `Request.pinned`."
    )
    boosts: Annotated[dict[str, Annotated[float, Field(ge=-1e6, le=1e6)]], Field(max_length=MAX_SLATE)] = (
        Field({}, description="Item -> what is added to its utility, in units of reward.")
    )
    fresh_ms: Positive = Field(7 * 86_400_000, description="How long after published_ms an item is fresh.")
    exploration: Annotated[float, Field(ge=0)] = Field(
        ThompsonOptions().exploration, description="Posterior scale of Thompson and LinUCB."
    )
    epsilon: Fraction = Field(
        EpsilonOptions().epsilon, description="Share of positions that epsilon-greedy fills at random."
    )
    prior_precision: Annotated[float, Field(gt=0)] = Field(
        PRIOR_PRECISION, description="Trust in the release's own probabilities before the first click."
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

    # Trainer
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
    trainer_nice: Annotated[int, Field(ge=0, le=19)] = Field(
        15, description="How far a training stands back for other processes of its machine."
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
        6.0, description="After which a shadow is rejected that has had too few."
    )

    # Canary
    canary_share: Annotated[float, Field(gt=0.0, le=0.5)] = Field(
        0.05, description="Of the users, whom a release serves first as a canary."
    )
    canary_least_slates: Positive = Field(
        1_000, description="Closed slates of the canary and of the live release before it is decided."
    )
    canary_hours: Annotated[float, Field(gt=0)] = Field(
        24.0, description="After which a canary is decided, whatever is known."
    )
    canary_harm: Fraction = Field(
        0.05,
        description="Share of what a slate earns that a canary may surely not lose: then it is promoted.",
    )

    # HTTP
    http_host: str = "127.0.0.1"
    http_port: Annotated[int, Field(ge=0, le=65535)] = 6066
    advertised_url: str | None = Field(
        None,
        pattern=r"^https?://[^/\s]+$",
        description="How other workers' clients reach this one: a URL without a path.",
    )
    admin_port: Annotated[int, Field(ge=0, le=65535)] | None = Field(
        None, description="Port of /metrics and /v1/digest; unset, they are on http_port."
    )
    admin_host: str = Field("127.0.0.1", description="Where that port is bound.")
    console_port: Annotated[int, Field(ge=0, le=65535)] | None = Field(
        None, description="Port of the console, on 127.0.0.1 only; 0 takes a free one; unset, there is none."
    )
    console_names: tuple[str, ...] = Field(
        (), description="Host names under which a proxy on this machine shows the console."
    )
    http_tokens: dict[str, TokenSettings] = Field(
        {},
        description="Name -> sha256 of a bearer token in hex, its scopes (recommend, explain, admin) and "
        "perhaps when it expires. Without any token everybody may ask; with one, nobody without.",
    )
    http_tokens_file: Path | None = Field(
        None, description="The same as a TOML file, a table a token; it is read again when it changes."
    )
    http_tls_certificate: Path | None = Field(
        None, description="PEM file of the certificate and what it is signed by: HTTPS instead of HTTP."
    )
    http_tls_key: Path | None = Field(None, description="PEM file of its key, without a password.")
    http_cors_origins: tuple[str, ...] = Field(
        (), description="Origins whose pages may read answers, e.g. https://shop.example; '*' is every one."
    )
    http_rate_per_s: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="Requests a second of one token, or of one address where none is asked for; unset, as "
        "many as come.",
    )
    http_rate_burst: Positive = Field(20, description="How many of them may come at once.")
    http_max_connections: Positive = Field(
        2_000, description="Connections at a time; beyond, the one that is idle for longest is closed."
    )
    http_idle_s: Annotated[float, Field(gt=0)] = Field(
        90.0,
        description="How long a connection may be idle, or be at sending the headers of a request.",
    )
    http_max_body_bytes: Positive = Field(1024 * 1024, description="Of a request; more is refused (413).")

    @field_validator("*", mode="before")
    @classmethod
    def _check_not_blank(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse what is given and says nothing: a path would be the folder here, an address any address."""
        if isinstance(value, str) and not value.strip() and info.field_name != "topic_prefix":
            raise ValueError("must not be empty: leave it out instead")
        return value

    @field_validator("advertised_url")
    @classmethod
    def _check_advertised_url(cls, url: str | None) -> str | None:
        if url is not None and urlsplit(url).hostname in ("0.0.0.0", "::"):
            raise ValueError(f"advertised_url must be an address that others reach, got {url!r}")
        return url

    @field_validator("policy")
    @classmethod
    def _check_policy(cls, name: str) -> str:
        from online_learning.policies.registry import find  # with its compiled kernels: not to read settings

        if not find(name).served:
            raise ValueError(f"policy must not be {name!r}, which no worker serves")
        return name

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        for name in ("seen_actions", "recommend_on", "dwell_half_ms", "attribution_windows_ms"):
            unknown = set(getattr(self, name) or ()) - self.actions.keys()
            if unknown:
                raise ValueError(f"{name} names {sorted(unknown)}, which `actions` does not define")
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
        if (self.http_tls_certificate is None) != (self.http_tls_key is None):
            raise ValueError("http_tls_certificate and http_tls_key must be given together")
        self._check_kafka_credentials()
        self._check_mapped_actions()
        self._check_registry()
        return self

    def _check_kafka_credentials(self) -> None:
        if (self.ssl_certificate is None) != (self.ssl_key is None):
            raise ValueError("ssl_certificate and ssl_key must be given together")
        if not self.security_protocol.startswith("SASL"):
            return
        if self.sasl_mechanism == "OAUTHBEARER":
            if self.sasl_token_file is None:
                raise ValueError("sasl_mechanism=OAUTHBEARER needs sasl_token_file")
        elif not (self.sasl_username and self.sasl_password):
            raise ValueError(
                f"security_protocol={self.security_protocol} needs sasl_username and sasl_password"
            )

    def _check_registry(self) -> None:
        if self.registry is not None:
            registry_address(self.registry)
        if (self.registry_username is None) != (self.registry_password is None):
            raise ValueError("registry_username and registry_password must be given together")
        for source in self.sources:
            for kind in (source.format, source.key_format):
                if kind in REGISTERED and source.registry is None:
                    raise ValueError(
                        f"mapping: source {source.topic} is {kind}, so it needs the address of the schema "
                        'registry: registry = "http://..." in the mapping file, or the setting registry'
                    )

    def _check_mapped_actions(self) -> None:
        for source in self.sources:
            action = source.fields.get("action")
            if source.feeds != "clicks" or not isinstance(action, FieldSource):
                continue
            named = {action.constant, action.default, *(action.values or {}).values()} - {None}
            if unknown := named - self.actions.keys():
                raise ValueError(
                    f"mapping: source {source.topic} makes the actions {sorted(map(str, unknown))}, which "
                    "`actions` does not define"
                )

    @cached_property
    def sources(self) -> tuple[Source, ...]:
        """The topics of `mapping`: none without one."""
        found = () if self.mapping is None else load_sources(self.mapping)
        return tuple(with_registry(source, self.registry) for source in found)

    @property
    def positive_actions(self) -> tuple[str, ...]:
        """Actions that count as a response: those of weight 1 or more."""
        return tuple(name for name, weight in self.actions.items() if weight >= 1.0)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Explicit values first, then the environment, then the TOML file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, _config_file.get())


# Only while settings are loaded: those that are made by themselves have no file.
_config_file: ContextVar[Path | None] = ContextVar("_config_file", default=None)


def load_settings(config: Path | None = None, **overrides: Any) -> Settings:
    """Read the settings; `overrides` that are None are ignored.

    Variables of the environment that begin like settings and are none are warned of.

    Raises
    ------
    ConfigurationError
        Naming each setting at fault, its value and the rule it breaks.
    """
    _check_readable(config)
    for name, meant in unknown_variables(os.environ, ENV_PREFIX, Settings.model_fields).items():
        log.warning("%s is no setting%s", name, f": did you mean {meant}?" if meant else "")
    token = _config_file.set(config)
    try:
        return Settings(**{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as error:
        raise ConfigurationError(explain(error, Settings.model_fields)) from None
    except SettingsError as error:  # a variable that must be JSON and is not
        raise ConfigurationError(explain_no_json(error, ENV_PREFIX, Settings.model_fields)) from None
    finally:
        _config_file.reset(token)


def _check_readable(config: Path | None) -> None:
    if config is None:
        return
    if not config.is_file():
        raise ConfigurationError(f"--config {config}: {'a folder' if config.is_dir() else 'no such file'}")
    try:
        tomllib.loads(config.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"--config {config}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigurationError(f"--config {config}: no TOML: {error}") from None
