"""``cmkd predict``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cmkd.cli.parsing import call
from cmkd.errors import CmkdError, IncompleteError
from cmkd.io import expanded
from cmkd.options import Bounds, Count, Threads


def predict(
    model: Path,
    *inputs: str,
    out: Path | None = None,
    top: Count | None = None,
    workers: Threads = 4,
    batch_size: Count = 256,
    device: str = "auto",
    tile: Annotated[int, Bounds(least=0)] = 0,
    stride: Annotated[int, Bounds(least=0)] = 0,
    module: str = "",
) -> None:
    """Classify new files with a trained student: class, calibrated probabilities, entropy, and whether to reject.

    Args:
        model: a run's folder, for the student that it recommends; a .safetensors file of a model; or an .onnx file.
        inputs: files, folders, globs, manifests (CSV or Parquet), packs, or - for a list of paths on standard input.
            Rows without the student's modality are left out. With --tile: one GeoTIFF.
        out: table to write, .csv, .parquet or .jsonl; without it, CSV goes to standard output. In CSV, text that a
            spreadsheet would run as a formula gets an apostrophe before it. With --tile: a .tif of classes, with
            NAME_probabilities.tif beside it.
        top: number of most probable classes to write; by default the probabilities of all.
        workers: threads that read files.
        batch_size: samples computed at a time.
        device: where the student computes: auto, cpu, cuda, ...
        tile: map a scene: side in pixels of the tiles that are classified, one for each pixel of the map.
        stride: pixels of the scene per pixel of the map; the tile's side by default.
        module: package.module:Name of your own network, if the model is one.
    """
    from cmkd.deploy.student import load_student

    if stride and not tile:
        raise CmkdError("--stride applies only to maps of a scene: add --tile")
    if tile:
        from cmkd.deploy.scene import predict_scene

        if len(inputs) != 1 or out is None or top:
            raise CmkdError("--tile maps one GeoTIFF and needs --out MAP.tif, without --top")
        student = load_student(model, device=device, module=module or None)
        found = predict_scene(
            student, expanded(inputs[0]), out, tile=tile, stride=stride or tile, batch_size=batch_size
        )
        print(f"{found.predicted} of {found.pixels} pixels have a prediction; the others are nodata")
        print(f"classes: {out}\nprobabilities: {found.probabilities}")
        return
    from cmkd.deploy.predict import predict as write_predictions

    student = load_student(model, device=device, module=module or None)
    done, failures = write_predictions(student, inputs, out, top=top or 0, batch_size=batch_size, workers=workers)
    if out is not None:
        print(f"{done} predictions: {out}", file=sys.stderr)
    if failures:
        lines = "".join(f"\n  {line}" for line in failures)
        raise IncompleteError(f"{len(failures)} of {done + len(failures)} inputs have no prediction:{lines}")


def main(arguments: Sequence[str]) -> None:
    """Run from a command line."""
    call(predict, arguments, prog="cmkd predict")
