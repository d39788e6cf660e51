"""Fixture with the folder of a small run."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cmkd.cost import add_cost
from cmkd.types import Modality

RADAR = Modality("radar", "image", (1, 8, 8), "uint8", (20.0,), (30.0,))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Write the folder of a run with two methods and two seeds; the teacher has an accuracy of 0.9, the gain is 0.1."""
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
                    "structure": {"effective_rank": 12.5, "fisher_ratio": None},
                }
            )
            fill(home)
            if method == "none":
                add_cost(home, training_seconds=10.0 + 20 * seed, latency_seconds=0.0015)
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
    results["recommended"] = students[3] | {"validation_accuracy": 0.75}
    (tmp_path / "results.json").write_text(json.dumps(results))
    kept = {"labels": ["tanker", "tug"], "modalities": {"radar": asdict(RADAR)}, "ids": ["b", "c"]}
    (tmp_path / "test_samples.json").write_text(json.dumps(kept))
    np.savez(tmp_path / "test_samples.npz", radar=np.arange(128, dtype=np.uint8).reshape(2, 1, 8, 8))
    bins = [{"confidence": 0.9, "accuracy": 0.75, "fraction": 1.0}]
    measured = {"calibration_error_before": 0.2, "calibration_error": 0.15, "accepted": 0.5, "pairs": 4}
    reliability = {"bins": 15, "uncalibrated": bins, "calibrated": bins}
    published = {"test": measured, "reliability": reliability, "data": {"title": "Ships", "license": "CC0"}}
    (tmp_path / "student.json").write_text(json.dumps(published))
    (tmp_path / "citations.bib").write_text("@misc{ships}")
    return tmp_path


def fill(folder: Path) -> None:
    folder.mkdir(parents=True)
    pd.DataFrame({"epoch": [0.0, 1.0], "validation_accuracy": [0.4, 0.5], "train_cross_entropy": [1.0, 0.9]}).to_csv(
        folder / "history.csv", index=False
    )
    answers = {"id": list("abcd"), "group": ["x", "x", "y", "y"], "target": [0, 0, 1, 1], "predicted": [0, 1, 1, 1]}
    pd.DataFrame(answers).to_parquet(folder / "test.parquet")
