"""The page of a run is made from its files alone, without importing certain modules."""

from __future__ import annotations

import html
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import torch

from cmkd import models
from cmkd.errors import CmkdError
from cmkd.evaluation.results import read_results
from cmkd.models.checkpoint import save_model
from cmkd.report import write_report
from cmkd.report.figures import curves_figure, draw, reliability_figure
from cmkd.report.page import labels_seen, verdict
from cmkd.report.predictions import by_group, read_tables
from cmkd.report.structure_figures import neighborhoods_figure
from cmkd.types import Modality

if TYPE_CHECKING:
    from playwright.sync_api import Browser

RADAR = Modality("radar", "image", (1, 8, 8), "uint8", (20.0,), (30.0,))


@pytest.mark.parametrize("of_teacher", [{}, {"wrong": None, "visible": None}, {"wrong": 3}])
def test_one_number_of_wrong_labels_where_the_teachers_is_equal_or_unknown(of_teacher: dict[str, int | None]) -> None:
    every = {"visible": 20, "all": 20}  # older runs lack the teacher's number
    said = labels_seen({"teacher": every | of_teacher, "student": every | {"wrong": 3}})
    assert said == "3 labels were made wrong on purpose"


def test_the_page_shows_tables_figures_and_verdicts(run: Path) -> None:
    page = write_report(run).read_text()
    assert "ships &lt;tiny&gt;: a teacher on optical, students on radar alone" in page
    assert "This run is incomplete." in page and "teacher sees 20 of 20 labels, students see 10 of 20 labels" in page
    assert "kd: kd(weight=0.5) was the best of 3 trials: 62.5 % on validation, untuned 50.0 %." in page
    assert "<td>+10.5</td>" in page and "<td>30 %</td>" in page  # 0.105 of the 0.35 from 0.55 to 0.9
    assert page.count("<td>1.5</td>") == 1 and page.count("<td>20.0</td>") == 1  # latency and mean training, `none`
    assert page.count("<td>—</td><td>12.5</td><td>—</td>") == 2  # two methods; the teacher was not measured
    assert page.count('<svg role="img"') == 4  # accuracy, two learning curves, reliability
    assert page.count('<table class="heat">') == 3 and "tanker taken for tug (50 % of tanker, 2 times)" in page
    assert "on each of 2 seeds; run more seeds" in page  # all students give the same answers, so there is no interval
    assert "<strong>kd</strong> (seed 1): it classifies <strong>71.0 %</strong>" in page
    assert f"cmkd predict {run}" in page
    assert page.count("✗ tug") == 3 and page.count("✓ tug") == 3  # pair b is a tanker, pair c a tug
    assert len(page.encode()) < 300_000


def test_a_dot_at_the_edge_of_the_reliability_diagram_is_whole() -> None:
    bins = [{"confidence": 0.99, "accuracy": 1.0, "fraction": 1.0}]
    (dots,) = reliability_figure([{"name": "kd", "bins": 15, "reliability": bins}]).axes[0].collections
    assert not dots.get_clip_on()


def test_a_file_that_is_not_the_recommended_student_is_not_named(run: Path) -> None:
    path = run / "student.json"
    said = json.loads(path.read_text())
    own = {"model": "mine:Net(width=8)", "own": {"classifier": "head", "feature_maps": []}}
    path.write_text(json.dumps(said | {"method": "kd", "seed": 1} | own))
    assert "NEW_FILES --module 'mine:Net(width=8)' --out" in html.unescape(write_report(run).read_text())
    path.write_text(json.dumps(said | {"method": "kd", "seed": 1}))
    assert "It is the file" in write_report(run).read_text()
    path.write_text(json.dumps(said | {"method": "none", "seed": 1}))  # as if the run was continued and has not ended
    page = write_report(run).read_text()
    assert "Use the student trained with <strong>kd</strong> (seed 1)" in page and "<dd>CC0</dd>" in page
    assert "Its file is not written yet. Run the same command again" in page
    assert not any(words in page for words in ("student.safetensors", "cmkd predict", "calibration error"))
    path.unlink()
    assert "student.safetensors" not in write_report(run).read_text()


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
"""Class names that are formulas, markup, or invisible in matplotlib."""


