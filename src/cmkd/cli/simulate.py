"""`cmkd simulate`: simulated paired data."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from cmkd.cli.parsing import call
from cmkd.errors import CmkdError
from cmkd.expression import split_list
from cmkd.options import Bounds, Count, Seed, Threads, build
from cmkd.progress import shown


def simulate(
    name: Literal["marine"], *, pairs: Count, out: Path | None = None, append: Path | None = None,
    mode: str | None = None, seed: Seed | None = None, size: Count | None = None,
    gap: Annotated[float, Bounds(least=0, most=1)] | None = None, slc: bool = False,
    classes: str | None = None, vessels: Count | None = None, fleet: Path | None = None,
    new_classes: Literal["refuse", "allow"] = "refuse",
    shard: str = "", workers: Threads | None = None,
) -> None:  # fmt: skip
    """Simulate paired optical and radar images as a pack, with a contact sheet and a card.

    An interrupted run continues; the bytes do not depend on the number of workers.

    Args:
        name: the simulator.
        pairs: number of pairs; with --append, number of new pairs.
        out: folder of the pack; must not exist.
        append: folder of a simulated pack; the pairs that come next in its simulation become its next version.
        mode: the sensors: airborne, coastal, iw, spotlight, stripmap, or the path of a YAML file of that form;
            by default iw, or the pack's.
        seed: seed of vessels, scenes and splits; by default 0, or the pack's.
        size: pixels along a side of the radar chip, at the mode's spacing; by default the mode's, or the pack's.
        gap: degradation of the radar beyond its mode, 0 to 1; by default 0, or the pack's.
        slc: keep the complex first look as a third modality.
        classes: classes of the pairs, separated by commas; by default all, or the pack's.
        vessels: individuals of each class; by default 240, or the pack's. --append uses additional individuals first.
        fleet: folder of your own meshes, FOLDER/CLASS/NAME.obj (or .gltf, .glb, .stl, .ply), in place of the
            eight families.
        new_classes: with --append, refuse classes that the pack does not have, or allow them.
        shard: part of the run to make, as in 2/8; cmkd data merge joins the parts.
        workers: processes; by default as many as cores.

    Raises:
        CmkdError: if a value is out of range, or `out` exists.
    """
    from cmkd.data.pack.pack import Pack
    from cmkd.datasets.marine import Marine
    from cmkd.simulators.marine.growing import Shard, continued
    from cmkd.simulators.marine.packing import append_pack, write_pack
    from cmkd.simulators.marine.recipe import Recipe

    given = {"mode": mode, "seed": seed, "size": size, "gap": gap, "slc": slc or None,
             "fleet": str(fleet) if fleet else None}  # fmt: skip
    chosen, start = tuple(split_list(classes or "")), time.perf_counter()
    if classes is not None and not chosen:
        raise CmkdError("--classes is empty; name classes, or leave it out for all")
    with shown("simulating") as progress:
        if append is not None:
            if out is not None or shard:
                raise CmkdError("--append cannot be combined with --out or --shard: it extends the pack itself")
            recipe = continued(Pack.open(append), pairs, classes=chosen, vessels=vessels, given=given)
            pack = append_pack(recipe, append, new_classes=new_classes, workers=workers, progress=progress)
        elif out is not None:
            options = given | {"pairs": pairs, "classes": chosen or None, "vessels": vessels}
            recipe = build(Recipe, {option: value for option, value in options.items() if value is not None})
            part = Shard.read(shard) if shard else None
            pack = write_pack(recipe, out, Marine.info(), shard=part, workers=workers, progress=progress)
        else:
            raise CmkdError("give --out PACK for a new pack, or --append PACK to add pairs to one")
    elapsed, sheet = time.perf_counter() - start, pack.path / "contact_sheet.png"
    version = f", version {pack.card.version} of {len(pack)} pairs" if append is not None else ""
    made = pairs if append is not None else len(pack)
    print(f"{made} pairs in {elapsed:.1f} s; pack {pack.path}{version}, contact sheet {sheet}")


def main(arguments: Sequence[str]) -> None:
    """Run from a command line."""
    call(simulate, arguments, prog="cmkd simulate")
