"""Make pairs in parallel, in chunks on disk: the bytes depend only on seed and pair, and a killed run resumes."""

from __future__ import annotations

import json
import multiprocessing
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cmkd.errors import CmkdError
from cmkd.io import atomic, checksum, remove_stale, temporary_sibling, write_bytes
from cmkd.options import plain
from cmkd.processes import end, end_with_parent, ignore_interrupts, starting, usable_cores
from cmkd.progress import Progress
from cmkd.simulators.marine import optical, radar
from cmkd.simulators.marine.fleet import Fleet
from cmkd.simulators.marine.mesh import Array
from cmkd.simulators.marine.modes import Mode
from cmkd.simulators.marine.rays import Rays
from cmkd.simulators.marine.recipe import Recipe, Slot
from cmkd.simulators.marine.scene import BUILT_IN, STREAMS, Scene, sample


@dataclass(frozen=True)
class Pair:
    """One target seen by both sensors at one instant.

    Args:
        scene: parameters of the scene.
        optical: ``(3, size, size)`` uint8, sRGB; the far side is up.
        radar: ``(channels, size, size)`` float32, sigma nought in dB, one channel per polarization; rows from
            near to far range, columns azimuth.
        complex: ``(channels, size, size)`` complex64, the first look; its squared magnitude is linear sigma nought.
    """

    scene: Scene
    optical: Array
    radar: Array
    complex: Array


def make_pair(
    pair: int, sensors: Mode, *, seed: int = 0, gap: float = 0.0, vessel: int | None = None, fleet: Fleet = BUILT_IN
) -> Pair:
    """Make one pair.

    Args:
        pair: number of the pair; its class is this number modulo the number of classes.
        sensors: sensor mode of radar and camera.
        seed: random seed of the data set.
        gap: degradation of the radar relative to its mode, 0 to 1.
        vessel: number of the individual of the class; by default the vessels take turns.
        fleet: source of the vessels.

    Raises:
        CmkdError: the gap is outside 0 to 1, or Embree does not load.

    Example:
        >>> from cmkd.simulators.marine.modes import mode
        >>> made = make_pair(3, mode("iw").sized(32))
        >>> made.scene.group, made.optical.shape, made.radar.shape
        ('sailing-yacht-000', (3, 32, 32), (2, 32, 32))
    """
    scene, mesh, faces = sample(seed, pair, sensors, gap=gap, vessel=vessel, fleet=fleet)
    rays = Rays(mesh)
    streams = [np.random.default_rng(np.random.SeedSequence((seed, STREAMS, 4 + sensor, pair))) for sensor in (0, 1)]
    light = optical.render(scene, sensors.optical, mesh, rays, streams[0])
    decibel, first_look = radar.image(scene, sensors.radar, mesh, faces, rays, streams[1])
    return Pair(scene, light, decibel, first_look)


@dataclass(frozen=True)
class Chunk:
    """Consecutive pairs: their scenes, and the arrays of each modality stacked along the first axis."""

    scenes: tuple[Scene, ...]
    arrays: dict[str, Array]


