"""The checksum of a user's own code covers the modules that it imports from the same place."""

from __future__ import annotations

import functools
import importlib
import sys
import sysconfig
from pathlib import Path

import pytest
import torch

from cmkd import RunConfig, StudentConfig, wrap
from cmkd.experiment.own_code import code_checksum, own_code
from cmkd.io import write_text

FILES = {
    "mine_of_sources/method.py": """
from . import losses
from .deep.below import Tower


class Mine(Tower): ...
""",
    "mine_of_sources/losses.py": "import flat_of_sources\n",
    "mine_of_sources/deep/__init__.py": "",
    "mine_of_sources/deep/below.py": """
from ..losses import flat_of_sources


class Tower: ...


tower = Tower()
""",
    "flat_of_sources.py": "import mine_of_sources.method\n",
    "unused_of_sources.py": "not Python",
}
"""Modules of a user; the top folder has no `__init__.py`, as is usual for working folders."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0].endswith("_of_sources")]:
        monkeypatch.delitem(sys.modules, name)
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write_text(tmp_path / name, text)
    return tmp_path


@pytest.mark.parametrize("name", FILES)
def test_what_code_imports_from_beside_it_changes_its_checksum(folder: Path, name: str) -> None:
    reference = "mine_of_sources.method:Mine"
    before, of_a_model = code_checksum(reference), code_checksum("mine_of_sources.deep.below:tower")
    (folder / name).write_text(FILES[name] + "# changed\n")
    assert (code_checksum(reference) != before) == (not name.startswith("unused"))
    assert of_a_model != before
    assert (code_checksum("mine_of_sources.deep.below:tower") != of_a_model) == (not name.startswith("unused"))


@pytest.mark.parametrize(
    "made", ["functools.partial(dict, width=8)", "Fraction(3)", "functools.lru_cache(lambda: 3)", "dict"]
)
def test_what_a_module_makes_of_classes_from_elsewhere_depends_on_the_module(folder: Path, made: str) -> None:
    text = f"import functools\nfrom fractions import Fraction\n\nmade = {made}\n"
    write_text(folder / "factory_of_sources.py", text)
    before = code_checksum("factory_of_sources:made")
    write_text(folder / "factory_of_sources.py", text.replace("8", "64").replace("3", "4") + "# changed\n")
    assert code_checksum("factory_of_sources:made") != before


def test_a_model_that_is_given_as_an_object_depends_on_its_code_too(folder: Path, tmp_path: Path) -> None:
    code = "import torch\n\n\nclass Net(torch.nn.Linear): ...\n"
    write_text(folder / "net_of_sources.py", code)
    kind = importlib.import_module("net_of_sources").Net
    made = functools.partial(kind, 4, out_features=2)
    for model in (
        kind,
        made,
        torch.nn.Sequential(torch.nn.Flatten(), kind(4, 2)),
        wrap(torch.nn.Sequential(kind(4, 2))),
    ):
        write_text(folder / "net_of_sources.py", code)
        config = RunConfig("digits", tmp_path / "out", student=StudentConfig(model=model))
        before = own_code(config)
        assert list(before) == ["net_of_sources:Net"]
        write_text(folder / "net_of_sources.py", f"{code}# changed\n")
        assert own_code(config) != before
    assert own_code(RunConfig("digits", tmp_path / "out", student=StudentConfig(model=torch.nn.Linear(4, 2)))) == {}


def test_an_installed_package_is_taken_without_its_neighbors(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sysconfig, "get_path", lambda kind: str(folder))
    before = code_checksum("mine_of_sources.method:Mine")
    write_text(folder / "flat_of_sources.py", "# changed")
    assert code_checksum("mine_of_sources.method:Mine") == before
    write_text(folder / "mine_of_sources/losses.py", "# changed")
    assert code_checksum("mine_of_sources.method:Mine") != before
