"""`slatestream attack`: on a worker in memory, and what it is refused."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streams.attack.run import AttackPlan
from streams.attack.topics import check_test_cluster
from streams.cli import app
from streams.errors import ConfigurationError
from streams.settings import Settings
from tests.streams.attack.made import write_shop


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shop(tmp_path_factory.mktemp("data"))


def attack(*words: str) -> tuple[dict, dict]:
    done = CliRunner().invoke(app, ["attack", *words, "--json"])
    assert done.exception is None, done.output
    report = json.loads(done.stdout)
    return report, {name: course["phases"] for name, course in report["courses"].items()}


def test_a_flood_of_few_fakes_fills_slates_without_the_bound_and_hardly_with_it(folder, tmp_path):
    report, phases = attack(
        "bandwagon", "--data", str(folder), "--share", "0.05", "--events", "600", "--during", "600",
        "--after", "400", "--targets", "3", "--panel", "40", "--out", str(tmp_path),
    )  # fmt: skip
    normal, on, off = (
        phases[name] for name in ("no attack", "attacked, surges not bounded", "attacked, defences off")
    )

    assert report["courses"]["attacked, surges not bounded"]["fake_events"] == 3 * 600
    assert report["courses"]["attacked, surges not bounded"]["bounded"] > 1_500
    assert report["courses"]["attacked, defences off"]["bounded"] == 0
    for phase in ("during", "after"):
        excess = {
            name: found[phase]["hit_ratio"] - normal[phase]["hit_ratio"]
            for name, found in (("on", on), ("off", off))
        }
        assert excess["on"] < 0.5 * excess["off"]
        assert off[phase]["exposure"] > normal[phase]["exposure"]
    assert on["before"] == phases["attacked, defences on"]["before"] == normal["before"]
    assert json.loads((tmp_path / "attack.json").read_text())["targets"] == report["targets"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--on-topics"], "say --test-cluster if nobody is served"),
        (["--on-topics", "--test-cluster"], "topic_prefix must begin with 'attack.' for an attack, got ''"),
        (["rude"], "KIND must be one of random, .*, got 'rude'"),
        (["--during", "9000000"], "before, during and after must be at most 80000? events|at most"),
    ],
)
def test_what_an_attack_must_not_be_is_refused(words, message, folder):
    done = CliRunner().invoke(app, ["attack", *words, "--data", str(folder)])
    assert re.search(message, str(done.exception))


def test_a_production_prefix_is_refused_whatever_is_said():
    with pytest.raises(ConfigurationError, match=r"must begin with 'attack\.' for an attack, got 'shop\.'"):
        check_test_cluster(Settings(topic_prefix="shop."), said=True)
    check_test_cluster(Settings(topic_prefix="attack.1."), said=True)


def test_a_plan_out_of_bounds_is_refused():
    with pytest.raises(ValueError, match=r"share must be in \[0, 1\], got 2"):
        AttackPlan(share=2)
    with pytest.raises(ValueError, match="every must be at least 1, got 0"):
        AttackPlan(every=0)
