"""What a policy has learned survives a crash: no impression and no reward is lost or counted twice."""

import os
import signal

from tests.e2e.client import Client, film, item_ids, wait_until
from tests.e2e.conftest import StartWorker

K, SLATES, CLICKED = 3, 12, 5
SETTINGS = {
    "policy": "diverse-softmax", "position_bias": "learned", "reward_half_life_ms": 86_400_000,
    "diversity": 0.5, "group_relation": "genre", "group_cap": 2, "fresh_share": 0.2,
    "instance_id": "one",  # nobody waits for the session of the one that was killed
}  # fmt: skip


def test_after_kill_9_a_policy_has_learned_from_each_slate_and_click_once(
    client: Client, start_worker: StartWorker
) -> None:
    worker = start_worker(**SETTINGS)
    client.content(*(film(f"i{n}", f"Film {n}", genre=["Odd" if n % 2 else "Even"]) for n in range(8)))
    wait_until(lambda: len(item_ids(client.ask("nobody", k=8))) == 8, "the films are recommendable")
    for n in range(SLATES):
        slate = client.ask(f"u{n}", k=K)
        if n < CLICKED:
            client.click(f"u{n}", slate.slate[1].item_id, "click", request_id=slate.request_id)
        if n == SLATES // 2:
            client.flush()
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGKILL)
            worker = start_worker(**SETTINGS)
    client.flush()

    def learned() -> bool:
        last = client.ask("asker", k=1)
        shown = sum(len(slate.slate) for slate in client.recommendations())
        return last.policy_version == shown - len(last.slate) + CLICKED

    wait_until(learned, "the policy has seen every slate and click, each once")
