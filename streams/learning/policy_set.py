"""The policies of a worker: the live one, those of experiments, and those in their shadow."""

from collections.abc import Iterator
from typing import Any

from model_core.release.signature import check_signature, read_public_keys
from online_learning.policies.apprentice import ApprenticePolicy
from online_learning.policies.options import SlateRules
from online_learning.policies.policy import Policy
from online_learning.policies.policy_spec import PolicySpec
from online_learning.policies.registry import Learning, create_policy
from online_learning.policies.warm import warm
from online_learning.statistics.posterior import LinearPrior
from online_learning.statistics.sums import Statistics
from streams.errors import ConfigurationError
from streams.learning.running_experiments import RunningExperiments
from streams.learning.shadow import ShadowPolicies
from streams.metrics import Metrics
from streams.settings import Settings


def rules_of(settings: Settings) -> SlateRules:
    """Return the rules that the settings ask for."""
    return SlateRules(
        diversity=settings.diversity,
        cap=settings.group_cap if settings.group_relation is not None else None,
        fresh_share=settings.fresh_share,
    )


class PolicySet:
    """Holds every policy and gives all of them what is learned.

    learner is the policy of the settings; in apprentice mode the incumbent serves for it (`live`).
    """

    def __init__(self, settings: Settings, prior: LinearPrior, metrics: Metrics) -> None:
        self._half_life_ms = settings.reward_half_life_ms
        self._defaults: dict[str, Any] = {
            "temperature": settings.temperature,
            "exploration": settings.exploration,
            "epsilon": settings.epsilon,
            "propensity_samples": settings.propensity_samples,
            "rules": rules_of(settings),
            "policy_release": settings.policy_release,
        }
        self._prior = prior
        self.learning = Learning.of(settings.policy, prior, half_life_ms=self._half_life_ms)
        try:
            if settings.policy_release is not None and settings.release_public_keys is not None:
                check_signature(settings.policy_release, read_public_keys(settings.release_public_keys))
            self.learner = create_policy(
                settings.policy, prior, half_life_ms=self._half_life_ms, **self._defaults
            )
        except (ValueError, OSError) as error:  # a policy release that is missing, or damaged
            raise ConfigurationError(f"Bad configuration:\n  policy: {error}") from None
        self.live: Policy = self.learner
        if settings.apprentice:
            self.live = ApprenticePolicy(self.learner, self._incumbent(settings.incumbent))
        self.experiments = RunningExperiments(self.live, self.learning, self._create, metrics)
        self.shadows = ShadowPolicies(
            settings.candidate_policies, self._create, self.learning, settings.policy
        )

    @property
    def names(self) -> frozenset[str]:
        """Names of the policies that serve, and of those in their shadow."""
        names = frozenset(policy.name for policy in self._all())
        return names | {self.live.incumbent.name} if isinstance(self.live, ApprenticePolicy) else names

    def _all(self) -> Iterator[Policy]:
        yield self.live
        yield from self.experiments
        yield from self.shadows

    def warm(self) -> None:
        """Compile what the policies need before the first request waits for it."""
        for policy in (self.learner, *self._all()):
            warm(policy, self.learning)

    def update(self, statistics: Statistics) -> None:
        """Let every policy adopt merged statistics."""
        self.experiments.update(statistics)
        for policy in (self.live, *self.shadows):
            policy.update(statistics)

    def _incumbent(self, text: str) -> Policy:
        try:
            return self._create(PolicySpec.parse(text))
        except ValueError as error:
            raise ConfigurationError(f"Bad configuration:\n  incumbent: {error}") from None

    def _create(self, spec: PolicySpec) -> Policy:
        return spec.create(self._prior, half_life_ms=self._half_life_ms, **self._defaults)
