import subprocess
import sys

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
