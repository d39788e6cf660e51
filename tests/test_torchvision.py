"""torchvision beside a CPU build of torch, in fresh processes."""

from __future__ import annotations

import subprocess
import sys

from cmkd._torchvision import mend

CHECK = "import {first}\n{mend}import torchvision, timm\nprint('ok')"


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)


def test_timm_can_be_imported_after_the_mend() -> None:
    done = run("from cmkd._torchvision import mend\nmend()\nimport torchvision, timm\nprint('ok')")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "ok"


def test_the_mend_is_only_done_where_the_import_fails() -> None:
    plain = run("import torchvision").returncode
    mended = run("from cmkd._torchvision import mend\nprint(mend())").stdout.strip()
    assert mended == str(plain != 0)


def test_twice_is_as_once() -> None:
    assert mend() == mend()
