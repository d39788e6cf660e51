"""What is fuzzed: for each reader of outside data, valid inputs and a function that may only return or refuse."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import strategies as st

from cmkd import models, options
from cmkd.config import RunConfig
from cmkd.data import Pack
from cmkd.data.manifest.content import Content
from cmkd.data.manifest.readers import inspect, read
from cmkd.data.manifest.table import read_table
from cmkd.data.pack.card import CardInfo
from cmkd.data.pack.writer import PackWriter
from cmkd.data.pairing.captures import read_captures
from cmkd.data.pairing.matching import Gate, match
from cmkd.datasets.formats.archive import Archive
from cmkd.datasets.formats.idx import read_idx
from cmkd.deploy.server.body import samples
from cmkd.deploy.server.limits import Limits, Refused
from cmkd.deploy.student import load_student
from cmkd.errors import CmkdError
from cmkd.expression import split_list
from cmkd.methods import METHODS
from cmkd.methods.combine import from_expression
from cmkd.models.checkpoint import load_model, save_model
from cmkd.training.teacher_outputs import OutputsFile
from cmkd.types import Modality, Spec
from fuzz import drawn, seeds

Check = Callable[[bytes], object]
"""Returns, or raises `CmkdError`; anything else is a finding."""


@dataclass(frozen=True)
class Target:
    """One reader.

    Args:
        prepare: called once in a process with an empty folder; returns valid inputs and the check.
        strategy: of hypothesis, that draws inputs; half of the cases then come from it.
    """

    prepare: Callable[[Path], tuple[Sequence[bytes], Check]]
    strategy: st.SearchStrategy[bytes] | None = None


def _sample(suffix: str, valid: Callable[[], Sequence[bytes]], folder: Path) -> tuple[Sequence[bytes], Check]:
    """Header and content of a sample's file agree."""

    def check(data: bytes) -> None:
        content = Content("the file", suffix, data)
        try:
            header = inspect(content)
        finally:  # `read` does without `inspect`, so it has to refuse by itself
            array = read(content)
        if (array.shape, array.dtype.name) != (header.shape, header.dtype):
            raise AssertionError(f"header {header.shape} {header.dtype}, content {array.shape} {array.dtype}")

    return valid(), check


def _file(name: str, reader: Callable[[Path], object], valid: Callable[[], Sequence[bytes]], folder: Path) -> Any:  # noqa: ANN401
    """Bytes under a name in a folder."""

    def check(data: bytes) -> None:
        (folder / name).write_bytes(data)
        reader(folder / name)

    return valid(), check


def _text(read_text: Callable[[str], object], valid: Sequence[str], folder: Path) -> tuple[Sequence[bytes], Check]:
    return [one.encode() for one in valid], lambda data: read_text(data.decode("utf-8", "surrogateescape"))


def _manifests() -> list[bytes]:
    return [
        b"id,label,split,optical,radar\na,cat,train,o/1.png,r/1.tif\nb,dog,test,o/2.png,\n",
        "\ufeffid,label,group,radar,note\n007,NA,v1,r.npy,é\n008,None,v2,r.npy,\n".encode(),
    ]


def _manifest_frames() -> list[bytes]:
    frame = pd.DataFrame({"id": ["a", "b"], "label": ["cat", None], "radar": ["1.tif", "2.tif"]})
    other = frame.assign(
        id=[1, 2], label=[1.0, np.nan], date=pd.Timestamp("2023-01-01"), kind=pd.Categorical(["a", "b"])
    )
    return seeds.parquet(frame, other, frame)


def _captures() -> list[bytes]:
    return [
        b"path,time,x,y,label\n1.png,0,1,2,a\n2.png,60.5,3,4,b\n",
        b"path,time,latitude,longitude\n1.png,2023-01-31T12:00:00Z,54.1,10.2\n2.png,2023-01-31T12:01:00+0100,54,10\n",
        b"id,path,time\na,o\\1.png,20230131120000\nb,2.png,20230131120100\n",
        b"path,time\n1.png,1675166400000\n2.png,1675166460000\n",
    ]


def _pair(path: Path) -> None:
    captures = read_captures(path)
    match(captures, captures, Gate(30.0, 100.0 if captures.place is not None else None))


def _read_archive(path: Path) -> None:
    with Archive(path, address="https://example.org") as archive:
        for name in archive.sizes:
            archive.read(name)


SENSORS = (Modality("optical", "image", (3, 4, 4), "uint8"), Modality("radar", "series", (5, 2), "float32"))
CLASSES = ("cat", "dog")


