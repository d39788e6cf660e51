"""Simulated pairs as a pack, with their scenes, a contact sheet and a card."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from cmkd.data.pack.card import CardInfo
from cmkd.data.pack.pack import Pack
from cmkd.data.pack.writer import PackExistsError, PackWriter
from cmkd.errors import CmkdError
from cmkd.simulators.marine.contact import contact_sheet
from cmkd.simulators.marine.describe import description
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
    progress: Callable[[int], None] | None = None,
) -> Pack:
    """Simulate pairs into a pack, with ``scene.parquet``, ``contact_sheet.png`` and ``CARD.md`` beside its index.

    Chunks are kept in a hidden sibling of `destination` until the pack is there, so a run that was killed continues.

    Args:
        recipe: what to make.
        destination: folder of the pack; it appears whole or not at all.
        info: what the card says, such as `cmkd.datasets.marine.Marine.info()`.
        workers: processes; as many as cores unless told otherwise.
        progress: called with the number of pairs that are ready.

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
    shutil.rmtree(stage, ignore_errors=True)  # of a run that was killed while it put the pack together
    chunks = generate(recipe, parts, workers=workers, progress=progress)
    try:
        scenes = _write(recipe, chunks, stage, info)
        scenes.to_parquet(stage / "scene.parquet", index=False)
        (stage / "CARD.md").write_text(description(scenes, recipe))
        pack = Pack.open(stage)
        first = _first_of_each(scenes["label"].to_numpy(), 10)
        batch = {name: pack.array(name)[first] for name in ("optical", "radar")}
        contact_sheet(
            scenes["label"].to_numpy()[first].tolist(), batch["optical"], batch["radar"], stage / "contact_sheet.png"
        )
        stage.rename(destination)
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    discard(parts)
    return Pack.open(destination)


def _write(recipe: Recipe, chunks: Iterable[Chunk], stage: Path, info: CardInfo) -> pd.DataFrame:
    shape = (recipe.size, recipe.size)
    modalities = [Modality("optical", "image", (3, *shape), "uint8"), Modality("radar", "image", (1, *shape), "uint8")]
    rows: list[dict[str, object]] = []
    with PackWriter(
        stage,
        info,
        classes=CLASSES,
        modalities=modalities,
        split={"method": "by vessel, 70/15/15 of each 20 vessels of a class", "seed": recipe.seed},
        notes=f"simulator version {VERSION}, pairs {recipe.pairs}, seed {recipe.seed}, size {recipe.size}, "
        f"gap {recipe.gap}.",
    ) as writer:
        for chunk in chunks:
            scenes = chunk.scenes
            writer.add(
                [f"marine-{recipe.seed}-{s.pair:06d}" for s in scenes], [s.label for s in scenes],
                [s.split for s in scenes], [s.group for s in scenes], {"optical": chunk.optical, "radar": chunk.radar},
            )  # fmt: skip
            rows += [{**asdict(s), "group": s.group, "bandwidth": s.bandwidth, "aperture": s.aperture} for s in scenes]
    return pd.DataFrame(rows)


def _first_of_each(labels: np.ndarray[tuple[int], np.dtype[np.int64]], count: int) -> list[int]:
    def rows() -> Iterator[int]:
        for label in range(len(CLASSES)):
            yield from np.flatnonzero(labels == label)[:count].tolist()

    return sorted(rows())
