"""``cmkd run --teacher.outputs FILE``: a teacher that is given only by its outputs."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file

from cmkd.cli import main
from cmkd.data import Pack
from cmkd.documents import read_json
from cmkd.models.checkpoint import load_model

STILL = [
    *("--augmentation.flip", "false", "--augmentation.shift", "0", "--augmentation.scale", "0"),
    *("--augmentation.noise", "0", "--augmentation.drop", "0"),
]
QUICK = ["--epochs", "2", "--seeds", "1", "--trainer.progress", "none", "--trainer.batch_size", "32", *STILL]
METHODS = "kd,ds(uniformity_weight=0),rkd"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CMKD_CACHE", str(tmp_path / "cache"))


def run(data: Pack, out: Path, *arguments: object) -> int:
    models = [o for side in ("teacher", "student") for o in (f"--{side}.model", "thin_resnet(width=4,stages=2)")]
    return main(["run", "--data", str(data.path), "--out", str(out), *QUICK, *models, *map(str, arguments)])


@pytest.fixture(scope="module")
def taught(squares: Pack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run with a teacher whose outputs are those of each pair without augmentation (one view); return the folder."""
    out = tmp_path_factory.mktemp("taught") / "out"
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("CMKD_CACHE", str(out.parent / "cache"))
        patched.setattr("cmkd.experiment.runner.write_report", lambda folder: None)
        assert run(squares, out, "--methods", METHODS, "--teacher.views", 1) == 0
    return out


@pytest.fixture(scope="module")
def outputs(squares: Pack, taught: Path) -> dict[str, NDArray[np.generic]]:
    """Return the outputs of the teacher of `taught` on all pairs that have its modality."""
    teacher, rows = load_model(taught / "teacher" / "best.safetensors")[0].eval(), np.arange(len(squares))
    rows = rows[squares.batch(rows).present["rich"].numpy()]
    with torch.no_grad():
        found = teacher(squares.batch(rows).inputs["rich"])
    ids = squares.index["id"].to_numpy()[rows].astype(str)
    return {"ids": ids, "logits": found.logits.numpy(), "embedding": found.embedding.numpy()}


def save(path: Path, arrays: dict[str, NDArray[np.generic]], kept: NDArray[np.bool_] | slice = slice(None)) -> Path:
    arrays = {name: array[kept] for name, array in arrays.items()}
    if path.suffix == ".npz":
        np.savez(path, **arrays)  # type: ignore[arg-type]
    else:
        ids = arrays.pop("ids").tolist()
        save_file({name: np.ascontiguousarray(a) for name, a in arrays.items()}, path, {"ids": json.dumps(ids)})
    return path


def weights(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in out.glob("students/**/best.safetensors")}


