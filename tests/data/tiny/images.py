"""Tiny sources of the transformed data sets."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import numpy as np
from scipy.io import savemat

from cmkd.datasets.cifar10 import Cifar10, CifarImages
from cmkd.datasets.cifar100 import Cifar100
from cmkd.datasets.eurosat import Eurosat
from data.tiny.files import idx_bytes, jpeg_bytes, write_tar


def bars(generator: np.random.Generator, labels: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Return synthetic images: a bright bar over noise, whose position tells the class."""
    images = generator.integers(0, 80, (len(labels), *shape), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        top = int(label) * shape[1] // (int(labels.max()) + 1)
        image[:, top : top + max(2, shape[1] // 8)] += 150
    return images


def mnist(folder: Path, generator: np.random.Generator) -> None:
    """Write 200 train and 50 test images."""
    for part, count in (("train", 200), ("t10k", 50)):
        labels = np.arange(count, dtype=np.uint8) % 10
        write_idx(folder, part, bars(generator, labels, (1, 28, 28))[:, 0], labels)


def write_idx(folder: Path, part: str, images: np.ndarray, labels: np.ndarray) -> None:
    """Write images and labels of one part in MNIST's layout."""
    for kind, values in (("images-idx3", images), ("labels-idx1", labels)):
        (folder / f"{part}-{kind}-ubyte.gz").write_bytes(gzip.compress(idx_bytes(values), 1, mtime=0))


def cifar10(folder: Path, generator: np.random.Generator, kind: type[CifarImages] = Cifar10) -> None:
    """Write four train records and a test record of each class per file, packed."""
    content, home = {}, kind.sources[0].name.removesuffix(".tar.gz")
    for split, file in ((split, file) for split, files in kind.files.items() for file in files):
        count = len(kind.classes) * (4 if split == "train" else 1)
        labels = np.arange(count, dtype=np.uint8) % len(kind.classes)
        images = bars(generator, labels, kind.shape).reshape(count, -1)
        content[f"{home}/{file}"] = np.column_stack([labels // 5, labels, images][2 - kind.head :]).tobytes()
    write_tar(folder / kind.sources[0].name, content)


def cifar100(folder: Path, generator: np.random.Generator) -> None:
    """Write four train records and a test record of each class, packed."""
    cifar10(folder, generator, Cifar100)


def stl10(folder: Path, generator: np.random.Generator) -> None:
    """Write 60 train and 20 test images."""
    content = {}
    for split, count in (("train", 60), ("test", 20)):
        labels = np.arange(count, dtype=np.uint8) % 10
        images = bars(generator, labels, (3, 96, 96))
        content[f"stl10_binary/{split}_X.bin"] = images.swapaxes(2, 3).tobytes()
        content[f"stl10_binary/{split}_y.bin"] = (labels + 1).tobytes()
    write_tar(folder / "stl10_binary.tar.gz", content)


def svhn(folder: Path, generator: np.random.Generator) -> None:
    """Write 200 train and 50 test images."""
    for split, count in (("train", 200), ("test", 50)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        images = bars(generator, labels, (3, 32, 32)).transpose(2, 3, 1, 0)
        savemat(folder / f"{split}_32x32.mat", {"X": images, "y": np.where(labels == 0, 10, labels)[:, None]})


def eurosat(folder: Path, generator: np.random.Generator) -> None:
    """Write 20 images of each class, zipped."""
    labels = np.repeat(np.arange(10), 20)
    images = bars(generator, labels, Eurosat.shape).transpose(0, 2, 3, 1)
    with zipfile.ZipFile(folder / "EuroSAT_RGB.zip", "w") as archive:
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            name = Eurosat.classes[label]
            archive.writestr(f"EuroSAT_RGB/{name}/{name}_{number % 20 + 1}.jpg", jpeg_bytes(image))
