"""A device and a worker, over HTTP: what is asked, what is ranked, what is refused."""

import asyncio
import random
import re
import stat
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from streams.on_device.client import WIDE, Device, check_width
from streams.on_device.diary import Diary
from streams.on_device.files import DeviceError
from streams.on_device.source import HttpSource, Listed
from streams.on_device.tower import Items
from tests.streams.conftest import MakeMemory
from tests.streams.releases.life import Life, serves
from tests.streams.worker.test_http import listening

PAGE = Path(__file__).resolve().parents[3] / "deploy" / "trust.md"
EPSILON = 2.0
PATIENCE_S = 120.0


class Watched(HttpSource):
    """Notes each path that is asked for."""

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        self.asked: list[str] = []

    def _get(self, path: str) -> bytes:
        self.asked.append(path)
        return super()._get(path)


async def test_a_device_ranks_by_itself_and_tells_no_more_than_it_says(
    make_life: Callable[..., Life],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (snippet,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    life = make_life(http_port=0, http_release_files=True, trial_share=0.0)
    first, second = life.put(), life.put()
    now_ms = life.memory.clock.now_ms
    for n in range(20):
        for user in range(20 - n):  # i0 is the most popular, i19 the least
            life.memory.events.click(f"u{user}", f"i{n}", "like", timestamp_ms=now_ms - 1000 * n - user)
    liked = ("i2", "i5", "i7")
    for at, item in enumerate(liked):
        life.memory.events.click("me", item, "like", timestamp_ms=now_ms - 60_000 * (3 - at))
    async with life.worker(first) as worker, listening(worker) as found:
        life.memory.events.request("me", k=10)
        await worker.deliver()
        theirs = {one.item_id: one.score for one in life.memory.events.recommendations()[-1].slate}
        served = len(life.memory.events.recommendations())
        source = Watched(found.url, timeout_s=PATIENCE_S)
        device = Device(tmp_path / "d", source, epsilon=EPSILON, budget=2 * EPSILON, rng=random.Random(1))
        for at, item in enumerate(liked):
            device.add(item, "like", now_ms - 60_000 * (3 - at))
        slate = await asyncio.to_thread(device.slate, 10, now_ms=now_ms)
        # As the worker scores for a user whose history it has.
        assert [one.score for one in slate] == sorted((one.score for one in slate), reverse=True)
        assert {one.item_id: one.score for one in slate} == pytest.approx(theirs, abs=1e-4)
        assert not theirs.keys() & set(liked)
        assert slate[0].title == worker.parts.shared.title(slate[0].item_id)

        # All that was asked: public lists, files, and the items named.
        files = [path for path in source.asked if path.startswith("/v1/release")]
        named = [f"/v1/lists/similar/{item}?k={WIDE // 2 // len(device.named)}&fields=ranking"
                 for item in device.named]  # fmt: skip
        assert named
        assert [path for path in source.asked if path not in files] == [
            f"/v1/lists/popular?k={WIDE}&fields=ranking", *named,
        ]  # fmt: skip
        assert len(files) == 6
        assert len(life.memory.events.recommendations()) == served  # nothing is published or learned
        assert device.spent == EPSILON

        # The same device after a restart: same items named, nothing more spent, nothing fetched again.
        again = Watched(found.url, timeout_s=PATIENCE_S)
        device = Device(tmp_path / "d", again, epsilon=EPSILON, budget=2 * EPSILON)
        assert await asyncio.to_thread(device.slate, 10, now_ms=now_ms) == slate
        assert again.asked == [path for path in source.asked if path not in files]
        assert device.spent == EPSILON

        # Files that are damaged are fetched again.
        (tmp_path / "d" / "releases" / first / "ease.npz").write_bytes(b"")
        device = Device(tmp_path / "d", again, epsilon=EPSILON, budget=2 * EPSILON)
        assert await asyncio.to_thread(device.slate, 10, now_ms=now_ms) == slate

        # Another release: its files are fetched, items are named anew, and then the budget is spent.
        life.say("promote", second)
        await serves(worker, second)
        other = await asyncio.to_thread(device.slate, 10, now_ms=now_ms)
        assert [one.score for one in other] != [one.score for one in slate]
        assert device.spent == 2 * EPSILON
        assert [one.name for one in (tmp_path / "d" / "releases").iterdir()] == [second]
        kept = device.named
        life.say("rollback", first)
        await serves(worker, first)
        await asyncio.to_thread(device.slate, 10, now_ms=now_ms)
        assert (device.spent, device.named) == (2 * EPSILON, kept)

        # One that names nothing asks for what is popular, and no more.
        silent = Watched(found.url, timeout_s=PATIENCE_S)
        nobody = Device(tmp_path / "silent", silent, epsilon=None)
        nobody.add("i0", "like", now_ms)
        assert "i0" not in {one.item_id for one in await asyncio.to_thread(nobody.slate, now_ms=now_ms)}
        assert nobody.spent == 0
        assert not any("similar" in path for path in silent.asked)
        monkeypatch.chdir(tmp_path)
        await asyncio.to_thread(exec, snippet.replace("http://127.0.0.1:6066", found.url), {})
        assert len(capsys.readouterr().out.splitlines()) == 10
    assert stat.S_IMODE((tmp_path / "d").stat().st_mode) == 0o700


async def test_what_is_not_handed_out_is_refused_with_the_reason(
    make_memory: MakeMemory, tmp_path: Path
) -> None:
    for settings, why in (
        ({}, r"this worker hands out no release: http_release_files is off \(HTTP 404\)"),
        ({"http_release_files": True}, r"no release serves: there is nothing .* rank by \(HTTP 404\)"),
    ):
        memory = make_memory(partitions=1, http_port=0, **settings)
        memory.events.content("a")
        async with memory.worker() as worker:
            await worker.deliver()
            async with listening(worker) as found:
                source = HttpSource(found.url, timeout_s=PATIENCE_S)
                for ask in (
                    source.manifest,
                    lambda source=source: source.file("v", "user.onnx"),
                    lambda source=source: source.popular(3),
                    lambda source=source: Device(tmp_path, source, epsilon=1.0).slate(now_ms=1),
                ):
                    with pytest.raises(DeviceError, match=why):
                        await asyncio.to_thread(ask)
    with pytest.raises(DeviceError, match="no worker answers at http://127.0.0.1:9"):
        HttpSource("http://127.0.0.1:9").manifest()


async def test_files_that_no_device_reads_are_not_handed_out(make_life: Callable[..., Life]) -> None:
    life = make_life(http_port=0, http_release_files=True)
    version = life.put()
    async with life.worker(version) as worker, listening(worker) as found:
        source = HttpSource(found.url, timeout_s=PATIENCE_S)
        for asked, why in (
            (
                (version, "item_encoder.onnx"),
                "a device reads vocabulary.json, .* and not 'item_encoder.onnx'",
            ),
            ((version, "../manifest.json"), "and not '../manifest.json'"),
            (("0" * 12, "user.onnx"), f"release {version} serves, and not '000000000000'"),
        ):
            with pytest.raises(DeviceError, match=why):
                await asyncio.to_thread(source.file, *asked)


def test_a_device_refuses_an_epsilon_a_budget_and_an_event_that_are_none(tmp_path: Path) -> None:
    source = HttpSource("http://127.0.0.1:9")
    for options, why in (
        ({"epsilon": 0.0}, "epsilon must be above 0"),
        ({"epsilon": -1.0}, "epsilon must be above 0"),
        ({"epsilon": 2.0, "budget": 1.0}, "budget must be at least epsilon, 2, got 1"),
    ):
        with pytest.raises(ValueError, match=why):
            Device(tmp_path, source, **options)
    device = Device(tmp_path, source, epsilon=1.0)
    with pytest.raises(ValueError, match="an event must have an item, an action and a time"):
        device.add("", "like", 1)
    with pytest.raises(ValueError, match="k must be from 1 to 200, got 0"):
        device.slate(0, now_ms=1)
    with pytest.raises(ValueError, match="url must begin with"):
        HttpSource("worker:6066")


def test_a_diary_survives_a_torn_line_and_refuses_another_s_file(tmp_path: Path) -> None:
    diary = Diary(tmp_path)
    diary.add("b", "like", 2)
    diary.add("ä", "view", 1)
    events = tmp_path / "events.jsonl"
    whole = events.read_bytes()
    for torn in (b"\0\xff", b'["torn", "li'):
        events.write_bytes(whole + torn)
        diary = Diary(tmp_path)
        assert events.read_bytes() == whole
    diary.add("c", "like", 3)
    history = Diary(tmp_path).history(2)
    assert (history.items, history.times_ms.tolist()) == (["b", "c"], [2, 3])
    assert Diary(tmp_path).met == {"ä", "b", "c"}
    (tmp_path / "told.json").write_text('{"spent": 1')
    with pytest.raises(DeviceError, match="must say what a device has told"):
        Diary(tmp_path)
    (tmp_path / "told.json").unlink()
    for contents in (b'{"a": 1}\n', b"\xff\n"):
        events.write_bytes(contents)
        with pytest.raises(DeviceError, match="must be the events of a device"):
            Diary(tmp_path)


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}", b"no HTTP\r\n\r\n", b"",
     b"HTTP/1.1 503 Busy\r\nContent-Length: 100\r\n\r\n{"],
    ids=["cut off", "not HTTP", "nothing", "an error that is cut off"],
)  # fmt: skip
async def test_an_answer_that_is_none_is_an_error_of_the_device(answer: bytes) -> None:
    def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(speak, "127.0.0.1", 0) as server, asyncio.timeout(60):
        source = HttpSource("http://127.0.0.1:{1}".format(*server.sockets[0].getsockname()))
        with pytest.raises(DeviceError, match="no worker answers|has refused"):
            await asyncio.to_thread(source.manifest)


def test_vectors_of_another_width_are_refused() -> None:
    tower: Any = SimpleNamespace(version="v", dim=8)
    vectors = np.zeros((1, 3), np.float32)
    with pytest.raises(DeviceError, match="a vector of release v must have 8 numbers, got 3"):
        check_width(Listed("v", Items(["a"], vectors, np.zeros(1, np.float32), [{}]), {}), tower)
