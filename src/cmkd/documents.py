"""Read JSON and YAML files that anyone may have edited or damaged: with size limits, strict, and with one-line errors.

The names of the files in a run's folder are here too, since several packages write or read them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from cmkd.errors import CmkdError, not_let
from cmkd.options import build

T = TypeVar("T")

SETTINGS = "settings.json"
"""File with the settings of a run; its presence marks a folder as that of a run."""
RESULTS = "results.json"
"""File with the results of all finished models of a run."""
RESULT = "result.json"
"""File with the results of one model, in its folder; written last, because its presence marks the model as finished."""
BEST = "best.safetensors"
"""File of the model selected by a training, in its folder."""
HISTORY = "history.csv"
"""File with the measurements of a training, in its folder."""
TEST = "test.parquet"
"""File with the predictions on the test pairs, in the model's folder; the file of another split bears its name."""
JSON_BYTES = 32 * 2**20
"""Largest JSON file that is read. In memory it may become twenty times as large."""
YAML_BYTES = 32 * 2**10
"""Largest YAML file that is read: its parser takes about a second for it."""
YAML_DEPTH = 50
"""Largest nesting depth of lists and mappings in YAML."""


def read_json(path: Path, *, fix: str = "restore it from a copy") -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Args:
        path: the file.
        fix: how the user can fix a damaged file, for the message.

    Raises:
        CmkdError: the file is missing, too large, or not a JSON object, or contains NaN, infinity or a repeated name.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "card.json"
        >>> _ = path.write_text('{"rows": NaN}')
        >>> read_json(path, fix="make the pack again")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        cmkd.errors.CmkdError: '...card.json' is damaged (NaN is not a JSON number): make the pack again
    """
    return parse_json(_content(path, JSON_BYTES, fix), f"'{path}'", fix=fix)


def parse_json(text: str | bytes, what: str, *, fix: str) -> dict[str, Any]:
    """Return the object in a JSON text, as `read_json` does; `what` names the text in messages."""
    try:
        content = json.loads(text, parse_constant=_no_number, object_pairs_hook=_unique)
        _check_characters(content)
    except RecursionError:
        raise CmkdError(f"{what} is damaged (nested too deeply): {fix}") from None
    except ValueError as error:  # invalid JSON or UTF-8, or an integer of thousands of digits
        raise CmkdError(f"{what} is damaged ({str(error)[:120]}): {fix}") from error
    if not isinstance(content, dict):
        raise CmkdError(f"{what} is damaged (it does not hold names and values): {fix}")
    return content


def record(cls: type[T], values: Mapping[str, Any], what: str, *, fix: str) -> T:
    """Make a dataclass from a part of a document, checking the types of its fields; other names are ignored.

    Args:
        cls: the dataclass, which serves as the schema.
        values: names and values of this part of the document.
        what: name of the file, for messages.
        fix: how the user can fix a wrong value, for messages.

    Raises:
        CmkdError: a field is missing or has a value of the wrong type; the message names the file and the key.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass
        ... class Score:
        ...     accuracy: float
        >>> record(Score, {"accuracy": "high", "note": "new"}, "result.json", fix="train again")
        Traceback (most recent call last):
            ...
        cmkd.errors.CmkdError: result.json is damaged (accuracy must be a number, got 'high'): train again
    """
    try:
        return build(cls, values, others=True)
    except CmkdError as error:
        raise CmkdError(f"{what} is damaged ({error}): {fix}") from error


def read_yaml(path: Path, *, example: str) -> dict[str, Any]:
    """Read a YAML file that holds a mapping; aliases are refused, because a few lines of them can expand to gigabytes.

    Args:
        path: the file.
        example: example line of such a file, for messages.

    Raises:
        CmkdError: the file is missing, too large, or not a YAML mapping, or contains an alias or a repeated name.
    """
    import yaml

    what, fix = f"cannot read '{path}'", f"write lines such as '{example}'"
    try:
        content = yaml.load(_content(path, YAML_BYTES, fix), _loader())  # a SafeLoader
        _check_characters(content)
    except CmkdError:
        raise
    except (ValueError, LookupError, AttributeError, TypeError, yaml.YAMLError) as error:
        # invalid UTF-8, a date such as 2026-99-99, or a value that does not fit its tag, such as !!bool x
        raise CmkdError(f"{what}: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise CmkdError(f"'{path}' holds no options; {fix}")
    return content


@cache
def _loader() -> Any:  # noqa: ANN401  # a class of yaml, which is imported only when needed
    import yaml

    class Loader(yaml.SafeLoader):
        def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
            if self.check_event(yaml.AliasEvent):
                event: Any = self.get_event()  # type: ignore[no-untyped-call]
                line = event.start_mark.line + 1
                raise yaml.YAMLError(f"line {line}: the alias *{event.anchor} is not supported; write its value")
            self.depth = getattr(self, "depth", 0) + 1
            if self.depth > YAML_DEPTH:
                raise yaml.YAMLError("nested too deeply")
            node = super().compose_node(parent, index)
            self.depth -= 1
            return node

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            seen = set[str]()
            for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
                if key.value in seen:
                    raise yaml.YAMLError(f"line {key.start_mark.line + 1}: '{key.value}' occurs twice; remove one")
                seen.add(key.value)
            return dict(super().construct_mapping(node, deep))

    return Loader


def _content(path: Path, most: int, fix: str) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except FileNotFoundError:
        raise CmkdError(f"'{path}' does not exist: {fix}") from None
    except OSError as error:
        damaged = CmkdError(f"'{path}' cannot be read ({error.strerror}): {fix}")
        raise (not_let(f"'{path}'", error) or damaged) from error
    if len(content) > most:
        raise CmkdError(f"'{path}' is larger than {most // 1024} KiB, too large for such a file: {fix}")
    return content


def _check_characters(content: object) -> None:
    r"""Raise UnicodeEncodeError (a ValueError) if a text contains a lone surrogate such as ``\ud800``."""
    json.dumps(content, ensure_ascii=False, default=str, skipkeys=True).encode()


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the name '{next(name for name in names if names.count(name) > 1)}' occurs twice")
    return found