@pytest.mark.usefixtures("without_page")
@pytest.mark.parametrize("name", ["outputs.npz", "outputs.safetensors"])
def test_students_learn_the_same_from_the_outputs_as_from_the_teacher(
    name: str,
    squares: Pack,
    taught: Path,
    outputs: dict[str, NDArray[np.generic]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, out = save(tmp_path / name, outputs), tmp_path / "out"
    assert run(squares, out, "--methods", METHODS, "--teacher.outputs", path) == 0
    assert capsys.readouterr().err == ""  # no progress, as the options say
    assert weights(out) == weights(taught) and len(weights(out)) == 3
    found, expected = (read_json(place / "results.json")["teacher"] for place in (out, taught))
    for key in ("test_accuracy", "validation_accuracy", "test_pairs", "modality"):
        assert found[key] == expected[key]
    assert (found["checkpoint"], found["outputs"], found["seed"]) == (None, str(path), None)
    stamps = {p: p.stat().st_mtime_ns for p in out.rglob("result.json")}
    assert run(squares, out, "--methods", METHODS, "--teacher.outputs", path) == 0  # nothing is trained again
    assert stamps == {p: p.stat().st_mtime_ns for p in out.rglob("result.json")}


@pytest.mark.filterwarnings("always::cmkd.errors.CmkdWarning")
def test_pairs_without_outputs_learn_from_their_labels_alone(
    squares: Pack, outputs: dict[str, NDArray[np.generic]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file has outputs for two thirds of the training pairs, and for no others."""
    train = set(squares.index["id"].to_numpy()[squares.rows("train")].astype(str))
    kept = np.array([name in train and int(name.removeprefix("pair-")) % 3 > 0 for name in outputs["ids"]])
    path, out = save(tmp_path / "outputs.npz", outputs, kept), tmp_path / "out"
    assert run(squares, out, "--methods", "none,kd", "--teacher.outputs", path) == 0
    said = capsys.readouterr()
    assert "not known" in said.out
    assert re.search(
        r"warning: '.*outputs.npz' lacks \d+ of \d+ whole training pairs, such as 'pair-\d+'; of", said.err
    )
    assert len(set(weights(out).values())) == 2  # `kd` learns from the outputs in the file
    teacher = read_json(out / "results.json")["teacher"]
    assert teacher["test_accuracy"] is None and teacher["validation_accuracy"] is None and teacher["test_pairs"] > 0
    page = (out / "report.html").read_text()
    assert "<td>not known</td>" in page and page.count("data:image/") >= 4
    assert main(["report", str(out)]) == 0 and (out / "report.html").read_text() == page
    analyze = ["analyze", str(out), "--data", str(squares.path), "--figures", "false", "--out", str(tmp_path / "made")]
    assert main(analyze) == 0
    found = read_json(tmp_path / "made" / "structure.json")["models"]
    assert [model["label"] for model in found] == ["none seed 0 (poor)", "kd seed 0 (poor)"]


def test_what_does_not_fit_is_one_line(
    squares: Pack, outputs: dict[str, NDArray[np.generic]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*arguments: object) -> str:
        capsys.readouterr()
        assert run(squares, tmp_path / "out", *arguments) == 2
        error = capsys.readouterr().err
        assert error.startswith("cmkd: error: ") and error.count("\n") == 1 and "Traceback" not in error
        return error

    path = save(tmp_path / "outputs.npz", outputs)
    bare = save(tmp_path / "bare.npz", {name: outputs[name] for name in ("ids", "logits")})
    given = ("--teacher.outputs", path, "--methods")
    assert "simkd needs the teacher's model, not only its outputs" in refused(*given, "none,simkd")
    assert "c2kd needs the teacher's model" in refused(*given, "c2kd")
    assert "fitnet: needs at least 2 feature maps" in refused(*given, "fitnet")
    assert "rkd reads the teacher's embedding" in refused("--teacher.outputs", bare, "--methods", "kd+rkd")
    assert "no file with a teacher's outputs" in refused("--teacher.outputs", tmp_path / "absent.npz")
    two = ("--teacher.checkpoint", tmp_path / "model.safetensors")
    assert "teacher.outputs and teacher.checkpoint each name a teacher; give one" in refused(*two, *given, "kd")
    small = ("--trainer.cache_gb", "1e-6")
    assert "do not fit a cache of 1e-06 GB, beside those in use; increase --trainer.cache_gb\n" in refused(
        *small, *given, "kd"
    )
    assert not (tmp_path / "out" / "students").exists()


@pytest.mark.usefixtures("without_page")
def test_a_file_that_changes_does_not_enter_the_folder(
    squares: Pack, outputs: dict[str, NDArray[np.generic]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = save(tmp_path / "outputs.npz", outputs), tmp_path / "out"
    assert run(squares, out, "--methods", "none", "--teacher.outputs", path) == 0
    save(path, {**outputs, "logits": -outputs["logits"]})
    assert run(squares, out, "--methods", "none,kd", "--teacher.outputs", path) == 2
    assert "was started with teacher.outputs_sha256=" in capsys.readouterr().err


@pytest.mark.usefixtures("without_page")
def test_data_that_change_do_not_enter_the_folder_whatever_size_and_time_say(
    squares: Pack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(squares.path, tmp_path / "pack")
    pack, out, file = Pack.open(tmp_path / "pack"), tmp_path / "out", tmp_path / "pack" / "rich.bin"
    assert run(pack, out, "--methods", "none") == 0
    content, status = file.read_bytes(), file.stat()
    file.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert run(pack, out, "--methods", "none,kd") == 2
    assert "rich.bin has changed since the pack was made" in capsys.readouterr().err
    assert not (out / "students" / "kd").exists()


@pytest.mark.usefixtures("without_page")
def test_a_checkpoint_that_changes_does_not_enter_the_folder(
    squares: Pack, taught: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "teacher.safetensors", tmp_path / "out"
    path.write_bytes((taught / "teacher" / "best.safetensors").read_bytes())
    assert run(squares, out, "--methods", "none", "--teacher.checkpoint", path) == 0
    other = tmp_path / "other"
    assert run(squares, other, "--methods", "none", "--seed", 1) == 0
    path.write_bytes((other / "teacher" / "best.safetensors").read_bytes())
    assert run(squares, out, "--methods", "none,kd", "--teacher.checkpoint", path) == 2
    assert "was started with teacher.checkpoint_sha256=" in capsys.readouterr().err


@pytest.mark.usefixtures("without_page")
def test_code_of_ones_own_that_changes_does_not_enter_the_folder(
    squares: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    code = "from cmkd.methods.kd import KD\nclass Twice(KD):\n    name = 'twice'\n"
    (tmp_path / "mine_of_outputs.py").write_text(f"{code}    def forward(self, *outputs): raise ValueError('bad')\n")
    methods = ("--methods", "none,mine_of_outputs:Twice(weight=2)")
    assert run(squares, tmp_path / "out", "--methods", "none") == 0
    assert run(squares, tmp_path / "out", *methods) == 2  # a new method may be added
    assert "ValueError: bad" in capsys.readouterr().err
    (tmp_path / "mine_of_outputs.py").write_text(code)
    del sys.modules["mine_of_outputs"]
    assert run(squares, tmp_path / "out", *methods) == 0  # its code may change until it has trained a student
    assert run(squares, tmp_path / "out", *methods) == 0
    for checkpoint in (tmp_path / "out").glob("students/*/*/last.safetensors"):
        checkpoint.unlink()
    (tmp_path / "mine_of_outputs.py").write_text(code.replace("twice", "thrice"))
    assert run(squares, tmp_path / "out", *methods) == 2
    assert "was started with sources" in capsys.readouterr().err


@pytest.mark.usefixtures("without_page")
def test_a_file_of_ones_own_in_the_folder_is_not_lost(
    squares: Pack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "config.yaml").write_text("# of mine\n")
    assert run(squares, tmp_path / "out", "--methods", "none") == 2
    assert "config.yaml' is not of a run and could be lost: move it, or" in capsys.readouterr().err
    assert (tmp_path / "out" / "config.yaml").read_text() == "# of mine\n"


@pytest.mark.usefixtures("without_page")
def test_a_full_disk_is_one_line_and_the_same_command_goes_on(
    squares: Pack, outputs: dict[str, NDArray[np.generic]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    resource = pytest.importorskip("resource")
    wide = np.zeros((len(outputs["ids"]), 2000), dtype=np.float32)
    path, before = (
        save(tmp_path / "outputs.npz", {**outputs, "embedding": wide}),
        resource.getrlimit(resource.RLIMIT_FSIZE),
    )
    command = ("--methods", "kd", "--teacher.outputs", path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, before[1]))  # Python ignores SIGXFSZ, so writes raise an error
    try:
        assert run(squares, tmp_path / "out", *command) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    error = capsys.readouterr().err
    assert error.startswith("cmkd: error: cannot cache the teacher's outputs in") and error.count("\n") == 1
    assert run(squares, tmp_path / "out", *command) == 0
