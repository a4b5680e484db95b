"""What README.md, deploy/releases.md and deploy/console.md tell to type is typed, on a real broker.

The commands of the other pages are run by tests of their own, or it is said here why they are not.
"""

import contextlib
import json
import re
import shlex
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from kafka.admin import NewTopic

from streams.cli import main
from streams.kafka.topic_admin import admin_client
from streams.settings import Settings, load_settings
from streams.worker.process import WorkerProcess, environment, same_topics
from tests.e2e.client import Client, wait_until
from tests.e2e.conftest import FAST
from tests.streams.releases.made import variant

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "deploy").rglob("*.md")])
BLOCK = re.compile(r"^```[^\n]*\n(.*?)^```$|((?:^    \w[^\n]*\n)+)", re.MULTILINE | re.DOTALL)
VARIABLES = r"(?:export )?(?:\w+=\S+ ?)*"
TYPED = re.compile(rf"(?:\$ )?({VARIABLES}(?:\.venv/bin/)?(?:slatestream|make|kubectl|docker|ssh|pytest) .*)")

RUN_ELSEWHERE = {
    "import.md": "test_import_page.py",
    "mapping.md": "test_mapping_page.py",
    "quickstart.md": "test_quickstart_page.py",
    "http.md": "test_pages.py",
    "trust.md": "test_federate.py",
}
"""Page -> the test that runs all of its blocks."""

NO_CLUSTER = "there is no cluster: the folder is built, and each resource checked, by test_kubernetes.py"
NOT_RUN = {
    "make demo": "takes minutes; its parts are run by tests/streams/demo, all of it before a release",
    "make test": "is what runs this",
    "slatestream quickstart ratings.csv films.csv": "trains; see test_quickstart_page.py",
    "slatestream train --data u.data --out build/release": "trains; see test_train.py",
    "ssh -L 6070:127.0.0.1:6070 worker.example": "takes another machine",
    "kubectl port-forward pod/worker-0 6070:6070": "there is no cluster",
    "docker compose -f docker-compose.yml -f deploy/docker/tokens.yml up": "no engine; see test_compose.py",
    "kubectl apply -k deploy/kubernetes/kafka": NO_CLUSTER,
    "kubectl apply -k deploy/kubernetes": NO_CLUSTER,
    "kubectl apply -k deploy/kubernetes-with-tokens": NO_CLUSTER,
    "kubectl -n slatestream create secret generic slatestream-tokens --from-file=tokens.toml "
    "--from-file=metrics.token": "there is no cluster",
    "slatestream pseudonym u1 u2": "needs the key; run by tests/streams/test_pseudonyms.py",
    "slatestream --install-completion": "run by tests/streams/test_cli.py",
    "slatestream --show-completion": "run by tests/streams/test_cli.py",
}
"""Command -> why it is not run here."""
NOT_RUN_OF = {
    "scaling.md": "measures for minutes on a quiet machine; in small run by tests/e2e/test_bench.py",
}
"""Page -> why none of its commands is run here."""

ENDS = {
    "topics", "init", "map", "import", "train", "release", "status", "list", "explain", "ope", "experiment",
    "dead-letters", "config",
}  # fmt: skip
"""Commands that come to an end by themselves; of another one only its help is asked for."""

SHOP = '{"id": "e%d", "type": "%s", "sentAt": %d, "customer": {"id": "c1"}, "product": {"sku": "i1"}}'
NOW_S = 1_764_000_000


def commands(page: Path) -> list[str]:
    """What a page tells to type, without comments."""
    text = page.read_text()
    lines = [line for fenced, code in BLOCK.findall(text) for line in (fenced or code).splitlines()]
    found = [typed[1] for line in lines if (typed := TYPED.fullmatch(line.strip()))]
    return [re.sub(r"\s+# .*|\.venv/bin/", "", one).strip() for one in found]


RAN: set[str] = set()
"""What has been typed; filled by the tests in their order."""


@dataclass
class Shell:
    """A folder and an environment in which commands are typed."""

    settings: Settings
    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    def type(self, command: str, **instead: str) -> str:
        """Run a command of a page to its end, with some words replaced; return what it printed."""
        RAN.add(command)
        for word, other in instead.items():
            command = command.replace(word, other)
        words = shlex.split(command)
        if words[1] not in ENDS:
            words = [*words[:2], "--help"]
        self.monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as ended:
            main()
        shown = self.capsys.readouterr()
        assert ended.value.code == 0, (command, shown)
        return shown.out

    @contextlib.contextmanager
    def stays(self, command: str, log: str, **settings: object) -> Iterator[WorkerProcess]:
        """Run a command that stays until it is ready, on a port of its own."""
        RAN.add(command)
        words = [word for word in shlex.split(command) if "=" not in word]
        given = same_topics(self.settings, **(FAST | settings))
        with WorkerProcess(
            given, log=Path(log), command=("streams.cli", *words[1:]), variables={"PYTHONPATH": str(ROOT)}
        ) as worker:
            worker.wait_ready()
            yield worker


