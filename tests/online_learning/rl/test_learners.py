import numpy as np
import pytest

from online_learning.policies.rl_policy import RlPolicy
from online_learning.rl.dqn import DqnConfig
from online_learning.rl.learners import LEARNERS, create_learner
from online_learning.rl.networks import LearnerConfig
from online_learning.rl.ppo import PpoConfig
from online_learning.rl.race import Race
from online_learning.rl.reinforce import ReinforceConfig
from online_learning.rl.steps import Steps
from online_learning.simulator.config import SimulatorConfig
from online_learning.types import Candidates
from tests.online_learning.rl_worlds import as_logged, bandit_steps, small_tastes

SMALL = {"hidden": (16,), "batch_size": 128, "passes": 4, "learning_rate": 2e-2, "device": "cpu"}


def delayed_steps(seed: int, n: int = 250) -> Steps:
    """Sessions of two single items: one kind is clicked more now, the other makes the second slate good.

    Feature 1 of an item of the first slate: 1 is bait (reward .6 now, .1 next), 0 is good (.4 now, .9 next).
    Feature 2 of the second slate, where there is nothing to choose, says which it was.
    """
    rng = np.random.default_rng(seed)
    bait = rng.integers(0, 2, n)
    features = np.zeros((2 * n, 2, 3), np.float32)
    features[:n, :, 1] = [0.0, 1.0]
    features[n:, :, 2] = np.where(bait, -1.0, 1.0)[:, None]
    index = np.concatenate([bait, np.zeros(n, np.int64)])[:, None]
    chance = np.concatenate([np.where(bait, 0.6, 0.4), np.where(bait, 0.1, 0.9)])
    return Steps(
        features, np.ones((2 * n, 2), bool), index, (rng.random(2 * n) < chance)[:, None].astype(np.float32),
        np.full((2 * n, 1), 0.5, np.float32), np.concatenate([np.arange(n, 2 * n), np.full(n, -1)]),
        complete=True,
    )  # fmt: skip


def scores(policy: RlPolicy, *rows: list[float]) -> np.ndarray:
    return policy.scorer(np.array([rows], np.float32))[0]


@pytest.mark.parametrize("name", LEARNERS)
@pytest.mark.parametrize("log", [False, True], ids=["all candidates", "only what was shown"])
def test_a_learner_prefers_what_was_rewarded(name: str, log: bool):
    learner = create_learner(name, 3, seed=1, **SMALL)
    steps = bandit_steps(2)
    for _ in range(6):
        learner.learn(as_logged(steps) if log else steps)
    bad, good = scores(learner.policy(), [1.0, 0.1, 0.0], [1.0, 0.9, 0.0])
    assert good > bad + (0.3 if name in ("dqn", "sarsa") else 0.5)


@pytest.mark.parametrize("name", LEARNERS)
def test_a_learner_gives_up_a_click_now_for_more_later(name: str):
    steps = delayed_steps(3)
    patient = create_learner(name, 3, seed=1, **(SMALL | {"discount": 1.0}))
    myopic = create_learner(name, 3, seed=1, **(SMALL | {"discount": 0.0}))
    for _ in range(8):
        patient.learn(steps)
        myopic.learn(steps)
    good, bait = scores(patient.policy(), [0.0, 0.0, 0.0], [0.0, 1.0, 0.0])
    assert good > bait
    good, bait = scores(myopic.policy(), [0.0, 0.0, 0.0], [0.0, 1.0, 0.0])
    assert bait > good


@pytest.mark.parametrize("name", ["dqn", "sarsa"])
def test_values_are_those_of_the_rewards_to_come(name: str):
    learner = create_learner(name, 3, seed=1, **(SMALL | {"discount": 1.0}))
    for _ in range(15):
        learner.learn(delayed_steps(3))
    good, bait = scores(learner.policy(), [0.0, 0.0, 0.0], [0.0, 1.0, 0.0])
    assert good == pytest.approx(0.4 + 0.9, abs=0.2)
    assert bait == pytest.approx(0.6 + 0.1, abs=0.2)


@pytest.mark.parametrize("name", LEARNERS)
def test_the_same_seed_learns_the_same(name: str):
    def learned(seed: int) -> np.ndarray:
        learner = create_learner(name, 3, seed=seed, **SMALL)
        learner.learn(bandit_steps(2))
        return scores(learner.policy(), [1.0, 0.1, 0.0], [1.0, 0.9, 0.0])

    assert np.array_equal(learned(5), learned(5))
    assert not np.array_equal(learned(5), learned(6))


def test_before_it_has_learned_a_learner_prefers_nothing():
    policy = create_learner("ppo", 3, device="cpu").policy()
    assert scores(policy, [1.0, 0.1, 5.0], [-3.0, 0.9, 0.0]).tolist() == [0.0, 0.0]


def test_logged_slates_have_the_propensities_of_the_policy_that_is_served():
    learner = create_learner("reinforce", 3, seed=1, **SMALL)
    steps = bandit_steps(2)
    learner.learn(steps)
    served = learner.policy(temperature=2.0)
    candidates = Candidates(np.zeros(steps.valid.shape, np.float32), steps.features, steps.valid)
    wanted = served.propensities(candidates, steps.index, seeds=np.zeros(len(steps), np.uint64))
    assert learner.propensities(steps, temperature=2.0) == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("name", LEARNERS)
def test_steps_of_other_features_are_refused(name: str):
    with pytest.raises(ValueError, match="steps must have the learner's 4 features, got 3"):
        create_learner(name, 4, device="cpu").learn(bandit_steps(0))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: create_learner("a2c", 3), "algorithm must be one of reinforce, ppo, dqn, sarsa, got 'a2c'"),
        (lambda: LearnerConfig(discount=1.2), r"discount must be in \[0, 1\], got 1.2"),
        (lambda: LearnerConfig(device="tpu"), "device must be 'auto', 'cpu' or 'cuda', got 'tpu'"),
        (lambda: PpoConfig(clip=2.0), r"clip must be in \[0, 1\], got 2.0"),
        (lambda: DqnConfig(best_of_shown=0.0), r"best_of_shown must be in \(0, 1\], got 0.0"),
        (lambda: ReinforceConfig(largest_weight=0.0), "largest_weight must be above 0, got 0.0"),
    ],
)
def test_a_setting_that_breaks_its_rule_is_refused(make, message: str):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("name", ["sarsa", "greedy"])
def test_in_a_race_what_learns_ends_better_than_chance(name: str):
    config = SimulatorConfig(slate=3, candidates=8, pool=30, max_slates=8)
    race = Race(tastes=small_tastes(), config=config, seed=0, users=48, rounds=6)
    raced = race.learn(name, device="cpu")
    chance = race.measure(race.learn("random").policy, 200).reward
    assert len(raced.curve) == 6
    assert race.measure(raced.policy, 200).reward > 1.1 * chance
    assert race.optimum(200).regret.max() == 0.0
