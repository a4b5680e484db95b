import re

import pytest

from online_learning.ope.slates import SLATE_ESTIMATORS
from streams.ope.estimates import LIVE, REFUSALS, Sampling, Verdict, judge, measured, remedy
from streams.ope.log import Columns, SlateLog
from tests.streams.ope.logged import CANDIDATES, POSITIVE, K, World

QUICK = Sampling(resamples=200)


def columns_of(*records: bytes) -> Columns:
    log = SlateLog(POSITIVE)
    for record in records:
        log.add(record)
    return log.columns()


def by_policy(verdicts: list[Verdict]) -> dict[str, Verdict]:
    return {one.policy: one for one in verdicts}


def test_every_candidate_is_worth_what_it_earns_when_it_serves() -> None:
    world = World(2_500)
    found = by_policy(judge(columns_of(*world.records()), sampling=QUICK))
    assert list(found) == [LIVE, *sorted(CANDIDATES)]
    for policy in set(CANDIDATES) - {"greedy"}:  # whole slates of this are too rare in the log
        estimate = found[policy].estimate
        assert estimate is not None
        assert estimate.low <= world.worth(policy) <= estimate.high
        assert (estimate.positions, found[policy].slates) == (K, 2_500)
    assert found["random"].estimate.value < found["softmax:temperature=0.15"].estimate.value


def test_the_live_policy_is_worth_what_was_measured() -> None:
    columns = columns_of(*World(500).records())
    slates, served = measured(columns, QUICK)[LIVE]
    estimate = by_policy(judge(columns, sampling=QUICK))[LIVE].estimate
    assert slates == 500
    assert served.value == pytest.approx(columns.rewards.sum(axis=1).mean())
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx(
        (served.value, served.low, served.high)
    )


def test_each_policy_that_served_is_measured() -> None:
    records = [*World(200).records(), *World(100).records("greedy", (), prefix="s")]
    found = measured(columns_of(*records), QUICK)
    assert {name: slates for name, (slates, _) in found.items()} == {LIVE: 300, "greedy": 100, "softmax": 200}
    assert found["greedy"][1].value > found[LIVE][1].value > found["softmax"][1].value


def test_a_log_without_propensities_is_refused_and_still_measured() -> None:
    records = [
        re.sub(rb'"propensity":[^,}]*', b'"propensity":null', record) for record in World(300).records()
    ]
    columns = columns_of(*records)
    assert columns.without_propensities == 300
    for verdict in judge(columns, sampling=QUICK):
        assert (verdict.estimate, verdict.refused) == (None, "propensities")
        assert verdict.reason == "propensities must be logged for importance weights, got none"
        assert "measured all the same" in remedy(verdict)
    assert measured(columns, QUICK)[LIVE][1].value > 0.5


def test_a_candidate_is_judged_by_the_slates_that_speak_of_it() -> None:
    old, new = World(300, seed=5), World(2_000)
    records = [*old.records(candidates=(), prefix="s"), *new.records()]
    found = by_policy(judge(columns_of(*records), sampling=QUICK))
    assert found[LIVE].slates == 2_300
    assert found["random"].slates == 2_000


def test_slates_too_long_are_refused_and_their_longest_beginning_is_estimated() -> None:
    world = World(3_000)
    refused = by_policy(judge(columns_of(*world.records()), sampling=QUICK))["greedy"]
    assert (refused.estimate, refused.refused) == (None, "effective_size")
    assert re.match(r"effective sample size must be at least 100, got .* of 3000 rows", refused.reason)
    assert refused.bears is not None
    assert 1 <= refused.bears.positions < K
    assert remedy(refused).startswith(("the first position is worth", "the first 2 positions are worth"))
    truth = world.chances(world.slates("greedy")[0])[:, : refused.bears.positions].sum(axis=1).mean()
    assert refused.bears.low <= truth <= refused.bears.high


def test_a_live_policy_without_chance_bears_no_other_and_says_so() -> None:
    found = by_policy(judge(columns_of(*World(500).records("greedy")), sampling=QUICK))
    assert found["greedy"].estimate is not None
    for policy in ("random", "softmax:temperature=0.15"):
        assert (found[policy].estimate, found[policy].bears) == (None, None)
        assert found[policy].refused == "mean_weight"
        assert "a live policy that explores more" in remedy(found[policy])


def test_too_few_users_are_refused_however_many_slates_they_have() -> None:
    records = [re.sub(rb'"user_id":"u\d+"', b'"user_id":"one"', record) for record in World(500).records()]
    for verdict in judge(columns_of(*records), sampling=QUICK):
        assert verdict.refused in ("effective_clusters", "effective_size")


def test_estimators_that_need_what_no_worker_logs_say_which_do_not() -> None:
    verdicts = judge(columns_of(*World(500).records()), list(SLATE_ESTIMATORS), QUICK)
    refused = {one.estimator: one for one in verdicts if one.policy == LIVE and one.refused}
    assert set(refused) == {"iips", "sniips", "pseudo_inverse", "cascade_dr"}
    assert {one.refused for one in refused.values()} == {"marginals", "model"}
    assert remedy(refused["iips"]) == "snrips and rips need only what a worker logs"
    assert {one.refused for one in verdicts} <= {"", *REFUSALS}


def test_an_empty_log_is_refused() -> None:
    (verdict,) = judge(columns_of(), sampling=QUICK)
    assert (verdict.policy, verdict.refused) == (LIVE, "no_slates")
    assert "attribution_window_ms" in remedy(verdict)
    assert measured(columns_of(), QUICK) == {}
