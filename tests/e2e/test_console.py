"""The console beside a real worker, in a real browser: every page, light, dark and on a phone."""

import asyncio
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.testing

from streams import events
from streams.cli import app
from streams.events import Click
from streams.releases.changes import Gate, publish_change
from streams.settings import Settings
from streams.worker.process import WorkerProcess, environment, same_topics
from tests.e2e.client import Client, film, wait_until
from tests.e2e.conftest import StartWorker

sync_api = pytest.importorskip("playwright.sync_api", reason="the console's pages need playwright")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="the console's pages need axe")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on the PATH")

SCREENS = (("dark", 1280), ("light", 390))
PAGES = (
    "/", "/user", "/user?id=u1", "/user?id=nobody", "/item", "/item?id=f3", "/experiments", "/policies",
    "/release", "/partitions", "/dead-letters", "/dead-letter?number=0", "/dead-letter?number=99",
)  # fmt: skip
BROKEN = b'{"event_id": "broken", "user_id": "u1", "item_id": "f9", "action": "stare", "timestamp_ms": 1}'


def lived(client: Client) -> None:
    """Films, people who like them, slates of which some are rewarded, and a record that is refused."""
    client.content(*(film(f"f{n}", f"Film number {n}", genre=[f"Genre {n % 4}"]) for n in range(30)))
    for user in range(12):
        for step in range(6):
            client.click(f"u{user}", f"f{(user * 3 + step * step) % 30}")
    client.flush()
    for user in range(12):
        slate = client.ask(f"u{user}", k=5)
        if user % 3:
            client.click(slate.user_id, slate.slate[0].item_id)
    client.send("clicks", "u1", BROKEN)
    client.flush()


@pytest.fixture
def url(
    client: Client,
    start_worker: StartWorker,
    kafka_settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    """The console of a worker that has lived a little, with an experiment that runs."""
    worker = start_worker(
        console_port=0,
        policy="thompson",
        candidate_policies=("softmax", "greedy"),
        attribution_window_ms=2000,
    )
    for name, value in environment(same_topics(kafka_settings, policy="thompson")).items():
        monkeypatch.setenv(name, value)
    client.now_ms -= 600_000  # windows end by what comes later, and never ahead of the broker's clock
    lived(client)
    started = typer.testing.CliRunner().invoke(
        app, ["experiment", "start", "new", "--variant", "control=live", "--variant", "soft=softmax"]
    )
    assert started.exit_code == 0, started.output
    wait_until(lambda: running(worker), "the experiment runs")
    for user in range(12):
        client.ask(f"u{user}", k=5)
    client.now_ms += 60_000
    for user in range(12):
        client.click(f"u{user}", f"f{user + 8}", "view")
    client.flush()
    wait_until(lambda: len(client.feedback()) >= 24, "the slates' windows have ended")
    wait_until(lambda: len(client.dead_letters()) == 1, "the broken record is a dead letter")
    rejected = Gate("latency", False, "a batch takes 90.0 ms, 2.1 with the live release", {"ms": 90.0})
    gates = (Gate("files", True, "", {"onnx_difference": 1e-6}), rejected)
    for kind, version, given in (("promote", "0123456789ab", ()), ("reject", "ba9876543210", gates)):
        asyncio.run(publish_change(kafka_settings, kind, version, by="trainer", gates=given))
    found = re.search(r"console on (http://\S+)", (tmp_path / "worker-1.log").read_text())
    assert found is not None
    return found[1]


def running(worker: WorkerProcess) -> bool:
    return worker.metrics().total("experiments_running") == 1


@pytest.fixture
def browser() -> Iterator["sync_api.Browser"]:
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


def visit(page: "sync_api.Page", url: str) -> "sync_api.Response | None":
    """Open a page once it is worked out: before, it loads again by itself, whatever one does meanwhile."""
    wait_until(lambda: "refresh" not in page.request.get(url).headers, f"{url} is worked out")
    return page.goto(url)


def look(page: "sync_api.Page", name: str) -> list[str]:
    """Return what is wrong with a page as it is shown."""
    found = [one["id"] for one in axe.Axe().run(page).response["violations"]]
    if page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
        found.append("wider than the screen")
    return [f"{name}: {one}" for one in found]


def test_pages_are_right_on_every_screen_and_a_dead_letter_is_mended_in_the_browser(
    url: str, browser: "sync_api.Browser", client: Client
) -> None:
    wrong: list[str] = []
    failures: list[object] = []
    for scheme, width in SCREENS:
        page = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": 900})
        page.on("pageerror", lambda error: failures.append(error))
        for path in PAGES:
            answer = visit(page, url + path)
            known = "nobody" not in path and "99" not in path
            assert answer is not None
            assert answer.status == (200 if known else 404), path
            if path == "/":
                page.wait_for_selector(".u-legend")
            wrong += look(page, f"{path} {scheme} {width}")
        page.close()
    assert (wrong, failures) == ([], [])

    page = browser.new_page()
    page.goto(url + "/release")
    page.click("summary:has-text('latency: a batch takes 90.0 ms')")
    assert "onnx difference" in page.inner_text("details[open]")
    assert "0123456789ab" in page.inner_text("table:has(caption:text('changes, as of'))")
    visit(page, url + "/dead-letters")
    page.click("td >> text='0'")
    page.click("text=Replay as it was")
    assert "Not replayed" in page.inner_text("[role=alert]")
    click = Click("mended", "u1", "f9", "like", int(time.time() * 1000))
    page.fill("#value", events.encode(click).decode())
    page.click("text=Replay as edited")
    assert "clicks again" in page.inner_text("[role=status]")
    wait_until(
        lambda: page.goto(url + "/user?id=u1") and "Film number 9" in page.inner_text("table:has(#history)"),
        "the mended click is in the history",
    )
