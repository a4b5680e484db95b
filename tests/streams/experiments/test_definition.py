from typing import Any

import numpy as np
import pytest

from online_learning.policies.registry import Learning
from online_learning.statistics.posterior import LinearPrior
from streams.experiments.definition import (
    Variant,
    check_experiment,
    decode_experiment,
    encode_experiment,
    kind_of,
)
from tests.streams.experiments.records import experiment

LEARNING = Learning.of("thompson", LinearPrior(np.zeros(1)))


def test_a_definition_is_read_as_it_was_written() -> None:
    one = experiment(segment="events<20", guardrails={"empty_share": 0.1}, share=0.3)
    assert decode_experiment(encode_experiment(one)) == one
    assert one.running
    assert not one.stopped(9_000).running
    check_experiment(one, LEARNING, "thompson")


def test_fields_of_the_future_are_passed_over_and_schemas_of_the_future_are_not() -> None:
    value = encode_experiment(experiment())
    assert decode_experiment(value[:-1] + b',"colour":"red"}') == experiment()
    with pytest.raises(ValueError, match="experiment 'hot' has schema 2; this version reads up to 1"):
        decode_experiment(encode_experiment(experiment(v=2)))
    with pytest.raises(ValueError, match="not an experiment: .*missing required field `kind`"):
        decode_experiment(b'{"name": "hot"}')


def test_one_variant_is_a_policy_and_more_are_compared() -> None:
    variants = [Variant("a"), Variant("b")]
    assert kind_of(variants[:1], interleave=False) == "policy"
    assert kind_of(variants, interleave=False) == "ab"
    assert kind_of(variants, interleave=True) == "interleaving"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "a b"}, "names must have 1 to 64 letters, .* got 'a b'"),
        ({"variants": [Variant("a"), Variant("")]}, "names must have 1 to 64 letters, .* got ''"),
        ({"variants": [Variant("a"), Variant("a")]}, "variants must have names, each its own, got"),
        ({"variants": [Variant(f"v{n}") for n in range(9)]}, "variants must be at most 8, got 9"),
        ({"variants": [Variant("a")]}, "an A/B experiment must have 2 variants or more, got 1"),
        (
            {"kind": "interleaving", "variants": [Variant("a"), Variant("b"), Variant("c")]},
            "interleaving must have 2 variants, got 3",
        ),
        (
            {"variants": [Variant("a"), Variant("b", weight=0)]},
            "weights must be finite and above 0, got 0 for 'b'",
        ),
        ({"variants": [Variant("a"), Variant("b", "ucb9")]}, "policy must be one of .* got 'ucb9'"),
        (
            {"variants": [Variant("a"), Variant("b", "softmax:epsilon=1")]},
            "options of softmax must be one of",
        ),
        (
            {"variants": [Variant("a"), Variant("b", "linucb-hybrid")]},
            "must learn from the 'linear' statistics",
        ),
        ({"share": 0.0}, "share must be above 0 and at most 1, got 0.0"),
        ({"share": 1.5}, "share must be above 0 and at most 1, got 1.5"),
        ({"segment": "events"}, "segment must be 'events<N'"),
        ({"guardrails": {"speed": 1.0}}, "guardrails must be latency_p99_ms, .* got speed=1.0"),
        ({"guardrails": {"empty_share": -1.0}}, "guardrails must be .* at least 0, got empty_share=-1.0"),
        ({"alpha": 1.5}, "alpha must be above 0 and below 1, got 1.5"),
        ({"plan": 0.0}, "plan must be finite and at least 1, got 0.0"),
    ],
)
def test_what_no_worker_could_run_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_experiment(experiment(**values), LEARNING, "thompson")
