"""``cmkd analyze`` on a tiny run, in one process, as a user would use it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cmkd.cli import main
from cmkd.data import SPLITS, CardInfo, Modality, Pack, PackWriter
from cmkd.models import build
from cmkd.models.checkpoint import load_model, save_model

SMALL = ["--teacher.model", "thin_resnet(width=4,stages=2)", "--student.model", "thin_resnet(width=4,stages=2)"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    out = tmp_path_factory.mktemp("runs") / "digits"
    quick = ["--epochs", "1", "--seeds", "1", "--trainer.progress", "none", "--trainer.logger", "none"]
    assert main(["run", "--data", "digits", "--methods", "none,kd", "--out", str(out), *quick, *SMALL]) == 0
    return out


def analyze(*arguments: object, data: str = "digits") -> int:
    few = [] if "--pairs" in arguments else ["--pairs", "60"]
    fast = [] if "--figures" in arguments else ["--figures", "false"]
    return main(["analyze", *map(str, arguments), "--data", data, "--sample", "40", *few, *fast])


def strict(path: Path) -> dict[str, object]:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    return dict(json.loads(path.read_text(), parse_constant=refuse))


def test_a_run_is_measured_at_every_stage_and_drawn(run: Path, tmp_path: Path) -> None:
    assert analyze(run, "--out", tmp_path, "--pairs", 150) == 0
    found = strict(tmp_path / "structure.json")
    models = {model["label"]: model for model in found["models"]}  # type: ignore[attr-defined]
    assert list(models) == ["teacher (optical)", *(f"{m} seed 0 (degraded)" for m in ("none", "kd"))]
    assert found["data"]["split"] == "validation" and found["data"]["pairs"] == 150  # type: ignore[index]
    for label, model in models.items():
        assert list(model["stages"]) == ["map 1", "map 2", "embedding", "logits"]
        for stage in model["stages"].values():
            assert all((value is None) == (name in stage["reasons"]) for name, value in stage["metrics"].items())
        assert ("likeness" in model) == (not label.startswith("teacher"))
    assert models["kd seed 0 (degraded)"]["teacher"] == "teacher (optical)"
    assert [r["models"] for r in found["relations"]] == [3] * 6  # type: ignore[attr-defined]
    assert "kd (degraded)" in (tmp_path / "analysis.html").read_text()


@pytest.mark.slow
def test_figures_are_drawn_at_every_stage(run: Path, tmp_path: Path) -> None:
    teacher = run / "teacher" / "best.safetensors"
    assert analyze(teacher, "--out", tmp_path, "--figures", "true") == 0
    for kind in ("correlation", "spectrum", "sphere", "t-sne"):
        for stage in ("map-1", "embedding", "logits"):
            with Image.open(tmp_path / "figures" / f"{stage}-{kind}.png") as image:
                assert min(image.size) > 300 and np.asarray(image.convert("L")).std() > 5  # the figure is not blank
            assert (tmp_path / "figures" / f"{stage}-{kind}.svg").read_text().startswith("<?xml")
    page = (tmp_path / "analysis.html").read_text()
    assert page.count("data:image/") >= 9 and 'src="figures' not in page and "http" not in page
    assert "is the embedding: drawn once" in page  # the thin ResNet averages its last map


def test_a_metric_is_that_of_the_library(run: Path, tmp_path: Path) -> None:
    from cmkd import structure
    from cmkd.analysis import stage_features
    from cmkd.datasets import open_data

    student = run / "students" / "none" / "seed-0" / "best.safetensors"
    pack = open_data("digits")
    rows = pack.rows("test")[:50]
    model = load_model(student)[0]
    features = stage_features(model, pack, rows, batch_size=16)
    with torch.no_grad():
        output = model(pack.batch(rows, ("degraded",)).inputs["degraded"])
    for name, expected in (("map 1", output.feature_maps[0].mean((2, 3))), ("logits", output.logits)):
        torch.testing.assert_close(torch.from_numpy(features[name]), expected, rtol=1e-4, atol=1e-5)
    assert analyze(student, "--out", tmp_path, "--split", "test", "--pairs", "999") == 0
    found = strict(tmp_path / "structure.json")["models"][0]  # type: ignore[index]
    everything = stage_features(model, pack, pack.rows("test"))
    rank = structure.effective_rank(structure.Moments.of(torch.from_numpy(everything["embedding"])))
    assert found["stages"]["embedding"]["metrics"]["effective_rank"] == pytest.approx(rank)
    table = json.loads((student.parent / "result.json").read_text())
    assert found["accuracy"] == pytest.approx(table["test_accuracy"]) and found["teacher"] is None


def test_a_label_for_each_group_is_no_skill(tmp_path: Path) -> None:
    """Frames of one group are similar, so folds and intervals are by group."""
    generator, group = np.random.default_rng(0), np.repeat(np.arange(30), 6)
    frames = generator.normal(size=(30, 8))[group] + 0.05 * generator.normal(size=(180, 8))
    sensor = Modality("radar", "vector", (8,), "float32")
    ids, labels = [f"p{k}" for k in range(180)], generator.integers(0, 2, 30)[group].tolist()
    for name, groups in (("grouped", [f"g{k}" for k in group]), ("alone", None)):
        with PackWriter(tmp_path / name, CardInfo("toy"), classes=["a", "b"], modalities=[sensor]) as writer:
            writer.add(ids, labels, ["train"] * 180, groups, {"radar": frames.astype(np.float32)})
    for seed in (0, 1):
        torch.manual_seed(seed)
        model = build("mlp", Pack.open(tmp_path / "grouped").modalities["radar"], classes=2)
        save_model(tmp_path / f"{seed}.safetensors", model, name="mlp", classes=("a", "b"), extra={})
    models, widths = [tmp_path / f"{seed}.safetensors" for seed in (0, 1)], {}
    for name in ("alone", "grouped"):
        given = ["--split", "train", "--pairs", 180, "--compare", "--out", tmp_path]
        assert analyze(*models, *given, data=str(tmp_path / name)) == 0
        found = strict(tmp_path / "structure.json")
        (row,) = (row for row in found["comparison"]["rows"] if row["metric"] == "accuracy")  # type: ignore[index]
        widths[name] = np.ptp(row["interval"])
    assert widths["grouped"] > 1.5 * widths["alone"]
    stage = found["models"][0]["stages"]["embedding"]  # type: ignore[index]
    assert abs(stage["metrics"]["knn_accuracy"] - 0.5) < 0.25, "0.99 where frames of a group are in several folds"
    assert "over 30 groups" in stage["caveats"]["knn_accuracy"]


def test_few_models_are_told_so(run: Path, tmp_path: Path) -> None:
    assert analyze(run / "teacher" / "best.safetensors", "--out", tmp_path) == 0
    relations = strict(tmp_path / "structure.json")["relations"]
    assert all(r["spearman"] is None and "needs 10" in r["reason"] for r in relations)  # type: ignore[attr-defined]
    assert "No correlation is shown as evidence" in (tmp_path / "analysis.html").read_text()


def test_two_models_are_compared_pair_by_pair(run: Path, tmp_path: Path) -> None:
    none, kd = (run / "students" / method / "seed-0" / "best.safetensors" for method in ("none", "kd"))
    assert analyze(none, kd, "--out", tmp_path, "--compare") == 0
    found = strict(tmp_path / "structure.json")
    models, rows = found["models"], found["comparison"]["rows"]  # type: ignore[index]
    for row in rows:
        low, high = row["interval"]
        assert low <= row["difference"] <= high
        if row["stage"] != "predictions":
            values = [model["stages"][row["stage"]]["metrics"][row["metric"]] for model in models]  # type: ignore[attr-defined]
            assert [row["first"], row["second"]] == pytest.approx(values, rel=1e-6)
    (accuracy,) = (row for row in rows if row["metric"] == "accuracy")
    assert accuracy["second"] == pytest.approx(models[1]["accuracy"])  # type: ignore[index]
    assert "Second against first" in (tmp_path / "analysis.html").read_text()


def spoiled(run: Path, folder: Path, how: str) -> Path:
    """Write a student whose features are degenerate."""
    model, about = load_model(run / "students" / "none" / "seed-0" / "best.safetensors")
    with torch.no_grad():
        for parameter in model.classifier.parameters():
            parameter.fill_(torch.nan if how == "NaN" else 0.0)
        if how == "collapsed":
            for parameter in model.encoder.parameters():
                parameter.zero_()
    path = folder / "best.safetensors"
    save_model(path, model, name=about["model"], classes=tuple(about["classes"]), extra={})
    return path


@pytest.mark.parametrize(("how", "says"), [("collapsed", "every sample is the same"), ("NaN", "NaN or infinity")])
def test_degenerate_features_are_nulls_with_a_reason(run: Path, tmp_path: Path, how: str, says: str) -> None:
    assert analyze(spoiled(run, tmp_path, how), "--out", tmp_path / "out", "--figures", "true") == 0
    found = strict(tmp_path / "out" / "structure.json")["models"][0]  # type: ignore[index]
    stage = found["stages"]["logits"]
    assert stage["metrics"]["spectral_decay"] is None and stage["reasons"]["spectral_decay"]
    assert says in (tmp_path / "out" / "analysis.html").read_text()


@pytest.mark.parametrize("figures", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_four_pairs_are_enough(run: Path, tmp_path: Path, figures: bool) -> None:
    assert analyze(run, "--out", tmp_path, "--pairs", 4, "--figures", figures) == 0
    stage = strict(tmp_path / "structure.json")["models"][1]["stages"]["embedding"]  # type: ignore[index]
    assert stage["metrics"]["effective_rank"] >= 1 and "5 groups" in stage["reasons"]["knn_accuracy"]


def refused(capsys: pytest.CaptureFixture[str], *arguments: object, data: str = "digits") -> str:
    assert analyze(*arguments, data=data) == 2
    error = capsys.readouterr().err
    assert error.startswith("cmkd: error: ") and error.count("\n") == 1 and "Traceback" not in error
    return error


def test_bad_input_is_one_line(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ("--out", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    assert "holds no results.json" in refused(capsys, tmp_path / "empty", *out)
    (tmp_path / "empty" / "results.json").write_text(
        json.dumps(
            {
                "data": {"name": "x", "classes": ["a"], "rich": "r", "poor": "p", "pairs": dict.fromkeys(SPLITS, 1)},
                "teacher": {"test_accuracy": None},
                "students": [],
            }
        )
    )
    assert "has no checkpoint yet" in refused(capsys, tmp_path / "empty", *out)
    (tmp_path / "empty" / "results.json").write_text("[")
    assert "is damaged" in refused(capsys, tmp_path / "empty", *out)
    assert "no checkpoint at" in refused(capsys, tmp_path / "absent.safetensors", *out)
    assert "did you mean --split" in refused(capsys, run, *out, "--splitt", "test")
    teacher = run / "teacher" / "best.safetensors"
    assert "two runs or two .safetensors" in refused(capsys, run, teacher, *out, "--compare")
    assert "twice" in refused(capsys, teacher, teacher, *out, "--compare")
    assert "--pairs is 1" in refused(capsys, run, *out, "--pairs", "1")
    gone = tmp_path / "gone"
    shutil.copytree(run, gone)
    (gone / "students" / "kd" / "seed-0" / "best.safetensors").unlink()
    assert "is missing" in refused(capsys, gone, *out)


def test_other_data_are_refused(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A model of other classes, of a modality the data lack, or of another shape or dtype."""
    import pandas as pd

    def folder(name: str, modality: str, classes: int, side: int) -> Path:
        home = tmp_path / name
        home.mkdir()
        for i in range(30):
            Image.fromarray(np.full((side, side), 8 * i, np.uint16 if name == "dtype" else np.uint8)).save(
                home / f"{i}.png"
            )
        rows = [
            {"id": f"p{i}", "label": i % classes, "split": split, modality: f"{i}.png"}
            for i, split in enumerate(["train"] * 10 + ["validation"] * 10 + ["test"] * 10)
        ]
        pd.DataFrame(rows).to_csv(home / "manifest.csv", index=False)
        return home

    out = ("--out", tmp_path / "out")
    teacher = run / "teacher" / "best.safetensors"
    for name, modality, classes, side, says in (
        ("classes", "optical", 3, 8, "was trained on the classes 0, 1, 2, 3, ... (10), but the data have 0, 1, 2"),
        ("modality", "radar", 10, 8, "unknown modality 'optical'"),
        ("shape", "optical", 10, 9, "of shape (1, 8, 8), but the data have (1, 9, 9)"),
        ("dtype", "optical", 10, 8, "of dtype uint8, but the data have uint16"),
    ):
        assert says in refused(capsys, teacher, *out, data=str(folder(name, modality, classes, side)))


def test_own_networks_are_measured_with_their_modules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_of_analyze.py").write_text("""
from torch import nn


def linear(classes, width=8):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, classes))
""")
    own = ["own_of_analyze:linear(width=8)", "own_of_analyze:linear(width=4)"]
    quick = ["--epochs", "1", "--seeds", "1", "--methods", "none", "--teacher.model", own[0], "--student.model", own[1]]
    assert main(["run", "--data", "digits", "--out", str(tmp_path / "run"), *quick]) == 0
    assert analyze(tmp_path / "run", "--out", tmp_path / "out") == 2
    assert "add --module package.module:Name to predict, serve, evaluate, export or analyze" in capsys.readouterr().err
    assert analyze(tmp_path / "run", "--out", tmp_path / "out", "--module", ",".join(own)) == 0
    assert "measuring: 2 of 2 models" in capsys.readouterr().err
    assert [len(m["stages"]) for m in strict(tmp_path / "out" / "structure.json")["models"]] == [2, 2]  # type: ignore[attr-defined]
    assert analyze(tmp_path / "run", "--out", tmp_path / "out", "--module", own[0]) == 2
    assert "do not fit the model" in capsys.readouterr().err
