"""Runs that grow: the recipe of the next delivery to a pack, and one machine's part of a run.

On a cluster each machine makes one part, and `cmkd data merge` gives the bytes of one run. As a Slurm array::

    sbatch --array=1-8 --wrap 'cmkd simulate marine --pairs 12000 --shard $SLURM_ARRAY_TASK_ID/8 --out parts/$SLURM_ARRAY_TASK_ID'
    cmkd data merge parts/* --out marine

With Ray, on machines that share a folder::

    part = ray.remote(num_cpus=8)(subprocess.check_call)
    run = ["cmkd", "simulate", "marine", "--pairs", "12000"]
    ray.get([part.remote([*run, "--shard", f"{n}/8", "--out", f"/shared/parts/{n}"]) for n in range(1, 9)])
"""  # noqa: E501  # a command in one line

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cmkd.data.pack.pack import Pack
from cmkd.errors import CmkdError
from cmkd.options import build, plain
from cmkd.simulators.marine.recipe import Recipe
from cmkd.simulators.marine.scene import VERSIONS, VESSELS_PER_CLASS


class Shard(NamedTuple):
    """Part `number`, counted from 1, of `parts` equal parts of a run."""

    number: int
    parts: int

    @classmethod
    def read(cls, text: str) -> Shard:
        """Read a part in the form ``2/8``.

        Raises:
            CmkdError: the text does not name a part.

        Example:
            >>> Shard.read("2/8").of(range(16))
            range(2, 4)
        """
        number, _, parts = text.partition("/")
        if not (re.fullmatch(r"[0-9]{1,9}/[0-9]{1,9}", text) and 1 <= int(number) <= int(parts)):
            raise CmkdError(f"--shard '{text}' is not a part: give 1/8 to 8/8 for eight parts")
        return cls(int(number), int(parts))

    def of(self, slots: Sequence[Any]) -> Sequence[Any]:
        """Return the consecutive slots of this part.

        Raises:
            CmkdError: there are fewer slots than parts.
        """
        if len(slots) < self.parts:
            raise CmkdError(f"{len(slots)} pairs cannot be made in {self.parts} parts: choose at most {len(slots)}")
        return slots[(self.number - 1) * len(slots) // self.parts : self.number * len(slots) // self.parts]


def continued(
    pack: Pack,
    pairs: int,
    *,
    classes: Sequence[str] = (),
    vessels: int | None = None,
    given: Mapping[str, Any] | None = None,
) -> Recipe:
    """Return the recipe of the next delivery to a simulated pack.

    Args:
        pack: pack to continue.
        pairs: number of new pairs.
        classes: classes of the new pairs; by default all classes of the pack.
        vessels: individual vessels per class; by default as many as before, and never fewer.
        given: parameters that the pack should have been made with, such as its seed; None where any value will do.

    Raises:
        CmkdError: the pack was not simulated, was made by another simulator version or with another recipe, or has more
            vessels than requested.
    """
    made, remedy = dict(pack.card.recipe), "make another pack with --out"
    if made.pop("simulator", None) != "marine":
        raise CmkdError(f"{pack.path} does not record how it was simulated, so it cannot be continued: {remedy}")
    if (said := made.pop("version", None)) not in VERSIONS:
        raise _other_version(pack, said, VERSIONS[-1], remedy)
    sensors, meshes = made.pop("sensors", None), made.pop("meshes", "")
    for name, value in (given or {}).items():
        if name in ("mode", "fleet") and made.get(name) and Path(str(value)).exists():
            made[name] = value  # moved, or named from another folder: its content is compared below
        elif value is not None and value != made.get(name):
            raise CmkdError(
                f"{pack.path} was made with --{name} {made.get(name)}, now {value}: leave --{name} out, or {remedy}"
            )
    counts = [version.split.get("vessels") for version in pack.card.history]  # none where other pairs were appended
    before = max((number for number in counts if isinstance(number, int)), default=VESSELS_PER_CLASS)
    if vessels is not None and vessels < before:
        raise CmkdError(f"{pack.path} has {before} vessels of each class, but now {vessels}: give {before} or more")
    delivery = {"pairs": pairs, "classes": tuple(classes) or pack.classes, "vessels": vessels or before}
    recipe = build(Recipe, made | delivery)
    if recipe.ships.verify() != meshes:
        raise CmkdError(f"{pack.path} was made with other meshes in {recipe.fleet}: restore them, or {remedy}")
    if plain(recipe.sensors) != sensors:
        raise CmkdError(
            f"{pack.path} was made with other values in the mode {recipe.mode}: restore its file, or {remedy}"
        )
    if said != recipe.version:
        raise _other_version(pack, said, recipe.version, remedy)
    return recipe


def _other_version(pack: Pack, theirs: object, ours: int, remedy: str) -> CmkdError:
    return CmkdError(f"{pack.path} was made by simulator version {theirs}, but this is version {ours}: {remedy}")
