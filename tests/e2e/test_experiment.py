"""An experiment on a real broker: started, seen in the record, judged and rolled back by the command."""

import json
from collections import defaultdict
from pathlib import Path

import pytest
import typer.testing

from streams.cli import app
from streams.events import Recommendation, Request
from streams.settings import Settings
from streams.worker.process import WorkerProcess, environment, same_topics
from tests.e2e.client import Client, film, item_ids, wait_until
from tests.e2e.conftest import StartWorker

FILMS = tuple(film(f"f{number}", f"Film {number}", genre=["Drama"]) for number in range(8))
USERS = [f"u{number}" for number in range(60)]


class Command:
    """`slatestream experiment` with the settings of the test's worker."""

    def __init__(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in environment(same_topics(settings, policy="softmax")).items():
            monkeypatch.setenv(name, value)

    def __call__(self, *arguments: str, exit_code: int = 0) -> str:
        done = typer.testing.CliRunner().invoke(app, ["experiment", *arguments])
        assert done.exit_code == exit_code, (done.output, done.exception)
        return done.output or str(done.exception)


def ask_all(client: Client, round: str) -> dict[str, Recommendation]:
    """Request a slate for every user at once, and return the answers by user."""
    requests = [Request(f"{round}-{user}", user, client.now_ms, k=4) for user in USERS]
    for request in requests:
        client.send("requests", request.user_id, request)
    client.flush()
    asked = {request.request_id for request in requests}
    found = wait_until(
        lambda: (
            [one for one in client.recommendations() if one.request_id in asked]
            if asked <= {one.request_id for one in client.recommendations()}
            else []
        ),
        f"the requests of {round} are answered",
    )
    return {one.user_id: one for one in found}


def running(worker: WorkerProcess, experiments: int) -> None:
    wait_until(lambda: worker.metrics().total("experiments_running") == experiments, f"{experiments} run")


def test_an_experiment_is_started_judged_and_rolled_back_without_a_restart(
    client: Client,
    start_worker: StartWorker,
    kafka_settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    client.now_ms -= 3_600_000  # a slate closes by event time, but never ahead of the broker's clock
    worker = start_worker(policy="softmax", attribution_window_ms=60_000)
    command = Command(kafka_settings, monkeypatch)
    client.content(*FILMS)
    wait_until(lambda: len(item_ids(client.ask("nobody", k=100))) == len(FILMS), "all films are known")
    before = ask_all(client, "before")
    assert {(one.experiment, one.variant, one.policy) for one in before.values()} == {(None, None, "softmax")}

    command("start", "hot", "--variant", "control=live", "--variant", "b=epsilon-greedy:epsilon=1")
    running(worker, 1)
    first, again = ask_all(client, "first"), ask_all(client, "again")
    assert {one.experiment for one in first.values()} == {"hot"}
    assert {(one.variant, one.policy) for one in first.values()} == {
        ("control", "softmax"), ("b", "epsilon-greedy"),
    }  # fmt: skip
    assert {user: one.variant for user, one in first.items()} == {
        user: one.variant for user, one in again.items()
    }
    uniform = [1 / 8, 1 / 7, 1 / 6, 1 / 5]  # what epsilon = 1 says, and the live policy does not
    for one in first.values():
        matches = [item.propensity for item in one.slate] == pytest.approx(uniform, rel=1e-5)
        assert matches or one.variant == "control"

    command("start", "duel", "--interleave", "--variant", "control=live", "--variant", "b=greedy")
    command("stop", "hot")
    wait_until(
        lambda: {one.experiment for one in [client.ask("u0", k=2)]} == {"duel"}, "the duel has taken over"
    )
    duel = ask_all(client, "duel")
    assert {(one.variant, one.policy) for one in duel.values()} == {(None, "interleaved")}
    for one in duel.values():
        assert sorted(str(item.team) for item in one.slate) == ["b", "b", "control", "control"]
    assert worker.stop() == 0
    worker = start_worker(policy="softmax", attribution_window_ms=60_000)
    assert client.ask("u1", k=2).experiment == "duel"  # the first answer after a restart

    shown = [one for one in first.values() if one.variant == "b"]
    at = client.now_ms + 1_000
    for one in shown:  # every user of b takes the first item, and nobody of the control
        client.click(one.user_id, one.slate[0].item_id, "click", request_id=one.request_id, timestamp_ms=at)
    for one in duel.values():
        item = next(item for item in one.slate if item.team == "b")
        client.click(one.user_id, item.item_id, "click", request_id=one.request_id, timestamp_ms=at)
    client.now_ms += 120_000
    for user in USERS:
        client.click(user, "f7", "view")  # moves the watermark on
    client.flush()
    asked = {one.request_id for one in [*first.values(), *again.values(), *duel.values()]}
    wait_until(lambda: asked <= {one.request_id for one in client.feedback()}, "the slates are closed")
    assert {one.experiment for one in client.feedback()} >= {"hot", "duel"}
    assert worker.metrics().total("experiment_responses_total", experiment="duel", variant="b") == len(USERS)

    report = json.loads(command("status", "hot", "--json", "--plot", str(tmp_path / "hot.png")))
    control, b = report["variants"]
    exposed = defaultdict(set)
    for user, one in first.items():
        exposed[one.variant].add(user)
    assert (control["users"], b["users"]) == (len(exposed["control"]), len(exposed["b"]))
    assert report["users"] == len(USERS)
    assert report["sample_ratio_p"] > 0.01
    assert (control["responses"], b["responses"]) == (0, len(shown))
    assert (control["reward_per_user"], b["reward_per_user"]) == (0.0, 1.0)
    assert (tmp_path / "hot.png").stat().st_size > 5_000
    duelled = json.loads(command("status", "duel", "--json"))
    assert duelled["preference"]["variant"] == len(USERS)
    assert duelled["preference"]["low"] > 0.5
    assert "b is preferred to control" in duelled["verdict"]
    assert "running for" in command("status")

    command("stop", "duel")
    running(worker, 0)
    after = ask_all(client, "after")
    assert {(one.experiment, one.policy) for one in after.values()} == {(None, "softmax")}
    assert "no experiment runs" in command("status")

    command("start", "newcomers", "--variant", "all=greedy", "--segment", "events<1")
    running(worker, 1)
    assert [client.ask(user, k=2).policy for user in ("never seen", "u0")] == ["greedy", "softmax"]
    assert command("list").count("stopped after") == 2
    assert "experiment hot has run before" in command(
        "start", "hot", "--variant", "a=live", "--variant", "b=greedy", exit_code=1
    )
