"""Pairs made in parallel, in chunks on disk: the bytes depend on seed and pair alone, and a killed run resumes."""

from __future__ import annotations

import json
import multiprocessing
import shutil
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cmkd.errors import CmkdError
from cmkd.io import atomic, write_bytes
from cmkd.options import plain
from cmkd.processes import end_with_parent, usable_cores, without_script
from cmkd.progress import Progress
from cmkd.simulators.marine import optical, radar
from cmkd.simulators.marine.mesh import Array
from cmkd.simulators.marine.modes import Mode, mode
from cmkd.simulators.marine.rays import Rays
from cmkd.simulators.marine.scene import VERSION, Gap, Scene, sample


@dataclass(frozen=True)
class Pair:
    """One target seen by both sensors at one instant.

    Args:
        scene: its parameters.
        optical: ``(3, size, size)`` uint8, sRGB; the far side is up.
        radar: ``(channels, size, size)`` float32, sigma nought in dB, a channel for each polarization; rows from
            near to far range, columns azimuth.
        complex: ``(channels, size, size)`` complex64, the first look; its squared magnitude is sigma nought, linear.
    """

    scene: Scene
    optical: Array
    radar: Array
    complex: Array


def make_pair(pair: int, sensors: Mode, *, seed: int = 0, gap: float = 0.0) -> Pair:
    """Make one pair.

    Args:
        pair: its number; the class is ``pair mod 8``.
        sensors: what radar and camera are.
        seed: of the data set.
        gap: what the radar lacks beside its mode, 0 to 1.

    Raises:
        CmkdError: the gap is outside 0 to 1, or Embree does not load.

    Example:
        >>> made = make_pair(3, mode("iw").sized(32))
        >>> made.scene.group, made.optical.shape, made.radar.shape
        ('sailing-yacht-000', (3, 32, 32), (2, 32, 32))
    """
    scene, mesh, vessel = sample(seed, pair, sensors, gap=gap)
    rays = Rays(mesh)
    streams = [np.random.default_rng(np.random.SeedSequence((seed, VERSION, 4 + sensor, pair))) for sensor in (0, 1)]
    light = optical.render(scene, sensors.optical, mesh, rays, streams[0])
    decibel, first_look = radar.image(scene, sensors.radar, mesh, vessel, rays, streams[1])
    return Pair(scene, light, decibel, first_look)


