"""A pack of simulated pairs, with their scenes, a contact sheet and a data card."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from cmkd.data.pack.card import SPLITS, CardInfo
from cmkd.data.pack.pack import Pack
from cmkd.data.pack.writer import PackExistsError, PackWriter
from cmkd.data.summary import markdown
from cmkd.errors import CmkdError
from cmkd.progress import Progress
from cmkd.simulators.marine.contact import contact_sheet
from cmkd.simulators.marine.describe import scene_section
from cmkd.simulators.marine.scene import VERSION
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
    """Simulate pairs into a pack, with ``scene.parquet``, ``contact_sheet.png`` and ``CARD.md`` beside its index.

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
        scenes = _write(recipe, chunks, stage, info)
        scenes.to_parquet(stage / "scene.parquet", index=False)
        pack = Pack.open(stage)
        (stage / "CARD.md").write_text(markdown(pack, lead=scene_section(scenes, recipe)))
        first = scenes.groupby("label").head(10).index.to_numpy()
        labels = scenes["label"][first].tolist()
        contact_sheet(labels, pack.array("optical")[first], pack.array("radar")[first], stage / "contact_sheet.png")
        stage.rename(destination)
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    discard(parts)
    return Pack.open(destination)


def _write(recipe: Recipe, chunks: Iterable[Chunk], stage: Path, info: CardInfo) -> pd.DataFrame:
    shape = (recipe.size, recipe.size)
    modalities = [Modality("optical", "image", (3, *shape), "uint8"), Modality("radar", "image", (1, *shape), "uint8")]
    counts, rows = dict.fromkeys(SPLITS, 0), list[dict[str, object]]()
    with PackWriter(
        stage,
        info,
        classes=CLASSES,
        modalities=modalities,
        split={"method": "by vessel, 70/15/15 of each 20 vessels of a class", "seed": recipe.seed, "counts": counts},
        notes=f"simulator version {VERSION}, pairs {recipe.pairs}, seed {recipe.seed}, size {recipe.size}, "
        f"gap {recipe.gap}.",
    ) as writer:
        for chunk in chunks:
            scenes = chunk.scenes
            writer.add(
                [f"marine-{recipe.seed}-{s.pair:06d}" for s in scenes], [s.label for s in scenes],
                [s.split for s in scenes], [s.group for s in scenes], {"optical": chunk.optical, "radar": chunk.radar},
            )  # fmt: skip
            for scene in scenes:
                counts[scene.split] += 1
            rows += [{**asdict(s), "group": s.group, "bandwidth": s.bandwidth, "aperture": s.aperture} for s in scenes]
    return pd.DataFrame(rows)
