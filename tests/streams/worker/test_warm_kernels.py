import subprocess
import sys

# Kernels that only other kernels call are compiled into these.
CHECK = """
from numba.core.registry import CPUDispatcher
from model_core.signals import co_visitation_kernels
from streams.state import item_index, people, profile_kernels
from streams.why import kernels as why
from streams.worker.warm_kernels import warm

warm()
for module in (co_visitation_kernels, item_index, people, profile_kernels, why):
    for name, kernel in vars(module).items():
        inner = name.startswith("_") and module.__name__.endswith("kernels")
        if isinstance(kernel, CPUDispatcher) and not inner:
            print(name, len(kernel.nopython_signatures))
"""


def test_every_kernel_is_ready_after_warming_up():
    """In a process of its own: here other tests have run kernels already."""
    found = subprocess.run([sys.executable, "-c", CHECK], capture_output=True, text=True, check=True)
    signatures = dict(line.split() for line in found.stdout.splitlines())

    assert {"observe", "fold", "best_paths", "_find", "_read"} <= signatures.keys()
    assert [name for name, count in signatures.items() if count == "0"] == []
