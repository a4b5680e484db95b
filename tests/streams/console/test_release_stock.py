"""What the page of releases shows of a store: manifests that somebody else wrote take no page down."""

import json
from pathlib import Path
from typing import Any

import pytest

from streams.console.releases import Offered, read_store
from streams.settings import Settings

GOOD, ODD = "a" * 12, "b" * 12


def put(store: Path, version: str, manifest: dict[str, Any]) -> None:
    (store / version).mkdir()
    (store / version / "manifest.json").write_text(json.dumps({"files": {}, **manifest}))


@pytest.mark.parametrize(
    "manifest",
    [
        {},
        {"training": None, "metrics": []},
        {"training": {"until_ms": "today"}, "metrics": {"slatestream": None}},
        {"training": {"until_ms": float("inf")}, "metrics": {"slatestream": {"ndcg@10": "high"}}},
    ],
)
async def test_a_manifest_that_says_something_else_says_nothing(
    manifest: dict[str, Any], tmp_path: Path
) -> None:
    put(tmp_path, ODD, manifest)
    told = {"training": {"until_ms": 5}, "metrics": {"slatestream": {"ndcg@10": 0.25, "recall@10": 0.5}}}
    put(tmp_path, GOOD, told)
    stock = await read_store(Settings(release_store=str(tmp_path)))
    assert stock.away == ""
    good, odd = stock.releases
    assert good == Offered(GOOD, good.nbytes, 5, 0.25, 0.5)
    assert odd == Offered(ODD, odd.nbytes, None, None, None)
    assert good.nbytes > 0
