"""A policy in one line of text: its name and the settings in which it differs, `softmax:temperature=0.05`."""

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from online_learning.policies.policy import Policy
from online_learning.policies.registry import REGISTRY, Learning, create_policy, find
from online_learning.statistics.posterior import LinearPrior


@dataclass(frozen=True, slots=True)
class PolicySpec:
    """A policy by name and options, as `parse` reads it.

    Attributes
    ----------
    text : as it was written, which names the policy in records, tables and metrics
    policy : name of a policy
    options : arguments of `create_policy`; what is not here is as the live policy has it
    """

    text: str
    policy: str
    options: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> "PolicySpec":
        """Read `name` or `name:option=value,option=value`.

        Raises
        ------
        ValueError
            The policy or an option does not exist, is given twice, or its value breaks the policy's rule.
        """
        name, colon, rest = text.partition(":")
        if name not in REGISTRY:
            raise ValueError(f"policy must be one of {', '.join(REGISTRY)}, got {name!r} in {text!r}")
        known = _numbers(find(name).Options)
        options: dict[str, Any] = {}
        for part in rest.split(",") if colon else ():
            option, equals, value = part.partition("=")
            if option not in known or not equals:
                wanted = f"one of {', '.join(known)} as option=value" if known else "none"
                raise ValueError(f"options of {name} must be {wanted}, got {part!r} in {text!r}")
            if option in options:
                raise ValueError(f"options must be given once, got {option} twice in {text!r}")
            try:
                options[option] = known[option](value)
            except ValueError:
                kind = "a whole number" if known[option] is int else "a number"
                raise ValueError(f"{option} must be {kind}, got {value!r} in {text!r}") from None
        spec = cls(text, name, options)
        if options:
            try:
                spec.create(LinearPrior(np.zeros(1)))
            except ValueError as error:
                raise ValueError(f"{error} in {text!r}") from None
        return spec

    def create(self, prior: LinearPrior, *, half_life_ms: int | None = None, **defaults: Any) -> Policy:
        """Return the policy; `defaults` are the arguments of `create_policy` that the text does not give."""
        return create_policy(self.policy, prior, half_life_ms=half_life_ms, **(defaults | self.options))

    def check_served_with(self, learning: Learning, live: str) -> None:
        """Raise ValueError unless a worker serves this policy and it reads what the `live` one does."""
        policy = find(self.policy)
        if not policy.served:
            raise ValueError(f"policy must not be {self.policy!r}, which no worker serves")
        needed = Learning.of(self.policy, learning.prior).statistics
        if policy.learns_from is not None and needed is not learning.statistics:
            raise ValueError(
                f"candidate policy {self.text!r} must learn from the {learning.kind!r} statistics of the "
                f"live policy {live!r}, but needs {needed.kind!r}"
            )


def _numbers(options: type) -> dict[str, type[int] | type[float]]:
    """Options that are one number each, and so can be written in a line."""
    return {one.name: type(one.default) for one in fields(options) if isinstance(one.default, int | float)}
