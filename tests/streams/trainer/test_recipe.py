"""What the trainer trains by."""

from pathlib import Path

import pytest

from streams.settings import load_settings
from streams.trainer.step import recipe_of


def test_a_recipe_that_promises_privacy_is_refused_by_who_trains_again_and_again(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text("[privacy]\nepsilon = 4.0\n")
    with pytest.raises(ValueError, match=r"trainer_recipe must have no \[privacy\] epsilon.*got 4"):
        recipe_of(load_settings(None, trainer_recipe=path), None, None)
