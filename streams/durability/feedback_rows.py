"""Slates whose window has ended, as rows of `feedback` and as what was responded to."""

from collections.abc import Iterable, Iterator

from online_learning.attribution.pending_slates import ClosedSlate
from streams.events import Feedback, Recommendation, encode
from streams.kafka.packed_rows import Row


def responses(
    closed: Iterable[ClosedSlate], positive: frozenset[str]
) -> Iterator[tuple[str, list[float], list[float], list[int]]]:
    """For each slate closed the first time: policy, propensities, scores, and the positions responded to."""
    for slate, _, correction in closed:
        if not correction:
            taken = [p for p, actions in enumerate(slate.actions) if not positive.isdisjoint(actions)]
            items = slate.record.slate
            propensities, scores = [item.propensity for item in items], [item.score for item in items]
            yield slate.record.policy, propensities, scores, taken


def feedback_rows(closed_ms: int, closed: Iterable[ClosedSlate]) -> list[Row]:
    """Return the rows of slates that the watermark `closed_ms` has closed, and of those corrected since."""
    rows: list[Row] = []
    for slate, rewards, correction in closed:
        served: Recommendation = slate.record
        feedback = Feedback(
            request_id=served.request_id,
            user_id=served.user_id,
            slate=served.slate,
            rewards=rewards.tolist(),
            actions=slate.actions,
            policy=served.policy,
            policy_version=served.policy_version,
            propensity_kind=served.propensity_kind,
            model_version=served.model_version,
            features=served.features,
            feature_dim=served.feature_dim,
            timestamp_ms=served.timestamp_ms,
            closed_ms=closed_ms,
            context=served.context,
            candidate_propensities=served.candidate_propensities,
            correction=correction,
            experiment=served.experiment,
            variant=served.variant,
        )
        rows.append((served.user_id.encode(), encode(feedback)))
    return rows
