import logging
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from online_learning.policies.policy_release import PolicyRelease
from online_learning.policies.rl_policy import Scorer
from online_learning.statistics.posterior import LinearPrior
from online_learning.types import Candidates
from streams.errors import ConfigurationError
from streams.experiments.definition import Experiment, Variant, encode_experiment
from streams.learning.policy_set import PolicySet
from streams.learning.routes import UserView, choose
from streams.metrics import Metrics
from streams.settings import load_settings

PRIOR = LinearPrior(np.array([1.0, 0.5, -0.5]))
USERS = [
    UserView(f"u{number}", number % 40, {"plan": "gold" if number % 2 else "free"}) for number in range(400)
]
LIVE, COOLER = Variant("control"), Variant("cooler", "softmax:temperature=0.01")


def policy_set(**settings: Any) -> PolicySet:
    return PolicySet(load_settings(**({"policy": "softmax"} | settings)), PRIOR, Metrics(process=False))


def experiment(name: str = "one", **values: Any) -> Experiment:
    return Experiment(**({"name": name, "kind": "ab", "variants": [LIVE, COOLER], "started_ms": 1} | values))


def rows(*experiments: Experiment) -> list[tuple[bytes, bytes]]:
    return [(one.name.encode(), encode_experiment(one)) for one in experiments]


def shares(policies: PolicySet) -> Counter[tuple[str | None, str | None]]:
    return Counter((route.experiment, route.variant) for route in policies.experiments.routes(USERS))


def candidates(n: int, n_candidates: int = 12) -> Candidates:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(n, n_candidates, 3)).astype(np.float32)
    return Candidates(features[..., 0], features, np.ones((n, n_candidates), np.bool_))


def counter(policies: PolicySet, name: str) -> str:
    lines = policies.experiments._metrics.render()[0].decode().splitlines()
    return next(line.split()[-1] for line in lines if line.startswith(f"slatestream_{name} "))


async def test_without_experiments_everybody_is_served_by_the_live_policy() -> None:
    policies = policy_set()
    assert shares(policies) == {(None, None): 400}
    assert policies.names == {"softmax"}


async def test_users_are_split_and_stay_where_they_are() -> None:
    policies = policy_set()
    await policies.experiments.apply(rows(experiment()))
    found = shares(policies)
    assert min(found["one", "control"], found["one", "cooler"]) > 150
    assert policies.experiments.routes(USERS) == policies.experiments.routes(USERS)
    control = next(route for route in policies.experiments.routes(USERS) if route.variant == "control")
    assert control.policies == (policies.live,)
    other = policy_set(policy="softmax")
    await other.experiments.apply(rows(experiment()))
    assert [route.variant for route in other.experiments.routes(USERS)] == [
        route.variant for route in policies.experiments.routes(USERS)
    ]


async def test_stopping_and_a_null_row_bring_the_live_policy_back() -> None:
    for end in (rows(experiment(stopped_ms=5)), [(b"one", None)]):
        policies = policy_set()
        await policies.experiments.apply(rows(experiment()))
        await policies.experiments.apply(end)
        assert shares(policies) == {(None, None): 400}
        assert counter(policies, "experiments_running") == "0.0"


async def test_the_last_row_of_a_name_holds_whatever_was_started_before() -> None:
    policies = policy_set()
    await policies.experiments.apply(rows(experiment(), experiment(stopped_ms=3), experiment("two")))
    assert {name for name, _ in shares(policies)} == {"two"}


async def test_a_larger_share_moves_nobody_who_takes_part() -> None:
    policies = policy_set()
    await policies.experiments.apply(rows(experiment(share=0.3)))
    before = [route.variant for route in policies.experiments.routes(USERS)]
    await policies.experiments.apply(rows(experiment(share=0.9)))
    after = [route.variant for route in policies.experiments.routes(USERS)]
    assert before.count(None) > 200 > 100 > after.count(None)
    assert all(now == then for then, now in zip(before, after, strict=True) if then is not None)


async def test_a_segment_is_served_and_nobody_else() -> None:
    policies = policy_set()
    await policies.experiments.apply(
        rows(experiment("new", kind="policy", variants=[Variant("all", "greedy")], segment="events<20"))
    )
    for user, route in zip(USERS, policies.experiments.routes(USERS), strict=True):
        assert (route.policy == "greedy") == (user.events < 20)
    await policies.experiments.apply(
        rows(experiment("new", kind="policy", variants=[Variant("all", "greedy")], segment="plan=gold"))
    )
    for user, route in zip(USERS, policies.experiments.routes(USERS), strict=True):
        assert (route.policy == "greedy") == (user.attributes["plan"] == "gold")


