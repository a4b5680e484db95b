"""What a score is made of where no release is served; `test_release.py` has those of a release."""

from typing import Any
from urllib.parse import quote

import pytest

from tests.e2e.client import Client, contributed, film, wait_until
from tests.e2e.conftest import StartWorker
from tests.e2e.test_loop import CATALOGUE, http, published


def test_without_a_release_what_serves_instead_is_explained(
    client: Client, start_worker: StartWorker
) -> None:
    worker = start_worker(policy="greedy")
    published(client, worker, *CATALOGUE, film("a/b c", "A slash"))
    for user in ("ann", "bob", "cyd"):
        client.click(user, "alien")
        client.click(user, "blade")
    client.click("eve", "alien")
    client.flush()

    def explained() -> dict[str, Any]:
        status, answer = http(worker, "/v1/explanations/eve/blade")
        assert status == 200
        return answer

    def covisits(answer: dict[str, Any]) -> list[dict[str, Any]]:
        return [one for one in answer["contributions"] if one["kind"] == "covisits"]

    # A request waits for its user's events; those of other partitions are folded a moment later.
    wait_until(
        lambda: any(one["value"] > 0 for one in covisits(explained())), "the others' clicks are folded"
    )
    answer = explained()
    assert answer["unit"] == "level"
    assert answer["fallback"] == "no_release"
    assert answer["value"] == pytest.approx(answer["score"] / (1 - answer["score"]))
    assert contributed(answer) == pytest.approx(answer["value"], abs=1e-5)
    assert [one["name"] for one in covisits(answer)] == ["alien"]
    assert "Alien (1979)" in answer["summary"]
    assert not http(worker, "/v1/explanations/eve/alien")[1]["eligible"]  # seen
    assert http(worker, f"/v1/explanations/eve/{quote('a/b c', safe='')}")[0] == 200
    for path, wanted, reason in (
        ("nobody/alien", 404, "user 'nobody' is not known"),
        ("eve/no-such-film", 404, "is not in the catalogue"),
        ("eve/" + "i" * 600, 400, "item_id must have 1 to 512 characters, got 600"),
        ("eve/alien?k=3", 400, "unknown parameter 'k'"),
    ):
        status, refused = http(worker, f"/v1/explanations/{path}")
        assert (status, reason in refused["detail"]) == (wanted, True), refused
    client.send("content", "diner", None)
    client.flush()
    wait_until(lambda: http(worker, "/v1/explanations/eve/diner")[0] == 404, "the deleted film is not known")
