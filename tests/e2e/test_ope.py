"""Off-policy evaluation of what a worker logged: by the command on the topic, and continuously."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from streams.cli import main
from streams.settings import Settings
from streams.worker.process import DIE_WITH_PARENT, MetricsReading, environment, same_topics
from tests.e2e.client import Client, item_ids, wait_until
from tests.e2e.conftest import StartWorker
from tests.e2e.test_loop import CATALOGUE, published

LIVE = "epsilon-greedy:epsilon=0.6"
CANDIDATES = (LIVE, "random", "greedy", "softmax:temperature=0.5")
USERS, VISITS, K, WANTED = 60, 4, 2, "evita"
WINDOW_MS = 60_000


def log_slates(client: Client) -> float:
    """Let users ask, and take the wanted film where it is shown; return the films taken a slate."""
    asked = [f"visit-{user}-{visit}" for user in range(USERS) for visit in range(VISITS)]
    for request_id in asked:
        user = request_id.split("-")[1]
        value = {"request_id": request_id, "user_id": f"u{user}", "timestamp_ms": client.now_ms, "k": K}
        client.send("requests", f"u{user}", json.dumps(value).encode())
    client.flush()
    wait_until(
        lambda: set(asked) <= {slate.request_id for slate in client.recommendations()}, "all are answered"
    )
    taken = 0
    for slate in client.recommendations():
        if slate.request_id in asked and WANTED in item_ids(slate):
            at = client.now_ms
            client.click(slate.user_id, WANTED, "click", request_id=slate.request_id)
            client.now_ms = at
            taken += 1
    client.flush()
    client.now_ms += 2 * WINDOW_MS  # a later click on every partition closes the slates
    for user in range(40):
        client.click(f"late-{user}", "diner", "view")
    client.flush()
    wait_until(
        lambda: set(asked) <= {feedback.request_id for feedback in client.feedback()}, "all are fed back"
    )
    return taken / len(asked)


def test_what_candidates_would_earn_is_told_from_the_topic(
    client: Client,
    kafka_settings: Settings,
    start_worker: StartWorker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    worker = start_worker(
        policy="epsilon-greedy",
        epsilon=0.6,
        candidate_policies=CANDIDATES,
        prior_precision=1e9,
        attribution_window_ms=WINDOW_MS,
    )
    client.now_ms -= 10 * WINDOW_MS  # no watermark runs ahead of the broker's clock
    published(client, worker, *CATALOGUE)
    measured = log_slates(client)
    logged = [feedback for feedback in client.feedback() if feedback.request_id.startswith("visit-")]
    for feedback in logged:
        shadows = feedback.candidate_propensities
        assert tuple(shadows) == CANDIDATES
        assert shadows["random"] == pytest.approx([1 / 5, 1 / 4])
        assert shadows[LIVE] == pytest.approx([item.propensity for item in feedback.slate])
        assert set(shadows["greedy"]) <= {0.0, 1.0}
    client.send("feedback", "bad", b"{")
    client.send("feedback", "bad", None)
    client.send("feedback", "bad", {"request_id": "r", "user_id": "bad", "slate": [], "rewards": []})
    client.flush()

    values = same_topics(kafka_settings)
    for name, value in environment(values).items():
        monkeypatch.setenv(name, value)
    figures, picture = tmp_path / "ope.json", tmp_path / "ope.png"
    command = ["slatestream", "ope", "--last", "1h", "--report", str(figures), "--plot", str(picture)]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert "3 of " in " ".join(capsys.readouterr().out.split())
    assert picture.read_bytes().startswith(b"\x89PNG")
    found = json.loads(figures.read_text())
    assert found["records"]["malformed"] == {"undecodable": 2, "lengths": 1}
    others = found["records"]["slates"] - len(logged)  # of those who waited for the catalogue: nothing taken
    share = len(logged) / (len(logged) + others)
    assert found["measured"]["live"]["value"] == pytest.approx(measured * share)
    verdicts = {one["policy"]: one for one in found["verdicts"]}
    assert set(verdicts) == {"live", *CANDIDATES}
    for same in ("live", LIVE):
        assert verdicts[same]["estimate"]["value"] == pytest.approx(measured * share)
    random = verdicts["random"]["estimate"]
    assert random["low"] <= K / len(CATALOGUE) * share <= random["high"]
    assert random["high"] - random["low"] < 0.3

    live = subprocess.Popen(
        [*DIE_WITH_PARENT, sys.executable, "-u", "-m", "streams.cli", "ope", "--port", "0", "--every", "0.2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"COLUMNS": "400"},
    )
    with live:
        try:
            assert live.stdout is not None
            url = live.stdout.readline().split()[-1]
            assert "slates" in live.stdout.readline()
            with urllib.request.urlopen(url, timeout=30) as answer:
                reading = MetricsReading(answer.read().decode())
            # Not SIGINT: what a shell puts in the background ignores it, and so do its children.
            live.send_signal(signal.SIGTERM)
            rest, _ = live.communicate(timeout=120)
        finally:
            live.kill()
    assert (live.returncode, "Traceback" in rest) == (130, False), rest
    assert reading.total("ope_slates") == found["records"]["slates"]
    assert reading.total("ope_malformed_total") == 3
    assert reading.total("ope_value", policy="random") == pytest.approx(random["value"])
