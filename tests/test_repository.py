"""Rules for the repository: no local paths, American names, folders of readable size, one training loop."""

from __future__ import annotations

import ast
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MACHINE = re.compile(r"/home/\w|/Users/\w|C:\\Users|(?<![\w.])/(work|root|tmp)/|--(extra-)?index-url")
BRITISH = re.compile(
    r"(optimis|normalis|standardis|initialis|regularis|generalis|summaris|visualis|serialis|colour|grey|licence"
    r"|labelled|modell(ed|ing)|metres?$|centre|behaviour|neighbour)",
    re.IGNORECASE,
)
CROWDED = 25
"""Most files in one folder, except for methods and data sets, which have one file each."""


@pytest.fixture(scope="module")
def tracked() -> list[Path]:
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file() and path != Path(__file__)]


def identifiers(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.arg(arg=name) | ast.Attribute(attr=name) | ast.Name(id=name):
                yield name
            case ast.keyword(arg=str(name)):
                yield name


def test_no_file_names_a_machine(tracked: list[Path]) -> None:
    found = []
    for path in tracked:
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in MACHINE.finditer(text)]
    assert found == []


def test_names_are_american(tracked: list[Path]) -> None:
    found = set()
    for path in tracked:
        if path.is_relative_to(ROOT / "src"):
            names = {path.stem}
            if path.suffix == ".py":
                names |= set(identifiers(ast.parse(path.read_text(encoding="utf-8"))))
            found |= {f"{path.relative_to(ROOT)}: {name}" for name in names if BRITISH.search(name)}
    assert sorted(found) == []


def test_no_folder_is_crowded(tracked: list[Path]) -> None:
    counts = Counter(path.parent.relative_to(ROOT).as_posix() for path in tracked if path.is_relative_to(ROOT / "src"))
    del counts["src/cmkd/methods"], counts["src/cmkd/datasets"]
    assert {folder: count for folder, count in counts.items() if count > CROWDED} == {}


def test_benchmarks_and_docs_train_with_the_product_alone(tracked: list[Path]) -> None:
    for path in tracked:
        room = path.relative_to(ROOT).parts
        if room[0] in ("benchmarks", "docs") and room[1] != "speed" and path.suffix == ".py":
            assert not re.search(r"backward\(|optimizer\.step\(", path.read_text(encoding="utf-8")), path
