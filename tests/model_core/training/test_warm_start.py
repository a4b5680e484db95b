import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from model_core.data.vocabulary import Vocabulary
from model_core.network.config import TrainConfig
from model_core.network.model import Model
from model_core.release.folder import MANIFEST, WEIGHTS, sign_manifest
from model_core.training.networks import fit_widths
from model_core.training.warm_start import Start, read_start, take_over
from tests.model_core import tiny
from tests.once import once_a_run
from tests.streams.releases.made import train_tiny


def model(seed: int) -> tuple[Model, Vocabulary]:
    data = tiny.corpus(tiny.dataset())
    torch.manual_seed(seed)
    config = fit_widths(tiny.CONFIG, data)
    return Model(data, config, TrainConfig(), tuple(tiny.WEIGHTS.values())).eval(), data.vocabulary


def test_what_was_learned_goes_to_the_rows_that_names_have_now() -> None:
    (before, names), (now, _) = model(0), model(1)
    before.ranker.gains_away.copy_(torch.arange(5.0))
    weights = {name: value.clone() for name, value in before.state_dict().items()}
    known = dict(list(names.item_rows.items())[:-1])
    start = Start("abc", weights, replace(names, item_rows=known), 0)
    turned = {name: len(names.item_rows) + 1 - row for name, row in names.item_rows.items()}
    (new,) = names.item_rows.keys() - known.keys()
    random = now.encoder.items.weight[turned[new]].clone()

    assert take_over(now, replace(names, item_rows=turned), start) > 20

    rows, old = now.encoder.items.weight, before.encoder.items.weight
    assert all(torch.equal(rows[turned[name]], old[row]) for name, row in known.items())
    assert torch.equal(rows[turned[new]], random)
    assert torch.equal(now.ranker.begin, before.ranker.begin)
    assert now.ranker.gains_away.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert torch.equal(now.ranker.entities.weight, before.ranker.entities.weight)


def test_a_release_says_what_a_training_goes_on_from_and_other_weights_are_refused(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    base = once_a_run(tmp_path_factory, "tiny-release", train_tiny)
    start = read_start(base)
    assert start is not None
    assert start.until_ms == tiny.dataset().interactions.timestamps_ms[809]
    assert start.weights["encoder.items.weight"].shape == (tiny.N_ITEMS + 1, tiny.CONFIG.dim)
    folder = tmp_path / "release"
    folder.mkdir()
    for file in base.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / WEIGHTS).write_bytes(b"others")
    with pytest.raises(ValueError, match="must have SHA-256"):
        read_start(folder)
    (folder / WEIGHTS).unlink()
    assert read_start(folder) is None


def test_a_training_does_not_go_on_from_layers_of_another_kind(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path / "release"
    shutil.copytree(once_a_run(tmp_path_factory, "tiny-release", train_tiny), folder)
    weights = load_file(folder / WEIGHTS)
    layer = weights.pop("ranker.blocks.0.read.weight")
    save_file(weights | {"ranker.blocks.0.qkv.weight": layer[: -tiny.CONFIG.dim].clone()}, folder / WEIGHTS)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["training"]["weights"] = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    sign_manifest(folder, manifest)
    assert read_start(folder) is None


def test_what_is_new_is_what_came_later_or_everything_in_another_domain() -> None:
    data = tiny.corpus(tiny.dataset())
    start = Start("abc", {}, data.vocabulary, int(data.log.times_ms[699]))
    assert start.since(data) == 700
    elsewhere = Vocabulary({"film": 1}, data.vocabulary.entity_rows, data.vocabulary.relation_rows)
    assert replace(start, vocabulary=elsewhere).since(data) == 0
    start.check_new(data)
    later = replace(start, until_ms=int(data.log.times_ms[-1]))
    replace(later, vocabulary=elsewhere).check_new(data)
    with pytest.raises(ValueError, match="must have events later than those of release abc"):
        later.check_new(data)


def test_what_was_learned_of_actions_goes_to_the_rows_that_they_have_now() -> None:
    (before, names), (now, _) = model(0), model(1)
    with torch.no_grad():
        before.ranker.action_own.normal_()
    start = Start("abc", before.state_dict(), names, 0, actions=("view", "like"))
    signs = now.ranker.action_positive.clone()
    before.ranker.action_positive.fill_(1)
    taken = start.for_actions(["like", "buy"])
    take_over(now, names, taken)
    for part in (now.ranker.action_own, now.ranker.act.weight, now.ranker.act.bias):
        assert part[1].count_nonzero() == 0
    assert torch.equal(now.ranker.action_own[0], before.ranker.action_own[1])
    assert torch.equal(now.ranker.act.weight[0], before.ranker.act.weight[1])
    assert torch.equal(now.ranker.action_positive, signs)
    assert taken.for_actions(("like", "buy")) is taken


def test_a_release_of_another_text_space_is_refused() -> None:
    data = tiny.corpus(tiny.dataset())
    start = Start("abc", {}, data.vocabulary, 0, text_encoder=tiny.Texts.fingerprint)
    start.check_texts(data)
    replace(start, text_encoder="").check_texts(data)
    with pytest.raises(ValueError, match=r"text_encoder must be the one of release abc \(f00\)"):
        replace(start, text_encoder="f00").check_texts(data)
