"""Nested mappings, such as configurations: merge, fill and compare them, and extract non-default values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Return two nested mappings as one; the second takes precedence.

    Example:
        >>> merged({"teacher": {"size": 16}, "preset": "full"}, {"teacher": {"views": 4}})
        {'teacher': {'size': 16, 'views': 4}, 'preset': 'full'}
    """
    both = dict(first)
    for name, value in second.items():
        before = both.get(name)
        both[name] = merged(before, value) if isinstance(before, Mapping) and isinstance(value, Mapping) else value
    return both


def beyond(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a nested mapping that differs from the defaults.

    Example:
        >>> beyond({"teacher": {"size": 16, "views": 4}, "seed": 0}, {"teacher": {"size": 8, "views": 4}, "seed": 0})
        {'teacher': {'size': 16}}
    """
    found = {}
    for name, value in values.items():
        default = defaults.get(name)
        if name in defaults and value == default:
            continue
        found[name] = beyond(value, default) if isinstance(value, Mapping) and isinstance(default, Mapping) else value
    return found


def filled(values: Mapping[str, Any], texts: Mapping[str, str]) -> dict[str, Any]:
    """Return a nested mapping with each name in braces, in its texts, replaced by the text given for that name.

    Example:
        >>> filled({"teacher": {"checkpoint": "{data}/best.safetensors", "views": 4}}, {"data": "ships"})
        {'teacher': {'checkpoint': 'ships/best.safetensors', 'views': 4}}
    """

    def put(value: object) -> object:
        if isinstance(value, Mapping):
            return filled(value, texts)
        if isinstance(value, str):
            for name, text in texts.items():
                value = value.replace(f"{{{name}}}", text)
        return value

    return {name: put(value) for name, value in values.items()}


def differences(old: object, new: object, defaults: object = None, path: str = "") -> dict[str, str]:
    """Return the values that differ, in the order of their names: name -> ``old, now new``.

    Args:
        old: earlier value, or nested mapping.
        new: current value, or nested mapping.
        defaults: values of names that `old` lacks, such as options that did not exist when `old` was written.
        path: dotted name of the value or mapping; empty for a whole document.

    Example:
        >>> differences({"teacher": {"size": 16}, "seed": 0}, {"teacher": {"size": 24}, "seed": 1})
        {'seed': '0, now 1', 'teacher.size': '16, now 24'}
        >>> differences({"seed": 0}, {"seed": 0, "folds": 1}, {"folds": 1})
        {}
    """
    if not (isinstance(old, Mapping) and isinstance(new, Mapping)):
        return {} if old == new else {path: f"{old}, now {new}"}
    known, found = defaults if isinstance(defaults, Mapping) else {}, dict[str, str]()
    for key in sorted(old.keys() | new.keys()):
        inner = f"{path}.{key}" if path else key
        found |= differences(old.get(key, known.get(key)), new.get(key), known.get(key), inner)
    return found
