"""The served policy keeps the contract of tests/policy_checks.py, and its release is what was written."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from online_learning.policies.policy_release import PolicyRelease, read_policy_release
from online_learning.policies.registry import create_policy
from online_learning.policies.rl_policy import RlPolicy, Scorer
from online_learning.statistics.posterior import LinearPrior
from tests.policy_checks import CHECKS, DIM, FEATURE_SPACE, PRIOR, Make, random_candidates, request, same
from tests.propensity_checks import CHECKS as PROPENSITY_CHECKS


def scorer(dim: int = DIM, seed: int = 0) -> Scorer:
    rng = np.random.default_rng(seed)
    widths = (dim, 8, 2)
    layers = tuple(
        (rng.normal(size=(a, b)).astype(np.float32), rng.normal(size=b).astype(np.float32))
        for a, b in zip(widths, widths[1:], strict=False)
    )
    return Scorer(np.zeros(dim, np.float32), np.full(dim, 2.0, np.float32), layers)


def make() -> RlPolicy:
    return RlPolicy(scorer(), temperature=0.5)


@pytest.fixture
def release(tmp_path: Path) -> Path:
    PolicyRelease(scorer(), 0.5, "reinforce", FEATURE_SPACE, {"slates": 7}).write(tmp_path / "policy")
    return tmp_path / "policy"


@pytest.mark.parametrize("check", [*CHECKS, *PROPENSITY_CHECKS], ids=lambda check: check.__name__)
def test_policy_keeps_the_contract(check: Callable[[Make], None]):
    check(make)


def test_a_release_serves_what_was_written(release: Path):
    read = create_policy("rl", PRIOR, policy_release=release)
    candidates, asked = random_candidates(0), request(5, 8)
    assert same(read.select(candidates, **asked), make().select(candidates, **asked))
    found = read_policy_release(release, dim=DIM, feature_space=FEATURE_SPACE)
    assert (found.algorithm, found.training) == ("reinforce", {"slates": 7})


def test_serving_imports_no_torch(release: Path):
    code = (
        "import sys, numpy as np; from pathlib import Path; "
        "from online_learning.policies.registry import create_policy; "
        "from online_learning.statistics.posterior import LinearPrior; "
        f"create_policy('rl', LinearPrior(np.zeros({DIM}), feature_space={FEATURE_SPACE!r}), "
        f"policy_release=Path({str(release)!r})); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_features_of_another_dimension_are_refused(release: Path):
    with pytest.raises(ValueError, match=rf"must read {DIM + 1} features, got {DIM}"):
        create_policy(
            "rl", LinearPrior(np.zeros(DIM + 1), feature_space=FEATURE_SPACE), policy_release=release
        )
    with pytest.raises(ValueError, match=f"dimension {DIM + 1}, got {DIM}"):
        RlPolicy(scorer(DIM + 1)).select(random_candidates(0), **request(5, 3))


def test_another_models_features_are_refused(release: Path):
    with pytest.raises(ValueError, match=r"features of model 'release-2', got 'release-1'"):
        read_policy_release(release, dim=DIM, feature_space="release-2")


def test_a_policy_release_must_be_named():
    with pytest.raises(ValueError, match="policy_release must be a folder when policy is 'rl', got None"):
        create_policy("rl", PRIOR)


def alter_weights(folder: Path) -> None:
    data = bytearray((folder / "scorer.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "scorer.safetensors").write_bytes(data)


def alter_manifest(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"temperature": 0.1}))


def foreign_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text('{"schema": 2, "files": {}}')


def a_text_for_a_number(folder: Path) -> None:
    PolicyRelease(scorer(), "warm", "reinforce", FEATURE_SPACE, {}).write(folder)  # type: ignore[arg-type]


def newer_schema(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"schema": 9}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (alter_weights, "must have SHA-256"),
        (alter_manifest, "must describe version"),
        (foreign_manifest, "manifest of a policy release, got another kind"),
        (newer_schema, "schema must be 1, got 9"),
        (a_text_for_a_number, "must have a number as 'temperature', got 'warm'"),
        (lambda folder: (folder / "scorer.safetensors").unlink(), "scorer.safetensors, which is missing"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "must be a manifest in JSON"),
        (shutil.rmtree, "must be a folder with a manifest.json"),
    ],
)
def test_a_damaged_or_foreign_release_is_refused(
    release: Path, damage: Callable[[Path], object], message: str
):
    damage(release)
    with pytest.raises(ValueError, match=message):
        read_policy_release(release, dim=DIM, feature_space=FEATURE_SPACE)


def test_a_folder_that_cannot_be_read_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="cannot be read: File name too long"):
        read_policy_release(tmp_path / ("x" * 300), dim=DIM, feature_space=FEATURE_SPACE)


def test_what_the_live_policy_learns_does_not_matter_to_a_release(release: Path):
    prior = LinearPrior(np.zeros(DIM), feature_space=f"{FEATURE_SPACE}/reward")
    assert create_policy("rl", prior, policy_release=release).name == "rl"


def test_weights_that_are_no_scorer_are_refused():
    with pytest.raises(ValueError, match="layer 0 must have 3 inputs and a bias for each output"):
        Scorer(np.zeros(3, np.float32), np.ones(3, np.float32), scorer(4).layers)
    with pytest.raises(ValueError, match="finite weights"):
        Scorer(np.full(DIM, np.nan, np.float32), np.ones(DIM, np.float32), scorer().layers)
    with pytest.raises(ValueError, match="temperature must be finite and above 0, got 0"):
        RlPolicy(scorer(), temperature=0.0)
