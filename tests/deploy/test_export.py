"""Exported students equal those in PyTorch and are complete in one file, or the export is refused."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from cmkd import load_model, load_student
from cmkd.cli import main
from cmkd.data import Pack
from cmkd.deploy import quantize as quantizing
from cmkd.deploy.export import OPSET, Exported, Format, _loaded, export
from cmkd.deploy.quantize import quantize
from cmkd.errors import CmkdError
from cmkd.types import Kind, Modality
from deploy.exporting import CALIBRATION, CLASSES, Branching, Deceptive, pack, saved, values

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

ROOT = Path(__file__).parents[2]
RUNTIME = ROOT / "requirements-runtime.txt"
TRAINING = ("torch", "torchvision", "torchmetrics", "timm", "lightning", "sklearn", "safetensors", "onnx", "onnxscript")
WITHOUT = f"""
import json, sys
for name in {TRAINING}:
    sys.modules[name] = None
"""
PREDICT = """
import cmkd
from cmkd.cli import main
print(cmkd.load_student(sys.argv[1]).predict(sys.argv[2:]).to_csv(index=False))
sys.exit(main(["predict", *sys.argv[1:], "--out", "table.csv"]))
"""
REFUSED = """
import cmkd
from cmkd.cli import main
codes = [main(["run", "--data", "digits", "--out", "run"]), main(["export", sys.argv[1]])]
try:
    cmkd.load_student(sys.argv[1])
except cmkd.CmkdError as error:
    print(json.dumps([*codes, str(error)]))
"""


@pytest.fixture(scope="module")
def ships(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A model of 8-bit images, exported and quantized once."""
    folder = tmp_path_factory.mktemp("ships")
    path = saved(folder, "image", "thin_resnet(width=8, stages=1)", dtype="uint8")
    return export(path, int8=True, data=pack(folder / "pack", "image", dtype="uint8"))


def test_the_graph_has_preprocessing_calibration_and_any_batch(ships: Exported) -> None:
    session = onnxruntime.InferenceSession(ships.path, providers=["CPUExecutionProvider"])
    assert [(i.name, i.shape, i.type) for i in session.get_inputs()] == [
        ("samples", ["batch", 3, 12, 10], "tensor(uint8)")
    ]
    assert {o.name: o.shape for o in session.get_outputs()} == {
        "logits": ["batch", 3],
        "probabilities": ["batch", 3],
        "embedding": ["batch", 8],
    }
    for count in (1, 2, 7):
        samples = values(ships.reference.modality, count)
        logits, probabilities = session.run(["logits", "probabilities"], {"samples": samples})
        np.testing.assert_allclose(logits, ships.reference.logits(samples), atol=1e-5)
        np.testing.assert_allclose(probabilities, CALIBRATION.probabilities(logits), atol=1e-6)
    assert ships.difference < 1e-5
    assert ships.samples.source == "60 validation pairs of harbor"


def test_the_file_says_what_it_is(ships: Exported) -> None:
    proto = onnx.load(ships.path)
    onnx.checker.check_model(proto)
    assert {entry.domain: entry.version for entry in proto.opset_import}[""] == OPSET
    student = load_student(ships.path, device="cpu")
    assert (student.modality, student.classes, student.calibration) == (
        ships.reference.modality,
        CLASSES,
        CALIBRATION,
    )
    assert student.about["data"] == {"name": "harbor", "license": "CC0-1.0"}
    assert student.about["exported"]["opset"] == OPSET
    rejected = student.predict(values(student.modality, 20))["rejected"]
    assert rejected.tolist() == ships.reference.predict(values(student.modality, 20))["rejected"].tolist()


