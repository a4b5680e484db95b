import pytest
from typer.testing import CliRunner

from streams.cli import app
from streams.errors import SlatestreamError
from streams.settings import Settings
from streams.worker.process import environment, same_topics

TWO = ("--variant", "control=live", "--variant", "b=greedy")


def run(*arguments: str) -> str:
    """Output of the command, or the message that `slatestream` would end with."""
    done = CliRunner().invoke(app, ["experiment", *arguments])
    if isinstance(done.exception, SlatestreamError):
        return str(done.exception)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--variant", "control"), "--variant must be NAME=POLICY, got 'control'"),
        (("--variant", "=live"), "--variant must be NAME=POLICY, got '=live'"),
        (("--variant", "a=live", "--variant", "b=ucb9"), "experiment hot: policy must be one of softmax, "),
        ((*TWO, "--weight", "b=0"), "experiment hot: weights must be finite and above 0, got 0.0 for 'b'"),
        ((*TWO, "--weight", "b=x"), "--weight must be NAME=WEIGHT with a number, got 'b=x'"),
        ((*TWO, "--weight", "c=2"), "--weight names ['c'], which no --variant does"),
        ((*TWO, "--share", "1.2"), "experiment hot: share must be above 0 and at most 1, got 1.2"),
        ((*TWO, "--segment", "events"), "experiment hot: segment must be 'events<N'"),
        ((*TWO, "--guardrail", "speed=1"), "experiment hot: guardrails must be latency_p99_ms"),
        (("--variant", "a=live", "--interleave"), "experiment hot: interleaving must have 2 variants, got 1"),
    ],
)
def test_what_makes_no_experiment_is_refused_before_a_broker_is_asked(
    arguments: tuple[str, ...], message: str
) -> None:
    assert message in run("start", "hot", *arguments)


def test_a_broker_that_is_away_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    for arguments in (("start", "hot", *TWO), ("status",), ("stop", "hot"), ("list",), ("share", "hot", "1")):
        assert "Kafka cannot be reached (127.0.0.1:1" in run(*arguments)


def test_topics_of_before_experiments_are_told_what_to_do(
    kafka_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment(same_topics(kafka_settings) | {"topic_prefix": "old."}).items():
        monkeypatch.setenv(name, value)
    assert "old.experiments: missing: run `slatestream topics create`" in run("start", "hot", *TWO)


def test_a_name_is_used_once_and_only_what_runs_can_be_changed_or_stopped(
    kafka_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment(same_topics(kafka_settings, policy="softmax")).items():
        monkeypatch.setenv(name, value)
    assert "no experiment runs" in run("status")
    assert "there is no experiment 'hot'; there are: none" in run("stop", "hot")
    assert run("start", "hot", *TWO, "--share", "0.2").startswith("hot runs; see")
    assert "experiment hot runs already: choose another name" in run("start", "hot", *TWO)
    assert "there is no experiment 'cold'; there are: hot" in run("status", "cold")
    assert "share must be above the present 0.2 and at most 1, got 0.1" in run("share", "hot", "0.1")
    assert run("share", "hot", "0.6") == "hot has a share of 0.6 now.\n"
    assert "share 0.6: 0 users, 0 slates" in run("status", "hot")
    note = run("start", "new", *TWO, "--segment", "events<5")
    assert "users leave this segment by what they do" in note
    assert run("stop", "hot").startswith("hot is stopped after")
    assert "experiment hot has been stopped already" in run("stop", "hot")
    assert "experiment hot has been stopped already" in run("share", "hot", "1")
    assert "experiment hot has run before, and its record is kept" in run("start", "hot", *TWO)
    listed = run("list")
    assert "stopped after" in listed
    assert "running for" in listed
    assert "--plot needs the name of an experiment" in run("status", "--plot", "x.png")
