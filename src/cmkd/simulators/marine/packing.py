"""A pack of simulated pairs, with their scenes, a contact sheet and a data card."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from cmkd.data.manifest.build import warn_of_empty_classes
from cmkd.data.pack.card import SPLITS, CardInfo
from cmkd.data.pack.pack import Pack
from cmkd.data.pack.validator import check_classes
from cmkd.data.pack.writer import PackWriter, refuse_existing
from cmkd.data.summary import markdown
from cmkd.errors import CmkdError
from cmkd.io import locked, write_text
from cmkd.progress import Progress
from cmkd.simulators.marine.contact import contact_sheet
from cmkd.simulators.marine.describe import scene_section
from cmkd.simulators.marine.growing import Shard
from cmkd.simulators.marine.recipe import Recipe, pair_id
from cmkd.simulators.marine.scene import metadata, split_of
from cmkd.simulators.marine.simulate import Chunk, discard, first_pair, generate
from cmkd.types import Modality


def write_pack(
    recipe: Recipe,
    destination: Path,
    info: CardInfo,
    *,
    shard: Shard | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Pack:
    """Simulate pairs into a pack, with ``contact_sheet.png`` and ``CARD.md`` beside its index.

    Finished chunks are kept in a hidden sibling of `destination` until the pack is complete, so a killed run resumes.
    A second process that makes the same pack waits for the first.

    Args:
        recipe: the parameters of the run.
        destination: folder of the pack; it appears whole or not at all.
        info: content of the card, such as `cmkd.datasets.marine.Marine.info()`.
        shard: part of the run to make, for `cmkd.data.pack.merge` to join with the others; by default the whole run.
        workers: number of worker processes; by default one per core.
        progress: called with the number of finished pairs and of all pairs.

    Raises:
        CmkdError: the destination exists or cannot be written, the recipe is invalid, or a worker died.
    """
    parts = _parts(destination)
    refuse_existing(destination)
    try:
        parts.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CmkdError(f"cannot write to {destination.parent}: {error.strerror or error}") from error
    with locked(parts / "lock", wait=True):
        refuse_existing(destination)
        _make(recipe, destination, info, shard, workers, progress)
        discard(parts)
    return Pack.open(destination)


def _make(
    recipe: Recipe,
    destination: Path,
    info: CardInfo,
    shard: Shard | None,
    workers: int | None,
    progress: Progress | None,
) -> None:
    parts = _parts(destination)
    stage = parts / "pack"
    shutil.rmtree(stage, ignore_errors=True)  # left by a run that was killed while writing the pack
    slots = recipe.slots() if shard is None else shard.of(recipe.slots())
    chunks = generate(recipe, parts, slots, workers=workers, progress=progress)
    split = _split(recipe)
    if shard is None:
        known = recipe.ships.classes
        shown = [(slot.pair % len(known), slot.vessel) for slot in slots]
        labels = [recipe.classes.index(known[label]) for label, _ in shown]
        warn_of_empty_classes(labels, recipe.classes, [split_of(recipe.seed, *vessel) for vessel in shown])
    else:
        split["part"] = shard._asdict() | {"pairs": recipe.pairs}
    kinds = f"Simulated optical and radar chips of {len(recipe.classes)} kinds of marine target"
    writer = PackWriter(
        stage,
        replace(info, recipe=recipe.origin(), title=kinds),
        classes=recipe.classes,
        modalities=modalities(recipe),
        split=split,
        notes=f"simulator version {recipe.version}, mode {recipe.mode}, pairs {recipe.pairs}, seed {recipe.seed}, gap "
        f"{recipe.gap}. Channels of the radar: {', '.join(recipe.sensors.radar.polarizations)}, sigma nought in dB.",
    )
    try:
        with writer:
            _fill(writer, recipe, chunks, recipe.classes, split["counts"])
        _illustrate(stage, recipe)
        stage.rename(destination)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def append_pack(
    recipe: Recipe,
    path: Path,
    *,
    new_classes: Literal["refuse", "allow"] = "refuse",
    workers: int | None = None,
    progress: Progress | None = None,
) -> Pack:
    """Simulate the next pairs of a pack as its next version.

    The arrays, index and statistics equal those of a single run of all pairs. A vessel of the pack keeps its split; a
    new vessel gets the split that follows from its number, its class and the seed. A killed call resumes when it is
    repeated; a version that was already committed is not made twice.

    Args:
        recipe: recipe of the delivery, from `cmkd.simulators.marine.growing.continued`.
        path: folder of the pack.
        new_classes: refuse classes that the pack does not have, or add them after its own.
        workers: number of worker processes; by default one per core.
        progress: called with the number of finished pairs and of all pairs.

    Raises:
        CmkdError: a new class is refused, another run for this pack is unfinished, or a worker died; the pack is
            unchanged.
    """
    pack, parts = Pack.open(path), _parts(path)
    classes = check_classes(pack, recipe.classes, new_classes, "the delivery")
    begun = first_pair(recipe, parts)
    if begun is None or pair_id(recipe.seed, begun) not in set(pack.index["id"]):  # else killed after the commit
        split = _split(recipe, pack.index)
        added = f"{recipe.pairs} pair{'s' if recipe.pairs > 1 else ''}"
        added += "" if recipe.classes == pack.classes else f" of {', '.join(recipe.classes)}"
        notes = f"{pack.card.notes.rstrip('.')}; version {pack.card.version + 1} adds {added}."
        with PackWriter.append(path, classes=classes, split=split, notes=notes) as writer:
            chunks = generate(recipe, parts, recipe.slots(pack.index), workers=workers, progress=progress)
            _fill(writer, recipe, chunks, classes, split["counts"])
    _illustrate(path, recipe)
    discard(parts)
    return Pack.open(path)


def _parts(destination: Path) -> Path:
    place = destination.resolve()
    return place.with_name(f".{place.name}.chunks")


def modalities(recipe: Recipe) -> list[Modality]:
    """Return the modalities of a pack of the recipe."""
    optical, radar = recipe.sensors.optical, recipe.sensors.radar
    channels, shape = len(radar.receive), (radar.size, radar.size)
    found = [
        Modality("optical", "image", (3, optical.size, optical.size), "uint8", unit="sRGB"),
        Modality("radar", "image", (channels, *shape), "float32", unit="dB"),
    ]
    if recipe.slc:
        found.append(Modality("slc", "image", (2 * channels, *shape), "float32", unit="root of sigma nought"))
    return found


def _split(recipe: Recipe, before: pd.DataFrame | None = None) -> dict[str, Any]:
    """Return the record of the split; its counts start from those of `before` and grow as pairs are written."""
    counts = {name: 0 if before is None else int((before["split"] == name).sum()) for name in SPLITS}
    method = "by vessel, 70/15/15 of each 20 vessels of a class"
    return {"method": method, "seed": recipe.seed, "vessels": recipe.vessels, "counts": counts}


def _fill(
    writer: PackWriter, recipe: Recipe, chunks: Iterable[Chunk], classes: Sequence[str], counts: dict[str, int]
) -> None:
    """Write the pairs, with their scenes in the index, and count their splits."""
    for chunk in chunks:
        scenes = chunk.scenes
        rows = [metadata(scene, recipe.sensors, recipe.seed) for scene in scenes]
        writer.add(
            [pair_id(recipe.seed, s.pair) for s in scenes], [classes.index(s.kind) for s in scenes],
            [s.split for s in scenes], [s.group for s in scenes], chunk.arrays,
            metadata={name: [row[name] for row in rows] for name in rows[0]},
        )  # fmt: skip
        for scene in scenes:
            counts[scene.split] += 1


def _illustrate(folder: Path, recipe: Recipe) -> None:
    """Write the pack's data card and contact sheet."""
    pack = Pack.open(folder)
    write_text(folder / "CARD.md", markdown(pack, lead=scene_section(pack.index, recipe)))
    first = pack.index.groupby("label").head(10).index.to_numpy()
    labels = pack.index["label"][first].tolist()
    contact_sheet(
        pack.classes, labels, pack.array("optical")[first], pack.array("radar")[first], folder / "contact_sheet.png"
    )
