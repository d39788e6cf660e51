"""torchvision can be imported beside a CPU build of torch, in fresh processes."""

from __future__ import annotations

import subprocess
import sys

import pytest


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)


def test_users_may_import_what_needs_torchvision_after_any_part_of_cmkd() -> None:
    done = run("from cmkd import methods\nimport lightning, timm, torchvision\nprint('ok')")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "ok"


@pytest.mark.slow
def test_operators_are_defined_only_where_the_import_fails() -> None:
    plain = run("import torchvision").returncode
    done = run("from cmkd._torchvision import register_missing_ops\nprint(register_missing_ops())").stdout.strip()
    assert done == str(plain != 0)


def test_import_of_cmkd_imports_no_torch() -> None:
    assert run("import cmkd, sys; print('torch' in sys.modules)").stdout.strip() == "False"
