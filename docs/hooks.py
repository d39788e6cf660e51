"""Add pages to the site from outside this folder: README, methods, commands, benchmark tables, executed notebooks."""

from __future__ import annotations

import hashlib
import io
import os
import posixpath
import re
import tempfile
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any

import griffe
from mkdocs.structure.files import File, Files

from cmkd.cli import COMMANDS, main
from cmkd.methods.pages import write_markdown

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"\[([^\[\]]*)\]\((?!\w+:|#)([^)\s]+)\)")
PAGES = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
"""File in the repository's root -> page of the site."""
NOTEBOOK_SECONDS = 900
"""Longest time that one cell of a notebook may take."""


class Examples(griffe.Extension):
    """Treat the section ``Example:`` of docstrings like ``Examples:``."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:  # noqa: ANN401  # griffe's signature
        """Rename the section."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"^(\s*)Example:$", r"\1Examples:", obj.docstring.value, flags=re.MULTILINE)


def on_files(files: Files, config: Any) -> Files:  # noqa: ANN401  # mkdocs' signature
    """Add the pages whose sources are outside this folder."""
    for name, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / name).read_text(encoding="utf-8")))
    files.append(File.generated(config, "commands.md", content=command_reference()))
    for path in sorted((ROOT / "benchmarks" / "results").glob("*.md")):
        files.append(File.generated(config, f"benchmarks/results/{path.name}", abs_src_path=str(path)))
    with tempfile.TemporaryDirectory() as folder:
        for path in write_markdown(Path(folder)):
            files.append(File.generated(config, f"methods/{path.name}", content=path.read_text(encoding="utf-8")))
    for notebook in sorted((ROOT / "docs" / "notebooks").glob("*.py")):
        for path in sorted(rendered(notebook).iterdir()):
            files.append(File.generated(config, f"notebooks/{path.name}", abs_src_path=str(path)))
    return files


def command_reference() -> str:
    """Return the page with the output of ``cmkd COMMAND --help``."""
    lines = ["# Commands", "", "What `cmkd COMMAND --help` prints.", ""]
    for command in COMMANDS:
        text = help_of(command)
        parts = re.findall(r"^  (\w+)  ", text, re.MULTILINE) if "COMMAND [OPTIONS]" in text else []
        lines += [f"## cmkd {command}", "", "```text", text, "```", ""]
        for part in parts:
            lines += [f"### cmkd {command} {part}", "", "```text", help_of(command, part), "```", ""]
    return "\n".join(lines)


def help_of(*words: str) -> str:
    """Return what a command prints with ``--help``, at the width of a page."""
    printed, before = io.StringIO(), os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "100"
    with redirect_stdout(printed), suppress(SystemExit):  # raised by argparse
        main([*words, "--help"])
    del os.environ["COLUMNS"]
    os.environ |= {"COLUMNS": before} if before else {}
    return printed.getvalue().rstrip()


def rendered(notebook: Path) -> Path:
    """Run a notebook, and return the folder with its page, its figures, and the notebook with its outputs.

    The folder is kept until the notebook or the package changes.
    """
    import jupytext
    from nbclient import NotebookClient
    from nbconvert import MarkdownExporter

    digest = hashlib.sha256()
    for path in (notebook, *sorted((ROOT / "src").rglob("*.py"))):
        digest.update(path.read_bytes())
    folder = ROOT / "build" / "notebooks" / f"{notebook.stem}-{digest.hexdigest()[:16]}"
    if folder.exists():
        return folder
    found = jupytext.read(notebook)
    NotebookClient(found, timeout=NOTEBOOK_SECONDS, kernel_name="python3").execute()
    body, resources = MarkdownExporter().from_notebook_node(  # type: ignore[no-untyped-call]
        found, {"unique_key": notebook.stem, "output_files_dir": ""}
    )
    body += f"\n[This notebook with its outputs]({notebook.stem}.ipynb)\n"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        stage = Path(name) / "made"
        stage.mkdir()
        (stage / f"{notebook.stem}.md").write_text(body, encoding="utf-8")
        for figure, content in resources["outputs"].items():
            (stage / figure).write_bytes(content)
        jupytext.write(found, stage / f"{notebook.stem}.ipynb")
        stage.rename(folder)
    return folder


def page_of(place: str) -> str:
    """Return the page of the site that shows a file or folder of the repository."""
    if place == "src/cmkd/methods":
        return "methods/index.md"
    place = re.sub(r"^src/cmkd/(methods/\w+)\.py$", r"\1.md", place)
    place = re.sub(r"^docs/(notebooks/\w+)\.py$", r"\1.md", place)
    return PAGES.get(place, place.removeprefix("docs/"))


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:  # noqa: ANN401  # mkdocs' signature
    """Point links to files of the repository to pages of the site; keep only the text where a file has no page."""
    source = page.file.src_uri
    elsewhere = source in PAGES.values() or source.startswith("benchmarks/")
    home = (ROOT if elsewhere else ROOT / "docs") / posixpath.dirname(source)

    def led(match: re.Match[str]) -> str:
        target, mark, anchor = match[2].partition("#")
        try:
            place = (home / target).resolve().relative_to(ROOT).as_posix()
        except ValueError:
            return match[0]
        inside = page_of(place)
        if files.get_file_from_path(inside) is not None:
            return f"[{match[1]}]({posixpath.relpath(inside, posixpath.dirname(source) or '.')}{mark}{anchor})"
        return match[1] if (ROOT / place).exists() else match[0]

    return LINK.sub(led, markdown)
