"""A floor imports no higher floor, and siblings on floor 2 never import each other."""

from __future__ import annotations

import ast
from pathlib import Path

import cmkd

ROOT = Path(cmkd.__file__).parent
FLOORS = [
    {"errors", "types", "expression", "_torchvision"},
    {"config", "correlation", "distributed", "ops", "pairwise", "provenance"},
    {"methods", "structure", "data", "models"},
    {"training", "evaluation"},
    {"analysis", "experiment", "deploy", "benchmark"},
    {"report"},
    {"cli", "__main__"},
]
LEVEL = {name: level for level, names in enumerate(FLOORS) for name in names}


def imports(path: Path) -> set[str]:
    """Return the rooms of this package that a file imports, at its top or inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.split(".")[1] for name in names if name.startswith("cmkd.")} & LEVEL.keys()


def breaches(files: dict[Path, str]) -> list[str]:
    found = []
    for path, room in files.items():
        for other in imports(path):
            siblings = LEVEL[other] == LEVEL[room] == 2
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
    from cmkd.data.base import registry

    names = (set(methods.registry()) | set(registry())) - {"none"}
    for path, room in rooms().items():
        if LEVEL[room] < 3:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                simulator = path.name == "simulate.py" and node.value == "marine"  # its command names it
                assert simulator or node.value not in names, f"{path} names {node.value!r}"
