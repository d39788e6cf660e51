"""Files that several rows of a table name, such as one optical image beside several radar passes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

from cmkd.data.joined import first_joined
from cmkd.data.split import ALIASES
from cmkd.errors import CmkdError

Shared = Sequence[tuple[Path, int, int]]
"""Entries of a shared file, the first row that names it, and another row that names it."""


def shared_files(files: Mapping[str, Sequence[Path | None]]) -> Shared:
    """Return every file that more than one row names, by whatever path, once per further row.

    Example:
        >>> found = shared_files({"optical": [Path("1.png"), Path("1.png")], "radar": [Path("1.tif"), Path("2.tif")]})
        >>> [(path.name, *rows) for path, *rows in found]
        [('1.png', 0, 1)]
    """
    first: dict[str, int] = {}
    known = cache(os.path.realpath)  # called with folders, which are few
    return [
        (path, first[place], row)
        for paths in files.values()
        for row, path in enumerate(paths)
        if path is not None and first.setdefault(place := real_place(path, known), row) != row
    ]


def real_place(path: Path, folder: Callable[[Path], str] = os.path.realpath) -> str:
    """Return the real path of a file, with links resolved; `folder` returns the real path of a folder."""
    found = os.path.join(folder(path.parent), path.name)
    return os.path.realpath(found) if os.path.islink(found) else found


def check_splits(shared: Shared, splits: Sequence[str], lines: Sequence[str]) -> None:
    """Raise `CmkdError` if rows of different stated splits name one file."""
    for path, *rows in shared:
        one, other = (ALIASES.get(splits[row], splits[row]) for row in rows)
        if one and other and one != other:
            raise CmkdError(
                f"{path} is in {lines[rows[0]]} ({one}) and {lines[rows[1]]} ({other}): put rows of one file into one "
                "split"
            )


def united(shared: Shared, ids: Sequence[str], groups: Sequence[str]) -> list[str]:
    """Return a group per row; rows that share a file or a group, directly or through other rows, get the same group.

    Its name is the first group among these rows or, if they have none, "pair" and the id of the first row. A row that
    shares nothing keeps its group, or has none.

    Args:
        shared: files that several rows name.
        ids: ids of the rows.
        groups: groups of the rows; empty for none.

    Example:
        >>> united([(Path("1.png"), 0, 2), (Path("2.tif"), 2, 3)], ["a", "b", "c", "d"], ["", "", "", ""])
        ['pair a', '', 'pair a', 'pair a']
        >>> united([(Path("1.png"), 0, 2)], ["a", "b", "c", "d"], ["", "north", "north", "south"])
        ['north', 'north', 'north', 'south']
    """
    first: dict[str, int] = {}
    alike = [(first.setdefault(group, row), row) for row, group in enumerate(groups) if group]
    top = first_joined([*((row, other) for _, row, other in shared), *alike], len(ids))
    names: dict[int, str] = {}
    for row, group in enumerate(groups):
        if group:
            names.setdefault(top[row], group)
    for _, row, _ in shared:
        names.setdefault(top[row], f"pair {ids[top[row]]}")  # an id may be the name of another group
    return [names.get(row, "") for row in top]