def test_names_are_text_in_figures_and_pages(run: Path) -> None:
    about = {"labels": list(NAMES), "modalities": {"radar": asdict(RADAR)}, "ids": list(NAMES)}
    (run / "test_samples.json").write_text(json.dumps(about))
    np.savez(run / "test_samples.npz", radar=np.zeros((len(NAMES), 1, 8, 8), np.uint8))
    results = json.loads((run / "results.json").read_text())
    results["data"] |= {"classes": list(NAMES), "name": NAMES[4], "poor": "$radar$"}
    (run / "results.json").write_text(json.dumps(results))
    page = write_report(run).read_text()  # warnings are errors
    assert "&lt;script&gt;" in page and page.count("<script") == 1
    placed = {"$a": np.random.default_rng(0).normal(size=(20, 2))}
    figure = neighborhoods_figure(placed, np.arange(20) % len(NAMES), NAMES)
    assert len(figure.legends[0].texts) == len(NAMES)
    assert draw(figure, "png")


def test_a_verdict_is_significant_only_where_the_interval_excludes_zero() -> None:
    row = {"method": "kd", "gain": 0.01, "gain_n": 2}
    assert verdict({**row, "gain_interval": [-0.01, 0.03]}).endswith(
        "(95 % CI -1.0 to +3.0 over 2 seeds), not significant"
    )
    assert verdict({**row, "gain_interval": [-0.03, -0.01]}).endswith("significantly worse")
    assert "more seeds" in verdict({**row, "gain_interval": None})


def test_the_interval_of_a_gain_covers_the_test_pairs(run: Path) -> None:
    for path in (run / "students" / "none").glob("*/test.parquet"):  # only one of two groups differs
        pd.read_parquet(path).assign(predicted=[0, 1, 0, 1]).to_parquet(path)
    assert "over 2 seeds and the test pairs), not significant" in write_report(run).read_text()


def test_the_pairs_of_one_group_say_nothing_of_other_groups(run: Path) -> None:
    for place, path in enumerate((run / "students").glob("*/*/test.parquet")):
        better = [0, 0, 1, 1] if "kd" in str(path) else [1, 1, 0, 0] if place % 2 else [0, 1, 0, 0]
        pd.DataFrame({"id": list("abcd"), "group": "vessel 7", "target": [0, 0, 1, 1], "predicted": better}).to_parquet(
            path
        )
    page = write_report(run).read_text()
    assert "points over the student alone, on test pairs of one group: too few to say which is better." in page
    assert "no interval, since the test pairs are of one group." in page and "significant" not in page
    for path in (run / "students").glob("*/*/test.parquet"):
        pd.read_parquet(path).assign(group="").to_parquet(path)
    assert "over 2 seeds and the test pairs), significantly better" in write_report(run).read_text()


def test_pairs_without_a_group_are_not_listed_as_groups(run: Path) -> None:
    for path in run.glob("**/test.parquet"):
        pd.read_parquet(path).assign(group=["west", "west", "", ""]).to_parquet(path)
    tables = read_tables(run, read_results(run / "results.json"))
    assert [(row["name"], row["n"]) for row in by_group(tables)] == [("west", 2)]
    assert by_group({name: [each.assign(group="") for each in found] for name, found in tables.items()}) == []


def test_the_interval_of_the_answer_is_over_whole_groups(run: Path) -> None:
    for path in (run / "students" / "kd").glob("*/test.parquet"):
        pd.read_parquet(path).assign(group=["a", "a", "b", "b"]).to_parquet(path)
    assert "CI 50.0 to 100.0, n = 4 pairs of 2 groups: so few that it is too narrow)" in write_report(run).read_text()


def test_a_seed_that_has_ended_keeps_its_last_value_in_the_mean() -> None:
    short, long = (pd.DataFrame({"epoch": range(n), "accuracy": [v] * n}) for n, v in ((2, 0.9), (4, 0.6)))
    (axes,) = curves_figure({"kd": [short, long]}, "accuracy", 100, "accuracy (%)").axes
    assert axes.lines[0].get_ydata() == pytest.approx([75.0] * 4)


