"""The packages point one way: streams uses the cores, and a core uses neither streams nor the other core."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# What a functional core may not touch: the outer package, the other core, and the world.
OUTSIDE = {"faust", "mode", "kafka", "aiokafka", "aiohttp", "prometheus_client", "pydantic_settings"}
FORBIDDEN = {
    "model_core": OUTSIDE | {"streams", "online_learning"},
    "online_learning": OUTSIDE | {"streams", "model_core"},
}


def imported_modules(source: str) -> Iterator[str]:
    """Yield the full name of every module that the source imports, wherever the import stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module


def core_modules() -> list[tuple[str, Path]]:
    return [
        (package, path.relative_to(ROOT))
        for package in FORBIDDEN
        for path in sorted((ROOT / package).rglob("*.py"))
    ]


@pytest.mark.parametrize(("package", "path"), core_modules(), ids=str)
def test_a_core_imports_neither_streams_nor_the_other_core(package: str, path: Path) -> None:
    roots = {name.partition(".")[0] for name in imported_modules((ROOT / path).read_text())}
    assert not roots & FORBIDDEN[package]


@pytest.mark.parametrize(
    "source",
    [
        "import streams",
        "import numpy, streams.worker.app as app",
        "def f():\n    from streams.worker.app import x",
        "if 1:\n  import streams.x",
    ],
)
def test_the_walk_sees_an_import_wherever_it_stands(source: str) -> None:
    assert "streams" in {name.partition(".")[0] for name in imported_modules(source)}


def test_both_cores_are_walked() -> None:
    assert {package for package, _ in core_modules()} == {"model_core", "online_learning"}
