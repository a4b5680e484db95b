"""Benchmarks whose data or release is missing end with a line that names it."""

import re
import runpy
import sys
from pathlib import Path

import pytest

from streams.demo.dataset import NAME, cache_folder
from tests.benchmarks.inputs import faults_told

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
COMMANDS = [
    path
    for path in sorted(BENCHMARKS.glob("*.py"))
    if "__main__" in path.read_text(encoding="utf-8") and not path.stem.endswith("_peer")
]
"""Peers run in environments that have nothing of ours."""

DATA = (
    "bandit_speed", "federated", "new_items", "parts_that_pay", "private_learning", "private_prequential",
    "prequential_offline", "quality_ablation", "quality_generated", "quality_kge", "quality_noise",
    "quality_poisoned", "quality_private", "quality_robust", "quality_seeds", "quality_topn", "rl_satiation",
    "trainer_minutes",
)  # fmt: skip
RELEASE = ("explanation_cost", "explanation_faithfulness", "quality_precision")
CALLS = {
    **{name: ["--data", "MISSING"] for name in DATA},
    **{name: ["--release", "MISSING"] for name in RELEASE},
    "demo_in_memory": ["MISSING"],
    "private_served": ["--folder", "MISSING"],
    "private_gradients": ["--folder", "MISSING", "--domain", "artists"],
    "private_users": ["--sequences", "MISSING"],
    "quality_cold": ["--side", "MISSING"],
    "quality_ensemble": ["--folder", "MISSING"],
    "quality_friends": ["--folder", "MISSING"],
    "quality_served": ["--folder", "MISSING"],
    "quality_sequential": ["--folder", "MISSING"],
    "quality_kg": ["--data", "MISSING"],
    "quality_multimodal": ["--data", "MISSING"],
    "quality_news": ["--data", "MISSING"],
    "cross_domain": ["MISSING", "--source", "news"],
}
"""Arguments of a benchmark, one of which names a place where nothing is."""


def run(name: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int | str | None:
    """Run a benchmark as `python -m` does, and return its exit code."""
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # so that none starts itself again
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(BENCHMARKS / f"{name}.py"), run_name="__main__")
    return ended.value.code


@pytest.mark.parametrize("name", sorted(CALLS))
def test_what_is_missing_is_named_without_a_traceback(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    nowhere = str(tmp_path / "nowhere")
    code = run(name, [nowhere if one == "MISSING" else one for one in CALLS[name]], monkeypatch)
    assert code == 2
    told = re.sub(r"[\s│]", "", capsys.readouterr().err)  # typer draws a box, and breaks lines in it
    assert nowhere in told


def test_a_release_that_is_none_is_named_where_data_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if not (cache_folder() / NAME).is_dir():
        pytest.skip("ML-100K is not there: `make demo` fetches it")
    for name in ("quality_on_device", "prequential_offline"):
        assert run(name, ["--release", str(tmp_path)], monkeypatch) == 2
        assert f"must be a folder with a manifest.json, got '{tmp_path}'" in capsys.readouterr().err


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.stem)
def test_each_benchmark_that_reads_arguments_tells_faults(path: Path) -> None:
    _, _, ending = path.read_text(encoding="utf-8").partition('if __name__ == "__main__":')
    if "main()" in ending or "typer.run" in ending:
        assert "    with faults_told():\n        " in ending


def test_an_error_that_names_no_file_keeps_its_traceback() -> None:
    with pytest.raises(OSError, match="no such thing"), faults_told():
        raise OSError("no such thing")
