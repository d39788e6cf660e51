"""How to read the files of a modality, as stated in Python, on the command line or in a sidecar file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from cmkd import options
from cmkd.documents import read_yaml
from cmkd.errors import CmkdError, unknown_name
from cmkd.types import Kind

SIDECAR = "manifest.yaml"
"""File beside a manifest (or the folders by class) that states how to read its modalities."""
Nodata = float | Literal["none"]
"""The value of invalid samples; ``none`` to ignore the nodata tags of the files."""


@dataclass(frozen=True)
class Reading:
    """How to read the files of one modality; None for what the files state themselves.

    Args:
        kind: how to read the axes; see `cmkd.data.manifest.readers.inspect`.
        size: size that images are resized to, and other kinds padded or cut to; see `cmkd.data.manifest.resize`.
        channels: whether the channels of an array with three axes are its first or its last axis.
        nodata: the value of invalid samples, in place of the tags of the files; ``none`` ignores their tags. It also
            marks the padding of a series of integers, which is zeros otherwise.
        unit: unit of the values, such as ``dB``, ``linear power`` or ``amplitude``.
    """

    kind: Kind | None = None
    size: tuple[int, ...] | None = None
    channels: Literal["first", "last"] | None = None
    nodata: Nodata | None = None
    unit: str = ""


@dataclass(frozen=True)
class _Sidecar:
    modalities: Mapping[str, Any]


def stated(folder: Path, names: Iterable[str], readings: Mapping[str, Reading] | None = None) -> dict[str, Reading]:
    """Return how to read every modality, as stated by the caller or else by the sidecar in the folder.

    Args:
        folder: folder with the manifest or the folders by class, and optionally a sidecar ``manifest.yaml``, such as
            ``modalities: {radar: {nodata: -9999, unit: dB}}``.
        names: names of the modalities.
        readings: modality -> reading stated by the caller, which takes precedence field by field.

    Raises:
        CmkdError: the sidecar cannot be read, has an unknown key or the suffix ``.yml``, or an unknown modality is
            named.
    """
    known = list(names)
    found = dict.fromkeys(known, Reading()) | read_sidecar(folder, known)
    for name, reading in (readings or {}).items():
        _known(name, known)
        said = {
            field.name: value for field in fields(Reading) if (value := getattr(reading, field.name)) not in (None, "")
        }
        found[name] = replace(found[name], **said)
    return found


def read_sidecar(folder: Path, names: Iterable[str] | None = None) -> dict[str, Reading]:
    """Return how to read the modalities that the sidecar in a folder names; empty if there is no sidecar.

    Args:
        folder: folder with the sidecar (see `stated`).
        names: names of the modalities; by default, the sidecar may name any.

    Raises:
        CmkdError: for the same reasons as `stated`.
    """
    path, found = folder / SIDECAR, dict[str, Reading]()
    other = path.with_suffix(".yml")
    if other.is_file():
        raise CmkdError(f"{other} is not read: rename it to {SIDECAR}")
    if not path.is_file():
        return found
    try:
        for name, said in options.build(
            _Sidecar, read_yaml(path, example="modalities: {radar: {channels: last}}")
        ).modalities.items():
            if not isinstance(said, Mapping):
                raise CmkdError(f"modalities.{name} must be a group of options, got {said!r}")
            if names is not None:
                _known(name, list(names))
            found[name] = options.build(Reading, said, path=f"modalities.{name}")
    except CmkdError as error:
        raise CmkdError(str(error) if str(path) in str(error) else f"{path}: {error}") from error
    return found


def _known(name: str, names: list[str]) -> None:
    if name not in names:
        raise unknown_name("modality", name, names)
