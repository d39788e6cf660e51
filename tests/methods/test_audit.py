"""The table that compares every method with its paper."""

from __future__ import annotations

import runpy
from pathlib import Path

from cmkd.methods.pages import pages

SCRIPT = Path(__file__).parents[2] / "docs" / "methods_audit.py"


def test_every_method_of_a_paper_is_in_the_table_as_it_is_today() -> None:
    made = runpy.run_path(str(SCRIPT))
    assert set(made["PAPER"]) <= {page.name for page in pages() if page.paper}
    assert SCRIPT.with_suffix(".md").read_text(encoding="utf-8") == made["text"](), f"run python docs/{SCRIPT.name}"


def test_differences_are_read_from_the_docstrings() -> None:
    made = runpy.run_path(str(SCRIPT))
    said = {
        page.name: made["differences"](page)
        for page in pages()
        if page.name in ("dkd", "generalized", "discom_kd", "cc")
    }
    assert "the paper has two encoders a modality" in said["discom_kd"]
    assert "The loss named CC in RepDistiller" in said["cc"]  # from the function
    assert "20 of 240 in the authors' recipe" in said["dkd"]  # from an option
    assert "The paper's objective is ``(1 - l) " in said["generalized"] and said["generalized"].count("``") % 2 == 0
