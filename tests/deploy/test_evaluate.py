"""``cmkd evaluate`` agrees with scikit-learn, and refuses bad inputs in one line."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from sklearn import metrics

from cmkd import models
from cmkd.analysis.measure import analyze
from cmkd.analysis.subjects import Subject
from cmkd.cli import main
from cmkd.data import CardInfo, Pack, from_dataset
from cmkd.data.output import results_folder
from cmkd.data.pack.writer import PackWriter
from cmkd.deploy.calibration import Calibration, calibration_error
from cmkd.deploy.evaluate import _compared, evaluate
from cmkd.deploy.inputs import find
from cmkd.deploy.samples import labeled_rows
from cmkd.deploy.student import Student, load_student
from cmkd.errors import CmkdError, CmkdWarning
from cmkd.evaluation import bootstrap, fraction_interval
from cmkd.models.checkpoint import save_model
from cmkd.report.evaluation import verdict, write_evaluation

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CLASSES = ("tanker", "tug", "ferry")


class Harbor:
    """Ten radar images of each of 24 vessels: half have an optical image, some lack a label, validation lacks radar."""

    def __len__(self) -> int:
        return 240

    def __getitem__(self, index: int) -> dict[str, object]:
        generator, vessel = np.random.default_rng(index), index // 10
        radar = generator.normal(vessel % 3, 1.5, (2, 12, 12)).astype(np.float32)
        split = "train" if vessel < 9 else "validation" if vessel < 12 else "test"
        item: dict[str, object] = {"id": str(index), "group": f"imo{vessel}", "split": split}
        item["label"] = None if index % 10 == 9 else CLASSES[vessel % 3]
        item["radar"] = None if split == "validation" else radar
        return item | ({"optical": np.zeros((3, 12, 12), np.uint8)} if index % 2 or split == "validation" else {})


@pytest.fixture(scope="module")
def harbor(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    info = CardInfo("harbor", rich="optical", poor="radar", group="a vessel")
    return from_dataset(Harbor(), tmp_path_factory.mktemp("harbor") / "pack", info=info, classes=CLASSES)


def nearest(pack: Pack, noise: float, *, classes: tuple[str, ...] = CLASSES) -> Student:
    """Return a student that finds the class whose mean is nearest to the mean of an image, with added noise."""

    def logits(samples: np.ndarray) -> np.ndarray:
        heard = np.random.default_rng(len(samples)).normal(0, noise, len(samples))
        distance = samples.mean((1, 2, 3))[:, None] + heard[:, None] - np.arange(3.0)
        return (-(distance**2)).astype(np.float32)[:, [CLASSES.index(name) for name in classes]]

    return Student(pack.modality("radar"), classes, Calibration(0.5, (0.6, 0.6, None), 0.9, 50), {}, logits)


def truth(pack: Pack) -> np.ndarray:
    return pack.index["label"].to_numpy()[pack.rows("test", labeled=True)]


def test_scores_are_those_of_sklearn(harbor: Pack) -> None:
    student = nearest(harbor, 0.7)
    found = evaluate({"a": student}, harbor, robustness=False)
    samples = harbor.array("radar")[harbor.rows("test", labeled=True)]
    probabilities, target = student.probabilities(samples), truth(harbor)
    predicted, scores = probabilities.argmax(1), found["models"][0]["scores"]
    expected = {
        "accuracy": metrics.accuracy_score(target, predicted),
        "balanced_accuracy": metrics.balanced_accuracy_score(target, predicted),
        "macro_f1": metrics.f1_score(target, predicted, average="macro"),
        "auroc": metrics.roc_auc_score(target, probabilities, multi_class="ovr"),
        "log_loss": metrics.log_loss(target, probabilities),
        "accepted": (~student.calibration.rejected(probabilities)).mean(),
        "accuracy_of_accepted": (predicted == target)[~student.calibration.rejected(probabilities)].mean(),
    }
    assert 0.3 < expected["accuracy"] < 0.95
    for name, value in expected.items():
        assert scores[name]["value"] == pytest.approx(value, rel=1e-6)
        assert scores[name]["low"] <= value <= scores[name]["high"]
    assert found["models"][0]["confusion"] == metrics.confusion_matrix(target, predicted).tolist()
    assert [row["n"] for row in found["models"][0]["classes"]] == [36, 36, 36]


def test_resampling_does_not_raise_the_interval_of_a_calibration_error(harbor: Pack) -> None:
    student = replace(nearest(harbor, 0.7), calibration=Calibration(1.5))
    scores = evaluate({"a": student}, harbor, robustness=False)["models"][0]["scores"]
    for found in (scores["calibration_error"], scores["calibration_error_uncalibrated"]):
        below, above = found["value"] - found["low"], found["high"] - found["value"]
        assert found["low"] >= 0 and 0.4 * above < below < above
    probabilities = student.probabilities(harbor.array("radar")[harbor.rows("test", labeled=True)])
    assert scores["calibration_error"]["value"] == pytest.approx(calibration_error(probabilities, truth(harbor)))


def test_pairs_without_a_label_are_left_out_and_groups_are_drawn_whole(harbor: Pack) -> None:
    found = evaluate({"a": nearest(harbor, 0.7)}, harbor, robustness=False)
    data, groups = found["data"], found["models"][0]["groups"]
    assert (data["pairs"], data["left_out"], data["groups"], data["group"]) == (108, 12, 12, "a vessel")
    said = (
        "95 % percentile bootstrap intervals (2,000 resamples of 12 groups, each a vessel); that of the ECE is centered"
    )
    assert data["intervals"].startswith(said)
    assert len(groups) == 12 and {row["n"] for row in groups} == {9}
    accuracies = [row["accuracy"]["value"] for row in groups]
    assert accuracies == sorted(accuracies)
    assert np.mean(accuracies) == pytest.approx(found["models"][0]["scores"]["accuracy"]["value"])


def test_classes_of_a_student_may_have_another_order_and_more_names(harbor: Pack) -> None:
    said = [
        evaluate({"a": s}, harbor, robustness=False)
        for s in (nearest(harbor, 0), nearest(harbor, 0, classes=CLASSES[::-1]))
    ]
    assert said[0]["models"][0]["scores"]["accuracy"] == said[1]["models"][0]["scores"]["accuracy"]
    assert said[1]["models"][0]["classes"][0]["class"] == "ferry"


def test_two_students_are_compared_on_the_same_pairs(harbor: Pack) -> None:
    found = evaluate({"good": nearest(harbor, 0), "bad": nearest(harbor, 2)}, harbor, robustness=False)
    good, bad = (model["scores"]["accuracy"]["value"] for model in found["models"])
    difference, test = found["comparison"]["accuracy_difference"], found["comparison"]["mcnemar"]
    assert difference["value"] == pytest.approx(good - bad) and difference["low"] > 0
    assert test["first_only"] - test["second_only"] == round(108 * (good - bad)) and test["p_value"] < 0.001


def test_robustness_starts_at_the_score_and_ends_lower(harbor: Pack) -> None:
    found = evaluate({"a": nearest(harbor, 0)}, harbor)["models"][0]
    curves = {curve["name"]: curve["severities"] for curve in found["robustness"]}
    assert list(curves) == ["noise", "resolution", "missing", "shift"]
    for cells in curves.values():
        assert cells[0]["label"] == "none" and cells[0]["accuracy"] == found["scores"]["accuracy"]
        assert cells[0]["log_loss"]["value"] == pytest.approx(found["scores"]["log_loss"]["value"], rel=1e-5)
    assert curves["missing"][-1]["accuracy"]["value"] < found["scores"]["accuracy"]["low"]


def test_a_long_split_in_small_batches_gives_the_same(harbor: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    student = nearest(harbor, 0)
    whole = evaluate({"a": student}, harbor)
    monkeypatch.setattr("cmkd.deploy.samples.BATCH", 7)
    assert evaluate({"a": student}, harbor) == whole


def checkpoint(pack: Pack, folder: Path, name: str = "radar", classes: tuple[str, ...] = CLASSES) -> Path:
    torch.manual_seed(0)
    model = models.build("thin_resnet(width=4,stages=1)", pack.modality(name), classes=len(classes))
    path = folder / f"{name}.safetensors"
    save_model(path, model.eval(), name="thin_resnet(width=4,stages=1)", classes=classes, extra={})
    return path


def strict(path: Path) -> dict[str, Any]:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    return dict(json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse))


def test_answers_that_are_not_finite_have_no_robustness(harbor: Pack, tmp_path: Path) -> None:
    plain = nearest(harbor, 0.0)

    def logits(samples: np.ndarray) -> np.ndarray:
        changed = np.isin(samples, harbor.array("radar")).all((1, 2, 3))
        return np.where(changed[:, None], plain.logits(samples), np.nan).astype(np.float32)

    found = evaluate({"a": replace(plain, logits=logits)}, harbor)
    cells = [cell for kind in found["models"][0]["robustness"] for cell in kind["severities"]]
    undefined = [[cell[name]["value"] is None for cell in cells] for name in ("accuracy", "log_loss")]
    assert undefined[0] == undefined[1] and 0 < sum(undefined[0]) < len(cells)
    assert write_evaluation(found, tmp_path).is_file()


def test_intervals_are_those_of_whole_groups(harbor: Pack) -> None:
    student, rows = nearest(harbor, 0.7), harbor.rows("test", labeled=True)
    scores = evaluate({"a": student}, harbor, robustness=False)["models"][0]["scores"]
    right = student.probabilities(harbor.array("radar")[rows]).argmax(1) == truth(harbor)
    groups = harbor.index["group"].to_numpy()[rows].astype(str)
    wanted = bootstrap(lambda w: {"accuracy": w @ right / w.sum(1)}, groups)["accuracy"]
    assert [scores["accuracy"][key] for key in ("value", "low", "high")] == pytest.approx(wanted)


def test_two_students_are_compared_over_whole_groups(harbor: Pack) -> None:
    good, bad = nearest(harbor, 0.5), nearest(harbor, 2)
    found = evaluate({"good": good, "bad": bad}, harbor, robustness=False)["comparison"]["accuracy_difference"]
    rows = harbor.rows("test", labeled=True)
    samples, groups = harbor.array("radar")[rows], harbor.index["group"].to_numpy()[rows].astype(str)
    first, second = (student.probabilities(samples).argmax(1) == truth(harbor) for student in (good, bad))
    difference = first.astype(float) - second
    wanted = bootstrap(lambda w: {"difference": w @ difference / w.sum(1)}, groups)["difference"]
    assert [found[key] for key in ("value", "low", "high")] == pytest.approx(wanted)


def test_where_every_pair_is_right_the_interval_is_that_of_as_many_groups(harbor: Pack) -> None:
    known = iter(np.split(np.eye(3, dtype=np.float32)[truth(harbor)], 1))
    student = replace(nearest(harbor, 0.0), logits=lambda _: 9 * next(known), calibration=Calibration(1.0, (0.6,) * 3))
    found = evaluate({"a": student}, harbor, robustness=False)
    low, high = fraction_interval(12, 12)
    scores, classes = found["models"][0]["scores"], found["models"][0]["classes"]
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "accepted"):
        assert scores[name] == {"value": 1.0, "low": low, "high": high}
    assert scores["auroc"] == {"value": pytest.approx(1.0), "low": None, "high": None}
    assert all(c["recall"]["value"] == 1.0 and 0.2 < c["recall"]["low"] < low for c in classes)


@pytest.mark.parametrize(
    ("groups", "p_value", "says"),
    [
        (1, 0.0, "of 1 group), too few groups to say which is better"),
        (3, 0.0, "of 3 groups), too few groups to say which is better"),
        (10, 1.0, "of 10 groups), significantly better"),
        (0, 0.2, "not significant; McNemar p = 0.2"),
        (0, 0.01, "significantly better; McNemar p = 0.01"),
        (0, 0.0, "significantly better; McNemar p < 1e-300"),
    ],
)
def test_a_verdict_needs_groups_enough_and_both_tests(groups: int, p_value: float, says: str) -> None:
    difference = {"value": 0.2, "low": 0.05, "high": 0.4}
    comparison = {"names": ["ds", "kd"], "accuracy_difference": difference, "mcnemar": {"p_value": p_value}}
    assert verdict({"comparison": comparison, "data": {"pairs": 20, "groups": groups}}).endswith(says)


@pytest.mark.parametrize(
    ("groups", "says"),
    [
        (0, "(n = 20 pairs), the same in all resamples; McNemar p = 1"),
        (12, "(n = 20 pairs of 12 groups), the same in all resamples"),
        (3, "too few groups to say which is better"),
    ],
)
def test_two_models_that_are_right_on_the_same_pairs_have_no_interval(groups: int, says: str) -> None:
    right, clusters = np.arange(20) % 3 > 0, np.arange(20).astype(str)
    found = {"comparison": _compared(right, right, clusters, 0), "data": {"pairs": 20, "groups": groups}}
    assert found["comparison"]["accuracy_difference"] == {"value": 0.0, "low": None, "high": None}
    found["comparison"]["names"] = ["ds", "kd"]
    assert verdict(found).startswith("ds: +0.0 points over kd (n = 20 pairs") and verdict(found).endswith(says)


def test_pairs_of_all_splits_are_not_said_to_have_chosen_the_model(harbor: Pack, tmp_path: Path) -> None:
    pages = {}
    for split in ("all", "train"):
        found = evaluate({"a": nearest(harbor, 0.0)}, harbor, split=split, robustness=False)
        pages[split] = write_evaluation(found, tmp_path).read_text(encoding="utf-8")
    assert "trained the model" in pages["train"] and "better than on new" not in pages["all"]
    assert " train pairs with a label" in pages["train"]
    assert " all pairs" not in pages["all"]


def test_the_command_writes_numbers_and_a_page(
    harbor: Pack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, out = checkpoint(harbor, tmp_path), checkpoint(harbor, tmp_path, "optical"), tmp_path / "out"
    assert main(["evaluate", str(first), str(second), "--data", str(harbor.path), "--out", str(out)]) == 0
    found, page = strict(out / "evaluation.json"), (out / "evaluation.html").read_text(encoding="utf-8")
    assert found["data"]["pairs"] == 48  # labeled pairs with both modalities
    assert [model["modality"] for model in found["models"]] == ["radar", "optical"]
    printed = capsys.readouterr().out
    assert found["verdict"] in printed and "ECE (%)" in printed and "resamples of 12 groups" in printed
    assert "of 12 groups), " in found["verdict"] and "McNemar" not in found["verdict"]
    assert found["verdict"] in page and "expected calibration error" in page
    assert page.count('<svg role="img"') == 3 and page.count('<table class="heat">') == 2  # reliability and corruptions
    assert main(["evaluate", str(first), "--data", str(harbor.path), "--out", str(out), "--robustness", "false"]) == 0
    assert "robustness" not in strict(out / "evaluation.json")["models"][0]


def test_the_student_of_a_file_is_measured_as_it_predicts(harbor: Pack, tmp_path: Path) -> None:
    student = load_student(checkpoint(harbor, tmp_path))
    samples = harbor.array("radar")[harbor.rows("test", labeled=True)]
    found = evaluate({"a": student}, harbor, robustness=False)["models"][0]
    accuracy = float((student.probabilities(samples).argmax(1) == truth(harbor)).mean())
    assert found["scores"]["accuracy"]["value"] == pytest.approx(accuracy)
    assert "accepted" not in found["scores"]  # the student has no thresholds


class Averages(torch.nn.Module):
    """A user's own network: the mean of each channel, then a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = torch.nn.Linear(2, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.Tensor(self.classifier(images.mean((2, 3))))


