"""Fuzzing targets: for each reader of external data, valid inputs and a check that may only return or refuse."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import strategies as st

from cmkd import options
from cmkd.config import RunConfig
from cmkd.data.manifest.content import Content
from cmkd.data.manifest.readers import inspect, read
from cmkd.data.manifest.table import read_table
from cmkd.data.pairing.captures import read_captures
from cmkd.data.pairing.matching import Gate, match
from cmkd.datasets.formats.archive import Archive
from cmkd.datasets.formats.idx import read_idx
from cmkd.expression import split_list
from cmkd.methods import METHODS
from cmkd.methods.combine import from_expression
from cmkd.types import Spec
from fuzz import drawn, products, seeds
from fuzz.products import Check


@dataclass(frozen=True)
class Target:
    """One reader.

    Args:
        prepare: function that is called once per process with an empty folder; returns valid inputs and the check.
        strategy: strategy of hypothesis that draws inputs; about a quarter of the cases (`DRAWN`) then come from it.
    """

    prepare: Callable[[Path], tuple[Sequence[bytes], Check]]
    strategy: st.SearchStrategy[bytes] | None = None


def _sample(suffix: str, valid: Callable[[], Sequence[bytes]], folder: Path) -> tuple[Sequence[bytes], Check]:
    """Target: the file of a sample, whose header and content must agree."""

    def check(data: bytes) -> None:
        content = Content("the file", suffix, data)
        try:
            header = inspect(content)
        finally:  # `read` may be called without `inspect`, so it has to refuse by itself
            array = read(content)
        if (array.shape, array.dtype.name) != (header.shape, header.dtype):
            raise AssertionError(f"header {header.shape} {header.dtype}, content {array.shape} {array.dtype}")

    return valid(), check


def _file(name: str, reader: Callable[[Path], object], valid: Callable[[], Sequence[bytes]], folder: Path) -> Any:  # noqa: ANN401
    """Target: a file with the given name and reader."""

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


def _express(text: str) -> None:
    spec = Spec(classes=3, dim=4, map_shapes=((2, 4, 4), (4, 2, 2)))
    for expression in split_list(text):
        from_expression(expression, spec, spec)


def _options(text: str) -> None:
    """Check a method on the first line, and its options as on the command line, one per line."""
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
    "pack_card": Target(partial(products.pack_file, "card.json")),
    "pack_index": Target(partial(products.pack_file, "index-0002.parquet")),
    "pack_array": Target(partial(products.pack_file, "radar.bin")),
    "hub_description": Target(partial(products.hub_file, "cmkd.json")),
    "hub_table": Target(partial(products.hub_file, "data/train-*.parquet")),
    "faults": Target(products.faults),
    "checkpoint": Target(products.checkpoint),
    "outputs_npz": Target(partial(products.outputs, ".npz")),
    "outputs_safetensors": Target(partial(products.outputs, ".safetensors")),
    "config": Target(partial(_file, "config.yaml", RunConfig.load, lambda: [CONFIG.encode()]), drawn.CONFIGS),
    "expression": Target(
        partial(_text, _express, ["none,kd(temperature=2)+0.5*ds", "rkd, 2*kd", "ds(uniformity_reference=teacher)"]),
        drawn.EXPRESSIONS,
    ),
    "options": Target(
        partial(_text, _options, ["kd\ntemperature=2", "ds\nuniformity_reference=teacher\npoints=positions"]),
        drawn.OPTIONS,
    ),
    "request": Target(products.request),
    "zip": Target(partial(_file, "a.zip", _read_archive, seeds.zips)),
    "tar": Target(partial(_file, "a.tar", _read_archive, seeds.tars)),
    "idx": Target(partial(_file, "idx", lambda path: read_idx(path, axes=1, address="https://example.org"), seeds.idx)),
}
"""Targets by name."""