def _make_pack(folder: Path) -> Pack:
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


def _use_pack(path: Path) -> None:
    pack = Pack.open(path)
    repr(pack)
    pack.batch(pack.rows("train", modalities=list(pack.modalities))[:2])
    pack.withhold(0.5)
    pack.verify()


def _pack_file(name: str, folder: Path) -> tuple[Sequence[bytes], Check]:
    """One damaged file of a pack."""
    path = _make_pack(folder).path / name
    return [path.read_bytes()], lambda data: (path.write_bytes(data), _use_pack(path.parent))


def _checkpoint(folder: Path) -> tuple[Sequence[bytes], Check]:
    """A model's file, with what its description asks for."""
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


def _outputs(suffix: str, folder: Path) -> tuple[Sequence[bytes], Check]:
    """Outputs of a teacher that is not run here."""
    pack, path = _make_pack(folder), folder / f"outputs{suffix}"
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


def _body(folder: Path) -> tuple[Sequence[bytes], Check]:
    """Bodies of requests; the first byte tells the format and the model."""
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


def _express(text: str) -> None:
    spec = Spec(classes=3, dim=4, map_shapes=((2, 4, 4), (4, 2, 2)))
    for expression in split_list(text):
        from_expression(expression, spec, spec)


def _options(text: str) -> None:
    """A method, then its options as the command line gives them, a line each."""
    name, *lines = text.split("\n")
    method = METHODS.find(name)
    hints = options.option_types(method)
    words = dict(line.partition("=")[::2] for line in lines)
    options.check(name, method, {key: options.from_text(word, hints.get(key, str)) for key, word in words.items()})


CONFIG = """data: digits
out: runs/x
methods: none,kd(temperature=2)+0.5*ds
seeds: 2
teacher: {size: 16, model: "thin_resnet(width=8)", views: 4}
student: {modality: radar, scaling: log}
optimizer: {learning_rate: 0.1, name: sgd}
trainer: {batch_size: 8, precision: 32-true}
method_options: {kd: {temperature: 2.0}}
"""

TARGETS: dict[str, Target] = {
    "png": Target(partial(_sample, ".png", seeds.png)),
    "jpeg": Target(partial(_sample, ".jpg", seeds.jpeg)),
    "tiff": Target(partial(_sample, ".tif", seeds.tiff)),
    "npy": Target(partial(_sample, ".npy", seeds.npy)),
    "wav": Target(partial(_sample, ".wav", seeds.wav)),
    "series_csv": Target(partial(_sample, ".csv", lambda: [f.to_csv(index=False).encode() for f in seeds.series()])),
    "series_parquet": Target(partial(_sample, ".parquet", lambda: seeds.parquet(*seeds.series()))),
    "manifest_csv": Target(
        partial(_file, "manifest.csv", lambda path: read_table(path.parent, allow_missing=True), _manifests),
        drawn.MANIFESTS,
    ),
    "manifest_parquet": Target(
        partial(_file, "manifest.parquet", lambda path: read_table(path.parent, allow_missing=True), _manifest_frames)
    ),
    "captures": Target(partial(_file, "radar.csv", _pair, _captures), drawn.CAPTURES),
    "pack_card": Target(partial(_pack_file, "card.json")),
    "pack_index": Target(partial(_pack_file, "index-0002.parquet")),
    "pack_array": Target(partial(_pack_file, "radar.bin")),
    "checkpoint": Target(_checkpoint),
    "outputs_npz": Target(partial(_outputs, ".npz")),
    "outputs_safetensors": Target(partial(_outputs, ".safetensors")),
    "config": Target(partial(_file, "config.yaml", RunConfig.load, lambda: [CONFIG.encode()]), drawn.CONFIGS),
    "expression": Target(
        partial(_text, _express, ["none,kd(temperature=2)+0.5*ds", "rkd, 2*kd", "ds(uniformity_reference=teacher)"]),
        drawn.EXPRESSIONS,
    ),
    "options": Target(
        partial(_text, _options, ["kd\ntemperature=2", "ds\nuniformity_reference=teacher\npoints=positions"]),
        drawn.OPTIONS,
    ),
    "request": Target(_body),
    "zip": Target(partial(_file, "a.zip", _read_archive, seeds.zips)),
    "tar": Target(partial(_file, "a.tar", _read_archive, seeds.tars)),
    "idx": Target(partial(_file, "idx", lambda path: read_idx(path, axes=1, address="https://example.org"), seeds.idx)),
}
"""Targets by name."""