def test_the_quantized_file_is_a_student_too(ships: Exported) -> None:
    assert ships.int8 is not None
    assert ships.int8.path.name == "model.int8.onnx" and ships.int8.pairs == 60
    kinds = {node.op_type for node in onnx.load(ships.int8.path).graph.node}
    assert kinds & {"QuantizeLinear", "DynamicQuantizeLinear"}
    student = load_student(ships.int8.path, device="cpu")
    assert student.about["exported"]["int8"] == ships.int8.method and student.classes == CLASSES
    samples = values(student.modality, 50)
    difference = np.abs(student.probabilities(samples) - ships.reference.probabilities(samples)).max()
    assert 1e-6 < difference < 0.05


def test_the_quantized_file_is_calibrated_too(ships: Exported) -> None:
    assert ships.int8 is not None
    assert load_student(ships.int8.path, device="cpu").calibration == CALIBRATION


def test_the_embedding_of_the_graph_is_that_of_the_model(ships: Exported) -> None:
    model, samples = load_model(ships.source)[0].eval(), values(ships.reference.modality, 7)
    with torch.no_grad():
        expected = model(torch.from_numpy(samples)).embedding.numpy()
    np.testing.assert_allclose(_loaded(ships.path, "onnx")[1](samples)["embedding"], expected, atol=1e-5)


