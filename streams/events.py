"""The wire contract: one msgspec struct per topic, JSON on the wire.

Unknown fields are ignored and new fields carry defaults, so producers and workers may be upgraded
in any order. Ids are opaque strings of 1 to `MAX_ID_LENGTH` characters. Times are Unix milliseconds.

A decoder checks the shape of a value (types, required fields, bounds); rules that need more than the
value itself (the record's key, its broker time, the configured actions) live in `streams.decoding`.
"""

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import msgspec

UNDECODABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What a decoder raises of any bytes: no JSON, another shape, no UTF-8, nested too deep."""

MAX_ID_LENGTH = 512
MAX_DEPTH = 32
"""Of what a context nests: whoever writes it again must not be the one who runs out of stack."""
MAX_SLATE = 200  # as deep as retrieval goes
MAX_FRIENDS = 1_000

Id = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID_LENGTH)]
MAX_COUNT = 2**31 - 1
Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_COUNT)]
# 1973-03-03: anything smaller is a time in seconds. 2286-11-20: anything larger is in microseconds.
TimestampMs = Annotated[int, msgspec.Meta(ge=100_000_000_000, le=9_999_999_999_999)]
Boost = Annotated[float, msgspec.Meta(ge=-1e6, le=1e6)]
SlateSize = Annotated[int, msgspec.Meta(ge=1, le=MAX_SLATE)]


def check_depth(context: Any, levels: int = MAX_DEPTH) -> None:
    """Raise ValueError where lists and objects nest deeper than so many levels."""
    inside = [context]
    while inside:
        if levels < 0:
            raise ValueError(f"context must nest at most {MAX_DEPTH} deep")
        levels -= 1
        deeper: list[Any] = []
        for value in inside:
            if isinstance(value, dict):
                deeper += value.values()
            elif isinstance(value, list):
                deeper += value
        inside = [value for value in deeper if isinstance(value, dict | list)]


class Click(msgspec.Struct, frozen=True, gc=False):
    """`clicks`, keyed by user_id: one interaction of a user with an item."""

    event_id: Id
    user_id: Id
    item_id: Id
    action: str
    timestamp_ms: TimestampMs
    request_id: str | None = None
    position: Count | None = None
    dwell_ms: Annotated[float, msgspec.Meta(ge=0)] | None = None
    value: float | None = None
    context: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        """Refuse what nests too deep."""
        if self.context is not None:
            check_depth(self.context)


class Media(msgspec.Struct, frozen=True):
    """An image or a sound: its embedding, or its bytes for the configured ONNX encoder (never both)."""

    embedding: list[float] | None = None
    data: bytes | None = None  # base64 on the wire


class Content(msgspec.Struct, frozen=True):
    """`content`, keyed by item_id: an item as its publisher describes it. A null value deletes it."""

    item_id: Id
    title: str
    text: str | None = None
    attributes: dict[str, list[str]] = {}
    triples: list[tuple[Id, Id]] = []  # (relation, entity) edges beyond the attributes
    image: Media | None = None
    audio: Media | None = None
    available: bool = True
    published_ms: TimestampMs | None = None
    expires_ms: TimestampMs | None = None


class UserUpdate(msgspec.Struct, frozen=True):
    """`users`, keyed by user_id: what a user states. A null value erases the user.

    friends are the users whose likes this user may be shown: it says nothing of what they are shown.
    """

    user_id: Id
    attributes: dict[str, str] = {}
    preferences: list[Id] = []  # entities the user says they like
    blocked_items: list[Id] = []
    friends: Annotated[list[Id], msgspec.Meta(max_length=MAX_FRIENDS)] = []


class Request(msgspec.Struct, frozen=True):
    """`requests`, keyed by user_id: asks for a slate of k items.

    candidates restricts the slate to the named items; exclude takes items out; filters keeps the items
    whose attribute has one of the values, e.g. {"genre": ["Comedy", "Drama"]}.

    pinned items come first, in this order, and before those of the settings, whether the user has seen them
    or not; boosts are added to what the policy thinks of an item, in units of reward. Neither brings an item
    that is excluded, filtered out, blocked by the user or not available.
    Nothing is learned from the slate of a preview: it is made and published like any, but it is no
    impression, waits for no reward and is in no experiment.
    """

    request_id: Id
    user_id: Id
    timestamp_ms: TimestampMs
    k: SlateSize = 10
    context: dict[str, Any] | None = None
    candidates: list[Id] | None = None
    exclude: list[Id] = []
    filters: dict[str, list[str]] = {}
    pinned: Annotated[list[Id], msgspec.Meta(max_length=MAX_SLATE)] = []
    boosts: Annotated[dict[Id, Boost], msgspec.Meta(max_length=MAX_SLATE)] = {}
    preview: bool = False

    def __post_init__(self) -> None:
        """Refuse what nests too deep."""
        if self.context is not None:
            check_depth(self.context)


class Evidence(msgspec.Struct, frozen=True):
    """The item of a user's history that a signal ("covisits", "ease") owes most to, of those it sums over.

    share is that item's part of the sum: exact, as of when the record was made; above 1 where other items
    count against it.
    """

    signal: str
    item_id: str
    share: float


class SlateItem(msgspec.Struct, frozen=True):
    """One position of a slate.

    propensity is the probability that the logging policy put this item here, given the positions
    before it; 1 for a pinned item and for one on trial, which are placed before it chooses. score is the
    model's output, not a probability. evidence has at most one entry a signal, and none of a signal that adds
    nothing; `GET /v1/explanations/{user_id}/{item_id}` has the whole account. team is the variant that put
    the item here, where an experiment interleaves two.
    """

    item_id: str
    position: int
    score: float
    propensity: float
    reasons: list[str] = []
    evidence: list[Evidence] = []
    team: str | None = None


class Recommendation(msgspec.Struct, frozen=True):
    """`recommendations`, keyed by user_id: a slate as served.

    features is the policy's view of each position, shape (len(slate), feature_dim), row-major float32.
    propensity_kind is "exact" or "estimated". candidate_propensities has, for each policy configured as
    `candidate_policies`, the probability that it would have put the item at each position, given those before
    it: what off-policy evaluation needs to say what the candidate would earn.
    clicks_offset is the offset of the user's click partition up to which the slate had seen clicks.
    experiment and variant are those the user was exposed to by this slate; variant is None where two are
    interleaved, and policy then "interleaved".
    """

    request_id: str
    user_id: str
    slate: list[SlateItem]
    policy: str
    policy_version: int
    propensity_kind: str
    model_version: str
    features: bytes  # base64 on the wire
    feature_dim: int
    timestamp_ms: int
    latency_ms: float
    clicks_offset: int = -1
    context: dict[str, Any] | None = None
    candidate_propensities: dict[str, list[float]] = {}
    fallback: str | None = None  # why the slate is not the model's, e.g. "no_release"
    experiment: str | None = None
    variant: str | None = None


class Feedback(msgspec.Struct, frozen=True):
    """`feedback`, keyed by user_id: a slate with the reward of each position, once it has closed.

    correction tells that the slate has been fed back before, and an event has come since that counts: what
    is said here takes the place of all that was said of this request_id.
    """

    request_id: str
    user_id: str
    slate: list[SlateItem]
    rewards: list[float]
    actions: list[list[str]]
    policy: str
    policy_version: int
    propensity_kind: str
    model_version: str
    features: bytes
    feature_dim: int
    timestamp_ms: int
    closed_ms: int
    context: dict[str, Any] | None = None
    candidate_propensities: dict[str, list[float]] = {}
    correction: bool = False
    experiment: str | None = None
    variant: str | None = None


class DeadLetter(msgspec.Struct, frozen=True):
    """`dead-letters`, keyed as the source record: a record that could not be used, and why."""

    topic: str
    partition: int
    offset: int
    error: str
    reason: str
    value: bytes  # base64 on the wire, cut to DEAD_LETTER_BYTES
    timestamp_ms: int
    truncated: bool = False


DEAD_LETTER_BYTES = 262_144
DEAD_LETTER_REASONS = (
    "invalid", "timestamp", "future", "unknown_action", "null_value", "null_key", "media", "text",
    "too_large", "mapping",
)  # fmt: skip

Wire = TypeVar("Wire", bound=msgspec.Struct)


def _decoder(kind: type[Wire]) -> Callable[[bytes | str], Wire]:
    """Return a decoder to which a null in a field that has a default is the same as no such field.

    Many serializers write all the fields that they know. Within lists and objects a null stays a fault.
    """
    strict = msgspec.json.Decoder(kind).decode
    optional = {field.encode_name for field in msgspec.structs.fields(kind) if not field.required}

    def decode(value: bytes | str) -> Wire:
        try:
            return strict(value)
        except msgspec.ValidationError as error:
            if "got `null`" not in str(error):
                raise
            held = msgspec.json.decode(value)
            if not isinstance(held, dict):
                raise
            told = {name: one for name, one in held.items() if one is not None or name not in optional}
            if len(told) == len(held):
                raise
        return msgspec.convert(told, kind)

    return decode


encode = msgspec.json.Encoder().encode
decode_click = msgspec.json.Decoder(Click).decode  # all its optional fields may be null
decode_content = _decoder(Content)
decode_user = _decoder(UserUpdate)
decode_request = _decoder(Request)
decode_recommendation = msgspec.json.Decoder(Recommendation).decode
decode_feedback = msgspec.json.Decoder(Feedback).decode
decode_dead_letter = msgspec.json.Decoder(DeadLetter).decode
