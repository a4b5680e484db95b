"""The simulator behind Gymnasium's interface: one user's session, and many users side by side."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from online_learning.simulator.config import SimulatorConfig
from online_learning.simulator.simulator import FEATURES, Simulator
from online_learning.simulator.taste import Tastes

Observation = NDArray[np.float32]


def observation_space(config: SimulatorConfig) -> spaces.Space[Any]:
    """(C, 1 + F) float32: of each candidate, whether it can be chosen, and `FEATURES`, all in [0, 1]."""
    return spaces.Box(0.0, 1.0, (config.candidates, 1 + len(FEATURES)), np.float32)


def action_space(config: SimulatorConfig) -> spaces.MultiDiscrete:
    """(K,) int64: a candidate for each position; one that cannot be chosen, or a second time, is left out."""
    return spaces.MultiDiscrete(np.full(config.slate, config.candidates))


class SlateEnv(gymnasium.Env[Observation, NDArray[np.int64]]):
    """A user drawn anew at every reset, until they have finished; the reward is the clicks on a slate.

    `info` has the truth: `expected_clicks` of the slate, and `best_expected_clicks` of the myopic optimum.
    """

    metadata = {"render_modes": []}

    def __init__(self, tastes: Tastes, config: SimulatorConfig | None = None) -> None:
        self.config = config or SimulatorConfig()
        self._tastes = tastes
        self._simulator: Simulator | None = None
        self.observation_space = observation_space(self.config)
        self.action_space = action_space(self.config)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Draw a user; return the first candidates."""
        super().reset(seed=seed)
        self._simulator = Simulator(self._tastes, self.config, n=1, rng=self.np_random)
        return _observe(self._simulator)[0], {}

    def step(self, action: NDArray[np.int64]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Show a slate; return the next candidates, the clicks, and whether the user has finished."""
        if self._simulator is None or not len(self._simulator.here):
            raise gymnasium.error.ResetNeeded("step needs a user who is here: call reset first")
        outcome = self._simulator.step(_choosable(self._simulator, np.asarray(action)[None]))
        finished = bool(outcome.reaction.finished[0])
        empty = np.zeros(self.observation_space.shape or (), np.float32)
        info = {
            "expected_clicks": float(outcome.expected[0]),
            "best_expected_clicks": float(outcome.best[0]),
            "session_ended": bool(outcome.reaction.left[0]),
        }
        observation = empty if finished else _observe(self._simulator)[0]
        return observation, float(outcome.reaction.clicks.sum()), finished, False, info


class SlateVectorEnv(VectorEnv[Observation, NDArray[np.int64], NDArray[Any]]):
    """Users side by side in one set of arrays, drawn together at a reset and played until all have finished.

    Who has finished before the others stays `terminated`, at no reward and with no candidates: there is no
    automatic reset, and none of a part.

    Parameters
    ----------
    num_envs : users
    """

    metadata = {"autoreset_mode": AutoresetMode.DISABLED}

    def __init__(self, tastes: Tastes, config: SimulatorConfig | None = None, *, num_envs: int) -> None:
        self.config = config or SimulatorConfig()
        self.num_envs = num_envs
        self._tastes = tastes
        self._simulator: Simulator | None = None
        self.single_observation_space = observation_space(self.config)
        self.single_action_space = action_space(self.config)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Draw all users; return their first candidates."""
        if isinstance(seed, list):
            raise ValueError(f"seed must be one number for all users, got a list of {len(seed)}")
        mask = (options or {}).get("reset_mask")
        if mask is not None and not np.all(mask):
            raise ValueError("reset_mask must name all users, got a part of them")
        super().reset(seed=seed)
        self._simulator = Simulator(self._tastes, self.config, n=self.num_envs, rng=self.np_random)
        return self._spread(self._simulator.here, _observe(self._simulator)), {}

    def step(
        self, actions: NDArray[np.int64]
    ) -> tuple[Observation, NDArray[Any], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Show a slate to each user who is here; see `SlateEnv.step`."""
        simulator = self._simulator
        if simulator is None or not len(simulator.here):
            raise gymnasium.error.ResetNeeded("step needs a user who is here: call reset first")
        here = simulator.here
        outcome = simulator.step(_choosable(simulator, np.asarray(actions)[here]))
        terminated = np.ones(self.num_envs, np.bool_)
        terminated[simulator.here] = False
        info = {
            "expected_clicks": self._spread(here, outcome.expected),
            "best_expected_clicks": self._spread(here, outcome.best),
            "session_ended": self._spread(here, outcome.reaction.left),
        }
        observation = self._spread(simulator.here, _observe(simulator))
        reward = self._spread(here, outcome.reaction.clicks.sum(axis=1).astype(np.float64))
        return observation, reward, terminated, np.zeros(self.num_envs, np.bool_), info

    def _spread(self, here: NDArray[np.int64], values: NDArray[Any]) -> NDArray[Any]:
        whole = np.zeros((self.num_envs, *values.shape[1:]), values.dtype)
        whole[here] = values
        return whole


def _observe(simulator: Simulator) -> Observation:
    candidates = simulator.candidates
    usable = candidates.valid[..., None]
    return np.concatenate([usable, candidates.features * usable], axis=2, dtype=np.float32)


def _choosable(simulator: Simulator, actions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Leave out what cannot be chosen and what stands higher up already."""
    rows = np.arange(len(actions))[:, None]
    again = (np.tril(actions[:, :, None] == actions[:, None, :], k=-1)).any(axis=2)
    return np.where(simulator.candidates.valid[rows, actions] & ~again, actions, -1)
