"""Models of every kind of modality, scaling and encoder are exported and compared with PyTorch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cmkd import load_student
from cmkd.deploy.export import export
from cmkd.types import Kind, Scaling
from deploy.exporting import Own, pack, saved, values

pytest.importorskip("onnx")


LINEAR: list[tuple[Kind, object, str, int | None]] = [
    ("image", "thin_resnet(width=8)", "uint8", None),
    ("image", "thin_resnet(width=8)", "int16", 20),
    ("image", "resnet18", "float32", None),
    ("image", Own, "float16", None),
]
EVERY: list[tuple[Kind, object, str, int | None]] = [
    ("image", "thin_resnet(width=8)", "uint16", 8),
    ("vector", "mlp", "float64", None),
    ("series", "series_net(width=8,parts=3)", "float32", None),
    ("points", "point_net(width=8)", "float32", None),
    ("point_series", "point_net(width=8)", "int32", None),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "encoder", "dtype", "size", "scaling"),
    [(*case, "linear") for case in (*LINEAR, *EVERY)] + [(*case, s) for case in EVERY for s in ("log", "rank")],
)
def test_every_kind_scaling_and_encoder(
    kind: Kind, encoder: object, dtype: str, size: int | None, scaling: Scaling, tmp_path: Path
) -> None:
    path = saved(tmp_path, kind, encoder, dtype=dtype, size=size, scaling=scaling)
    found = export(path, module=None if isinstance(encoder, str) else encoder)
    samples = values(found.reference.modality, 40)  # for point sets, the first sample is all padding
    for batch in (samples, samples[:1], samples[1:2]):
        np.testing.assert_allclose(
            load_student(found.path, device="cpu").probabilities(batch), found.reference.probabilities(batch), atol=1e-4
        )
    assert np.ptp(found.reference.probabilities(samples), axis=0).max() > 1e-3  # the model tells samples apart


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "encoder"), [("image", "thin_resnet(width=8)"), ("series", "series_net(width=8)"),
                                               ("point_series", "point_net(width=8)")])  # fmt: skip
def test_every_kind_is_quantized(kind: Kind, encoder: str, tmp_path: Path) -> None:
    found = export(saved(tmp_path, kind, encoder, scaling="log"), int8=True, data=pack(tmp_path / "pack", kind))
    assert found.int8 is not None
    samples = values(found.reference.modality, 50)
    agree = found.int8.student.logits(samples).argmax(1) == found.reference.logits(samples).argmax(1)
    assert agree.mean() > 0.9
