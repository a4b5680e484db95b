import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from online_learning.policies.baselines import RandomPolicy
from online_learning.rl.rollout import play
from online_learning.simulator.config import SimulatorConfig
from online_learning.simulator.env import SlateEnv, SlateVectorEnv
from online_learning.simulator.simulator import FEATURES, Simulator
from online_learning.simulator.taste import Tastes
from online_learning.simulator.users import Users
from tests.online_learning.rl_worlds import small_tastes

TASTES = small_tastes()
SMALL = {"slate": 3, "candidates": 8, "pool": 30}
STILL = SimulatorConfig(**SMALL, satiation=0.0, boredom=0.0, impatience=0.0)


def users(n: int = 20, seed: int = 0, **changes: float) -> Users:
    config = SimulatorConfig(**(SMALL | changes))
    return Users(TASTES, config, np.arange(n), rng=np.random.default_rng(seed))


def simulator(n: int = 50, seed: int = 0, **changes: float) -> Simulator:
    return Simulator(TASTES, SimulatorConfig(**(SMALL | changes)), n=n, rng=np.random.default_rng(seed))


def first(n: int, k: int = 3) -> np.ndarray:
    return np.tile(np.arange(k), (n, 1))


def test_the_fitted_taste_predicts_ratings_that_it_has_not_seen():
    rng = np.random.default_rng(3)
    likes, groups = rng.normal(size=(60, 4)), np.eye(4, dtype=bool)[np.arange(40) % 4]
    pairs = rng.permutation(60 * 40)
    seen, held_out = pairs[:1200], pairs[1200:]
    ratings = 3.5 + likes[pairs // 40, pairs % 40 % 4]
    tastes = Tastes.fit(seen // 40, seen % 40, ratings[:1200], groups, rng=rng, rank=6)
    user, item = held_out // 40, held_out % 40
    predicted = tastes.mean + tastes.user_bias[user] + tastes.item_bias[item]
    predicted += (tastes.users[user] * tastes.items[item]).sum(axis=1)
    assert np.corrcoef(predicted, ratings[1200:])[0, 1] > 0.9


def test_clicks_are_as_frequent_as_appeal_and_examination_say():
    n, shown = 30, np.tile([0, 7, 13], (30, 1))
    counts = np.zeros(3)
    for seed in range(300):
        crowd = users(n, seed, satiation=0.0)
        counts += crowd.react(np.arange(n), shown).clicks.sum(axis=0)
    crowd = users(n, satiation=0.0)
    chance = crowd.appeal(np.arange(n), shown) * crowd.examination(3)
    assert counts / (300 * n) == pytest.approx(chance.mean(axis=0), abs=0.02)
    assert crowd.expected_clicks(np.arange(n), shown) == pytest.approx(chance.sum(axis=1))


def test_the_myopic_optimum_is_the_best_of_all_slates():
    crowd, items = users(4), np.tile(np.arange(5), (4, 1))
    everyone = np.arange(4)
    slates = [(a, b) for a in range(5) for b in range(5) if a != b]
    worth = [crowd.expected_clicks(everyone, np.tile(slate, (4, 1))) for slate in slates]
    assert crowd.best_expected_clicks(everyone, items, 2) == pytest.approx(np.max(worth, axis=0))


def test_what_is_shown_again_and_again_loses_its_appeal_and_comes_back_when_it_is_not():
    crowd, everyone = users(satiation=0.8, leave=0.0, boredom=0.0, impatience=0.0), np.arange(20)
    same, other = np.tile([0, 5, 10], (20, 1)), np.tile([1, 6, 11], (20, 1))  # groups 0 and 1
    rested = crowd.appeal(everyone, same)
    for _ in range(5):
        crowd.react(everyone, same)
    tired = crowd.appeal(everyone, same)
    assert (tired < 0.7 * rested).all()
    for _ in range(10):
        crowd.react(everyone, other)
    assert (crowd.appeal(everyone, same) > 0.9 * rested).all()


def test_without_satiation_nothing_loses_its_appeal():
    crowd, everyone, same = users(satiation=0.0), np.arange(20), np.tile([0, 5, 10], (20, 1))
    before = crowd.appeal(everyone, same)
    crowd.react(everyone, same)
    assert np.array_equal(crowd.appeal(everyone, same), before)


def test_users_leave_sooner_when_they_are_shown_what_they_have_had_enough_of():
    lengths = []
    for shown in ([0, 5, 10], [0, 1, 2]):  # one group, or three
        crowd = users(leave=0.0, impatience=0.0, boredom=1.0, satiation_gain=0.5)
        stayed, here = 0, np.arange(20)
        while len(here):
            here = here[~crowd.react(here, np.tile(shown, (len(here), 1))).finished]
            stayed += len(here)
        lengths.append(stayed)
    assert lengths[0] < 0.8 * lengths[1]


def test_a_session_ends_at_its_longest_and_the_next_one_begins_rested():
    crowd, everyone = users(leave=0.0, boredom=0.0, impatience=0.0, max_slates=3, sessions=2), np.arange(20)
    reactions = [crowd.react(everyone, first(20)) for _ in range(3)]
    assert [reaction.left.all() for reaction in reactions] == [False, False, True]
    assert not reactions[-1].finished.any()
    assert (crowd.slates == 0).all()
    before = crowd.satiation.copy()
    crowd._rest(everyone)
    assert crowd.satiation == pytest.approx(0.5 * before)


def test_tastes_drift_without_becoming_stronger():
    crowd, everyone = users(drift=0.3, leave=0.0, boredom=0.0, impatience=0.0, satiation=0.0), np.arange(20)
    before, spread = crowd.appeal(everyone, first(20, 30)), crowd._taste.std()
    for _ in range(40):
        crowd.react(everyone, first(20))
    assert np.abs(crowd.appeal(everyone, first(20, 30)) - before).mean() > 0.03
    assert crowd._taste.std() == pytest.approx(spread, rel=0.4)


def test_of_cold_users_and_items_nothing_is_known_and_bots_click_anything():
    strange = simulator(bots=1.0, cold_users=1.0, cold_items=1.0, bot_clicks=0.4)
    features = strange.candidates.features
    assert (features[..., FEATURES.index("unknown user or item")] == 1.0).all()
    assert np.ptp(features[..., FEATURES.index("predicted click of a rested user")]) == 0.0
    assert (strange.users.appeal(strange.here, strange.items) == 0.4).all()


def test_bots_are_left_out_of_the_reward():
    played, _ = play(simulator(bots=0.5, bot_clicks=1.0), RandomPolicy(), rng=np.random.default_rng(0))
    assert played.bots.any()
    assert played.reward == played.clicks[~played.bots].mean() < played.clicks.mean()


def test_the_same_generator_gives_the_same_run_and_another_does_not():
    def clicks(seed: int) -> np.ndarray:
        return play(simulator(seed=seed), RandomPolicy(), rng=np.random.default_rng(1))[0].clicks

    assert np.array_equal(clicks(5), clicks(5))
    assert not np.array_equal(clicks(5), clicks(6))


def test_what_was_clicked_is_no_candidate_again():
    crowd = simulator(leave=0.0, boredom=0.0, impatience=0.0, satiation=0.0)
    taken: list[set[int]] = [set() for _ in range(50)]
    for _ in range(20):
        items, candidates = crowd.items, crowd.candidates
        for user, row in enumerate(items):
            assert not taken[user] & set(row[candidates.valid[user]].tolist())
        index = np.where(candidates.valid[:, :3], first(50), -1)
        clicks = crowd.step(index).reaction.clicks
        for user, position in zip(*np.nonzero(clicks), strict=True):
            taken[user].add(int(items[user, position]))


def test_a_rollout_chains_each_users_slates_and_sums_their_clicks():
    played, steps = play(simulator(), RandomPolicy(), rng=np.random.default_rng(2))
    assert steps is not None
    assert len(steps) == played.slates.sum()
    assert (steps.following >= 0).sum() == len(steps) - 50
    assert len(set(steps.following[steps.following >= 0].tolist())) == len(steps) - 50
    assert steps.totals.sum() == played.clicks.sum()
    assert (played.regret >= 0).all()


def test_the_environment_passes_gymnasiums_checker():
    check_env(SlateEnv(TASTES, STILL), skip_render_check=True)


def test_an_item_twice_in_a_slate_is_shown_once():
    env = SlateEnv(TASTES, STILL)
    env.reset(seed=0)
    info = env.step(np.array([2, 2, 2]))[4]
    env.reset(seed=0)
    twice = env.step(np.array([2, 3, 4]))[4]
    assert 0 < info["expected_clicks"] < twice["expected_clicks"] <= twice["best_expected_clicks"]


def test_many_users_are_many_environments():
    env = SlateVectorEnv(TASTES, STILL, num_envs=16)
    observation, _ = env.reset(seed=4)
    assert observation in env.observation_space
    terminated, rewards = np.zeros(16, bool), np.zeros(16)
    while not terminated.all():
        observation, reward, now, truncated, _ = env.step(env.action_space.sample())
        assert observation in env.observation_space
        assert (reward[terminated] == 0).all()
        assert (now | ~terminated).all()
        assert not truncated.any()
        terminated, rewards = now, rewards + reward
    assert rewards.sum() > 0
    with pytest.raises(ValueError, match="reset_mask must name all users"):
        env.reset(options={"reset_mask": np.arange(16) < 3})
    with pytest.raises(ValueError, match="seed must be one number"):
        env.reset(seed=[1] * 16)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"boredom": 1.5}, r"boredom must be in \[0, 1\], got 1.5"),
        ({"slate": 40}, "slate, candidates and pool must not fall in this order, got 40, 30, 100"),
        ({"sessions": 0}, "sessions must be at least 1, got 0"),
        ({"drift": -0.1}, "drift must be finite and at least 0, got -0.1"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(changes: dict, message: str):
    with pytest.raises(ValueError, match=message):
        SimulatorConfig(**changes)


def test_more_candidates_than_items_are_refused():
    config = SimulatorConfig(candidates=70)
    with pytest.raises(ValueError, match="candidates must be at most the items, 60, got 70"):
        Simulator(TASTES, config, n=2, rng=np.random.default_rng(0))


def test_ratings_that_are_no_numbers_are_refused():
    one = np.zeros(2, np.int64)
    with pytest.raises(ValueError, match="ratings must be finite, got nan"):
        Tastes.fit(one, one, np.array([1.0, np.nan]), np.ones((1, 1), bool), rng=np.random.default_rng(0))
