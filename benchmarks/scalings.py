"""How should stored values enter a network? Teacher and student alone with each scaling: linear, log and rank.

    python benchmarks/scalings.py terramind:DATA/terramind presto:DATA/presto --intensity sentinel1

Each scaling trains one teacher and `none` with the same seeds; differences to linear are paired by seed. With
``--intensity``, each data set with that modality is copied with it as a linear intensity, ``10^(dB / 10)``, and
students are trained on this too. A scaling is chosen on validation; the test columns only report. An interrupted run
resumes. Writes ``scalings.md``, also after each run.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cmkd.config import RunConfig, StudentConfig, TeacherConfig
from cmkd.data import CardInfo, PackWriter
from cmkd.datasets import open_data
from cmkd.documents import read_json
from cmkd.experiment.runner import Experiment
from cmkd.io import write_text
from cmkd.models.scaling import SCALINGS
from convergence import folder
from records import RESULTS, about, difference, percent, table, without_folder

HEADER = [
    "data set", "sees", "model", "scaling", "n", "leveled off", "validation", "gain over linear", "test",
    "gain over linear",
]  # fmt: skip


def intensity(reference: str, modality: str, place: Path) -> Path:
    """Return a pack like that of a data set, with a modality in dB as linear intensity; made once."""
    if place.exists():
        return place
    pack = open_data(reference)
    sensors = pack.modalities | {modality: replace(pack.modality(modality), dtype="float32")}
    present = {name: pack.index[f"has_{name}"].to_numpy() for name in sensors}
    arrays = {name: np.asarray(pack.array(name)) for name in sensors}
    arrays[modality] = (10 ** (arrays[modality].astype(np.float64) / 10)).astype(np.float32)
    arrays[modality][~present[modality]] = 0
    ids, labels, splits, groups = (pack.index[name].tolist() for name in ("id", "label", "split", "group"))
    info = CardInfo.from_dict(pack.card.to_dict())
    with PackWriter(place, info, classes=pack.classes, modalities=list(sensors.values())) as writer:
        writer.add(ids, labels, splits, groups, arrays, present)
    return place


def train(given: argparse.Namespace, data: str, place: Path, teacher: Path | None) -> None:
    """Train teacher and students with each scaling; with a teacher's folder, the students alone."""
    for scaling in SCALINGS:
        kept = None if teacher is None else teacher / scaling / "teacher" / "best.safetensors"
        config = RunConfig(
            data,
            place / scaling,
            "none",
            seeds=given.seeds,
            preset=given.preset,
            epochs=given.epochs,
            teacher=TeacherConfig(scaling=scaling, checkpoint=kept, size=given.size),
            student=StudentConfig(scaling=scaling, size=given.size),
        )
        Experiment(config).run()


def lines(name: str, place: Path, roles: Sequence[str]) -> list[list[str]]:
    """Return the rows of one data set, as far as it is trained."""
    paths = {scaling: place / scaling / "results.json" for scaling in SCALINGS}
    runs: dict[str, Any] = {scaling: read_json(path) for scaling, path in paths.items() if path.exists()}
    found = []
    for role in roles:
        for scaling, run in runs.items():
            own, base = ([r["teacher"]] if role == "teacher" else r["students"] for r in (run, runs["linear"]))
            cells = [name, own[0]["modality"] if own else "", role, scaling, str(len(own))]
            cells.append(str(sum(row["converged"] for row in own)))
            for split in ("validation", "test"):
                key = f"{split}_accuracy"
                of = {row["seed"]: row[key] for row in base}
                gains = [row[key] - of[row["seed"]] for row in own if row["seed"] in of]
                cells.append(percent(float(np.mean([row[key] for row in own]))) if own else "")
                cells.append(difference(gains) if gains and scaling != "linear" else "")
            found.append(cells)
    return found


def write(given: argparse.Namespace) -> None:
    """Write the table of what is trained."""
    found = []
    for reference in given.data:
        place, name = folder(given.runs, reference), without_folder(reference)
        found += lines(name, place, ("teacher", "none"))
        if (place / "intensity").exists():
            found += lines(f"{name}, intensity", place / "intensity", ("none",))
    options = f"--preset {given.preset} --seeds {given.seeds}"
    options += "".join(
        f" --{key} {value}" for key in ("intensity", "size", "epochs") if (value := getattr(given, key)) is not None
    )
    text = (
        "# Scalings of stored values\n\n"
        f"`python benchmarks/scalings.py {' '.join(repr(without_folder(r)) for r in given.data)} {options}`, "
        f"{about()}.\n\n"
        "Accuracy in %, mean over n seeds; gains in points, with Student's 95 % interval of the differences paired by "
        "seed, bold where it excludes 0. `none` is the student alone. *Leveled off*: trainings whose validation had "
        "stopped rising. *Intensity*: the student's modality, in dB as published, as `10^(dB / 10)`. A scaling is "
        "chosen on validation; the test columns only report.\n\n"
    )
    write_text(given.out, f"{text}{table(HEADER, found, left=4)}\n")


def main() -> None:
    """Run from a command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data", nargs="+", help="as after --data of `cmkd run`")
    parser.add_argument("--intensity", help="name of a modality in dB, to try as linear intensity too")
    parser.add_argument("--seeds", type=int, default=3, help="students of each scaling")
    parser.add_argument("--preset", default="quick", choices=["quick", "full"])
    parser.add_argument("--epochs", type=int, help="largest number of epochs")
    parser.add_argument("--size", type=int, help="resize images")
    parser.add_argument("--runs", type=Path, default=Path("runs/scalings"))
    parser.add_argument("--out", type=Path, default=RESULTS / "scalings.md")
    given = parser.parse_args()
    for reference in given.data:
        place = folder(given.runs, reference)
        train(given, reference, place, None)
        write(given)
        if given.intensity in open_data(reference).modalities:
            pack = intensity(reference, given.intensity, place / "intensity" / "pack")
            train(given, str(pack), place / "intensity", place)
            write(given)


if __name__ == "__main__":
    main()
