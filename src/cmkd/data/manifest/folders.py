"""Listing of pairs in folders by class, without a manifest, as the table that a manifest would hold."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from unicodedata import normalize

from cmkd.data.manifest.readers import SUFFIXES
from cmkd.data.pack.card import SPLITS
from cmkd.data.split import ALIASES
from cmkd.data.text_table import OWN_COLUMNS, TextTable
from cmkd.documents import SETTINGS
from cmkd.errors import CmkdError, CmkdWarning

BESIDE = (".aux.xml", ".msk", ".ovr", ".prj", ".tfw", ".jgw", ".pgw", ".wld", "desktop.ini", "thumbs.db")
"""Name endings of the files that GIS programs and Windows keep beside images."""
OUTPUTS = (SETTINGS, ".lock", "card.json", "faults.json", "evaluation.json", "structure.json")
"""Files that mark a folder as output of a command: a run, pack, check, evaluation or analysis."""


def list_folders(folder: Path) -> TextTable:
    """Return the table that a manifest would hold for files named ``MODALITY/CLASS/NAME.png``.

    Files of one class and name form a pair, whatever their suffixes and the Unicode composition of accents; its id is
    ``CLASS/NAME``. A name that a modality lacks is an empty cell; names that only one modality has cause a warning. The
    folders may lie in folders called train, validation (or val) and test, which give the splits; an id then begins with
    its split. Hidden files and folders, files that other programs write beside images (`BESIDE`), and output folders of
    commands (`OUTPUTS`) are ignored.

    Raises:
        CmkdError: there is only one modality, no pair, a misplaced or unsupported file, or a duplicate name in a class.

    Example:
        >>> import tempfile
        >>> home = Path(tempfile.mkdtemp())
        >>> for name in ("optical/tug/1.png", "radar/tug/1.tif", "radar/tug/.hidden"):
        ...     (home / name).parent.mkdir(parents=True, exist_ok=True)
        ...     (home / name).touch()
        >>> table = list_folders(home)
        >>> table.header, table.rows
        (['id', 'label', 'split', 'optical', 'radar'],
         [['tug/1', 'tug', '', 'optical/tug/1.png', 'radar/tug/1.tif']])
    """
    top = [home for home in _folders(folder) if not any((home / name).exists() for name in OUTPUTS)]
    splits = [home for home in top if home.name in (*SPLITS, *ALIASES)]
    if splits and len(splits) < len(top):
        other = next(home.name for home in top if home not in splits)
        raise _wrong(folder, f"'{other}' may not be beside the split folder '{splits[0].name}'")
    pairs: dict[tuple[str, str, str], dict[str, str]] = {}  # split, class, name -> modality -> file
    for home in splits or [folder]:
        for modality in _folders(home) if splits else top:
            if stray := next((path for path in _visible(modality) if path.is_file()), None):
                raise _wrong(folder, f"{stray.relative_to(folder)} is not in a class folder")
            for kind in _folders(modality):
                for path in _visible(kind):
                    cell = path.relative_to(folder).as_posix()
                    if path.is_symlink() and not path.exists():
                        raise _wrong(folder, f"{cell} is a link to a file that is missing")
                    if path.suffix.lower() not in SUFFIXES or not path.is_file():
                        raise _wrong(folder, f"{cell} is not a file of a supported type ({', '.join(SUFFIXES)})")
                    split, name = home.name if splits else "", normalize("NFC", path.stem)
                    cells = pairs.setdefault((split, normalize("NFC", kind.name.strip()), name), {})
                    if cells.setdefault(modality.name, cell) != cell:
                        raise _wrong(folder, f"{cells[modality.name]} and {cell} belong to one pair: keep one of them")
    modalities = sorted({modality for cells in pairs.values() for modality in cells})
    if len(modalities) < 2:
        raise _wrong(folder, f"it needs at least two modalities, found {modalities}")
    if taken := sorted(set(modalities) & set(OWN_COLUMNS)):
        raise _wrong(folder, f"its modality '{taken[0]}' has a reserved name: rename it")
    if all(len(cells) == 1 for cells in pairs.values()):
        first, second = (next(c[name] for c in pairs.values() if name in c) for name in modalities[:2])
        raise _wrong(folder, f"no pair found: {first} and {second} share no class and name with another modality")
    _warn_of_alone(folder, pairs)
    rows = [
        ["/".join(filter(None, place)), place[1], place[0], *(pairs[place].get(name, "") for name in modalities)]
        for place in sorted(pairs)
    ]
    lines = [f"{folder.name} pair '{row[0]}'" for row in rows]
    return TextTable(folder, ["id", "label", "split", *modalities], rows, lines)


def _warn_of_alone(folder: Path, pairs: Mapping[tuple[str, str, str], Mapping[str, str]]) -> None:
    """Warn about names that only one modality has, in one line with examples that may belong together."""
    alone = [(place[1], *cells.popitem()) for place, given in sorted(pairs.items()) if len(cells := dict(given)) == 1]
    if not alone:
        return
    kind, modality, file = alone[0]
    others = [entry for entry in alone if entry[1] != modality]
    other = next((entry for entry in others if entry[0] == kind), others[0] if others else None)
    warnings.warn(
        f"{folder}: {len(alone)} of {len(pairs)} samples have no partner, such as {file}"
        + (f" and {other[2]}" if other else "")
        + ": if they have one, give both files one class and name, or write a manifest",
        CmkdWarning,
        stacklevel=3,
    )


def _wrong(folder: Path, reason: str) -> CmkdError:
    layout = "optical/CLASS/NAME.png and radar/CLASS/NAME.tif"
    return CmkdError(f"{folder} has no manifest.csv or manifest.parquet, and as folders by class ({layout}) {reason}")


def _visible(folder: Path) -> list[Path]:
    seen = (path for path in folder.iterdir() if not path.name.startswith("."))
    return sorted(path for path in seen if not path.name.lower().endswith(BESIDE))


def _folders(home: Path) -> list[Path]:
    return [path for path in _visible(home) if path.is_dir()]
