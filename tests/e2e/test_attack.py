"""`slatestream attack --on-topics`: the same attack on a real worker, over its topics."""

import json
import uuid
from pathlib import Path

from typer.testing import CliRunner

from streams.broker.embedded import EmbeddedBroker
from streams.cli import app
from streams.worker.process import WorkerProcess, same_topics
from tests.conftest import settings_maker, with_topics
from tests.e2e.conftest import FAST
from tests.streams.attack.made import write_shop


def test_fakes_push_their_targets_over_the_topics_of_a_test_cluster(
    broker: EmbeddedBroker, tmp_path: Path
) -> None:
    prefix = f"attack.{uuid.uuid4().hex[:8]}."
    with with_topics(settings_maker(broker)(topic_prefix=prefix)) as settings:
        values = same_topics(settings, **FAST, policy="greedy", influence_per_hour=0)
        config = tmp_path / "attack.toml"
        shared = same_topics(settings)
        config.write_text("\n".join(f"{name} = {json.dumps(value)}" for name, value in shared.items()))
        with WorkerProcess(values, log=tmp_path / "worker.log") as worker:
            worker.wait_ready()
            done = CliRunner().invoke(app, [
                "attack", "bandwagon", "--on-topics", "--test-cluster", "--config", str(config), "--json",
                "--data", str(write_shop(tmp_path)), "--out", str(tmp_path), "--share", "0.05",
                "--events", "400", "--before", "250", "--during", "250", "--after", "250", "--targets", "3",
                "--panel", "20",
            ])  # fmt: skip
            assert done.exception is None, done.output
    (course,) = json.loads(done.stdout)["courses"].values()

    assert course["fake_events"] == 3 * 400
    assert course["phases"]["after"]["exposure"] > course["phases"]["before"]["exposure"]
    assert sum(one["slates"] for one in course["moments"]) == 3 * 20
    assert sum(one["positions"] for one in course["moments"]) == 3 * 200
