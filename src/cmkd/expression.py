"""The small language of the command line: ``name``, ``name(key=value)``, ``0.5*kd+ds(independence_weight=10)``.

Methods and data sets with options are written like calls in Python. Only literals are evaluated.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cmkd.errors import CmkdError

_OWN = "own__"
"""Name whose attribute a reference ``package.module:Name`` becomes, so that Python's parser can read it."""
_REFERENCE = re.compile(r"""'[^']*'|"[^"]*"|(?<![\w.])(?P<module>[^\W\d]\w*(?:\.[^\W\d]\w*)*):(?P<name>[^\W\d]\w*)""")
"""Quoted text, or a reference. A match never starts within a word: trying every start would take quadratic time."""
Literal = int | float | str | bool | None | list["Literal"] | tuple["Literal", ...]


@dataclass(frozen=True)
class Call:
    """A name with keyword options and a weight.

    Args:
        name: name of the method, data set or encoder.
        options: keyword -> literal value.
        weight: factor of the call in a sum.
    """

    name: str
    options: Mapping[str, Literal] = field(default_factory=dict)
    weight: float = 1.0


def parse_sum(text: str) -> list[Call]:
    """Parse a weighted sum of calls.

    Args:
        text: a sum such as ``"kd(temperature=2)+0.5*ds"``. Bare words on the right of ``=`` are read as strings. The
            user's own class is named as ``package.module:Name``.

    Raises:
        CmkdError: the text is not such a sum.

    Example:
        >>> for call in parse_sum("kd(temperature=2) + 0.5*ds(reference=teacher)"):
        ...     print(call)
        Call(name='kd', options={'temperature': 2}, weight=1.0)
        Call(name='ds', options={'reference': 'teacher'}, weight=0.5)
        >>> parse_sum("kd+mine.losses:Hint(weight=2)")[1]
        Call(name='mine.losses:Hint', options={'weight': 2}, weight=1.0)
    """
    try:
        with warnings.catch_warnings():  # Python's warnings about text such as "1or", which is refused below
            warnings.simplefilter("ignore")
            tree = ast.parse(_REFERENCE.sub(_dotted, text.strip()), mode="eval").body
        return _terms(tree)
    except (SyntaxError, ValueError, TypeError, OverflowError, MemoryError, RecursionError) as error:
        quote = "; put text such as a path in quotes: name(key='a/b.pt')" if "=" in text else ""
        raise CmkdError(
            f"cannot read '{text}': write a name, name(key=value), or a sum such as "
            f"0.5*kd+ds(independence_weight=10){quote}"
        ) from error


def parse_call(text: str) -> Call:
    """Parse one call without a weight, such as ``"digits(severity=0.5)"``."""
    calls = parse_sum(text)
    if len(calls) != 1 or calls[0].weight != 1.0:
        raise CmkdError(f"cannot read '{text}': write one name or name(key=value)")
    return calls[0]


def written(calls: Iterable[Call]) -> str:
    """Return a sum as the text that `parse_sum` reads.

    Example:
        >>> written([Call("kd", {"temperature": 2.5, "weight": 3.0}), Call("ds", {"reference": "teacher"}, 0.5)])
        "kd(temperature=2.5,weight=3.0)+0.5*ds(reference='teacher')"
    """
    terms = []
    for call in calls:
        options = ",".join(f"{name}={value!r}" for name, value in call.options.items())
        factor = "" if call.weight == 1.0 else f"{call.weight!r}*"
        terms.append(f"{factor}{call.name}({options})" if options else factor + call.name)
    return "+".join(terms)


def split_list(text: str) -> list[str]:
    """Split at the commas outside brackets.

    Example:
        >>> split_list("none, kd(temperature=2, weight=3),ds")
        ['none', 'kd(temperature=2, weight=3)', 'ds']
    """
    parts, depth = [""], 0
    for character in text:
        depth += (character in "([") - (character in ")]")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


def _terms(node: ast.expr) -> list[Call]:
    match node:
        case ast.BinOp(left, ast.Add(), right):
            return _terms(left) + _terms(right)
        case ast.BinOp(left, ast.Mult(), right):
            factor, (call, *rest) = float(ast.literal_eval(left)), _terms(right)
            if rest:
                raise ValueError
            return [Call(call.name, call.options, factor * call.weight)]
        case ast.Name() | ast.Attribute():
            return [Call(_name(node))]
        case ast.Call(function, [], keywords):
            if None in (names := [keyword.arg for keyword in keywords]) or len(set(names)) < len(names):
                raise ValueError
            return [Call(_name(function), {str(keyword.arg): _literal(keyword.value) for keyword in keywords})]
    raise ValueError


def _dotted(found: re.Match[str]) -> str:
    """Return a reference as an attribute of `_OWN`, which Python can parse; quoted text is returned unchanged."""
    module, name = found["module"], found["name"]
    return found[0] if module is None else f"{_OWN}.{module}.{name}"


def _name(node: ast.expr) -> str:
    """Return a name, which may contain dots (timm's weight tags), or a reference."""
    name = ast.unparse(node)
    if not re.fullmatch(r"[\w.]+", name):
        raise ValueError
    own, _, rest = name.partition(".")
    if own != _OWN:
        return name
    module, _, name = rest.rpartition(".")
    return f"{module}:{name}"


def _literal(node: ast.expr) -> Literal:
    if isinstance(node, ast.Name):
        return {"true": True, "false": False, "null": None}.get(node.id, node.id)
    value: Literal = ast.literal_eval(node)
    return value