def generate(
    recipe: Recipe,
    folder: Path,
    slots: Sequence[Slot] | None = None,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Iterator[Chunk]:
    """Make pairs and yield them in order, one chunk in memory at a time.

    Args:
        recipe: the parameters of the run.
        folder: destination of the chunk files. Finished files are reused, so an interrupted run resumes; a folder of
            another recipe is refused. Remove the folder when the chunks have been consumed.
        slots: pairs to make, from `Recipe.slots`; by default all pairs of the recipe.
        workers: number of worker processes; by default one per core, at most one per chunk.
        progress: called with the number of finished pairs and of all pairs.

    Raises:
        CmkdError: the folder holds chunks of another recipe, `workers` is below 1, or a worker died.
    """
    slots = recipe.slots() if slots is None else slots
    _claim(recipe, folder, slots)
    chunks = [slots[start : start + recipe.chunk] for start in range(0, len(slots), recipe.chunk)]
    count = min(workers if workers is not None else usable_cores(), len(chunks))
    if count < 1:
        raise CmkdError(f"expected at least 1 worker, got {workers}")
    missing = {number: chunk for number, chunk in enumerate(chunks) if not _file(folder, number).is_file()}
    ready = len(slots) - sum(map(len, missing.values()))
    if progress and ready:
        progress(ready, len(slots))
    for number in _made(recipe, folder, missing, count):
        ready += len(chunks[number])
        if progress:
            progress(ready, len(slots))
    for number in range(len(chunks)):
        yield _read(_file(folder, number))


def first_pair(recipe: Recipe, folder: Path) -> int | None:
    """Return the first pair of the unfinished run of `recipe` in `folder`; None without such a run."""
    mark = folder / "recipe.json"
    said = json.loads(mark.read_text()) if mark.is_file() else {}
    return int(said["first"]) if said.get("recipe") == _described(recipe) else None


def _described(recipe: Recipe) -> dict[str, Any]:
    sensors = plain(recipe.sensors)
    return {**plain(recipe), "sensors": sensors, "meshes": recipe.ships.verify(), "version": recipe.version}


def _claim(recipe: Recipe, folder: Path, slots: Sequence[Slot]) -> None:
    """Record the run in `folder`, or refuse a folder of another run."""
    said = {"recipe": _described(recipe), "first": slots[0].pair, "slots": checksum([json.dumps(slots).encode()])}
    mark, content = folder / "recipe.json", json.dumps(said, sort_keys=True)
    folder.mkdir(parents=True, exist_ok=True)
    remove_stale(folder)
    if not mark.is_file():
        write_bytes(mark, content.encode())
    elif mark.read_text() != content:
        raise CmkdError(
            f"{folder} holds an unfinished run with other settings: repeat its command, or remove the folder"
        )


def _made(recipe: Recipe, folder: Path, missing: Mapping[int, Sequence[Slot]], workers: int) -> Iterator[int]:
    """Make the missing chunks and yield their numbers as they finish."""
    if workers == 1 or len(missing) < 2:
        for number, slots in missing.items():
            yield _make_chunk(recipe, _file(folder, number), slots, number)
        return
    # spawn, not fork: Embree's threads and a parent's CUDA context do not survive a fork
    context = multiprocessing.get_context("spawn")
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)
    try:
        queue, running = iter(missing.items()), set[Future[int]]()
        while True:
            for number, slots in queue:
                with starting():  # a submit may start a process
                    running.add(pool.submit(_make_chunk, recipe, _file(folder, number), slots, number))
                if len(running) >= 2 * workers:
                    break
            if not running:
                break
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
    except BrokenProcessPool as error:
        raise CmkdError(
            "a worker process died, most likely for lack of memory; repeat the call to continue; fewer workers use less"
        ) from error
    except BaseException:  # such as Ctrl-C: a chunk may take minutes
        end(set(multiprocessing.active_children()) - before)
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    end_with_parent()
    ignore_interrupts()


def _make_chunk(recipe: Recipe, path: Path, slots: Sequence[Slot], number: int) -> int:
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # comes with scikit-learn

    # the workers already use all cores, and one BLAS thread gives the same sums everywhere
    with threadpool_limits(1):
        same: dict[str, Any] = {"seed": recipe.seed, "gap": recipe.gap, "fleet": recipe.ships}
        pairs = [make_pair(slot.pair, recipe.sensors, vessel=slot.vessel, **same) for slot in slots]
    scenes = json.dumps([asdict(p.scene) for p in pairs]).encode()
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
    return number


def _read(path: Path) -> Chunk:
    with np.load(path, allow_pickle=False) as stored:
        said = json.loads(stored["scenes"].tobytes())
        scenes = tuple(Scene(**{**fields, "rates": tuple(fields["rates"])}) for fields in said)
        return Chunk(scenes, {name: stored[name] for name in stored.files if name != "scenes"})


def _file(folder: Path, chunk: int) -> Path:
    return folder / f"chunk-{chunk:06d}.npz"


def discard(folder: Path) -> None:
    """Remove the chunk files in `folder` after their pairs were stored elsewhere."""
    gone = folder.rename(temporary_sibling(folder))  # otherwise, a partly removed folder would look unfinished
    shutil.rmtree(gone, ignore_errors=True)