@dataclass(frozen=True)
class Recipe:
    """The parameters that determine the bytes of a simulated data set.

    Args:
        pairs: number of pairs.
        seed: not negative.
        mode: one of `cmkd.simulators.marine.modes.modes`, or the path of a file of one's own.
        size: pixels along a side of the radar chip, 16 to 512, at the mode's spacing; by default the mode's.
        gap: 0 to 1.
        slc: keep the complex first look beside the intensity.
        chunk: pairs per file on disk and per job of a worker; the pairs do not depend on it.

    Raises:
        CmkdError: a value is out of range.
    """

    pairs: int
    seed: int = 0
    mode: str = "iw"
    size: int | None = None
    gap: float = 0.0
    slc: bool = False
    chunk: int = 64

    def __post_init__(self) -> None:
        if self.pairs < 1:
            raise CmkdError(f"expected at least 1 pair, got {self.pairs}")
        if self.chunk < 1:
            raise CmkdError(f"expected at least 1 pair a chunk, got {self.chunk}")
        if self.seed < 0:
            raise CmkdError(f"expected a seed of 0 or more, got {self.seed}")
        if self.size is not None and not 16 <= self.size <= 512:
            raise CmkdError(f"expected a size of 16 to 512 pixels, got {self.size}")
        Gap.dial(self.gap)
        _ = self.sensors

    @cached_property
    def sensors(self) -> Mode:
        """What radar and camera are."""
        found = mode(self.mode)
        return found if self.size is None else found.sized(self.size)

    @property
    def chunks(self) -> int:
        """Number of chunk files."""
        return -(-self.pairs // self.chunk)

    def members(self, chunk: int) -> range:
        """Return the numbers of the pairs in a chunk."""
        return range(chunk * self.chunk, min((chunk + 1) * self.chunk, self.pairs))


@dataclass(frozen=True)
class Chunk:
    """Consecutive pairs: their scenes, and the arrays of each modality stacked along the first axis."""

    scenes: tuple[Scene, ...]
    arrays: dict[str, Array]


def generate(
    recipe: Recipe, folder: Path, *, workers: int | None = None, progress: Progress | None = None
) -> Iterator[Chunk]:
    """Make all pairs and yield them in order, one chunk in memory at a time.

    Args:
        recipe: the parameters of the run.
        folder: destination of the chunk files. Finished ones are reused, so an interrupted run resumes; a folder of
            another recipe is refused. Remove it when the chunks have been consumed.
        workers: processes; by default one per core, and one for a single chunk.
        progress: called with the number of finished pairs and of all pairs.

    Raises:
        CmkdError: the folder holds chunks of another recipe, or a worker died.
    """
    _claim(recipe, folder)
    count = min(workers if workers is not None else usable_cores(), recipe.chunks)
    if count < 1:
        raise CmkdError(f"expected at least 1 worker, got {workers}")
    missing = [c for c in range(recipe.chunks) if not _file(folder, c).is_file()]
    ready = sum(len(recipe.members(c)) for c in range(recipe.chunks)) - sum(len(recipe.members(c)) for c in missing)
    if progress and ready:
        progress(ready, recipe.pairs)
    for chunk in _made(recipe, folder, missing, count):
        ready += len(recipe.members(chunk))
        if progress:
            progress(ready, recipe.pairs)
    for chunk in range(recipe.chunks):
        yield _read(_file(folder, chunk))


def _claim(recipe: Recipe, folder: Path) -> None:
    """Record the recipe in `folder`, or refuse a folder of another recipe."""
    mark, content = (
        folder / "recipe.json",
        json.dumps({**asdict(recipe), "mode": plain(recipe.sensors), "version": VERSION}, sort_keys=True),
    )
    folder.mkdir(parents=True, exist_ok=True)
    if not mark.is_file():
        write_bytes(mark, content.encode())
    elif mark.read_text() != content:
        raise CmkdError(f"{folder} holds an unfinished run of another recipe: remove it or choose another folder")


def _made(recipe: Recipe, folder: Path, missing: list[int], workers: int) -> Iterator[int]:
    """Make the missing chunks and yield their numbers as they finish."""
    if workers == 1 or len(missing) < 2:
        for chunk in missing:
            yield _make_chunk(recipe, folder, chunk)
        return
    # spawn, not fork: Embree's threads and a parent's CUDA context do not survive a fork
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=end_with_parent)
    try:
        queue, running = iter(missing), set[Future[int]]()
        while True:
            for chunk in queue:
                with without_script():  # a submit may start a process
                    running.add(pool.submit(_make_chunk, recipe, folder, chunk))
                if len(running) >= 2 * workers:
                    break
            if not running:
                break
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
    except BrokenProcessPool as error:
        raise CmkdError(
            "a worker process died, most likely for lack of memory; the same call goes on, and fewer workers need less"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _make_chunk(recipe: Recipe, folder: Path, chunk: int) -> int:
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # comes with scikit-learn

    # the workers already use all cores, and one BLAS thread gives the same sums everywhere
    with threadpool_limits(1):
        pairs = [make_pair(p, recipe.sensors, seed=recipe.seed, gap=recipe.gap) for p in recipe.members(chunk)]
    scenes = json.dumps([asdict(p.scene) for p in pairs]).encode()
    path = _file(folder, chunk)
    with atomic(path) as temporary, temporary.open("wb") as file:
        arrays: dict[str, Any] = {
            "optical": np.stack([p.optical for p in pairs]),
            "radar": np.stack([p.radar for p in pairs]),
        }
        if recipe.slc:
            looks = np.stack([p.complex for p in pairs])
            parts = np.stack([looks.real, looks.imag], 2)  # channels, then real and imaginary part
            arrays["slc"] = parts.reshape(len(pairs), -1, *looks.shape[2:])
        np.savez(file, scenes=np.frombuffer(scenes, np.uint8), **arrays)
    return chunk


def _read(path: Path) -> Chunk:
    with np.load(path, allow_pickle=False) as stored:
        said = json.loads(stored["scenes"].tobytes())
        scenes = tuple(Scene(**{**fields, "rates": tuple(fields["rates"])}) for fields in said)
        return Chunk(scenes, {name: stored[name] for name in stored.files if name != "scenes"})


def _file(folder: Path, chunk: int) -> Path:
    return folder / f"chunk-{chunk:06d}.npz"


def discard(folder: Path) -> None:
    """Remove the chunk files in `folder` after their pairs were stored elsewhere."""
    shutil.rmtree(folder, ignore_errors=True)
