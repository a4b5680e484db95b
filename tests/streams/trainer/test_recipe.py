"""What the trainer trains by, and what it says where it cannot."""

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from streams.cli import main
from streams.errors import is_memory_fault, what_helps
from streams.settings import load_settings
from streams.trainer import training_run
from streams.trainer.plan import PLAN, TrainingPlan, write
from streams.trainer.training_run import recipe_of


def test_a_recipe_that_promises_privacy_is_refused_by_who_trains_again_and_again(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text("[privacy]\nepsilon = 4.0\n")
    with pytest.raises(ValueError, match=r"trainer_recipe must have no \[privacy\] epsilon.*got 4"):
        recipe_of(load_settings(None, trainer_recipe=path), None, None)


def test_a_recipe_that_is_not_there_ends_the_trainer_before_it_waits_for_events(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("SLATESTREAM_TRAINER_RECIPE", str(tmp_path / "none.toml"))
    monkeypatch.setattr(sys, "argv", ["slatestream", "trainer", "--store", str(tmp_path)])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "none.toml' cannot be read: No such file or directory" in capsys.readouterr().err


def test_a_training_without_memory_ends_with_a_message_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    write(tmp_path / PLAN, TrainingPlan({}, {}, None, 0, None))
    monkeypatch.setattr(sys, "argv", ["training_run", str(tmp_path)])
    monkeypatch.setattr(training_run, "stand_back", lambda settings: None)
    for told in (MemoryError(), OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))):
        monkeypatch.setattr(training_run, "work", raising(told))
        with pytest.raises(SystemExit, match="2"):
            training_run.main()
        assert "no memory is left for the training" in capsys.readouterr().err
    monkeypatch.setattr(training_run, "work", raising(RuntimeError("a mistake of ours")))
    with pytest.raises(RuntimeError, match="of ours"):
        training_run.main()


def raising(error: Exception) -> Callable[..., None]:
    def work(*_: object) -> None:
        raise error

    return work


def test_pytorch_and_the_loader_say_in_other_words_that_no_memory_is_left() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(RuntimeError) as refused:
        torch.empty(2**60)
    assert is_memory_fault(refused.value)
    assert what_helps(refused.value).startswith("no memory is left")
    for said in ("CUDA out of memory. Tried to allocate 20.00 MiB", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED"):
        full = torch.OutOfMemoryError(said)
        assert is_memory_fault(full)
        assert "batch_windows" in what_helps(full)
    host = ImportError("libcudnn.so.9: failed to map segment from shared object")
    assert is_memory_fault(host)
    assert what_helps(host).startswith("no memory is left")
    assert not is_memory_fault(RuntimeError("shapes do not match"))
