"""Files that several rows of a table name, such as one optical image beside several radar passes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from cmkd.data.split import ALIASES
from cmkd.errors import CmkdError

Shared = Sequence[tuple[Path, int, int]]
"""A file, the first row that names it, and another one."""


def shared_files(files: Mapping[str, Sequence[Path | None]]) -> Shared:
    """Return every file that is in more than one row, once per further row.

    Example:
        >>> found = shared_files({"optical": [Path("1.png"), Path("1.png")], "radar": [Path("1.tif"), Path("2.tif")]})
        >>> [(path.name, *rows) for path, *rows in found]
        [('1.png', 0, 1)]
    """
    first: dict[str, int] = {}
    repeats = [
        (path, first[str(path)], row)
        for paths in files.values()
        for row, path in enumerate(paths)
        if path is not None and first.setdefault(str(path), row) != row
    ]
    return repeats


def check_splits(shared: Shared, splits: Sequence[str], lines: Sequence[str]) -> None:
    """Raise `CmkdError` if rows of different stated splits name one file."""
    for path, *rows in shared:
        one, other = (ALIASES.get(splits[row], splits[row]) for row in rows)
        if one and other and one != other:
            raise CmkdError(
                f"{path} is in {lines[rows[0]]} ({one}) and {lines[rows[1]]} ({other}): put rows of one file into one "
                "split"
            )


def united(shared: Shared, ids: Sequence[str]) -> list[str]:
    """Return a group per row: the id of the first row that shares a file with it, directly or through others.

    Example:
        >>> united([(Path("1.png"), 0, 2), (Path("2.tif"), 2, 3)], ["a", "b", "c", "d"])
        ['a', '', 'a', 'a']
    """
    above = list(range(len(ids)))

    def top(row: int) -> int:
        while above[row] != row:
            above[row] = row = above[above[row]]
        return row

    for _, *rows in shared:
        low, high = sorted(map(top, rows))
        above[high] = low
    members = {row for _, *rows in shared for row in rows}
    return [ids[top(row)] if row in members else "" for row in range(len(ids))]
