"""Metrics of closed slates, rewards and experiments."""

from collections import Counter as Tally
from collections.abc import Iterable, Sequence

import numpy as np
from prometheus_client import Counter

from streams.metrics.registry import Registered
from streams.metrics.tables import POSITIONS, REWARD_OUTCOMES, SCORE_BANDS, policy_label

RARE = 0.01


class Learning(Registered):
    """Impressions and responses by policy, position and score; rewards; experiments."""

    def __init__(self) -> None:
        super().__init__()
        self._rewards = self.counter("rewards", "Rewarding events by how they met their slate.", ("outcome",))
        for outcome in REWARD_OUTCOMES:
            self._rewards.labels(outcome)
        self._shown = self.counter(
            "impressions", "Items of slates whose window has ended, by policy.", ("policy",)
        )
        self._responded = self.counter("responses", "Of impressions, those responded to.", ("policy",))
        self._rare = self.counter(
            "rare_impressions",
            f"Of impressions, those whose probability was below {RARE}: each weighs much as evidence.",
            ("policy",),
        )
        self._shown_at = self.counter(
            "position_impressions",
            f"The same items by position, from 0; the last, {POSITIONS - 1}, stands for all after it.",
            ("position",),
        )
        self._responded_at = self.counter(
            "position_responses", "Of position_impressions, those responded to.", ("position",)
        )
        self._scored = self.counter(
            "score_impressions",
            "Of impressions, those with a probability as score, by its band; band is the upper end.",
            ("band",),
        )
        self._scored_responses = self.counter(
            "score_responses", "Of score_impressions, those responded to.", ("band",)
        )
        self._predicted = self.counter(
            "predicted_responses", "Sum of the scores of score_impressions: the expected responses."
        )
        self._examination = self.gauge(
            "position_examination",
            "Examination probability of a position, relative to the first's.",
            ("position",),
        )
        self.policy_version = self.gauge("policy_version", "Updates adopted by the policy in use.")
        by_variant = ("experiment", "variant")  # few: an experiment is started by hand
        self._exposures = self.counter("experiment_slates", "Slates of experiments.", by_variant)
        self._responses = self.counter(
            "experiment_responses", "Items of experiments' slates that were responded to.", by_variant
        )
        self.experiments_running = self.gauge("experiments_running", "Experiments this worker takes part in.")
        self.experiments_refused = self.counter(
            "experiments_refused", "Definitions that this worker cannot run; the log says why."
        )
        self.pending_slates = self.gauge("pending_slates", "Slates waiting for their rewards.")
        self.pending_slates_bytes = self.gauge(
            "pending_slates_bytes", "Approximate memory of pending slates."
        )
        self.slates_given_up = self.gauge(
            "pending_slates_given_up",
            "Slates of the owned partitions that were given up before their window ended, for lack of room.",
        )

    def count_closed(
        self, slates: Iterable[tuple[str, Sequence[float], Sequence[float], Sequence[int]]]
    ) -> None:
        """Add slates whose window has ended, once each.

        Parameters
        ----------
        slates : policy, propensity and score of each position, and the positions that were responded to
        """
        scores: list[float] = []
        scores_taken: list[float] = []
        shown: Tally[str] = Tally()
        rare: Tally[str] = Tally()
        responded: Tally[str] = Tally()
        lengths: Tally[int] = Tally()
        taken: Tally[int] = Tally()
        for policy, propensities, scored, positions in slates:
            scores += scored
            scores_taken += (scored[position] for position in positions)
            shown[policy] += len(propensities)
            rare[policy] += sum(p < RARE for p in propensities)
            lengths[len(propensities)] += 1
            for position in positions:
                responded[policy] += 1
                taken[position] += 1
        for policy, n in shown.items():
            name = policy_label(policy)
            self._shown.labels(name).inc(n)
            self._rare.labels(name).inc(rare[policy])
            self._responded.labels(name).inc(responded[policy])
        for position in range(max(lengths, default=0)):
            at = str(min(position, POSITIONS - 1))
            self._shown_at.labels(at).inc(sum(n for length, n in lengths.items() if length > position))
            self._responded_at.labels(at).inc(taken[position])
        self._predicted.inc(_count_bands(scores, self._scored))
        _count_bands(scores_taken, self._scored_responses)

    def count_rewards(self, outcome: str, n: int = 1) -> None:
        """Add n rewarding events by how they were attributed."""
        self._rewards.labels(outcome if outcome in REWARD_OUTCOMES else "other").inc(n)

    def count_exposure(self, experiment: str, variant: str | None) -> None:
        """Add a published slate of an experiment; variant is None where two are interleaved."""
        self._exposures.labels(experiment, variant or "interleaved").inc()

    def count_response(self, experiment: str, variant: str) -> None:
        """Add an item that was responded to, by the variant that put it into the slate."""
        self._responses.labels(experiment, variant).inc()

    def set_examination(self, by_position: Iterable[float]) -> None:
        """Set how often each position, from the first on, is taken to be looked at."""
        for position, value in enumerate(by_position):
            self._examination.labels(str(position)).set(value)


def _count_bands(scores: Sequence[float], counter: Counter) -> float:
    """Count scores by band, and return their sum; what is no probability is left out, such as mere counts."""
    values = np.asarray(scores, np.float64)
    values = values[(values >= 0.0) & (values <= 1.0)]
    for band, n in enumerate(np.bincount(np.searchsorted(SCORE_BANDS, values)).tolist()):
        if n:
            counter.labels(f"{SCORE_BANDS[band]:g}").inc(n)
    return float(values.sum())
