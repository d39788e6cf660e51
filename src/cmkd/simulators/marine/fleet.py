"""Sources of the simulator's vessels: the built-in families, or a folder of your own meshes."""

from __future__ import annotations

import os
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import numpy as np

from cmkd.documents import read_yaml
from cmkd.errors import CmkdError, unknown_name
from cmkd.io import checksum
from cmkd.options import Bounds, build
from cmkd.simulators.marine.imported import SUFFIXES, read_mesh
from cmkd.simulators.marine.mesh import Material, Mesh
from cmkd.simulators.marine.vessels import CLASSES, vessel

KEPT_FACES = 5_000_000
"""Largest number of faces of all meshes that a process keeps, about 250 MB."""
_KEPT = OrderedDict[tuple[Any, ...], Mesh]()
"""Cached meshes from files, the least recently used first."""


class Fleet(Protocol):
    """Individual vessels by class."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; a label is a position in this tuple."""

    def count(self, name: str) -> int:
        """Return the number of individuals of a class."""

    def verify(self) -> str:
        """Read all files of the fleet, so that an error stops a simulation before it begins; return their checksum.

        Raises:
            CmkdError: a file is invalid; the message names it.
        """

    def mesh(self, name: str, number: int, rng: np.random.Generator) -> Mesh:
        """Return an individual: bow along x, calm waterline at z = 0.

        Args:
            name: name of the class.
            number: number of the individual, from 0 and below `count`.
            rng: random generator of the individual, a separate one for each class and number.

        Raises:
            CmkdError: the class or the individual is unknown, or its file cannot be read.
        """


class BuiltIn:
    """The parametric families of `cmkd.simulators.marine.vessels`.

    Args:
        per_class: number of individuals of each class.

    Example:
        >>> fleet = BuiltIn(240)
        >>> low, high = fleet.mesh("tugboat", 0, np.random.default_rng(0)).bounds
        >>> fleet.classes[0], fleet.count("tugboat"), bool(18 < high[0] - low[0] < 45)
        ('container ship', 240, True)
    """

    classes = CLASSES

    def __init__(self, per_class: int) -> None:
        self._per_class = per_class

    def count(self, name: str) -> int:
        """Return the number of individuals of a class."""
        return self._per_class

    def verify(self) -> str:
        """Return an empty checksum: nothing is read."""
        return ""

    def mesh(self, name: str, number: int, rng: np.random.Generator) -> Mesh:
        """Draw an individual, which depends only on the class and the state of `rng`."""
        return vessel(name, rng)


@dataclass(frozen=True)
class Sidecar:
    """Content of ``NAME.yaml`` beside the mesh ``NAME.obj``; see `cmkd.simulators.marine.imported.read_mesh`."""

    length: Annotated[float, Bounds(above=0)] | None = None
    draft: Annotated[float, Bounds(least=0)] | None = None
    heading: float | None = None
    up: Literal["y", "z"] | None = None
    material: str = "steel"


class FolderFleet:
    """Meshes in a folder for each class, ``FOLDER/CLASS/NAME.obj``, each with an optional sidecar ``NAME.yaml``.

    Classes and individuals are sorted by name. The sidecar may hold ``length`` (m), ``draft`` (m),
    ``heading`` (degrees), ``up`` (y or z) and ``material``.

    Args:
        folder: folder with a folder of meshes for each class.

    Raises:
        CmkdError: the folder does not exist, there is no class, or a class has no mesh.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise CmkdError(f"'{folder}' is not a folder: give one with a folder of meshes for each class")
        homes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
        self._files = {home.name: sorted(p for p in home.iterdir() if p.suffix.lower() in SUFFIXES) for home in homes}
        empty = next((name for name, files in self._files.items() if not files), None)
        if not self._files or empty is not None:
            where = folder if empty is None else folder / empty
            raise CmkdError(f"'{where}' holds no meshes: expected CLASS/NAME.obj ({', '.join(SUFFIXES)}) in '{folder}'")
        self.classes = tuple(self._files)

    def verify(self) -> str:
        """Read every mesh once; return a checksum of meshes and sidecars."""
        parts = list[bytes]()
        for name, files in self._files.items():
            for file in files:
                _read(file)
                sidecar = file.with_suffix(".yaml")
                parts += [f"{name}/{file.name}".encode(), file.read_bytes()]
                parts += [sidecar.read_bytes()] if sidecar.exists() else []
        return checksum(parts)

    def count(self, name: str) -> int:
        """Return the number of meshes of a class."""
        return len(self._of(name))

    def mesh(self, name: str, number: int, rng: np.random.Generator) -> Mesh:
        """Read an individual; nothing is drawn from `rng`."""
        files = self._of(name)
        if not 0 <= number < len(files):
            raise CmkdError(f"class '{name}' has {len(files)} meshes, but number {number} was requested")
        return _read(files[number])

    def _of(self, name: str) -> list[Path]:
        if name not in self._files:
            raise unknown_name("class of the fleet", name, self._files)
        return self._files[name]


def _read(file: Path) -> Mesh:
    sidecar = file.with_suffix(".yaml")
    key = (file, *((s.st_size, s.st_mtime_ns) for s in map(_status, (file, sidecar)) if s))
    mesh = _KEPT.pop(key, None)
    _KEPT[key] = mesh = _parsed(file, sidecar) if mesh is None else mesh
    while len(_KEPT) > 1 and sum(map(len, _KEPT.values())) > KEPT_FACES:
        _KEPT.popitem(last=False)
    return mesh


def _status(file: Path) -> os.stat_result | None:
    return file.stat() if file.exists() else None


def _parsed(file: Path, sidecar: Path) -> Mesh:
    try:
        about = build(Sidecar, read_yaml(sidecar, example="length: 120")) if sidecar.exists() else Sidecar()
    except CmkdError as error:
        raise CmkdError(f"'{sidecar}': {error}") from error
    if about.material.upper() not in Material.__members__:
        raise unknown_name(f"material in '{sidecar}'", about.material, [m.name.lower() for m in Material])
    return read_mesh(
        file, length=about.length, draft=about.draft, heading=about.heading, up=about.up,
        material=Material[about.material.upper()],
    )  # fmt: skip