@pytest.mark.parametrize(("static", "dynamic"), [(0.7, 0.6), (0.6, 0.7)])
def test_ranges_come_from_training_pairs_and_the_more_accurate_file_is_kept(
    static: float, dynamic: float, ships: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, ranges, variants = Pack.open(ships.path.parent / "pack"), list[NDArray[Any]](), quantizing._variants

    def seen(path: Path, samples: NDArray[Any], folder: Path) -> Any:  # noqa: ANN401
        ranges.append(samples)
        return variants(path, samples, folder)

    scores = iter([0.5, static, dynamic])  # the first is the score of the PyTorch model
    monkeypatch.setattr(quantizing, "_variants", seen)
    monkeypatch.setattr(quantizing, "SLACK", 10.0)  # so that both files are tried
    monkeypatch.setattr(quantizing, "accuracy", lambda *_: next(scores))
    found = quantize(Path(shutil.copy(ships.path, tmp_path)), ships.reference, data)
    np.testing.assert_array_equal(ranges[0], data.array("radar")[data.rows("train")])
    assert (found.accuracy, found.float_accuracy) == (0.7, 0.5)
    assert found.method == found.student.about["exported"]["int8"] == ("static" if static > dynamic else "dynamic")


def test_onnxruntime_has_the_threads_asked_for(ships: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, session = list[int](), onnxruntime.InferenceSession

    def seen(path: object, options: Any, **rest: object) -> Any:  # noqa: ANN401
        asked.append(options.intra_op_num_threads)
        return session(path, options, **rest)

    monkeypatch.setattr(onnxruntime, "InferenceSession", seen)
    load_student(ships.path, device="cpu", threads=3)
    assert asked == [3]


def test_quantizing_reads_the_validation_pairs_in_batches(
    ships: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ships.int8 is not None
    data, read, array = Pack.open(ships.path.parent / "pack"), list[int](), Pack.array

    class Recorded:
        def __init__(self, name: str) -> None:
            self.name = name

        def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[Any]:
            read.append(len(rows))
            return array(data, self.name)[rows]

    monkeypatch.setattr(Pack, "array", lambda _, name: Recorded(name))
    monkeypatch.setattr("cmkd.deploy.samples.BATCH", 16)
    monkeypatch.setattr("cmkd.deploy.quantize.RANGE_PAIRS", 16)
    found = quantize(Path(shutil.copy(ships.path, tmp_path)), ships.reference, data)
    assert max(read) == 16 and found.pairs == 60
    assert found.float_accuracy == ships.int8.float_accuracy


def test_nothing_else_is_left_in_the_folder(ships: Exported) -> None:
    names = {path.name for path in ships.path.parent.iterdir()}
    assert names == {"model.safetensors", "model.json", "model.onnx", "model.int8.onnx", "pack"}


@pytest.mark.parametrize("device", ["cuda", "cuda:99", "gpu", ""])
def test_a_device_that_onnxruntime_lacks_is_one_line(device: str, ships: Exported) -> None:
    if device == "cuda" and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    with pytest.raises(CmkdError, match=rf"device '{device}' is not available \(onnxruntime offers .*\): use cpu"):
        load_student(ships.path, device=device)
    for there in ("auto", "cpu"):
        assert load_student(ships.path, device=there).classes == CLASSES


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_a_damaged_file_is_named(ships: Exported, kept: float, tmp_path: Path) -> None:
    content = ships.path.read_bytes()
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(CmkdError, match=r"damaged\.onnx"):
        load_student(damaged)


def test_a_file_of_another_exporter_is_refused(ships: Exported, tmp_path: Path) -> None:
    proto = onnx.load(ships.path)
    del proto.metadata_props[:]
    for about in (None, "{}", "no JSON"):
        if about is not None:
            proto.metadata_props.add(key="cmkd", value=about)
        (tmp_path / "other.onnx").write_bytes(proto.SerializeToString())
        with pytest.raises(CmkdError, match=r"other\.onnx"):
            load_student(tmp_path / "other.onnx")
        del proto.metadata_props[:]


def test_pt2_is_loaded_by_torch_alone(tmp_path: Path) -> None:
    found = export(saved(tmp_path, "vector", "mlp(width=8)", scaling="rank"), format="pt2")
    assert found.path == tmp_path / "model.pt2" and "random samples" in found.samples.source
    said = {"cmkd": ""}
    program = torch.export.load(io.BytesIO(found.path.read_bytes()), extra_files=said)
    assert json.loads(said["cmkd"])["classes"] == list(CLASSES)
    with pytest.raises(CmkdError, match=r"is exported: give the \.safetensors file"):
        load_student(found.path)
    for count in (1, 5):
        samples = values(found.reference.modality, count)
        output = program.module()(torch.from_numpy(samples))
        expected = torch.from_numpy(found.reference.probabilities(samples)).float()
        torch.testing.assert_close(output["probabilities"].detach(), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("kind", "dtype", "nodata"),
    [("image", "float32", None), ("image", "uint8", 255), ("image", "int16", -1), ("series", "float32", None)],
)
@pytest.mark.parametrize("format", ["onnx", "pt2"])
def test_the_graph_fills_invalid_values(
    kind: Kind, dtype: str, nodata: int | None, format: Format, tmp_path: Path
) -> None:
    found = export(saved(tmp_path, kind, dtype=dtype, nodata=nodata), format=format)
    outputs, modality = _loaded(found.path, format)[1], found.reference.modality
    samples = values(modality, 6)
    whole = found.reference.probabilities(samples)
    samples[:, ..., 1:4] = np.nan if nodata is None else nodata
    expected = found.reference.probabilities(modality.filled(samples))
    np.testing.assert_allclose(outputs(samples)["probabilities"], expected, atol=1e-5)
    assert np.abs(expected - whole).max() > 1e-3


@pytest.mark.parametrize(("module", "reason"), [(Deceptive, "differs from PyTorch"), (Branching, "cannot trace")])
def test_a_model_that_exports_as_another_is_refused(module: type[nn.Module], reason: str, tmp_path: Path) -> None:
    path = saved(tmp_path, "image", module)
    with pytest.raises(CmkdError, match=reason):
        export(path, format="pt2", module=module)
    assert {p.name for p in tmp_path.iterdir()} == {"model.safetensors", "model.json"}


def test_wrong_requests_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, "vector")
    with pytest.raises(CmkdError, match="data to quantize"):
        export(path, int8=True)
    with pytest.raises(CmkdError, match=r"must end in \.onnx"):
        export(path, tmp_path / "model.pt2")
    with pytest.raises(CmkdError, match="already exported"):
        export(tmp_path / "model.onnx")
    with pytest.raises(CmkdError, match="differ in their classes"):
        export(path, data=pack(tmp_path / "others", "vector", classes=("a", "b", "c")))
    with pytest.raises(CmkdError, match="is series"):
        export(path, data=pack(tmp_path / "series", "series"))


def test_a_file_that_cannot_be_written_is_found_before_the_model_is_traced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path, "vector")
    (tmp_path / "folder.pt2").mkdir()
    monkeypatch.setattr(torch.export, "export", lambda *_, **__: pytest.fail("traced"))
    for out in (tmp_path / "folder.pt2", path / "a.pt2"):  # a folder, and a file used as one
        with pytest.raises(OSError, match=r"folder\.pt2|model\.safetensors"):
            export(path, out, format="pt2")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(tmp_path, "vector", "mlp(width=8)")
    np.savez(tmp_path / "samples.npz", radar=values(Modality("radar", "vector", (5,), "float32"), 4))
    assert main(["export", str(path), "--format", "pt2", "--out", str(tmp_path / "out" / "a.pt2")]) == 0
    printed = capsys.readouterr().out
    assert "4 training pairs that the run kept" in printed
    assert [line.split()[0] for line in printed.splitlines() if line.startswith(("PyTorch", "pt2"))] == [
        "PyTorch",
        "pt2",
    ]
    assert (tmp_path / "out" / "a.pt2").exists()
    assert main(["export", str(path), "--int8"]) == 2
    assert main(["export", str(tmp_path / "missing.safetensors")]) == 2


@pytest.fixture(scope="module")
def pictures(ships: Exported, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Write image files of two formats; one needs resizing."""
    folder, paths = tmp_path_factory.mktemp("pictures"), []
    for name, size in (("a.png", (12, 10)), ("b.tif", (30, 20))):
        values = np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)
        Image.fromarray(values).save(folder / name)
        paths.append(str(folder / name))
    return paths


def same(table: pd.DataFrame, ships: Exported, pictures: list[str]) -> None:
    expected = ships.reference.predict(pictures).filter(like="p_")
    np.testing.assert_allclose(table[expected.columns], expected, atol=1e-5)


def test_predicting_needs_no_torch(ships: Exported, pictures: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-c", WITHOUT + PREDICT, str(ships.path), *pictures]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    same(pd.read_csv(io.StringIO(done.stdout)), ships, pictures)
    same(pd.read_csv(tmp_path / "table.csv"), ships, pictures)


def test_what_needs_torch_says_so(ships: Exported) -> None:
    command = [sys.executable, "-c", WITHOUT + REFUSED, str(ships.source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    *codes, reason = json.loads(done.stdout)
    assert codes == [2, 2] and "give an .onnx file" in reason
    assert re.fullmatch(r"(cmkd: error: .* needs \w+.*: pip install cmkd.*\n){2}", done.stderr)


def test_the_runtime_requirements_are_those_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    known = {*project["dependencies"], *project["optional-dependencies"]["onnx"]}
    known = {re.sub(r"\s+#.*", "", line) for line in known}
    lines = [line for line in RUNTIME.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    assert lines and set(lines) <= known


@pytest.mark.slow
def test_predicting_where_torch_is_not_installed(ships: Exported, pictures: list[str], tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def python(*arguments: str | Path) -> str:
        command = [tmp_path / "venv" / "bin" / "python", *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    python("-m", "pip", "install", "--quiet", "-r", RUNTIME)
    python("-m", "pip", "install", "--quiet", "--no-deps", ROOT)
    assert "torch" not in python("-m", "pip", "list")
    load = "import cmkd, sys; print(cmkd.load_student(sys.argv[1]).predict(sys.argv[2:]).to_csv(index=False))"
    same(pd.read_csv(io.StringIO(python("-c", load, ships.path, *pictures))), ships, pictures)
    same(pd.read_csv(io.StringIO(python("-m", "cmkd", "predict", ships.path, *pictures))), ships, pictures)
