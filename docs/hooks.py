"""What the site takes from elsewhere: README as its first page, a page a method, and the tables of benchmarks."""

from __future__ import annotations

import posixpath
import re
import tempfile
from pathlib import Path
from typing import Any

import griffe
from mkdocs.structure.files import File, Files

from cmkd.methods.pages import write_markdown

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"\[([^\[\]]*)\]\((?!\w+:|#)([^)\s]+)\)")


class Examples(griffe.Extension):
    """Let ``Example:`` in docstrings begin a section of code, as ``Examples:`` does."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:  # noqa: ANN401  # of griffe
        """Rename the section."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"^(\s*)Example:$", r"\1Examples:", obj.docstring.value, flags=re.MULTILINE)


def on_files(files: Files, config: Any) -> Files:  # noqa: ANN401  # of mkdocs
    """Add the pages that are no files of this folder."""
    files.append(File.generated(config, "index.md", content=(ROOT / "README.md").read_text(encoding="utf-8")))
    for path in sorted((ROOT / "benchmarks" / "results").glob("*.md")):
        files.append(File.generated(config, f"benchmarks/results/{path.name}", abs_src_path=str(path)))
    with tempfile.TemporaryDirectory() as folder:
        write_markdown(Path(folder))
        for path in sorted(Path(folder).rglob("*.md")):
            name = "index.md" if path.name == "README.md" else path.name
            files.append(File.generated(config, f"methods/{name}", content=path.read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:  # noqa: ANN401  # of mkdocs
    """Let links of the repository lead to pages of the site; keep the text alone of those to its other files."""
    source = page.file.src_uri
    elsewhere = source == "index.md" or source.startswith("benchmarks/")
    home = (ROOT if elsewhere else ROOT / "docs") / posixpath.dirname(source)

    def led(match: re.Match[str]) -> str:
        target, mark, anchor = match[2].partition("#")
        try:
            place = (home / target).resolve().relative_to(ROOT).as_posix()
        except ValueError:
            return match[0]
        inside = place.removeprefix("docs/")
        if files.get_file_from_path(inside) is not None:
            return f"[{match[1]}]({posixpath.relpath(inside, posixpath.dirname(source) or '.')}{mark}{anchor})"
        return match[1] if (ROOT / place).exists() else match[0]

    return LINK.sub(led, markdown)
