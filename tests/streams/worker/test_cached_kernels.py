"""A worker loads kernels that were compiled before without numba's compiler, and compiles what is missing."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

# In a process of its own: what other tests import and compile stays in theirs.
LOAD = """
import json, sys
from streams.worker.cached_kernels import load_without_compiler
load_without_compiler()
from streams.worker import warm_kernels
warm_kernels.main(*warm_kernels.HALVES)
loaded = sorted(sys.modules)
from online_learning.policies.linear_thompson_kernels import linear_thompson
policy = sum(linear_thompson.stats.cache_hits.values())

import numba, numpy as np

@numba.njit
def bounded(values, limit):
    if values.max() > limit:
        raise ValueError("values must be within the limit")
    return np.sort(values)

from xxhash import xxh3_64_intdigest
from streams.decoding.xxh3 import xxh3

@numba.njit
def hashed(data):
    return xxh3(data, 0, len(data))

called = [int(hashed(np.array(list(b"a key"), np.uint8))), xxh3_64_intdigest(b"a key")]
cached = sum(xxh3.stats.cache_hits.values())
compiled = bounded(np.array([3.0, 1.0]), 4.0).tolist()
try:
    bounded(np.array([3.0]), 2.0)
except ValueError as error:
    said = str(error)
print(json.dumps({"loaded": loaded, "compiled": compiled, "called": called, "cached": cached, "said": said,
                  "policy": policy}))
"""
COMPILES = "numba.np.arraymath"


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """What a process tells of its kernels once all of them are cached."""
    told = _load()
    if COMPILES in told["loaded"] or not told["cached"] or not told["policy"]:
        told = _load()  # one was missing in the cache, and is there now
    return told


def test_cached_kernels_of_every_policy_are_loaded_without_the_compiler_and_others_are_compiled(
    found: dict[str, Any],
) -> None:
    assert COMPILES not in found["loaded"]
    assert "scipy.linalg" not in found["loaded"]
    assert found["compiled"] == [1.0, 3.0]
    assert found["called"][0] == found["called"][1]
    assert found["cached"] > 0  # so one that was compiled here called one from the cache
    assert found["policy"] > 0
    assert found["said"] == "values must be within the limit"


def _load() -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-c", LOAD], capture_output=True, text=True, check=True)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


CACHED = """
from streams.decoding.click_kernels import read_clicks
from streams.state import fold_kernels
from streams.worker.cached_kernels import are_cached
print(are_cached(read_clicks, fold_kernels.fold))
"""


@pytest.mark.usefixtures("found")
def test_kernels_are_cached_where_they_were_compiled_and_nowhere_else(tmp_path: Path) -> None:
    def cached(**variables: str) -> str:
        command, environment = [sys.executable, "-c", CACHED], {**os.environ, **variables}
        return subprocess.run(
            command, capture_output=True, text=True, check=True, env=environment
        ).stdout.strip()

    assert cached() == "True"
    assert cached(NUMBA_CACHE_DIR=str(tmp_path)) == "False"