@pytest.fixture
def shell(
    kafka_settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    random_weights: Path,
) -> Shell:
    """A folder with files and releases as the pages have them, and topics that are made."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name, value in environment(same_topics(kafka_settings)).items():
        monkeypatch.setenv(name, value)
    Path("build/releases").mkdir(parents=True)
    variant(random_weights, Path("build/releases/latest"))
    rows = [f"u{n % 9},i{n % 7},{1 + n % 5},{NOW_S + n}" for n in range(200)]
    Path("ratings.csv").write_text("\n".join(["user,item,rating,time", *rows, ""]))
    Path("films.csv").write_text("item,title,genre\n" + "".join(f"i{n},Film {n},Drama\n" for n in range(7)))
    return Shell(kafka_settings, monkeypatch, capsys)


def samples(page: Path) -> dict[str, bytes]:
    """The record of each topic that README.md shows."""
    return {name: value.encode() for name, value in re.findall(r"^(\w+) +(\{\S.*\})", page.read_text(), re.M)}


def test_readme_runs_from_its_first_command_to_a_slate(shell: Shell) -> None:
    readme = ROOT / "README.md"
    mine = [one for one in commands(readme) if one not in NOT_RUN and one.startswith("slatestream")]
    place = next(k for k, one in enumerate(mine) if one.startswith("slatestream worker"))
    topic = f"{shell.settings.topic_prefix}shop"
    with admin_client(shell.settings) as admin, Client(shell.settings) as client:
        admin.create_topics([NewTopic(topic, 1, 1)])
        for number, kind in enumerate(("product_seen", "product_bought")):
            client.producer.send(topic, (SHOP % (number, kind, NOW_S + number)).encode())
        client.flush()
        said = {one: shell.type(one, **{"shop.events": topic}) for one in mine[:place]}
        assert "mapping.toml" in said["slatestream init shop.events"]
        assert "200 records" in said["slatestream import ratings.csv films.csv --dry-run"]
        with shell.stays(mine[place], "worker.log") as worker:
            address = f"127.0.0.1:{worker.url.rpartition(':')[2]}"
            for name, value in samples(readme).items():
                key = json.loads(value)["item_id" if name == "content" else "user_id"]
                client.send(name, key, value)
            client.flush()
            wait_until(
                lambda: any(one.request_id == "r1" for one in client.recommendations()), "r1 has a slate"
            )
            curl = re.search(r"`(curl '(\S+)')`", readme.read_text())
            assert curl
            with urllib.request.urlopen(f"http://{curl[2]}".replace("localhost:6066", address)) as answer:
                assert json.load(answer)["slate"][0]["item_id"] == "i1"
            for one in mine[place + 1 :]:
                there = ("status", "list", "explain")
                shell.type(one, **({one: f"{one} --url {worker.url}"} if one.split()[1] in there else {}))


def test_releases_are_put_promoted_served_and_rolled_back_as_their_page_says(shell: Shell) -> None:
    lines = commands(ROOT / "deploy" / "releases.md")
    shell.monkeypatch.setenv("SLATESTREAM_RELEASE_STORE", str(Path("store").absolute()))
    second = variant(Path("build/releases/latest"), Path("build/second"), gain=1.1)
    Path("build/releases/latest").rename("build/release")
    put = "slatestream release put build/release"
    first_version = shell.type(put).split()[0]
    second_version = shell.type(put, **{"build/release": str(second)}).split()[0]
    promote = "slatestream release promote 3f9c"
    for version in (second_version, first_version):
        assert version in shell.type(promote, **{"3f9c": version[:6]})
    console = commands(ROOT / "deploy" / "console.md")[0]
    settings = {"release_store": str(Path("store").absolute()), "console_port": 0}
    with shell.stays(console, "worker.log", **settings):
        RAN.add("slatestream worker")
        found = re.search(r"console on (http://\S+)", Path("worker.log").read_text())
        assert found
        with urllib.request.urlopen(f"{found[1]}/release") as page:
            assert first_version in page.read().decode()
        versions = {"3f9c": first_version, "81aa": second_version}
        rest = lines[lines.index(promote) + 2 :]
        said = {one: shell.type(one, **versions) for one in rest}
        assert first_version in said["slatestream release list"]
        assert second_version in next(one for name, one in said.items() if "rollback" in name)


def test_every_command_of_a_block_was_run_or_it_is_said_why_not() -> None:
    left, named = set(), set()
    for page in PAGES:
        if page.name in RUN_ELSEWHERE or page.name in NOT_RUN_OF:
            continue
        mine = set(commands(page))
        named |= mine
        left |= {(page.name, one) for one in mine - RAN - NOT_RUN.keys()}
    assert left == set()
    elsewhere = {one for page in PAGES if page.name in RUN_ELSEWHERE for one in commands(page)}
    assert NOT_RUN.keys() <= named | elsewhere  # none is listed that no page has any more
    assert not NOT_RUN.keys() & RAN
    for test in RUN_ELSEWHERE.values():
        assert list((ROOT / "tests").rglob(test)), test


def test_settings_that_the_console_s_page_names_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    (setting,) = re.findall(
        r"^(SLATESTREAM_CONSOLE_NAMES)='(.*)'$", (ROOT / "deploy/console.md").read_text(), re.M
    )
    monkeypatch.setenv(*setting)
    assert load_settings().console_names == ("console.example",)