def test_a_network_of_ones_own_is_named(
    harbor: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    model = models.build(Averages(), harbor.modality("radar"), classes=3)
    save_model(tmp_path / "own.safetensors", model.eval(), name="Averages", classes=CLASSES, extra={})
    monkeypatch.setitem(sys.modules, "own_networks", sys.modules[__name__])
    command = [
        "evaluate",
        str(tmp_path / "own.safetensors"),
        "--data",
        str(harbor.path),
        "--out",
        str(tmp_path / "out"),
    ]
    assert main([*command, "--robustness", "false"]) == 2
    assert "holds weights of your own module" in capsys.readouterr().err
    assert main([*command, "--robustness", "false", "--module", "own_networks:Averages"]) == 0


def test_images_of_another_size_are_resized(harbor: Pack, tmp_path: Path) -> None:
    class Larger(Harbor):
        def __getitem__(self, index: int) -> dict[str, object]:
            item = super().__getitem__(index)
            small = item["radar"]
            return item | {"radar": None if small is None else np.repeat(np.repeat(np.asarray(small), 2, 1), 2, 2)}

    large = from_dataset(Larger(), tmp_path / "pack", info=CardInfo("large"), classes=CLASSES)
    found = [evaluate({"a": nearest(harbor, 0)}, pack, robustness=False) for pack in (harbor, large)]
    accuracies = [one["models"][0]["scores"]["accuracy"]["value"] for one in found]
    assert accuracies[0] == pytest.approx(accuracies[1], abs=0.02)


def test_all_splits_can_be_measured(harbor: Pack, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    found = evaluate({"a": nearest(harbor, 0)}, harbor, split="all", robustness=False)
    assert found["data"]["pairs"] == sum(
        len(harbor.rows(split, modalities=("radar",), labeled=True)) for split in ("train", "validation", "test")
    )
    words = ["evaluate", str(checkpoint(harbor, tmp_path)), "--data", str(harbor.path), "--out", str(tmp_path / "out")]
    assert main([*words, "--split", "all", "--robustness", "false"]) == 0
    assert f"{found['data']['pairs']} labeled pairs;" in capsys.readouterr().out


def test_splits_drawn_anew_since_the_training_are_told(tmp_path: Path) -> None:
    class Unsplit(Harbor):
        def __init__(self, start: int = 0) -> None:
            self.start = start

        def __getitem__(self, index: int) -> dict[str, object]:
            item = super().__getitem__(index % 90) | {"id": str(self.start + index), "group": f"imo{index}"}
            return {name: value for name, value in item.items() if name != "split"}

    class More(Unsplit):
        def __len__(self) -> int:
            return 250

    first, more = (from_dataset(made, tmp_path / str(k), info=CardInfo("harbor"), classes=CLASSES)
                   for k, made in enumerate((Unsplit(), More())))  # fmt: skip
    student = nearest(first, 0)
    student = replace(student, about={"data": first.card.to_dict() | {"sha256": dict(first.card.sha256)}})
    evaluate({"a": student}, first, robustness=False)
    with pytest.warns(CmkdWarning, match="'harbor' has changed since 'a' was trained, and its splits with it"):
        evaluate({"a": student}, more, robustness=False)


@pytest.mark.parametrize("split", ["test", "validation", "train", "all"])
def test_scores_on_the_pairs_of_the_training_are_told(harbor: Pack, tmp_path: Path, split: str) -> None:
    data = {"name": "renamed", "sha256": dict(harbor.card.sha256)}
    known, other = replace(nearest(harbor, 0.5), about={"data": data}), nearest(harbor, 0.5)
    known, other = (replace(one, modality=harbor.modality("optical")) for one in (known, other))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = evaluate({"a": known, "b": other}, harbor, split=split, robustness=False)
    said = "'a' was trained or chosen on these pairs, so the scores are better than on new ones: use --split test"
    assert [str(one.message) for one in caught] == ([] if split == "test" else [said])
    page = write_evaluation(found, tmp_path).read_text(encoding="utf-8")
    assert ("these numbers are better than on new pairs" in page) == (split != "test")
    assert ("a was trained and chosen on some of these pairs" in page) == (split == "all")


def test_pairs_without_groups_and_of_one_group_are_drawn_one_by_one(tmp_path: Path) -> None:
    class OneGroup(Harbor):
        def __init__(self, group: str) -> None:
            self.group = group

        def __getitem__(self, index: int) -> dict[str, object]:
            item = super().__getitem__(index)
            return item | ({"group": self.group} if item["split"] == "test" else {})

    found = {}
    for group in ("", "imo99"):
        info = CardInfo("alone", group="a vessel")
        pack = from_dataset(OneGroup(group), tmp_path / f"pack-{group}", info=info, classes=CLASSES)
        found[group] = evaluate({"a": nearest(pack, 0.7)}, pack, robustness=False)["data"]["intervals"]
    assert "2,000 resamples of 108 pairs)" in found[""]
    assert "108 pairs of one group, a vessel: they say nothing about other groups" in found["imo99"]


def test_a_class_that_is_never_predicted_is_a_dash(harbor: Pack, tmp_path: Path) -> None:
    def logits(samples: np.ndarray) -> np.ndarray:
        return np.tile(np.float32([1, 0, 0]), (len(samples), 1))

    constant = Student(harbor.modality("radar"), CLASSES, Calibration(1.0, (None,) * 3, 0.9, 9), {}, logits)
    page = write_evaluation(evaluate({"a": constant}, harbor, robustness=False), tmp_path)
    found = strict(tmp_path / "evaluation.json")["models"][0]
    assert found["classes"][1]["precision"] == {"value": None, "low": None, "high": None}
    assert found["scores"]["accepted"]["value"] == 0 and found["scores"]["accuracy_of_accepted"]["value"] is None
    assert "—" in page.read_text(encoding="utf-8")


def test_the_page_in_a_browser(harbor: Pack, tmp_path: Path, browser: Browser) -> None:
    from browsing import faults

    found = evaluate({"good": nearest(harbor, 0), "bad": nearest(harbor, 2)}, harbor)
    assert faults(browser, write_evaluation(found, tmp_path)) == []


REFUSED: Mapping[str, tuple[dict[str, Any], list[str], str]] = {
    "classes": ({"classes": ("tanker", "tug", "kayak")}, [], "(ferry); its classes: tanker, tug, kayak"),
    "split": ({}, ["--split", "validation"], "no validation pair of 'harbor' has a label and radar"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_measured_is_refused_in_one_line(
    case: str, harbor: Pack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options, flags, message = REFUSED[case]
    model = checkpoint(harbor, tmp_path, **options)
    assert main(["evaluate", str(model), "--data", str(harbor.path), "--out", str(tmp_path / "out"), *flags]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_data_in_another_unit_are_refused(harbor: Pack, tmp_path: Path) -> None:
    sensor = replace(harbor.modality("radar"), unit="amplitude")
    with PackWriter(tmp_path / "pack", CardInfo("new"), classes=CLASSES, modalities=[sensor]) as writer:
        splits, samples = ["train", "validation", "test"], [np.zeros((2, 12, 12), np.float32)] * 3
        writer.add_samples(["a", "b", "c"], [0, 1, 2], splits, None, {"radar": samples}, {})
    pack, student = Pack.open(tmp_path / "pack"), nearest(harbor, 0.7)
    evaluate({"a": student}, pack, robustness=False)  # the student's own unit is unknown
    seen = replace(student.modality, unit="dB")
    other, model = replace(student, modality=seen), models.build("thin_resnet(width=4,stages=1)", seen, classes=3)
    save_model(tmp_path / "a.safetensors", model, name="thin_resnet(width=4,stages=1)", classes=CLASSES, extra={})
    assert "unit of 'radar' is stated as amplitude" in next(find([str(pack.path)], seen)).reason
    uses: list[Callable[[], object]] = [
        lambda: evaluate({"a": other}, pack, robustness=False),
        lambda: labeled_rows(other, pack, "test"),
        lambda: analyze([Subject("a", tmp_path / "a.safetensors")], pack),
    ]
    for use in uses:
        with pytest.raises(CmkdError, match=r"unit of 'radar' is stated as amplitude, but for .* it is dB"):
            use()


@pytest.mark.parametrize("robustness", [False, True])
def test_progress_counts_the_pairs_up_to_the_last(harbor: Pack, robustness: bool) -> None:
    told: list[tuple[int, int]] = []
    students = {"good": nearest(harbor, 0), "bad": nearest(harbor, 2)}
    evaluate(students, harbor, robustness=robustness, progress=lambda *said: told.append(said))
    assert told == sorted(told) and told[-1] == (216, 216)
    assert robustness == any(0 < done < 108 for done, _ in told), "most of the time goes into corruptions"


def test_pairs_without_a_finite_output_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Huge(Harbor):
        def __getitem__(self, index: int) -> dict[str, object]:
            item = super().__getitem__(index)
            return item | ({"radar": np.full((2, 12, 12), 3e38, np.float32)} if index in (120, 121, 125, 129) else {})

    pack = from_dataset(Huge(), tmp_path / "pack", info=CardInfo("huge"), classes=CLASSES)
    command = ["evaluate", str(checkpoint(pack, tmp_path)), "--data", str(pack.path), "--out", str(tmp_path / "out")]
    assert main(command) == 2
    error = capsys.readouterr().err.splitlines()[-1]  # after the progress
    assert "is not finite for 3 of 108 pairs (ids 120, 121, 125): check their values" in error  # 129 has no label
    assert error.startswith("cmkd: error: ") and not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["evaluate", "analyze", "data check"])
def test_a_folder_that_cannot_take_results_is_refused_before_they_are_computed(
    harbor: Pack, tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def late(*_: object, **__: object) -> None:
        raise AssertionError("computed")

    for place in ("deploy.evaluate.evaluate", "analysis.analyze", "data.quality.check"):
        monkeypatch.setattr(f"cmkd.{place}", late)
    model, pack = checkpoint(harbor, tmp_path), harbor.path
    (tmp_path / "file").write_text("")
    given = [str(pack)] if command == "data check" else [str(model), "--data", str(pack)]
    for out, says in (("file", "is a file"), ("file/out", "cannot write to"), (str(pack), "is a folder of data")):
        assert main([*command.split(), *given, "--out", str(tmp_path / out)]) == 2
        error = capsys.readouterr().err
        assert says in error and error.count("\n") == 1
    pairs = tmp_path / "pairs" / "radar" / "ferry"
    pairs.mkdir(parents=True)
    with pytest.raises(CmkdError, match="is a folder of data"):
        results_folder(tmp_path / "pairs", data=str(tmp_path / "pairs"))


def test_other_data_and_the_same_model_twice_are_refused(
    harbor: Pack, digits: Pack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, out = str(checkpoint(harbor, tmp_path)), str(tmp_path / "out")
    assert main(["evaluate", model, "--data", str(digits.path), "--out", out]) == 2
    assert "needs 'radar', but the data 'digits' have only optical, degraded" in capsys.readouterr().err
    assert main(["evaluate", model, model, "--data", str(harbor.path), "--out", out]) == 2
    assert "is given twice" in capsys.readouterr().err
    for command in (["evaluate", "--out", out], ["analyze", "--out", out], ["export"]):
        assert main([command[0], model, "--data", "mine.pairs:Harbor", *command[1:]]) == 2
        error = capsys.readouterr().err
        assert "mine.pairs:Harbor is Python code" in error and "give the pack that the run made, RUN/data" in error
        assert error.count("\n") == 1
