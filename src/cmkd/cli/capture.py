"""The commands of ``cmkd data`` for one's own captures: check."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from cmkd.cli.tables import progress, show, table
from cmkd.errors import CmkdError
from cmkd.expression import split_list
from cmkd.types import Kind


def check(place: Path, *, out: Path, registered: str = "", kind: str = "") -> None:
    """Look for ten kinds of fault in a folder with a manifest, or a pack; drop nothing.

    Writes faults.json and faults.html, one page with thumbnails, into a folder.

    Args:
        place: folder with a manifest, or a pack.
        out: folder to write to.
        registered: image modalities that share a pixel grid, as in optical+radar; a pack's card knows unless given.
        kind: how to read a manifest's arrays, as in radar=points.
    """
    from cmkd.data.quality import check as look
    from cmkd.data.quality import open_source
    from cmkd.report.faults import write_faults_page

    source = open_source(place, kinds=read_kinds(kind), registered=read_groups(registered))
    with progress() as report:
        found = look(source, progress=report)
    try:
        out.mkdir(parents=True, exist_ok=True)
        found.write(out / "faults.json")
        write_faults_page(found, source, out / "faults.html")
    except OSError as error:
        raise CmkdError(f"cannot write to {out}: {error.strerror or error}") from error
    counts = table("fault", "pairs", "such as")
    for name, count in found.counts.items():
        if count:
            first = next(fault for fault in found.faults if fault.kind == name)
            counts.add_row(name, str(count), f"{first.id}, {first.modality}: {first.says}")
    if found.faults:
        show(counts)
    for note in found.notes:
        print(f"note: {note}")
    print(f"{found.summary()}; page: {out / 'faults.html'}")


def read_kinds(text: str) -> dict[str, Kind]:
    """Read ``radar=points,...``."""
    kinds: dict[str, Kind] = {}
    for modality, value in read_pairs("kind", text, "radar=points").items():
        found = next((k for k in get_args(Kind) if k == value), None)
        if found is None:
            raise CmkdError(f"unknown kind '{value}' of {modality}: use {', '.join(get_args(Kind))}")
        kinds[modality] = found
    return kinds


def read_groups(text: str) -> list[list[str]]:
    """Read ``optical+radar,...``."""
    return [[name.strip() for name in group.split("+")] for group in split_list(text)]


def read_pairs(flag: str, text: str, example: str) -> dict[str, str]:
    """Read ``modality=value,...``."""
    found = dict(part.partition("=")[::2] for part in split_list(text))
    for name, value in found.items():
        if not name or not value:
            raise CmkdError(f"cannot read --{flag} '{name}': write modality=value, as in {example}")
    return found


def joined(names: Sequence[str], most: int = 5) -> str:
    """Return the first few names in a line."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