@pytest.mark.parametrize(
    ("file", "change", "says"),
    [
        ("results.json", lambda found: found["teacher"].pop("test_accuracy"), "teacher.test_accuracy is missing"),
        ("test_samples.json", lambda found: found["ids"].pop(), "it has 1 ids and 2 labels"),
    ],
)
def test_an_edited_file_is_refused_by_name(
    run: Path, file: str, change: Callable[[dict[str, Any]], object], says: str
) -> None:
    content = json.loads((run / file).read_text())
    change(content)
    (run / file).write_text(json.dumps(content))
    with pytest.raises(CmkdError, match=f"{file}' is damaged .*{says}"):
        write_report(run)


def test_a_training_without_a_history_is_drawn_in_silence(run: Path, recwarn: pytest.WarningsRecorder) -> None:
    for path in run.rglob("history.csv"):
        path.unlink()
    write_report(run)
    assert not [str(one.message) for one in recwarn if "artists" in str(one.message)]


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
    """Compare with the formulas written out, for predictions in which one class never occurs."""
    from cmkd.evaluation import scores

    logits = torch.randn(30, 4, generator=torch.Generator().manual_seed(0)).numpy()
    target = np.arange(30) % 3
    found, predicted = scores(logits, target), logits.argmax(1)
    recalls = [(predicted[target == c] == c).mean() for c in range(3)]
    probability = np.exp(logits.astype(np.float64))
    probability /= probability.sum(1, keepdims=True)
    assert found["balanced_accuracy"] == pytest.approx(np.mean(recalls))
    assert found["log_loss"] == pytest.approx(-np.log(probability[np.arange(30), target]).mean(), rel=1e-5)


def test_the_page_in_a_browser(run: Path, browser: Browser) -> None:
    from browsing import faults

    results = json.loads((run / "results.json").read_text())
    results["students"][0]["method"] = "x" * 200  # a long name scrolls in its own box
    (run / "results.json").write_text(json.dumps(results))
    path = write_report(run)
    assert faults(browser, path) == []
    page = browser.new_page()
    page.goto(path.as_uri())
    cells = ["1,200,000", "2,500", "\u22123", ""]
    assert page.evaluate("cells => cells.sort((a, b) => compare(a, b, -1))", cells[1:] + cells[:1]) == cells
    for cells in (
        ["2021-06-01", "2021-05-12", "2021-05-03"],
        ["T72", "BMP2", "2S1"],
        ["2 masts, wide", "2 masts", "1 mast"],
        ["\u22121 %", "-1.5 (-2.0 to -1.0)", "-2e1", "—"],
    ):
        for given in (cells[1:] + cells[:1], cells[::-1]):
            assert page.evaluate("cells => cells.sort((a, b) => compare(a, b, -1))", given) == cells
    head = page.locator("table.sortable").first.locator("th", has_text="mean (%)")
    head.get_by_role("button").focus()
    page.keyboard.press("Enter")
    rows = page.locator("table.sortable").first.locator("tbody tr")
    assert head.get_attribute("aria-sort") == "descending" and rows.first.locator("th").inner_text() == "teacher"
    page.keyboard.press("Space")
    assert head.get_attribute("aria-sort") == "ascending" and rows.last.locator("th").inner_text() == "teacher"
    page.get_by_role("button", name="Enlarge: Test accuracy").press("Enter")
    assert page.locator("dialog svg").is_visible()
    page.keyboard.press("Escape")
    page.locator("dialog").wait_for(state="detached")  # fails after its limit
    assert page.pdf().count(b"/Type /Page\n") >= 1
    details = "() => [...document.querySelectorAll('details > :last-child')].map(found => found.checkVisibility())"
    assert set(page.evaluate(details)) == {True, False}
    page.emulate_media(media="print")
    assert set(page.evaluate(details)) == {True}  # nobody can open them on paper
