"""The page of a run, made from its files alone, and what making it must not import."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from cmkd import models
from cmkd.errors import CmkdError
from cmkd.models.checkpoint import save_model
from cmkd.report import write_report
from cmkd.report.figures import draw
from cmkd.report.page import verdict
from cmkd.report.structure import neighborhoods_figure
from cmkd.types import Modality

RADAR = Modality("radar", "image", (1, 8, 8), "uint8", (20.0,), (30.0,))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Write what a run of two methods and two seeds leaves: a teacher's accuracy of 0.9, a gain of about 0.1."""
    students = []
    for method, base in (("none", 0.5), ("kd", 0.6)):
        for seed in (0, 1):
            home = tmp_path / "students" / method / f"seed-{seed}"
            students.append(
                {
                    "method": method,
                    "seed": seed,
                    "test_accuracy": base + 0.1 * seed + (0.01 * seed if method == "kd" else 0),
                    "checkpoint": str(home.relative_to(tmp_path) / "best.safetensors"),
                }
            )
            fill(home)
    fill(tmp_path / "teacher")
    results = {
        "data": {
            "name": "ships <tiny>",
            "classes": ["tanker", "tug"],
            "rich": "optical",
            "poor": "radar",
            "pairs": {"train": 20, "validation": 4, "test": 4},
            "labels": {"teacher": {"visible": 20, "all": 20}, "student": {"visible": 10, "all": 20, "unlabeled": 10}},
        },
        "epochs": 2,
        "complete": False,
        "teacher": {"modality": "optical", "test_accuracy": 0.9},
        "students": students,
        "tuned": [
            {
                "method": "kd",
                "expression": "kd(weight=0.5)",
                "options": {"kd.weight": 0.5},
                "trials": 3,
                "validation_accuracies": [0.5, None, 0.625],
            }
        ],
    }
    (tmp_path / "results.json").write_text(json.dumps(results))
    return tmp_path


def fill(folder: Path) -> None:
    folder.mkdir(parents=True)
    pd.DataFrame({"epoch": [0.0, 1.0], "validation_accuracy": [0.4, 0.5], "train_cross_entropy": [1.0, 0.9]}).to_csv(
        folder / "history.csv", index=False
    )
    pd.DataFrame({"target": [0, 0, 1, 1], "predicted": [0, 1, 1, 1]}).to_parquet(folder / "test.parquet")


def test_the_page_shows_tables_figures_and_verdicts(run: Path) -> None:
    page = write_report(run).read_text()
    assert "ships &lt;tiny&gt;: a teacher on optical, students on radar alone" in page
    assert "This run is incomplete." in page and "teacher sees 20 of 20 labels, students see 10 of 20 labels" in page
    assert "kd: kd(weight=0.5) was the best of 3 trials: 62.5 % on validation, untuned 50.0 %." in page
    assert "<td>+10.5</td>" in page and "<td>30 %</td>" in page  # 0.105 of the 0.35 from 0.55 to 0.9
    assert page.count("data:image/svg+xml") == 5  # accuracy, curves, three confusion matrices
    assert "n = 2 seeds), significantly better" in page and "http" not in page


NAMES = (
    "$5 to $10",
    r"$\frac{",
    "a_b^c\\d",
    "_hidden",
    "<script>x</script>",
    "line\none",
    "y" * 300,
    "🚢 船",
    "\u200b",
    "שלום",
)
"""Names of classes that are formulas, markup, or nothing to matplotlib."""


def test_names_are_text_in_figures_and_pages(run: Path) -> None:
    about = {"labels": list(NAMES), "modalities": {"radar": asdict(RADAR)}}
    (run / "samples.json").write_text(json.dumps(about))
    np.savez(run / "samples.npz", radar=np.zeros((len(NAMES), 1, 8, 8), np.uint8))
    results = json.loads((run / "results.json").read_text())
    results["data"] |= {"classes": list(NAMES), "name": NAMES[4], "poor": "$radar$"}
    (run / "results.json").write_text(json.dumps(results))
    page = write_report(run).read_text()  # warnings are errors
    assert "&lt;script&gt;" in page and "<script" not in page
    placed = {"$a": np.random.default_rng(0).normal(size=(20, 2))}
    figure = neighborhoods_figure(placed, np.arange(20) % len(NAMES), NAMES)
    assert len(figure.legends[0].texts) == len(NAMES)
    assert draw(figure, "png")


def test_a_verdict_is_significant_only_where_the_interval_excludes_zero() -> None:
    row = {"method": "kd", "gain": 0.01, "gain_n": 2}
    assert verdict({**row, "gain_interval": [-0.01, 0.03]}).endswith(
        "(95 % CI -1.0 to +3.0, n = 2 seeds), not significant"
    )
    assert verdict({**row, "gain_interval": [-0.03, -0.01]}).endswith("significantly worse")
    assert "more seeds" in verdict({**row, "gain_interval": None})


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CmkdError, match=r"holds no results\.json"):
        write_report(tmp_path)


def test_reports_and_loading_a_model_import_no_lightning(run: Path) -> None:
    model = models.build("thin_resnet(width=4)", RADAR, classes=2)
    save_model(run / "best.safetensors", model, name="thin_resnet(width=4)", classes=("tanker", "tug"), extra={})
    code = f"""
import sys
import cmkd
from cmkd.cli import main
model, about = cmkd.load_model(__import__("pathlib").Path({str(run / "best.safetensors")!r}))
assert main(["report", {str(run)!r}]) == 0
bad = [name for name in sys.modules if name.split(".")[0] in ("lightning", "pytorch_lightning")]
bad += [name for name in sys.modules if name.startswith("cmkd.training")]
assert not bad, bad
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (run / "report.html").is_file()


def test_scores_are_those_of_their_formulas() -> None:
    """The scores written out, for predictions of which one class never occurs."""
    from cmkd.evaluation import scores

    logits = torch.randn(30, 4, generator=torch.Generator().manual_seed(0)).numpy()
    target = np.arange(30) % 3
    found, predicted = scores(logits, target), logits.argmax(1)
    recalls = [(predicted[target == c] == c).mean() for c in range(3)]
    probability = np.exp(logits.astype(np.float64))
    probability /= probability.sum(1, keepdims=True)
    assert found["balanced_accuracy"] == pytest.approx(np.mean(recalls))
    assert found["log_loss"] == pytest.approx(-np.log(probability[np.arange(30), target]).mean(), rel=1e-5)
