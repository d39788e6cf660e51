"""Tests of the commit that results name."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from cmkd import provenance


def test_a_tag_does_not_change_what_a_commit_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*words: str) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@b")
        return subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    source = tmp_path / "src" / "cmkd" / "provenance.py"
    source.parent.mkdir(parents=True)
    source.write_text("")
    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    git("tag", "-a", "v1", "-m", "a release")
    monkeypatch.setattr(provenance, "__file__", str(source))
    assert provenance.commit.__wrapped__() == git("rev-parse", "HEAD").strip()
    source.write_text("changed")
    assert provenance.commit.__wrapped__() == f"{git('rev-parse', 'HEAD').strip()}-dirty"
