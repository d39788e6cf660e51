"""Targets that damage one file of a product of this package: packs, models, outputs, requests, exports."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from cmkd import models
from cmkd.data import Pack
from cmkd.data.huggingface.reading import import_folder
from cmkd.data.huggingface.writing import export_pack
from cmkd.data.manifest.content import Content
from cmkd.data.pack.card import CardInfo
from cmkd.data.pack.writer import PackWriter
from cmkd.data.quality.faults import Fault, FaultReport
from cmkd.deploy.server.body import samples
from cmkd.deploy.server.limits import Limits, Refused
from cmkd.deploy.student import load_student
from cmkd.errors import CmkdError
from cmkd.models.checkpoint import load_model, save_model
from cmkd.training.teacher_outputs import OutputsFile
from cmkd.types import Modality
from fuzz import seeds

Check = Callable[[bytes], object]
"""Function of an input that returns or raises `CmkdError`; anything else is a finding."""

SENSORS = (Modality("optical", "image", (3, 4, 4), "uint8"), Modality("radar", "series", (5, 2), "float32"))
CLASSES = ("cat", "dog")


def make_pack(folder: Path) -> Pack:
    """Write a pack of two versions."""
    path, random = folder / "pack", np.random.default_rng(0)

    def add(writer: PackWriter, first: int) -> None:
        optical, radar = random.integers(0, 255, (6, 3, 4, 4), np.uint8), random.normal(size=(6, 5, 2))
        names, splits = [f"p{first + k}" for k in range(6)], ["train", "train", "train", "train", "validation", "test"]
        arrays = {"optical": optical, "radar": radar.astype(np.float32)}
        writer.add(names, [0, 1, 0, -1, 1, 0], splits, None, arrays, {"radar": np.arange(6) != 2})

    info = CardInfo("toy", "two sensors", rich="optical", poor="radar", sources=["https://example.org"])
    with PackWriter(path, info, classes=CLASSES, modalities=SENSORS) as writer:
        add(writer, 0)
    with PackWriter.append(path) as writer:
        add(writer, 6)
    return Pack.open(path)


def use_pack(path: Path) -> None:
    pack = Pack.open(path)
    repr(pack)
    pack.batch(pack.rows("train", modalities=list(pack.modalities))[:2])
    pack.withhold(0.5)
    pack.verify()


def pack_file(name: str, folder: Path) -> tuple[Sequence[bytes], Check]:
    """Target: one damaged file of a pack."""
    path = make_pack(folder).path / name
    return [path.read_bytes()], lambda data: (path.write_bytes(data), use_pack(path.parent))


def checkpoint(folder: Path) -> tuple[Sequence[bytes], Check]:
    """Target: the file of a model, which is loaded as described in it and used for a prediction."""
    path, valid = folder / "student.safetensors", []
    calibration = {"temperature": 1.5, "thresholds": [0.4, None], "precision": 0.9, "pairs": 10}
    for name, modality in (("thin_resnet(width=4,stages=1)", SENSORS[0]), ("series_net(width=4)", SENSORS[1])):
        known = replace(modality, mean=(1.0,) * modality.channels, std=(2.0,) * modality.channels)
        model = models.build(name, known, classes=2)
        save_model(path, model, name=name, classes=CLASSES, extra={"calibration": calibration, "method": "kd"})
        valid.append(path.read_bytes())

    def check(data: bytes) -> None:
        path.write_bytes(data)
        load_model(path)
        student = load_student(path, device="cpu")
        student.predict(np.zeros(student.modality.shape, student.modality.dtype))

    return valid, check


def outputs(suffix: str, folder: Path) -> tuple[Sequence[bytes], Check]:
    """Target: a file with the outputs of an external teacher."""
    pack, path = make_pack(folder), folder / f"outputs{suffix}"
    names = pack.index["id"].tolist()
    logits, embedding = np.ones((12, 2), np.float32), np.ones((12, 3), np.float32)
    if suffix == ".npz":
        arrays = {"ids": np.array(names), "logits": logits, "embedding": embedding}
        valid = [
            seeds.written(lambda f: np.savez(f, **arrays)),
            seeds.written(lambda f: np.savez_compressed(f, **arrays)),
        ]
    else:
        valid = [seeds.safetensors({"logits": logits, "embedding": embedding}, {"ids": names})]

    def check(data: bytes) -> None:
        path.write_bytes(data)
        OutputsFile.read(path, pack).records(pack, "optical")[1](pack.rows("train")[:1], 0)

    return valid, check


def request(folder: Path) -> tuple[Sequence[bytes], Check]:
    """Target: bodies of requests; the first byte selects the format and the modality."""
    limits, gray = Limits(body_mb=1, pixels=2**16), Modality("radar", "image", (1, 4, 4), "uint8")
    color, bands = replace(gray, shape=(3, 4, 4)), replace(gray, shape=(3, 4, 4), dtype="float32")
    sound, vector = Modality("sound", "series", (8, 1), "int16"), Modality("spectrum", "vector", (8,), "float32")
    kinds = [(".png", color), (".jpg", color), (".tif", color), (".tif", bands), (".npy", gray), (".npy", bands)]
    kinds += [(".wav", sound), (".npy", vector), (".png", gray), (".tif", gray)]
    files = {".png": seeds.png(), ".jpg": seeds.jpeg(), ".tif": seeds.tiff(), ".npy": seeds.npy(), ".wav": seeds.wav()}

    def answer(data: bytes) -> None:
        suffix, modality = kinds[data[0] % len(kinds)] if data else kinds[0]
        samples(Content("the body", suffix, data[1:]), modality, limits)

    def check(data: bytes) -> None:
        with suppress(Refused):
            answer(data)

    valid = []
    for body in (bytes([k]) + file for k, (suffix, _) in enumerate(kinds) for file in files[suffix]):
        with suppress(Refused, CmkdError):
            answer(body)
            valid.append(body)
    return valid, check


def hub_file(name: str, folder: Path) -> tuple[Sequence[bytes], Check]:
    """Target: one damaged file of a data set in the layout of the Hugging Face hub."""
    home = export_pack(make_pack(folder), folder / "hub")
    (path,) = home.glob(name)
    made = folder / "made"

    def check(data: bytes) -> None:
        path.write_bytes(data)
        try:
            use_pack(import_folder(home, made).path)
        finally:
            shutil.rmtree(made, ignore_errors=True)

    return [path.read_bytes()], check


def faults(folder: Path) -> tuple[Sequence[bytes], Check]:
    """Target: a report of `cmkd data check`."""
    path = folder / "faults.json"
    fault = Fault("p1", "duplicate", "optical", "the same as p2", "train", "p2", "test")
    FaultReport("toy", 12, ["optical", "radar"], [fault], notes=["no radar"]).write(path)

    def check(data: bytes) -> None:
        path.write_bytes(data)
        FaultReport.read(path).summary()

    return [path.read_bytes()], check
