from pathlib import Path

import pytest

from model_core.training.recipe import Recipe, read_recipe, write_recipe


def test_a_recipe_is_read_as_it_was_written(tmp_path: Path) -> None:
    recipe = Recipe().changed(
        model={"dim": 32, "fusion": "gated"},
        train={"learning_rate": 1e-5, "epochs": 3},
        signals={"ease_penalty": 1e4},
    )
    write_recipe(tmp_path / "deep" / "recipe.toml", recipe)
    assert read_recipe(tmp_path / "deep" / "recipe.toml") == recipe


def test_what_a_recipe_leaves_out_keeps_its_default(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text("[model]\ndim = 16\n")
    assert read_recipe(path) == Recipe().changed(model={"dim": 16})
    write_recipe(path, Recipe())
    assert path.read_text() == ""
    assert read_recipe(path) == Recipe()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dim = 3", r"must hold the tables \['model', 'train', 'signals', 'privacy'\], got 'dim'"),
        ("[trian]\nepochs = 3", "must hold the tables .*, got 'trian'"),
        ("[train]\nepoch = 3", r"\[train\] has no setting 'epoch'"),
        ("[train]\nepochs = 'many'", r"Expected `int`, got `str` - at `\$\.train\.epochs`"),
        ("[train]\nepochs = 0", "epochs must be at least 1, got 0"),
        ("[train]\ndropout = 1.5", r"dropout must be in \[0, 1\], got 1.5"),
        ("[train]\nlearning_rate = 0.0", "learning_rate must be above 0, got 0.0"),
        ("[train]\ngraph_embedding = 'word2vec'", "graph_embedding must be in .*, got 'word2vec'"),
        ("[model]\nfusion = 'mean'", "fusion must be in .*, got 'mean'"),
        ("[privacy]\nepsilon = 0.0", "epsilon must be above 0, or inf for no privacy, got 0"),
        ("[privacy]\nepsilon = nan", "epsilon must be above 0, or inf for no privacy, got nan"),
        ("[privacy]\ndelta = 1.0", "delta must be above 0 and below 1, got 1"),
        ("[privacy]\nclip = inf", "clip must be above 0 and finite, got inf"),
        ("[model", "must be a TOML file"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_recipe(path)


def test_a_missing_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="none.toml' cannot be read: No such file"):
        read_recipe(tmp_path / "none.toml")
