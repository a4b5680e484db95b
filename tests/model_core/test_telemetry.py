"""Nothing of ours reports to anybody."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

OPENS_A_SESSION = """
import os
import model_core.release.scorer
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state
print(len(os.listdir("/proc/self/task")))
"""
ONLY_IMPORTS_NUMBA = """
import os
import numba
print(len(os.listdir("/proc/self/task")))
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted in /proc")
def test_onnx_runtime_neither_starts_its_reporter_nor_leaves_an_id_at_home(tmp_path: Path) -> None:
    unset = {"ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME"}
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    environment |= {"HOME": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "kernels")}
    environment |= {"OPENBLAS_NUM_THREADS": "1"}
    run = [sys.executable, "-c"]
    threads = [
        int(subprocess.run([*run, code], env=environment, check=True, capture_output=True, text=True).stdout)
        for code in (ONLY_IMPORTS_NUMBA, OPENS_A_SESSION)
    ]
    assert threads[0] == threads[1], "a thread more is one that reports"
    assert not list(tmp_path.rglob("*Microsoft*"))
