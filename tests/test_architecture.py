"""The packages point one way: streams uses the cores, and a core uses neither streams nor the other core."""

import ast
from collections.abc import Iterable, Iterator, Mapping
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


# Circles that may be there; one that grows beyond what is listed is not allowed.
MODULE_CIRCLES: tuple[tuple[str, ...], ...] = ()
FOLDER_CIRCLES: tuple[tuple[str, ...], ...] = ()
PACKAGES = ("streams", "model_core", "online_learning")


def import_graph(root: Path, packages: Iterable[str] = PACKAGES) -> dict[str, set[str]]:
    """Which module of the packages imports which, wherever the import stands, under TYPE_CHECKING too."""
    paths = {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path
        for package in packages
        for path in sorted((root / package).rglob("*.py"))
    }
    graph: dict[str, set[str]] = {}
    for module, path in paths.items():
        wanted = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                wanted |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                # A name that is no module is something in the module.
                names = {f"{node.module}.{alias.name}" for alias in node.names}
                wanted |= (names & paths.keys()) or {node.module}
        graph[module] = (wanted & paths.keys()) - {module}
    return graph


def circles(graph: Mapping[str, Iterable[str]]) -> set[tuple[str, ...]]:
    """Groups of nodes of which each leads to every other, sorted."""
    reached = {node: _reached(graph, node) for node in graph}
    groups = {
        tuple(sorted({node} | {other for other in reached[node] if node in reached[other]})) for node in graph
    }
    return {group for group in groups if len(group) > 1}


def unlisted(found: Iterable[Iterable[str]], listed: Iterable[Iterable[str]]) -> list[Iterable[str]]:
    """Circles that are no part of a listed one."""
    return [circle for circle in found if not any(set(circle) <= set(allowed) for allowed in listed)]


def _reached(graph: Mapping[str, Iterable[str]], start: str) -> set[str]:
    found: set[str] = set()
    waiting = [start]
    while waiting:
        fresh = set(graph[waiting.pop()]) - found
        found |= fresh
        waiting += fresh
    return found


def folder_graph(modules: Mapping[str, Iterable[str]]) -> dict[str, set[str]]:
    """Which folder imports from which; a module that stands in no folder of its package is one by itself."""

    def folder(module: str) -> str:
        return ".".join(module.split(".")[:2])

    graph: dict[str, set[str]] = {}
    for module, wanted in modules.items():
        graph.setdefault(folder(module), set()).update({folder(other) for other in wanted} - {folder(module)})
    return graph


def test_no_modules_import_each_other_in_a_circle_but_those_that_are_listed() -> None:
    assert unlisted(circles(import_graph(ROOT)), MODULE_CIRCLES) == []


def test_no_folders_import_each_other_in_a_circle_but_those_that_are_listed() -> None:
    assert unlisted(circles(folder_graph(import_graph(ROOT))), FOLDER_CIRCLES) == []


def private_imports(source: str) -> list[str]:
    """Names with an underscore that a module takes from another one of the packages."""
    return [
        f"{node.module}.{alias.name}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in PACKAGES
        for alias in node.names
        if alias.name.startswith("_")
    ]


def test_no_module_imports_a_private_name_of_another() -> None:
    modules = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    assert {str(path): found for path in modules if (found := private_imports(path.read_text()))} == {}
    assert private_imports("from streams.decoding.xxh3 import xxh3, _mix") == ["streams.decoding.xxh3._mix"]


def unused(graph: Mapping[str, set[str]]) -> set[str]:
    """Modules of the models that nothing of `streams` leads to; a package's own file holds nothing."""
    packages = {module.rpartition(".")[0] for module in graph}
    models, outer = ({module for module in graph if module.split(".")[0] == of} for of in PACKAGES[1::-1])
    return models - _reached({**graph, "": outer}, "") - packages


def test_every_model_is_served_or_trained_by_something_that_runs() -> None:
    graph = import_graph(ROOT)
    assert unused(graph) == set()
    assert unused({**graph, "model_core.other": {"model_core.signals.ease"}}) == {"model_core.other"}


def test_a_circle_is_seen_wherever_its_imports_stand(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    (folder / "one").mkdir(parents=True)
    (folder / "two").mkdir()
    (folder / "one" / "a.py").write_text("from p.one import b\nimport p.two.d\n")
    (folder / "one" / "b.py").write_text("def f():\n    from p.two.c import x\n")
    (folder / "two" / "c.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from p.one.a import y\n"
    )
    (folder / "two" / "d.py").write_text("import os\n")
    graph = import_graph(tmp_path, ["p"])

    assert graph["p.one.a"] == {"p.one.b", "p.two.d"}
    assert circles(graph) == {("p.one.a", "p.one.b", "p.two.c")}
    assert circles(folder_graph(graph)) == {("p.one", "p.two")}
    assert unlisted(circles(graph), [("p.one.a", "p.one.b")]) == [("p.one.a", "p.one.b", "p.two.c")]
    assert unlisted(circles(graph), [("p.one.a", "p.one.b", "p.one.e", "p.two.c")]) == []
