"""Damaged copies of JSON documents and bytes, for tests of their readers; this module contains no tests."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

VALUES: tuple[Any, ...] = (
    None,
    "text",
    "",
    -1,
    0,
    1.5,
    10**400,
    True,
    [],
    {},
    [[[]]],
    {"a": {"b": []}},
    "../../x",
    "é\n$",
)
"""Replacement values for each key, used one after another."""


def documents(content: dict[str, Any], *, every: int = 1) -> Iterator[tuple[str, str]]:
    """Yield the name of a change and the changed document as text, for every n-th change (`every`).

    Each key, and the first entry of each list, is once deleted and once replaced by each of `VALUES`.
    """
    places = list(_places(content, ()))
    changes = [(place, change) for place in places for change in range(len(VALUES) + 1)]
    for place, change in changes[::every]:
        changed = copy.deepcopy(content)
        home: Any = changed
        for key in place[:-1]:
            home = home[key]
        if change == len(VALUES):
            del home[place[-1]]
        elif json.dumps(home[place[-1]]) == json.dumps(VALUES[change]):
            continue
        else:
            home[place[-1]] = VALUES[change]
        what = "deleted" if change == len(VALUES) else repr(VALUES[change])[:12]
        yield f"{'.'.join(map(str, place))} {what}", json.dumps(changed)
    text = json.dumps(content)
    yield "NaN", text.replace(next(iter(_numbers(text)), '""'), "NaN", 1)
    yield "nested", '{"a":' * 100_000
    yield "a list", "[]"
    yield "twice", text[:-1] + f", {text[1:]}"
    yield "cut", text[: len(text) // 2]


def flipped(content: bytes, count: int, *, seed: int = 0, most: int | None = None) -> Iterator[tuple[str, bytes]]:
    """Yield the name of a change and the changed bytes: one bit flipped in the first `most` bytes, or cut there."""
    drawn = random.Random(seed)
    for number in range(count):
        place = drawn.randrange(min(len(content), most or len(content)))
        if number % 8 == 7:
            yield f"cut at {place}", content[:place]
        else:
            bit = 1 << drawn.randrange(8)
            yield f"bit {bit} of byte {place}", content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :]


def _places(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:  # noqa: ANN401  # any part of JSON
    entries = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, item in entries:
        yield (*path, key)
        yield from _places(item, (*path, key))


def _numbers(text: str) -> Iterator[str]:
    return (word for word in text.replace(",", " ").replace("}", " ").split() if word.isdigit())
