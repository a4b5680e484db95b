"""`python -m tests.read_only MODULE ARGUMENT...` runs a module where sources and home cannot be written.

It takes a mount namespace of its own, and so root on Linux.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = """
for folder in "$1" "$2"; do
    mount --bind "$folder" "$folder" && mount -o remount,ro,bind "$folder" || exit 4
done
shift 2
exec "$@"
"""


def can_be() -> bool:
    """Whether this machine lets us make folders read-only for a process."""
    program = shutil.which("unshare")
    return program is not None and subprocess.run([program, "-m", "true"], check=False).returncode == 0


if __name__ == "__main__":
    folders = str(ROOT), os.path.expanduser("~")
    os.execvp(
        "unshare", ["unshare", "-m", "sh", "-c", SCRIPT, "sh", *folders, sys.executable, "-m", *sys.argv[1:]]
    )
