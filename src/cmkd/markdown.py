"""Users' text in Markdown: names and titles are shown exactly as written, whatever characters they contain."""

from __future__ import annotations

import re
from collections.abc import Sequence

from cmkd.errors import one_line

_SPECIAL = re.compile(r"[\\`*\[\]<>&|~$]|(?<![^\W_])_|_(?![^\W_])")  # an underscore within a word is no emphasis
_LINE_START = re.compile(r"^(?:()([#+=-])(?=[\s#=-]|$)|(\d{1,9})([.)])(?=\s|$))")  # headings, lists and rules
_ADDRESS = re.compile(r"https?://[^\s\\`*\[\]<>|]+")
_BARE_PIPE = re.compile(r"(?<!\\)((?:\\\\)*)\|")


def escape(text: str) -> str:
    r"""Return plain text as one line of Markdown that shows it unchanged: links, markup, tags and cells are escaped.

    Example:
        >>> print(escape("a|b <img> [x](y)\n# `c` d_e"))
        a\|b \<img\> \[x\](y) # \`c\` d_e
        >>> print(escape("# 1"), escape("1. a"), escape("-3"))
        \# 1 1\. a -3
    """
    line = _SPECIAL.sub(lambda found: f"\\{found[0]}", _joined(text))
    return _LINE_START.sub(r"\1\3\\\2\4", line)


def address(text: str) -> str:
    r"""Return a web address unchanged, so that readers can follow it, and any other text escaped.

    Example:
        >>> print(address("https://host/~a_b?c&d"), address("https://host/[x](y)"))
        https://host/~a_b?c&d https://host/\[x\](y)
    """
    return text if _ADDRESS.fullmatch(text) else escape(text)


def code(text: str) -> str:
    """Return text as one line of inline code, even if it contains backticks.

    Example:
        >>> print(code("kd"), code("a`b"))
        `kd` `` a`b ``
    """
    line, fence = _joined(text), "`" * (_longest_run(text) + 1)
    return f"{fence}{line}{fence}" if len(fence) == 1 else f"{fence} {line} {fence}"


def fenced(text: str, language: str = "") -> str:
    """Return text as a fenced code block whose fence is longer than any run of backticks in the text."""
    fence = "`" * max(3, _longest_run(text) + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def table(header: Sequence[str], rows: Sequence[Sequence[object]], *, left: int | None = None) -> str:
    r"""Return a Markdown table; a bare ``|`` or a line break in a cell does not end the cell.

    Args:
        header: one cell per column.
        rows: rows of one cell per column.
        left: number of left-aligned columns, by default all; the others are right-aligned.

    Example:
        >>> print(table(["class", "pairs"], [["a|b", 3]], left=1))
        | class | pairs |
        | --- | ---: |
        | a\|b | 3 |
    """
    aligned = len(header) if left is None else left
    alignment = [*["---"] * aligned, *["---:"] * (len(header) - aligned)]
    lines = [[_BARE_PIPE.sub(r"\1\\|", _joined(str(cell))) for cell in line] for line in (header, *rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], alignment, *lines[1:]))


def _joined(text: str) -> str:
    return one_line(" ".join(text.split()))


def _longest_run(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)
