"""Inference of a modality from the headers of all files in a manifest's column, which must agree."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cmkd.data.manifest.header import FileHeader, turned_note
from cmkd.data.manifest.reading import Nodata, Reading
from cmkd.data.manifest.resize import fitted_shape
from cmkd.data.manifest.table import Table
from cmkd.data.pack.pack import Pack
from cmkd.errors import CmkdError, CmkdWarning
from cmkd.types import Modality, renamed


class Column(NamedTuple):
    """The modality and the nodata tags that the headers of a column's files state."""

    modality: Modality
    tags: frozenset[float]  # nodata values that files state

    def marks(self, stated: Nodata | None, kept: Nodata | None = None) -> frozenset[float]:
        """Return the nodata values in the files' tags that no file may hold as valid values.

        Args:
            stated: nodata value stated for these files, which replaces their tags.
            kept: nodata value stated for earlier files of the pack, which applies if none is stated for these files.
        """
        if stated is not None or kept == "none":
            return frozenset()
        # for integers, one value marks invalid samples of all files in the pack, which `load_stored` checks
        floats = np.dtype(self.modality.dtype).kind == "f"
        return self.tags if floats or kept is not None else frozenset()


def read_column(
    table: Table,
    name: str,
    reading: Reading,
    look: Callable[[Path], FileHeader],
    run: Any,  # noqa: ANN401  # map or its like
) -> Column:
    """Read all headers of a column and return the modality they agree on."""
    rows = [row for row, path in enumerate(table.files[name]) if path is not None]
    if not rows:
        raise CmkdError(f"{table.path}: column '{name}' is empty: remove it")
    paths = [path for path in table.files[name] if path is not None]
    first, tags = None, dict[float, None]()  # in the order of the files
    turned: list[Path] = []
    shortest = math.inf
    for row, path, header in zip(rows, paths, run(look, paths), strict=True):
        first = header if first is None else first
        if header.tags.nodata is not None:
            tags[header.tags.nodata] = None
        shortest = min(shortest, header.shape[0])
        if header.orientation != 1:
            turned.append(path)
        reason = _difference(first, header, reading.size)
        if reason:
            raise CmkdError(f"{table.lines[row]}, {name}: {reason.format(path=path, other=paths[0], name=name)}")
    assert first is not None
    if turned:
        warnings.warn(turned_note(name, len(turned), turned[0]), CmkdWarning, stacklevel=3)
    shape = first.shape if reading.size is None else fitted_shape(first.kind, first.shape, reading.size)
    marker = _marker(name, first.dtype, next(iter(tags), None), reading.nodata)
    if first.kind == "series" and shortest < shape[0] and np.dtype(first.dtype).kind == "f":
        marker = "nan"  # marks the padding
    modality = Modality(
        name,
        first.kind,
        shape,
        first.dtype,
        nodata=marker,
        file_nodata=reading.nodata,
        unit=reading.unit,
        rate=first.rate,
        columns=first.names if first.kind == "series" else (),
    )
    return Column(modality, frozenset(tags))


def _marker(name: str, dtype: str, found: float | None, stated: float | str | None) -> int | str | None:
    """Return the value that a pack stores for invalid samples: as stated, or else as found in the files."""
    value = found if stated is None else None if isinstance(stated, str) else stated
    if np.dtype(dtype).kind == "f":
        return None if value is None else "nan"
    limits = np.iinfo(dtype)
    if value is not None and float(value).is_integer() and limits.min <= value <= limits.max:
        return int(value)
    if value is not None and stated is not None:
        raise CmkdError(f"--nodata {name}={value:g}: the files hold {dtype}, which cannot represent it")
    return None


def may_lack(modality: Modality) -> Modality:
    """Return the modality with NaN allowed as an invalid value if its values are floats."""
    return replace(modality, nodata="nan") if np.dtype(modality.dtype).kind == "f" else modality


def warn_of_undeclared(pack: Pack, declared: Sequence[Modality]) -> None:
    """Warn about modalities that hold NaN although they were not declared to have invalid samples."""
    for modality in declared:
        samples, pairs = pack.card.invalid.get(modality.name, (0, 0))
        if samples and modality.nodata is None:
            present = int(pack.index[f"has_{modality.name}"].sum())
            warnings.warn(
                f"{pairs} of {present} samples of '{modality.name}' hold NaN, which no tag or option declares: these "
                f"{samples} values are invalid, left out of the statistics and filled with the mean",
                CmkdWarning,
                stacklevel=3,
            )


def _difference(first: FileHeader, header: FileHeader, size: tuple[int, ...] | None) -> str:
    if header.kind != first.kind:
        fix = "name the kind, as in cmkd data build --kind {name}=image"
        return f"{{path}} is {header.kind}, {{other}} is {first.kind}: {fix}"
    channels, expected = (c.shape[0] if c.kind == "image" else c.shape[-1] for c in (header, first))
    if channels != expected:
        return f"{{path}} has {channels} channels, {{other}} has {expected}: convert them to one"
    if how := renamed(first.names, header.names):
        return "{path} has the columns of {other} " + how.replace("{", "{{").replace("}", "}}") + ": save them alike"
    if header.dtype != first.dtype:
        return f"{{path}} holds {header.dtype}, {{other}} holds {first.dtype}: convert them to one"
    if header.rate != first.rate:
        return f"{{path}} has {header.rate} samples per second, {{other}} has {first.rate}: resample them to one"
    if size is None and header.shape != first.shape:
        axes = slice(1, None) if header.kind == "image" else slice(0, -1)
        ours, theirs = ("x".join(map(str, c.shape[axes])) for c in (header, first))
        fix = f"choose one, as in cmkd data build --size {{name}}={theirs}"
        return f"{{path}} has size {ours}, {{other}} has {theirs}: {fix}"
    return ""