async def test_who_could_be_in_several_is_in_the_first_started_and_comparisons_go_before_policies() -> None:
    policies = policy_set()
    rest = experiment("rest", kind="policy", variants=[Variant("all", "greedy")])
    await policies.experiments.apply(
        rows(rest, experiment("late", started_ms=9), experiment("early", share=0.5, started_ms=8))
    )
    found = Counter(name for name, _ in shares(policies).elements())
    assert set(found) == {"early", "late"}
    assert abs(found["early"] - 200) < 40


async def test_each_request_gets_what_its_own_policy_would_give_it_alone() -> None:
    policies = policy_set()
    await policies.experiments.apply(
        rows(experiment(share=0.7, variants=[LIVE, COOLER, Variant("rest", "epsilon-greedy")]))
    )
    n, k = 40, np.arange(40) % 5
    seeds, asked = np.arange(n, dtype=np.uint64), candidates(n)
    routes = policies.experiments.routes(USERS[:n])
    assert len(set(routes)) == 4
    found = choose(asked, routes, k=k, seeds=seeds)
    assert found.index.shape == found.propensities.shape == found.teams.shape == (n, 4)
    assert (found.teams == -1).all()
    for route in set(routes):
        mine = [row for row, one in enumerate(routes) if one is route]
        whole = route.policies[0].select(asked, k=k, seeds=seeds)
        assert np.array_equal(found.index[mine], whole.index[mine])
        assert np.array_equal(found.propensities[mine], whole.propensities[mine])


async def test_interleaved_slates_have_both_teams_and_say_how_probable_they_were() -> None:
    policies = policy_set()
    await policies.experiments.apply(
        rows(experiment(kind="interleaving", variants=[LIVE, Variant("best", "greedy")]))
    )
    routes = policies.experiments.routes(USERS)
    assert {(route.policy, route.variant, route.experiment) for route in routes} == {
        ("interleaved", None, "one")
    }
    assert routes[0].propensity_kind == "exact"
    n = len(USERS)
    found = choose(candidates(n), routes, k=np.full(n, 4), seeds=np.arange(n, dtype=np.uint64))
    assert (np.sort(found.teams.reshape(n, 2, 2), axis=2) == [0, 1]).all()
    assert ((found.propensities > 0) & (found.propensities <= 1)).all()
    thompson = policy_set(policy="thompson", propensity_samples=8)
    await thompson.experiments.apply(
        rows(experiment(kind="interleaving", variants=[LIVE, Variant("best", "greedy")]))
    )
    assert thompson.experiments.routes(USERS)[0].propensity_kind == "estimated"


