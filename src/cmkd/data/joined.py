"""Connected components of items linked in pairs, such as rows that share a file or groups that share pairs."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


def first_joined(pairs: Iterable[tuple[int, int]], count: int) -> list[int]:
    """Return, for each of `count` items numbered from 0, the first item of its connected component.

    Args:
        pairs: numbers of two linked items each.
        count: number of items.

    Source:
        scipy's connected components.

    Example:
        >>> first_joined([(3, 2), (2, 4)], 5)
        [0, 1, 2, 2, 2]
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rows, columns = np.array([*pairs], dtype=np.int64).reshape(-1, 2).T
    _, part = connected_components(coo_array((np.ones(len(rows)), (rows, columns)), (count, count)), directed=False)
    _, first = np.unique(part, return_index=True)
    return [int(number) for number in first[part]]
