"""How the files of a modality are to be read, where that is stated: in Python, on the command line, in a sidecar."""

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
"""File beside a manifest (or the folders by class) with what is stated of its modalities."""
Nodata = float | Literal["none"]
"""A value of invalid samples; ``none`` for a tag of the files that is to be ignored."""


@dataclass(frozen=True)
class Reading:
    """What is stated of the files of one modality; None for what they tell themselves.

    Args:
        kind: how to read the axes; see `cmkd.data.manifest.readers.inspect`.
        size: to resize (images), or pad or cut to; see `cmkd.data.manifest.resize`.
        channels: whether the channels of an array of three axes are its first or its last axis.
        nodata: the value of invalid samples, in place of the tags of the files; ``none`` ignores their tags. It also
            marks the padding of a series of integers, which is zeros otherwise.
        unit: of the values, such as ``dB``, ``linear power`` or ``amplitude``.
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
    """Return what is stated of every modality: by the caller, else by the sidecar in the folder.

    Args:
        folder: with the manifest or the folders by class, and perhaps ``manifest.yaml``, such as
            ``modalities: {radar: {nodata: -9999, unit: dB}}``.
        names: of the modalities.
        readings: modality -> what the caller states, which wins field by field.

    Raises:
        CmkdError: the sidecar cannot be read, has an unknown key or another suffix, or an unknown modality is named.
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
    """Return what the sidecar in a folder states of modalities; nothing where there is none.

    Args:
        folder: as for `stated`.
        names: of the modalities; by default, any may be named.

    Raises:
        CmkdError: as `stated`.
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
