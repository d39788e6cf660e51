"""Cut pairs from two rasters with torchgeo, and train on them: ``python examples/torchgeo_pairs.py FOLDER``.

The script writes three GeoTIFFs to the folder, as stand-ins for your own: an optical scene, a radar scene, and a map of
two classes. torchgeo reads the same square of each on a common grid, whatever their own grids are. Needs
``pip install torchgeo``.
"""

import sys
from pathlib import Path

import numpy as np
import rasterio
import torch

import cmkd  # before torchgeo: some CPU builds of torch cannot import torchvision without it

from torchgeo.datasets import RasterDataset
from torchgeo.samplers import GridGeoSampler

SIDE = 16
"""Side of each image in pixels; a pixel is 10 m wide."""


def write_scenes(folder: Path) -> None:
    """Write the rasters: fields of 16 x 16 pixels, brighter where the class is 1, with speckle in the radar scene."""
    generator = np.random.default_rng(0)
    classes = np.kron(generator.integers(0, 2, (20, 20)), np.ones((SIDE, SIDE), int))
    optical = np.stack([classes * 40.0 + generator.normal(100, 20, classes.shape) for _ in range(3)])
    radar = (1.0 + classes) * generator.gamma(1.0, 1.0, classes.shape)
    grid = {"crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 500_000, 0, -10, 5_000_000)}
    for name, values in (("optical", optical), ("radar", radar[None]), ("classes", classes[None])):
        kind = "uint8" if name == "classes" else "float32"
        size = {"count": len(values), "height": values.shape[1], "width": values.shape[2]}
        with rasterio.open(folder / f"{name}.tif", "w", driver="GTiff", dtype=kind, **size, **grid) as file:
            file.write(values.astype(kind))


class Fields(torch.utils.data.Dataset[dict[str, object]]):
    """Data set of squares of the scenes; the label is the majority class, and each block of squares is a group."""

    classes = ("bare", "crop")

    def __init__(self, folder: Path) -> None:
        self.scenes = {name: RasterDataset(folder / f"{name}.tif") for name in ("optical", "radar")}
        self.map = RasterDataset(folder / "classes.tif")
        self.squares = list(GridGeoSampler(self.map, size=SIDE, stride=SIDE))

    def __len__(self) -> int:
        return len(self.squares)

    def __getitem__(self, index: int) -> dict[str, object]:
        square = self.squares[index]
        label = self.map[square]["image"].float().mean() > 0.5
        images = {name: scene[square]["image"].numpy() for name, scene in self.scenes.items()}
        return images | {"label": int(label), "group": f"block {index // 10}"}


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    write_scenes(folder)
    config = cmkd.RunConfig(
        data=Fields(folder),
        out=folder / "run",
        methods="none,ds",
        seeds=1,
        epochs=3,
        labels=40,
        teacher=cmkd.TeacherConfig("optical"),
        student=cmkd.StudentConfig("radar"),
        trainer=cmkd.TrainerConfig(progress="none"),
    )
    results = cmkd.Experiment(config, page=False).run()
    print({row["method"]: round(row["mean"], 3) for row in results["summary"]})
