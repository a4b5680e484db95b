import subprocess
import sys
from pathlib import Path

import pytest

from tests.once import once_a_run
from tests.streams.releases.made import train_tiny, variant

# Kernels that only other kernels call are compiled into these.
CHECK = """
from numba.core.registry import CPUDispatcher
from model_core.signals import co_visitation_kernels, co_visitation_reads, retraction
from streams.serving import allowed_rows
from streams.state import fold_kernels, history_kernels, id_table, item_index, people, profile_kernels
from streams.why import kernels as why
from streams.worker.warm_kernels import warm

warm()
for module in (
    allowed_rows, co_visitation_kernels, co_visitation_reads, fold_kernels, history_kernels, id_table,
    item_index, people, profile_kernels, retraction, why,
):
    for name, kernel in vars(module).items():
        own = isinstance(kernel, CPUDispatcher) and kernel.py_func.__module__ == module.__name__
        inner = name.startswith("_") and module.__name__.endswith("kernels")
        if own and not inner and kernel.targetoptions.get("_nrt", True):  # else made by `kernels.inner`
            print(name, len(kernel.nopython_signatures))
"""


def test_every_kernel_is_ready_after_warming_up():
    """In a process of its own: here other tests have run kernels already."""
    found = subprocess.run([sys.executable, "-c", CHECK], capture_output=True, text=True, check=True)
    signatures = [line.split() for line in found.stdout.splitlines()]

    assert {"observe", "fold", "best_paths", "_find", "_copy", "_read"} <= {name for name, _ in signatures}
    assert [name for name, count in signatures if count == "0"] == []


SERVE = """
import asyncio, gc, json, sys
from pathlib import Path
from numba.core.registry import CPUDispatcher
from model_core.release.baseline import BaselineScorer
from model_core.release.scorer import Scorer
from streams.attack.site import MemorySite
from streams.events import Click, Request
from streams.settings import load_settings
from streams.worker.warm_kernels import HALVES

for half in HALVES.values():
    for run in half:
        run()

def compiled():
    kernels = [one for one in gc.get_objects() if isinstance(one, CPUDispatcher)]
    return {f"{one.py_func.__module__}.{one.py_func.__name__}": len(one.signatures) for one in kernels}

async def serve(scorer):
    users, now_ms = [f"u{n}" for n in range(4)], 10**12
    async with MemorySite(load_settings(), scorer, now_ms, learn=True) as site:
        items = [{"item_id": f"i{n}", "title": f"T {n}", "attributes": {"genre": ["x"]}} for n in range(20)]
        await site.publish("content", [(item["item_id"], json.dumps(item).encode()) for item in items])
        await site.publish("users", [("u0", b'{"user_id": "u0", "preferences": ["x"]}')])
        await site.click([Click(f"{u}{n}", u, f"i{n}", "click", now_ms + n) for u in users for n in range(5)])
        for round, at_ms in enumerate((now_ms + 100, now_ms + 10**8)):
            slates = await site.ask([Request(f"{u}r{round}", u, at_ms, k=5) for u in users])
            assert all(slates)
            await site.click([
                Click(f"{u}c{round}", u, slate[0], "click", at_ms + 1, request_id=f"{u}r{round}", position=0)
                for u, slate in zip(users, slates)
            ])

before = compiled()
asyncio.run(serve(Scorer(Path(sys.argv[1])) if sys.argv[1:] else BaselineScorer()))
print(*(name for name, kinds in compiled().items() if kinds > before.get(name, 0)))
"""


@pytest.mark.parametrize("released", [True, False], ids=["a release", "no release"])
def test_a_worker_that_serves_and_learns_compiles_nothing(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, released: bool
) -> None:
    release = []
    if released:
        base = once_a_run(tmp_path_factory, "tiny-release", train_tiny)
        release = [str(variant(base, tmp_path / "release"))]
    ran = subprocess.run([sys.executable, "-c", SERVE, *release], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == []
