"""What a quickstart does with a release that it has trained."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from streams.commands.training_result import MODELS
from streams.quickstart.folder import open_folder
from streams.quickstart.steps import train
from streams.settings import load_settings
from tests.streams.releases.made import variant

OURS = {"ndcg@10": 0.10, "users": 50.0}


def measured(**others: Mapping[str, float]) -> dict[str, Any]:
    """Figures of a release beside simple models, which are behind it unless it is said otherwise."""
    behind = {name: {"ndcg@10": 0.05, "lead_high": 0.08} for name in MODELS}
    return {**behind, "slatestream": OURS, **others}


@pytest.mark.parametrize(
    ("metrics", "served"),
    [
        (measured(), True),
        (measured(popularity={"ndcg@10": 0.12, "lead_high": 0.01}), True),  # it may be chance
        (measured(popularity={"ndcg@10": 0.20, "lead_high": -0.04}), False),
    ],
)
def test_a_release_that_popularity_surely_outdoes_is_served_only_when_that_is_wanted(
    random_weights: Path, tmp_path: Path, metrics: Mapping[str, Any], served: bool
) -> None:
    said: list[str] = []
    with open_folder(tmp_path / "quickstart", {}, restart=False) as folder:
        folder.keep(trained="quick")
        variant(random_weights, folder.release, metrics=metrics)
        found = train(load_settings(), folder, "quick", False, None, said.append)
        assert found == (folder.release if served else None)
        assert any("ranks worse than popularity" in line for line in said) != served
        assert train(load_settings(), folder, "quick", True, None, said.append) == folder.release
