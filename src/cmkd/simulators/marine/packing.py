"""A pack of simulated pairs, with their scenes, a contact sheet and a data card."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from cmkd.data.pack.card import SPLITS, CardInfo
from cmkd.data.pack.pack import Pack
from cmkd.data.pack.writer import PackExistsError, PackWriter
from cmkd.data.summary import markdown
from cmkd.errors import CmkdError
from cmkd.progress import Progress
from cmkd.simulators.marine.contact import contact_sheet
from cmkd.simulators.marine.describe import scene_section
from cmkd.simulators.marine.scene import VERSION, metadata
from cmkd.simulators.marine.simulate import Chunk, Recipe, discard, generate
from cmkd.simulators.marine.vessels import CLASSES
from cmkd.types import Modality


def write_pack(
    recipe: Recipe,
    destination: Path,
    info: CardInfo,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Pack:
    """Simulate pairs into a pack, with ``contact_sheet.png`` and ``CARD.md`` beside its index.

    Finished chunks are kept in a hidden sibling of `destination` until the pack is complete, so a killed run resumes.

    Args:
        recipe: the parameters of the run.
        destination: folder of the pack; it appears whole or not at all.
        info: what the card says, such as `cmkd.datasets.marine.Marine.info()`.
        workers: processes; by default one per core.
        progress: called with the number of finished pairs and of all pairs.

    Raises:
        CmkdError: the destination exists, the recipe is wrong, or a worker died.
    """
    if destination.exists():
        raise PackExistsError(f"{destination} exists: remove it or write somewhere else")
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CmkdError(f"cannot write to {destination.parent}: {error.strerror or error}") from error
    parts = destination.with_name(f".{destination.name}.chunks")
    stage = parts / "pack"
    shutil.rmtree(stage, ignore_errors=True)  # left by a run that was killed while writing the pack
    chunks = generate(recipe, parts, workers=workers, progress=progress)
    try:
        _write(recipe, chunks, stage, info)
        pack = Pack.open(stage)
        (stage / "CARD.md").write_text(markdown(pack, lead=scene_section(pack.index, recipe)))
        first = pack.index.groupby("label").head(10).index.to_numpy()
        labels = pack.index["label"][first].tolist()
        contact_sheet(labels, pack.array("optical")[first], pack.array("radar")[first], stage / "contact_sheet.png")
        stage.rename(destination)
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    discard(parts)
    return Pack.open(destination)


def modalities(recipe: Recipe) -> list[Modality]:
    """Return what a pack of a recipe holds of each pair."""
    optical, radar = recipe.sensors.optical, recipe.sensors.radar
    channels, shape = len(radar.receive), (radar.size, radar.size)
    found = [
        Modality("optical", "image", (3, optical.size, optical.size), "uint8", unit="sRGB"),
        Modality("radar", "image", (channels, *shape), "float32", unit="dB"),
    ]
    if recipe.slc:
        found.append(Modality("slc", "image", (2 * channels, *shape), "float32", unit="root of sigma nought"))
    return found


def _write(recipe: Recipe, chunks: Iterable[Chunk], stage: Path, info: CardInfo) -> None:
    counts = dict.fromkeys(SPLITS, 0)
    with PackWriter(
        stage,
        info,
        classes=CLASSES,
        modalities=modalities(recipe),
        split={"method": "by vessel, 70/15/15 of each 20 vessels of a class", "seed": recipe.seed, "counts": counts},
        notes=f"simulator version {VERSION}, mode {recipe.mode}, pairs {recipe.pairs}, seed {recipe.seed}, gap "
        f"{recipe.gap}. Channels of the radar: {', '.join(recipe.sensors.radar.polarizations)}, sigma nought in dB.",
    ) as writer:
        for chunk in chunks:
            scenes = chunk.scenes
            rows = [metadata(scene, recipe.sensors, recipe.seed) for scene in scenes]
            writer.add(
                [f"marine-{recipe.seed}-{s.pair:06d}" for s in scenes], [s.label for s in scenes],
                [s.split for s in scenes], [s.group for s in scenes], chunk.arrays,
                metadata={name: [row[name] for row in rows] for name in rows[0]},
            )  # fmt: skip
            for scene in scenes:
                counts[scene.split] += 1
