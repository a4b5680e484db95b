"""What the allocator keeps, in a process of its own: how it is told holds for the whole of one."""

import subprocess
import sys

import pytest

BURST = """
import numpy as np
from pathlib import Path
from threading import Thread
from streams.worker.allocator import bound_heaps, give_back

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

print(bound_heaps())
before = resident()
kept = []

def burst():
    arrays = [np.ones(size, np.uint8) for size in [300_000, 1_000] * 300]
    kept.append(arrays[1::2])  # small ones that stay, each behind a large one that does not

for _ in range(4):
    thread = Thread(target=burst)
    thread.start()
    thread.join()
give_back()
print(resident() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_what_a_burst_in_threads_needed_is_given_back_though_small_arrays_stay_between():
    told = subprocess.run(
        [sys.executable, "-c", BURST], capture_output=True, text=True, check=True, timeout=60
    )
    bounded, left = told.stdout.split()
    if bounded == "True":
        assert int(left) < 20 << 20  # of 90 MB
