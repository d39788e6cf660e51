"""Tables and sentences of the studies' documents: every figure in them comes from the stored results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cmkd.evaluation import interval

MINUS = "\N{MINUS SIGN}"


def signed(value: float, digits: int = 1) -> str:
    """Write a number with its sign.

    Example:
        >>> signed(0.123, 2), signed(-1.0) == f"{MINUS}1.0"
        ('+0.12', True)
    """
    text = f"{value:+.{digits}f}"
    return text.replace("-", MINUS)


def plain(value: float, digits: int = 2) -> str:
    """Write a number with a proper minus."""
    return f"{value:.{digits}f}".replace("-", MINUS)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a Markdown table, its first column to the left."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def spread(values: Sequence[float]) -> str:
    """Write mean and standard deviation of accuracies in percent."""
    array = 100 * np.asarray(values)
    return f"{array.mean():.1f}" + (f" ± {array.std(ddof=1):.1f}" if len(array) > 1 else "")


def paired(ours: Mapping[int, float], theirs: Mapping[int, float], *, scale: float = 1.0) -> dict[str, Any] | None:
    """Compare two methods over the seeds that both have, with Student's 95 % interval; None below two seeds.

    Example:
        >>> found = paired({0: 1.0, 1: 2.0, 2: 3.0, 5: 0.0}, {0: 0.0, 1: 0.0, 2: 0.0})
        >>> found["n"], found["mean"], found["sure"]
        (3, 2.0, 'not shown')
    """
    seeds = sorted(ours.keys() & theirs.keys())
    if len(seeds) < 2:
        return None
    differences = [scale * (ours[s] - theirs[s]) for s in seeds]
    low, high = interval(differences)
    sure = "above" if low > 0 else "below" if high < 0 else "not shown"
    return {"n": len(seeds), "mean": float(np.mean(differences)), "low": low, "high": high, "sure": sure}


def said(found: Mapping[str, Any] | None, digits: int = 1) -> str:
    """Write a paired difference with its interval, in bold where the interval excludes zero.

    Example:
        >>> said({"n": 5, "mean": 1.0, "low": 0.5, "high": 1.5, "sure": "above"})
        '**+1.0 (+0.5 to +1.5)**'
    """
    if found is None:
        return "—"
    text = f"{signed(found['mean'], digits)} ({signed(found['low'], digits)} to {signed(found['high'], digits)})"
    return text if found["sure"] == "not shown" else f"**{text}**"


def about(found: Mapping[str, Any]) -> str:
    """Write with what the results were made."""
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    hardware = found["hardware"]
    where = f"{hardware['machine']}, {hardware['threads']} thread of {hardware['cores']} cores, no GPU"
    return f"Gathered at commit {found['commit'] or 'unknown'}; {versions}; {where}."
