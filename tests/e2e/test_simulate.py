"""Simulated users drive a worker over the topics, and a policy learned from what they did is served."""

import asyncio
import time
from pathlib import Path

import numpy as np

from model_core.data.datasets import Dataset, Interactions, Item, User
from online_learning.simulator.config import SimulatorConfig
from streams.commands.simulate_topics import Visit, visit_topics
from streams.commands.train_policy import PolicyOptions, train_policy
from streams.settings import Settings
from tests.e2e.client import Client, wait_until
from tests.e2e.conftest import StartWorker

N_USERS, N_ITEMS, REQUESTS, K = 30, 24, 75, 4


def ratings() -> Dataset:
    rng = np.random.default_rng(0)
    users, items = np.nonzero(rng.random((N_USERS, N_ITEMS)) < 0.6)
    stars = np.where(users % 2 == items % 2, 5.0, 2.0).astype(np.float32)
    return Dataset(
        "small",
        Interactions(
            np.array([f"u{user}" for user in users]), np.array([f"i{item}" for item in items]), stars,
            1_700_000_000_000 + np.arange(len(users)),
        ),
        [Item(f"i{n}", f"Film {n}", {"genre": ["Odd" if n % 2 else "Even"]}) for n in range(N_ITEMS)],
        [User(f"u{n}") for n in range(N_USERS)],
    )  # fmt: skip


def test_what_simulated_users_click_becomes_a_policy_that_a_worker_serves(
    client: Client, kafka_settings: Settings, start_worker: StartWorker, tmp_path: Path
) -> None:
    worker = start_worker(policy="softmax", attribution_window_ms=500)
    visit = Visit(requests=REQUESTS, at_once=4, k=K, seed=0)
    visits = asyncio.run(visit_topics(kafka_settings, ratings(), SimulatorConfig(), visit, say=print))
    figures = visits.figures(slice(None))
    assert (figures["slates"], visits.lost) == (REQUESTS, 0)
    assert visits.policies == {"softmax": REQUESTS}
    assert sum(visits.clicks) > 0
    assert figures["click_through"] > 0.05
    assert figures["regret"] >= 0

    def closed() -> bool:
        client.now_ms = int(time.time() * 1000)  # slates close as clicks go on
        for user in range(16):
            client.click(f"u{user}", "elsewhere", "view")
        client.flush()
        return len(client.feedback()) >= REQUESTS

    wait_until(closed, "slates have closed")
    options = PolicyOptions(
        file=None, out=tmp_path / "policy", algorithm="sarsa", epochs=2, seed=0, device="cpu",
        gap_minutes=30.0, held_out=0.2,
    )  # fmt: skip
    train_policy(options, kafka_settings)
    worker.stop()
    start_worker(policy="rl", policy_release=str(tmp_path / "policy"))
    slate = client.ask("u1", k=K)
    assert (slate.policy, slate.propensity_kind) == ("rl", "exact")
    assert len(slate.slate) == K
    assert all(0 < item.propensity <= 1 for item in slate.slate)
