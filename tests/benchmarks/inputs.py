"""Reads what benchmarks are given; where it is missing, a benchmark ends with a line that names it.

A benchmark reads data and releases by `read_data` and `read_scorer`, and ends with

    if __name__ == "__main__":
        with faults_told():
            typer.run(main)
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from model_core.data.datasets import Dataset, load_recbole
from model_core.release.scorer import Scorer
from streams.demo.dataset import fetch
from streams.errors import SlatestreamError
from streams.releases.options import check_release

DATA_HELP = "Folder in RecBole's format; ML-100K, fetched once, without it."
DataFolder = Annotated[Path | None, typer.Option(help=DATA_HELP)]


def read_data(folder: Path | None = None, **options: Any) -> Dataset:
    """Read a data set in RecBole's format; ML-100K, which is fetched once, if no folder is given.

    Parameters
    ----------
    options : of `load_recbole`

    Raises
    ------
    SlatestreamError
        Saying what is wrong with the folder.
    """
    try:
        return load_recbole(fetch() if folder is None else folder.expanduser(), **options)
    except ValueError as error:
        raise SlatestreamError(str(error)) from None


def read_scorer(release: Path, **options: Any) -> Scorer:
    """Load a release, with options of `Scorer`; a `SlatestreamError` says what is wrong with it."""
    check_release(release)
    return Scorer(release, **options)


def check_files(folder: Path, *names: str) -> None:
    """Refuse a folder that lacks one of these files, with a `SlatestreamError` that says which."""
    for name in names:
        if not (folder / name).is_file():
            raise SlatestreamError(f"{folder} must hold {name}")


@contextmanager
def faults_told() -> Iterator[None]:
    """End with a line and exit code 2, without a traceback, if an input is missing or cannot be read."""
    try:
        yield
    except SlatestreamError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.filename is None:  # not about a file: nothing that the user named
            raise
        print(f"{error.filename}: {error.strerror}", file=sys.stderr)
        sys.exit(2)
