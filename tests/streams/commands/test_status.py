"""What `slatestream status` draws of several workers."""

import io

import pytest
from rich.console import Console

from streams.commands.status import Cluster, view
from streams.worker.scrape import Worker


def drawn(workers: list[Worker], width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    cluster = Cluster("broker:9092", answers=True, brokers=1, group="g", group_state="Stable", members=2)
    console.print(view(workers, cluster))
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text.splitlines()


def busy(url: str, partitions: range, **about: object) -> Worker:
    """A worker whose partitions are behind, the more the higher their number."""
    return Worker(
        url, answers=True, ready=True, partitions=len(partitions), release="f7030b2a3c33",
        policies=["thompson"], events_per_s={"clicks": 12_345.6}, slates_per_s=151.2,
        latencies_ms={"request to slate": (3.25, 1234.5)},
        lag={"clicks": {one: (100 * one, float(one)) for one in partitions}}, users=1_234_567, items=20_000,
        policy_version=27_753, memory_mib=1_408.0, **about,
    )  # fmt: skip


@pytest.mark.parametrize("width", [80, 120])
def test_two_workers_that_are_behind_fit_a_screen_and_no_line_is_cut(width: int) -> None:
    workers = [
        busy("http://10.0.0.1:6066", range(4), canary="41ac78b94a3b", canary_share=0.2, dead_letters=8),
        busy("http://10.0.0.2:6066", range(4, 40), refused="0123456789ab"),
    ]
    lines = drawn(workers, width)
    text = " ".join(" ".join(lines).split())
    assert max(map(len, lines)) <= width
    assert len(lines) <= 24
    assert "f7030b2a3c33, 41ac78b94a3b for 20% of users; policy thompson, 27,753 updates" in text
    assert "0123456789ab is to serve and is refused" in text
    assert "8 dead letters" in text
    behind = [line.split() for line in lines if line.startswith("clicks  ")]
    assert [int(partition) for _, partition, *_ in behind] == [39, 38, 37, 36, 35, 34]


def test_a_worker_that_does_not_answer_says_why_beside_those_that_do() -> None:
    lines = drawn([busy("http://a:1", range(1)), Worker("http://b:2", error="Connection refused")], 120)
    assert any("no answer: Connection refused" in line for line in lines)
    assert "No partition is behind." in lines
