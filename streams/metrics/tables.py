"""The label values and buckets of a worker's metrics: what there is to count, and how finely."""

from online_learning.attribution.pending_slates import Outcome
from online_learning.policies import registry as policies

_READ = ("accepted", "dead_letter", "left_out")
EVENTS = {
    "clicks": (*_READ, "duplicate", "replayed", "refused"),
    "content": (*_READ, "tombstone", "unknown"),
    "users": (*_READ, "tombstone", "unknown"),
    "requests": (*_READ, "duplicate", "refused"),
    "recommendations": ("published",),
    "feedback": ("published",),
    "item-state": ("accepted", "unreadable"),
    "user-state": ("published",),
    "policy-state": ("published", "unreadable"),
}
"""What becomes of records, by topic."""

INPUTS = ("clicks", "content", "users", "requests")
PRODUCED = (
    *INPUTS, "recommendations", "feedback", "dead-letters", "item-state", "user-state", "policy-state",
    "model-releases", "experiments",
)  # fmt: skip
"""Topics of ours that a worker may write to; inputs where it repartitions what they are fed by."""

KEYED_BY_USER = ("clicks", "users", "requests")  # where a record's key is held against its user_id
NEVER_OFFERED = ("unknown", "circle", "behind")
"""Why an item can be offered to nobody: see `streams.state.prerequisites.Why`."""
RECLAIMED = ("items", "users", "erasures", "arms")
RESTORED = ("user-state", "policy-state", "recommendations", "clicks")

CANARY_OUTCOMES = ("promoted", "rolled_back")
SHADOW_OUTCOMES = ("answered", "skipped", "error")
FALLBACKS = ("none", "no_release", "no_candidates", "all_seen", "overloaded", "other")
BUDGET_STATES = ("open", "paced", "spent", "bad")
"""How an item's budget stands: see `streams.state.budgets.State`."""
REWARD_OUTCOMES = tuple(outcome.value for outcome in Outcome)
POLICIES = (*policies.REGISTRY, "apprentice", "interleaved", "none", "other")
POSITIONS = 20  # told apart; later ones are counted as the last
SCORE_BANDS = (0.001, 0.003, 0.01, 0.03, 0.06, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Upper ends of the bands of scores that are told apart."""
_GUARD = (401, 403, 429)
ROUTES = {
    "recommendations": (200, 307, 400, *_GUARD, 408, 409, 413, 415, 500, 503),
    "explanations": (200, 307, 400, *_GUARD, 404, 500, 503),
    "users": (200, 307, 400, *_GUARD, 404, 500, 503),
    "items": (200, 400, *_GUARD, 404, 500),
    "lists": (200, 400, *_GUARD, 404, 500),
    "lists/similar": (200, 400, *_GUARD, 404, 500),
    "release": (200, 400, *_GUARD, 404, 500),
    "digest": (200, *_GUARD, 500),
    "state": (200, 307, 400, *_GUARD, 404, 500, 503),
    "quarantined": (200, 307, 400, *_GUARD, 404, 500, 503),
    "quarantine": (200, 307, 400, *_GUARD, 404, 408, 409, 413, 415, 500, 503),
    "healthz": (200, 500),
    "readyz": (200, 500, 503),
    "metrics": (200, *_GUARD, 500),
    "openapi.json": (200, 500),
    "other": (400, 404, 405, 414, 431, 500),
}
"""HTTP's routes and the statuses that each answers with."""

LOGGERS = ("streams", "aiokafka", "kafka", "faust", "mode", "aiohttp", "asyncio", "other")
LEVELS = ("warning", "error")

KERNEL = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
ANSWER = (
    0.0005, 0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.025, 0.035, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5,
    1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
WRITING = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
OLD = (1.0, 10.0, 60.0, 300.0, 1800.0, 7200.0, 86_400.0, 604_800.0)
AGE = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0)
STAGES = {
    "decode": KERNEL,
    "fold": KERNEL,
    "read": ANSWER,
    "wait": ANSWER,
    "queue": ANSWER,
    "gather": KERNEL,
    "prepare": KERNEL,
    "score": KERNEL,
    "policy": KERNEL,
    "shadow": KERNEL,
    "explain": KERNEL,
    "publish": ANSWER,
    "request_to_publish": ANSWER,
    "click_to_fold": AGE,
    "click_to_slate": OLD,
    "flush": WRITING,
    "restore": AGE,
    "learn": WRITING,
}
"""Upper bounds in seconds of the buckets of each stage."""

LOOP_LAG = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 1.0)
BATCH = tuple(float(4**e) for e in range(9))


def policy_label(name: str) -> str:
    """Return what a policy is counted as: its name, "other" for one that is none of ours."""
    return name if name in POLICIES else "other"