async def test_a_policy_that_starts_late_knows_what_has_been_learned() -> None:
    policies = policy_set()
    statistics = policies.learning.empty()
    statistics.add_impressions(np.eye(3))
    policies.update(statistics)
    await policies.experiments.apply(rows(experiment()))
    assert {route.policies[0].version for route in policies.experiments.routes(USERS)} == {3}
    statistics.add_impressions(np.eye(3))
    policies.update(statistics)
    assert {route.policies[0].version for route in policies.experiments.routes(USERS)} == {6}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ((b"one", b"{"), "not an experiment"),
        ((b"one", encode_experiment(experiment(v=2))), "schema 2; this version reads up to 1"),
        ((b"other", encode_experiment(experiment())), "key must be the experiment's name 'one', got 'other'"),
        (rows(experiment(variants=[LIVE, Variant("b", "ucb9")]))[0], "got 'ucb9'"),
        (rows(experiment(variants=[LIVE, Variant("b", "softmax:heat=2")]))[0], "got 'heat=2'"),
        (
            rows(experiment(variants=[LIVE, Variant("b", "linucb-disjoint")]))[0],
            "must learn from the 'linear'",
        ),
    ],
)
async def test_what_a_worker_cannot_run_leaves_the_live_policy_is_counted_and_logged_once(
    row: tuple[bytes, bytes], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    policies = policy_set()
    with caplog.at_level(logging.ERROR, "streams.learning.running_experiments"):
        await policies.experiments.apply([row])
        await policies.experiments.apply([row])
    assert shares(policies) == {(None, None): 400}
    assert counter(policies, "experiments_refused_total") == "1.0"
    (message,) = (record.getMessage() for record in caplog.records)
    assert reason in message


async def test_a_policy_from_a_release_is_tried_on_a_part_of_the_users_and_in_the_shadow(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    layer = (np.eye(3, 1, dtype=np.float32), np.zeros(1, np.float32))
    scorer = Scorer(np.zeros(3, np.float32), np.ones(3, np.float32), (layer,))
    PolicyRelease(scorer, 0.5, "sarsa", PRIOR.feature_space, {}).write(tmp_path)
    learned = experiment(variants=[LIVE, Variant("learned", "rl")])
    policies = policy_set(policy="thompson-disjoint", candidate_policies=("rl",), policy_release=tmp_path)
    await policies.experiments.apply(rows(learned))
    assert set(shares(policies)) == {("one", "control"), ("one", "learned")}
    routes = [route for route in policies.experiments.routes(USERS) if route.variant == "learned"][:50]
    asked = {"k": np.full(50, 3), "seeds": np.arange(50, dtype=np.uint64)}
    slates = choose(candidates(50), routes, **asked)
    assert {(route.policy, route.propensity_kind) for route in routes} == {("rl", "exact")}
    shadow = policies.shadows.propensities(candidates(50), slates.index, seeds=asked["seeds"])["rl"]
    np.testing.assert_array_equal(shadow, slates.propensities)
    policies.update(policies.learning.empty())

    without = policy_set()
    await without.experiments.apply(rows(learned))
    assert shares(without) == {(None, None): 400}
    assert "policy_release must be a folder when policy is 'rl', got None" in caplog.text
    with pytest.raises(ConfigurationError, match="candidate_policies: policy_release must be a folder"):
        policy_set(candidate_policies=("rl",))


async def test_a_worker_runs_so_many_experiments_and_no_more(caplog: pytest.LogCaptureFixture) -> None:
    policies = policy_set()
    await policies.experiments.apply(rows(*(experiment(f"e{number}", share=0.01) for number in range(17))))
    assert counter(policies, "experiments_running") == "16.0"
    assert "running experiments must be at most 16" in caplog.text


async def test_an_apprentice_learns_while_the_incumbent_serves_as_the_release_made_it() -> None:
    policies = policy_set(
        policy="thompson",
        apprentice=True,
        incumbent="diverse-softmax:temperature=0.5",
        candidate_policies=("greedy",),
    )
    assert policies.names == {"apprentice", "diverse-softmax", "greedy"}
    asked = {"k": np.full(50, 3), "seeds": np.arange(50, dtype=np.uint64)}
    everyone = policies.experiments.routes(USERS[:50])
    before = choose(candidates(50), everyone, **asked)
    greedy_before = policies.shadows.propensities(candidates(50), before.index, seeds=asked["seeds"])[
        "greedy"
    ]
    statistics = policies.learning.empty()
    statistics.add_impressions(np.repeat(np.eye(3), 200, axis=0))
    statistics.add_rewards(np.repeat(np.eye(3)[2:], 200, axis=0), np.ones(200))
    policies.update(statistics)
    after = choose(candidates(50), everyone, **asked)
    np.testing.assert_array_equal(after.index, before.index)
    np.testing.assert_array_equal(after.propensities, before.propensities)
    assert (policies.learner.version, policies.live.name) == (800, "apprentice")
    assert (after.versions == 800).all()
    assert everyone[0].policy == "apprentice"
    assert everyone[0].propensity_kind == "exact"
    greedy_after = policies.shadows.propensities(candidates(50), before.index, seeds=asked["seeds"])["greedy"]
    assert (greedy_after != greedy_before).any()  # a candidate policy learns beside it
    with pytest.raises(ConfigurationError, match="incumbent: policy must be one of .* got 'boss'"):
        policy_set(apprentice=True, incumbent="boss")


async def test_what_is_pinned_comes_first_whoever_serves_and_whoever_is_asked() -> None:
    policies = policy_set(candidate_policies=("diverse-softmax", "greedy"), group_relation="genre")
    await policies.experiments.apply(rows(experiment(kind="interleaving"), experiment("two", share=0.5)))
    n = 200
    pinned = np.full((n, 12), -1)
    pinned[::2, 5], pinned[::4, 3] = 1, 0
    given = replace(candidates(n), pinned=pinned)
    k, seeds = np.where(np.arange(n) % 8, 4, 1), np.arange(n, dtype=np.uint64)
    chosen = choose(given, policies.experiments.routes(USERS[:n]), k=k, seeds=seeds)
    assert chosen.index.shape == chosen.propensities.shape == chosen.teams.shape == (n, 4)
    assert ((chosen.index >= 0).sum(axis=1) == k).all()
    assert (chosen.index[::8, 0] == 3).all()
    assert (chosen.index[4::8, :2] == [3, 5]).all()
    assert (chosen.index[2::4, 0] == 5).all()
    shadows = policies.shadows.propensities(given, chosen.index, seeds=seeds)
    for found in (chosen.propensities, *shadows.values()):
        assert (found[4::8, :2] == 1.0).all()
        assert (found[2::4, 0] == 1.0).all()
    assert shadows["diverse-softmax"][4::8, 2:].mean() < 0.99
    assert (chosen.teams[4::8, :2] == -1).all()
    for slate in chosen.index:
        assert len(set(slate[slate >= 0])) == (slate >= 0).sum()
