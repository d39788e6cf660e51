"""The commands of ``cmkd data`` for the user's own data: check, diff, export and import."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import Literal

from cmkd.cli.readings import read_readings
from cmkd.cli.tables import show, table
from cmkd.data.pack.pack import Pack
from cmkd.data.quality.faults import HEADER, Shortcuts
from cmkd.datasets.open import split_version
from cmkd.errors import CmkdError, CmkdWarning, IncompleteError
from cmkd.expression import split_list
from cmkd.progress import shown


def check(
    place: Path,
    *,
    out: Path,
    co_registered: str = "",
    size: str = "",
    kind: str = "",
    channels: str = "",
    nodata: str = "",
    strict: bool = False,
) -> None:
    """Find faults and shortcuts in a folder of pairs or a pack; no pair is dropped.

    Writes faults.json and faults.html, a page with thumbnails. cmkd data build --exclude faults.json leaves the flagged
    pairs out. Shortcuts flag no pair. A shortcut means that a random forest predicts the class from trivial features of
    one modality (mean, bright area ...), as large targets allow, or from metadata alone, which gives a warning.

    Args:
        place: a pack, or a folder with a manifest or folders by class.
        out: folder to write to.
        co_registered: image modalities that share a pixel grid, as in optical+radar; by default those on a pack's card.
        size: size to which images of different sizes will be brought, as in radar=64x64.
        kind: kind of a modality, as in radar=points.
        channels: axis of the channels of a modality's arrays, as in radar=last: first or last.
        nodata: value of invalid samples, as in radar=-9999, in place of the files' tags; none ignores the tags.
        strict: end with exit code 3 if a pair is flagged.
    """
    from dataclasses import replace

    from cmkd.data.output import results_folder
    from cmkd.data.quality import check as look
    from cmkd.data.quality import find_shortcuts, open_source
    from cmkd.report.faults import write_faults_page

    readings = read_readings(size=size, kind=kind, channels=channels, nodata=nodata)
    source = open_source(place, readings=readings, co_registered=read_groups(co_registered))
    results_folder(out, data=place)
    with shown("reading") as report:
        found = look(source, progress=report)
    found = replace(found, shortcuts=find_shortcuts(source))
    try:
        out.mkdir(exist_ok=True)
        found.write(out / "faults.json")
        write_faults_page(found, source, out / "faults.html")
    except OSError as error:
        raise CmkdError(f"cannot write to {out}: {error.strerror or error}") from error
    counts = table("fault", "pairs", "such as")
    for name, count in found.counts.items():
        if count:
            first = next(fault for fault in found.faults if fault.kind == name)
            counts.add_row(name, str(count), f"{first.id}, {first.modality}: {first.message}")
    if found.faults:
        show(counts)
    _tell_shortcuts(found.shortcuts)
    for note in (*found.notes, *found.shortcuts.notes):
        print(f"note: {note}")
    summary = f"{found.summary()}; page: {out / 'faults.html'}"
    if strict and found.faults:
        raise IncompleteError(summary)
    print(summary)


def _tell_shortcuts(shortcuts: Shortcuts) -> None:
    """Print the shortcuts that were found, and warn about those from metadata."""
    if shortcuts.found:
        rows = table(*HEADER)
        for shortcut in shortcuts.found:
            rows.add_row(*shortcut.cells())
        show(rows)
    if warning := shortcuts.warning:
        warnings.warn(warning, CmkdWarning, stacklevel=2)


def diff(before: str, after: str, *, json: bool = False) -> None:
    """Show the differences between two packs or versions: PACK is the latest version, PACK@1 the first.

    Args:
        before: the first pack.
        after: the second pack.
        json: print everything as JSON instead of a table.
    """
    from json import dumps

    from cmkd.data.pack.diff import diff as compare

    found = compare(open_version(before), open_version(after))
    if json:
        print(dumps(found.to_dict(), indent=1, ensure_ascii=False))
        return
    rows = table("difference", "number", "which")
    rows.add_row("pairs", f"{found.pairs[0]} -> {found.pairs[1]}", "")
    for name in ("added", "removed"):
        rows.add_row(name, str(len(getattr(found, name))), joined(getattr(found, name)))
    for name in ("relabeled", "moved", "regrouped"):
        changes = [f"{c.id} {c.before or 'none'} -> {c.after or 'none'}" for c in getattr(found, name)]
        rows.add_row("moved split" if name == "moved" else name, str(len(changes)), joined(changes))
    rows.add_row("groups", str(len(found.groups)), joined(found.groups))
    for name in ("class_counts", "split_counts"):
        counts = getattr(found, name)
        changes = [f"{key or 'no label'} {old} -> {new}" for key, (old, new) in counts.items()]
        rows.add_row(f"pairs by {name.split('_')[0]}", str(len(changes)), joined(changes, 12))
    for name, ids in found.changed.items():
        rows.add_row(f"changed {name}", str(len(ids)), joined(ids))
    for name, ids in found.metadata.items():
        rows.add_row(f"metadata {name}", str(len(ids)), joined(ids))
    for name in ("classes", "modalities"):
        rows.add_row(name, str(len(getattr(found, name))), joined(getattr(found, name)))
    shifts = [
        f"{c.modality}[{c.channel}] mean {c.mean[0]:.4g} -> {c.mean[1]:.4g}, std {c.std[0]:.4g} -> {c.std[1]:.4g}"
        for c in found.statistics
    ]
    rows.add_row("statistics", str(len(shifts)), joined(shifts, 3))
    show(rows)
    print(f"\n{found.before} and {found.after} " + ("are equal" if found.same else "differ"))


def export(pack: str, *, out: Path, format: Literal["huggingface"] = "huggingface") -> None:
    """Export a pack for the Hugging Face hub: Parquet files and a data card.

    Args:
        pack: folder of the pack; @N after it selects a version.
        out: folder to make; must not exist.
        format: only huggingface.
    """
    from cmkd.data.huggingface import export_pack

    opened = open_version(pack)
    with shown("writing") as told:
        export_pack(opened, out, progress=told)
    print(
        f"{len(opened)} pairs of version {opened.card.version} in {out}; read {out / 'README.md'} before you share it"
    )


def import_data(folder: Path, *, out: Path) -> None:
    """Make a pack from a data set in the layout of the Hugging Face hub.

    Args:
        folder: folder with Parquet files, exported or downloaded.
        out: folder of the pack to make; must not exist.
    """
    from cmkd.data.huggingface import import_folder

    with shown("reading") as told:
        made = import_folder(folder, out, progress=told)
    print(f"{len(made)} pairs in {out}; `cmkd data info {quote(str(out))}` shows them")


def open_version(text: str) -> Pack:
    """Open ``PACK`` or ``PACK@N``."""
    return Pack.open(*split_version(text))


def read_groups(text: str) -> list[list[str]]:
    """Read groups of modalities from text such as ``optical+radar,...``."""
    groups = [[name.strip() for name in group.split("+")] for group in split_list(text)]
    for group in groups:
        if len(set(group)) < max(2, len(group)):
            raise CmkdError(f"--co_registered '{'+'.join(group)}' must join different modalities, as in optical+radar")
    return groups


def joined(names: Sequence[str], most: int = 5) -> str:
    """Return the first few names in one line."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
