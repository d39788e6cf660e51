"""Strategies of hypothesis for texts: tables, lists of captures, configurations, expressions, options."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import yaml
from hypothesis import strategies as st

from cmkd.config import AugmentationConfig, OptimizerConfig, RunConfig, StudentConfig, TeacherConfig, TrainerConfig
from cmkd.methods import METHODS
from cmkd.options import parameters

WORDS = st.sampled_from(
    [
        *("", "a", "1", "-1", "007", "0.5", "1e999", "nan", "None", "NA", "null", "true", "inf", "é", "a b", "'", '"'),
        *("\\", " ", "\ufeff", "\x00", "=1+1", "../x", "/etc", "a.png", "o\\1.png", ";", "\n", "\x1b[2J", "x" * 300),
        *("train", "val", "test"),
    ]
)
TEXT = st.one_of(WORDS, st.text(max_size=12))
NUMBER = st.one_of(st.integers(), st.floats(), st.sampled_from([0, 1, -1, 2**31, 2**63, 10**400, 1e-320]))
PLAIN = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBER, TEXT, st.dates(), st.binary(max_size=4)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=5,
)
"""Strategy for any value that YAML can hold."""


def _csv(rows: Sequence[Sequence[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode("utf-8", "surrogatepass")


@st.composite
def tables(draw: st.DrawFn, columns: Sequence[str], cells: st.SearchStrategy[str]) -> bytes:
    """Draw a CSV file, mostly with known columns."""
    names = st.one_of(st.sampled_from(columns), st.sampled_from(columns), TEXT)
    header = draw(st.one_of(st.just(list(columns)), st.lists(names, min_size=1, max_size=8)))
    width = len(header)
    rows = draw(st.lists(st.lists(cells, min_size=width, max_size=width), max_size=8))
    return _csv([header, *rows])


MANIFESTS = tables(("id", "label", "split", "group", "optical", "radar"), TEXT)
SECOND = st.integers(0, 99).map("{:02}".format)
TIMES = st.one_of(
    st.datetimes().map(str),
    st.datetimes().map(lambda t: t.isoformat() + "Z"),
    st.builds("2023{}{}{}{}{}".format, SECOND, SECOND, SECOND, SECOND, SECOND),
    st.builds("2023-{}-{}T{}:{}:{}.{}+{}:00".format, SECOND, SECOND, SECOND, SECOND, SECOND, SECOND, SECOND),
    NUMBER.map(str),
    TEXT,
)
CAPTURES = st.one_of(
    tables(("path", "time", "x", "y", "label"), st.one_of(TIMES, NUMBER.map(str), TEXT)),
    tables(("path", "time", "latitude", "longitude", "id"), st.one_of(NUMBER.map(str), st.integers(-90, 90).map(str))),
    st.lists(TIMES, min_size=1, max_size=6).map(
        lambda t: _csv([("path", "time"), *((str(k), c) for k, c in enumerate(t))])
    ),
)

GROUPS: dict[str, type] = {
    "teacher": TeacherConfig,
    "student": StudentConfig,
    "optimizer": OptimizerConfig,
    "augmentation": AugmentationConfig,
    "trainer": TrainerConfig,
}
"""Groups of options in a configuration."""


def _group(kind: type) -> st.SearchStrategy[dict[str, Any]]:
    names = st.sampled_from([f.name for f in fields(kind)])
    return st.dictionaries(st.one_of(names, names, names, TEXT), PLAIN, max_size=4)


CONFIGS = st.builds(
    lambda base, own, groups: yaml.dump(base | own | groups, allow_unicode=True).encode("utf-8", "surrogatepass"),
    st.sampled_from([{}, {"data": "digits", "out": "runs"}, {"data": "digits", "out": "runs", "methods": "kd"}]),
    _group(RunConfig),
    st.one_of(st.just({}), *(st.fixed_dictionaries({name: _group(kind)}) for name, kind in GROUPS.items())),
)

METHOD = st.sampled_from(sorted(METHODS))
LITERAL = st.one_of(
    TEXT,
    NUMBER.map(str),
    st.booleans().map(str),
    PLAIN.map(repr),
    st.sampled_from(["teacher", "student", "1_0", "0x1"]),
)


@st.composite
def calls(draw: st.DrawFn) -> str:
    """Draw a method with options, most of them its own."""
    name = draw(st.one_of(METHOD, METHOD, METHOD, TEXT))
    own = list(parameters(METHODS[name])) if name in METHODS else []
    names = st.one_of(st.sampled_from(own), TEXT) if own else TEXT
    given = [f"{draw(names)}={draw(LITERAL)}" for _ in range(draw(st.integers(0, 3)))]
    return f"{name}({','.join(given)})" if given or draw(st.booleans()) else name


EXPRESSIONS = st.lists(
    st.tuples(st.sampled_from(["", "", "0.5*", "-1*", "1e999*", "'a'*", "2**9**9*", "(", "[", "+", "-"]), calls()),
    min_size=1,
    max_size=4,
).map(lambda terms: "+".join(weight + call for weight, call in terms).encode("utf-8", "surrogatepass"))


@st.composite
def option_lines(draw: st.DrawFn) -> bytes:
    """Draw a method and options, most of them its own, one per line."""
    name = draw(METHOD)
    own = list(parameters(METHODS[name]))
    names = st.one_of(st.sampled_from(own), TEXT) if own else TEXT
    given = draw(st.lists(st.tuples(names, LITERAL).map("=".join), max_size=4))
    return "\n".join([name, *given]).encode("utf-8", "surrogatepass")


OPTIONS = option_lines()
