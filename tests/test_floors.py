"""A floor imports no higher floor, and siblings on floor 2 never import each other."""

from __future__ import annotations

import ast
from pathlib import Path

import cmkd

ROOT = Path(cmkd.__file__).parent
FLOORS: list[set[str]] = [
    {
        "_torchvision",
        "cost",
        "distributed",
        "documents",
        "errors",
        "expression",
        "io",
        "markdown",
        "nested",
        "options",
        "processes",
        "progress",
        "provenance",
        "registry",
        "types",
    },
    {"config", "correlation", "folds", "ops", "pairwise"},
    {"methods", "structure", "models", "data", "datasets", "simulators", "inference"},
    {"evaluation", "training"},
    {"analysis", "report"},
    {"deploy"},
    {"experiment"},
    {"bench", "estimator"},
    {"cli"},
    {"__main__"},
]
LEVEL = {name: level for level, names in enumerate(FLOORS) for name in names}
ARROWS = {
    ("datasets", "data"),
    ("datasets", "simulators"),
    ("simulators", "data"),
    ("inference", "data"),
    ("inference", "models"),
    ("report", "analysis"),
}
"""Allowed imports between rooms of one floor: (importer, imported). On floors 0 and 1, all may, without cycles."""
LARGEST = 0.25
"""Largest fraction of all lines that one room may hold."""


def imported(path: Path) -> set[str]:
    """Return the names of this package that a file imports, at its top or inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.startswith("cmkd.")}


def imports(path: Path) -> set[str]:
    """Return the rooms that a file imports."""
    return {name.split(".")[1] for name in imported(path)} & LEVEL.keys()


def breaches(files: dict[Path, str]) -> list[str]:
    found = []
    for path, room in files.items():
        for other in imports(path):
            siblings = LEVEL[other] == LEVEL[room] > 1 and (room, other) not in ARROWS
            if other != room and (LEVEL[other] > LEVEL[room] or siblings):
                found.append(f"{path.name} ({room}, floor {LEVEL[room]}) imports {other} (floor {LEVEL[other]})")
    return found


def rooms() -> dict[Path, str]:
    found = {}
    for path in ROOT.rglob("*.py"):
        room = path.relative_to(ROOT).parts[0].removesuffix(".py")
        if room != "__init__":
            found[path] = room
    return found


def test_every_room_has_a_floor() -> None:
    assert set(rooms().values()) <= LEVEL.keys()


def test_no_floor_imports_a_higher_one() -> None:
    assert breaches(rooms()) == []


def test_a_breach_is_seen(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("def f():\n    from cmkd.training.fit import fit\n")
    assert len(breaches({bad: "methods"})) == 1


def test_no_method_or_data_set_is_named_above_floor_two() -> None:
    from cmkd import methods
    from cmkd.datasets import DATASETS

    names = (set(methods.METHODS) | set(DATASETS)) - {"none"}
    for path, room in rooms().items():
        if LEVEL[room] < 3:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                simulator = path.name == "simulate.py" and node.value == "marine"  # the command names its simulator
                assert simulator or node.value not in names, f"{path} names {node.value!r}"


def test_no_room_holds_more_than_a_quarter_of_all_lines() -> None:
    lines: dict[str, int] = {}
    for path, room in rooms().items():
        lines[room] = lines.get(room, 0) + len(path.read_text(encoding="utf-8").splitlines())
    largest = max(lines, key=lambda room: lines[room])
    assert lines[largest] <= LARGEST * sum(lines.values()), f"{largest}: {lines[largest]} of {sum(lines.values())}"


def test_no_module_imports_itself_in_a_circle() -> None:
    modules = {
        ".".join(("cmkd", *p.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): p
        for p in ROOT.rglob("*.py")
    }
    graph: dict[str, set[str]] = {}
    for module, path in modules.items():
        graph[module] = {found for name in imported(path) if (found := home(name, modules)) and found != module}
    assert circles(graph) == []


def test_a_circle_is_seen() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


def home(name: str, modules: dict[str, Path]) -> str | None:
    """Return the module that an imported name comes from."""
    if name in modules:
        return name
    parent = name.rpartition(".")[0]
    return parent if parent in modules else None


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the sorted groups of modules that import each other in a cycle."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    names = sorted(graph)
    matrix = csr_array([[int(other in graph[name]) for other in names] for name in names])
    _, labels = connected_components(matrix, connection="strong")
    groups = [[name for name, label in zip(names, labels, strict=True) if label == group] for group in set(labels)]
    return sorted(group for group in groups if len(group) > 1)
