"""``cmkd run`` on real data, in one process, as a user would use it."""

from __future__ import annotations

import json
import re
import shutil
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from sklearn.datasets import load_digits

from cmkd.cli import main
from cmkd.config import RunConfig
from cmkd.data import CardInfo, Pack, from_dataset
from cmkd.experiment.folder import RunFolder
from cmkd.experiment.resolve import resolve

QUICK = ["--epochs", "1", "--seeds", "2", "--trainer.progress", "none", "--trainer.logger", "none"]
SMALL = ["--teacher.model", "thin_resnet(width=4)", "--student.model", "thin_resnet(width=4)"]


def run(*arguments: object) -> int:
    return main(["run", *QUICK, *SMALL, *map(str, arguments)])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    out = tmp_path_factory.mktemp("runs") / "digits"
    assert run("--data", "digits", "--methods", "none,kd(temperature=2)", "--out", out) == 0
    return out


def test_results_say_what_the_contract_says(finished: Path) -> None:
    results = json.loads((finished / "results.json").read_text())
    assert results["complete"]
    assert results["teacher"]["modality"] == "optical"
    assert {(s["method"], s["seed"]) for s in results["students"]} == {
        (m, s) for m in ("none", "kd(temperature=2)") for s in (0, 1)
    }
    for student in results["students"]:
        table = pd.read_parquet((finished / student["checkpoint"]).parent / "test.parquet")
        assert student["test_accuracy"] == pytest.approx((table["target"] == table["predicted"]).mean())
    kd = next(row for row in results["summary"] if row["method"] != "none")
    by = {(s["method"], s["seed"]): s["test_accuracy"] for s in results["students"]}
    assert kd["gain"] == pytest.approx(np.mean([by[kd["method"], s] - by["none", s] for s in (0, 1)]))


class Partly:
    """Pairs of which every third lacks its label, and half of those for validation and test lack radar."""

    def __len__(self) -> int:
        return 240

    def __getitem__(self, k: int) -> dict[str, object]:
        generator, split = np.random.default_rng(k), "train" if k < 90 else "validation" if k < 120 else "test"
        values = generator.normal(k % 2, 1, (2, 4)).astype(np.float32)
        item: dict[str, object] = {"id": f"p{k}", "split": split, "label": None if k % 3 == 0 else k % 2}
        item |= {"optical": values[0]}
        return item if split != "train" and k % 4 < 2 else item | {"radar": values[1]}


def test_the_pairs_that_are_named_are_those_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pack, out = tmp_path / "pack", tmp_path / "out"
    from_dataset(Partly(), pack, info=CardInfo("partly", rich="optical", poor="radar"), classes=["tug", "ferry"])
    assert main(["run", *QUICK, "--data", str(pack), "--methods", "none,kd", "--out", str(out)]) == 0
    printed, results = capsys.readouterr().out, json.loads((out / "results.json").read_text())
    assert [student["test_pairs"] for student in results["students"]] == [40] * 4
    assert (results["data"]["pairs"], results["teacher"]["test_pairs"]) == (dict(train=90, validation=11, test=40), 80)
    assert "(40 pairs, the teacher 80 pairs)" in printed
    page, card = ((out / name).read_text() for name in ("report.html", "student.md"))
    assert "90 training, 11 validation and 40 test pairs" in page
    assert "other test pairs, those that have optical (80)" in page and "n = 40 pairs" in page
    assert "| on the test pairs (40) | % |" in card and "on its 80 test pairs |" in card


def test_the_run_says_what_to_cite(finished: Path) -> None:
    text = (finished / "citations.bib").read_text()
    assert "alpaydin1998optical" in text and "hinton2015distilling" in text and text.count("@") == 2


def test_students_of_one_seed_begin_alike_and_seeds_differ(finished: Path) -> None:
    from cmkd.models.checkpoint import load_model

    first, second = (
        load_model(finished / "students" / "none" / f"seed-{s}" / "best.safetensors")[0].state_dict() for s in (0, 1)
    )
    assert any(not bool((first[k] == second[k]).all()) for k in first)


def test_the_page_needs_nothing_beside_it(finished: Path) -> None:
    page = (finished / "report.html").read_text()
    assert page.count("data:image/") >= 5
    assert '="http' not in page.replace('="http://www.w3.org', "")  # citations and sources are text
    assert "kd(temperature=2)" in page and "95 % CI" in page


@pytest.mark.usefixtures("without_page")
def test_the_configuration_can_be_read_back(finished: Path, tmp_path: Path) -> None:
    config = yaml.safe_load((finished / "config.yaml").read_text())
    assert config["epochs"] == 1 and config["student"]["modality"] == "degraded"
    # options that were not given are written with the values chosen for few pairs and cropped digits
    assert config["trainer"]["batch_size"] == 32 and config["augmentation"]["shift"] == 0.05
    assert config["augmentation"]["flip"] is False
    assert main(["run", "--config", str(finished / "config.yaml"), "--out", str(tmp_path / "again")]) == 0
    first, again = (json.loads((p / "results.json").read_text()) for p in (finished, tmp_path / "again"))
    assert first == again


@pytest.mark.usefixtures("without_page")
def test_again_repeats_nothing_and_more_is_added(finished: Path) -> None:
    stamps = {p: p.stat().st_mtime_ns for p in finished.rglob("best.safetensors")}
    assert run("--data", "digits", "--methods", "none,kd(temperature=2),fitnet", "--out", finished) == 0
    assert all(p.stat().st_mtime_ns == stamp for p, stamp in stamps.items())
    assert len(json.loads((finished / "results.json").read_text())["students"]) == 6


@pytest.mark.usefixtures("without_page")
def test_a_student_goes_on_from_a_saved_one(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from cmkd.models.checkpoint import load_model

    given = ["--data", "digits", "--methods", "none", "--student.checkpoint", finished / "student.safetensors"]
    given = [*QUICK, *map(str, given), "--teacher.model", SMALL[1]]
    assert main(["run", *given, "--out", str(tmp_path / "out")]) == 0
    _, about = load_model(tmp_path / "out" / "student.safetensors")
    assert about["model"] == SMALL[3]
    for words, says in (
        (["--student.model", "thin_resnet(width=8)"], "holds the model 'thin_resnet(width=4)', not 'thin"),
        (["--student.size", "16"], "resizes to no size, not 16: leave out student.size"),
    ):
        assert main(["run", *given, *words, "--out", str(tmp_path / "other")]) == 2
        assert says in capsys.readouterr().err


@pytest.mark.parametrize(("removed", "method"), [("teacher", "fitnet"), ("students/none/seed-*", "none")])
def test_a_removed_checkpoint_that_is_needed_again_is_named(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], removed: str, method: str
) -> None:
    out = tmp_path / "again"
    shutil.copytree(finished, out)
    for path in out.glob("students/*"):
        if path.name != "none":  # so that a student of `none` is recommended, and the other method is trained again
            shutil.rmtree(path)
    for path in out.glob(f"{removed}/best.safetensors"):
        path.unlink()
    assert run("--data", "digits", "--methods", method, "--out", out) == 2
    assert "where one was trained: restore it, or remove its folder and train it again" in capsys.readouterr().err
    for path in out.glob(removed):
        shutil.rmtree(path)
    assert run("--data", "digits", "--methods", method, "--out", out) == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--data", "digits", "--optimizer.learning_rate", "0.1"], "with optimizer.learning_rate=None, now 0.1"),
        (["--data", "digits(severity=0.1)"], "its data have changed since: restore them, or choose another --out"),
        (["--data", "digits", "--batch_size", "359"], "was started with trainer.batch_size=32, now 359; choose"),
        (["--data", "digits", "--epochs", "7"], "was started with epochs=1, now 7; choose another --out"),
        (
            ["--data", "digits", "--method_options.kd.weight", "50", "--methods", "kd(temperature=2)"],
            "kd.weight=1.0, now 50",
        ),
    ],
)
def test_another_setting_does_not_enter_the_folder(
    finished: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert run("--methods", "none", *arguments, "--out", finished) == 2
    assert says in capsys.readouterr().err


@pytest.mark.usefixtures("without_page")
def test_a_folder_continues_where_cmkd_has_a_new_option(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "older"
    shutil.copytree(finished, out)
    settings = json.loads((out / "settings.json").read_text())
    del settings["label_noise"], settings["teacher"]["folds"]  # as a cmkd without these wrote it
    (out / "settings.json").write_text(json.dumps(settings))
    assert run("--data", "digits", "--label_noise", 0.1, "--methods", "none", "--out", out) == 2
    assert "was started with label_noise=0.0, now 0.1; choose another --out" in capsys.readouterr().err
    assert run("--data", "digits", "--methods", "none", "--out", out) == 0


@pytest.mark.usefixtures("without_page")
def test_wrong_labels_reach_teacher_and_students_and_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noise = ("--labels", 100, "--label_noise", 0.3, "--methods", "none", "--seeds", 1)
    assert run("--data", "digits", *noise, "--out", tmp_path) == 0
    assert "30 labels were made wrong on purpose" in " ".join(capsys.readouterr().out.split())
    assert json.loads((tmp_path / "results.json").read_text())["data"]["labels"]["student"]["wrong"] == 30
    run_of = RunConfig.load(tmp_path / "config.yaml")
    few = resolve(replace(run_of, student=replace(run_of.student, label_fraction=0.05))).labels
    assert few["teacher"]["wrong"] == 30 and few["student"]["wrong"] == 18, "each sees labels of its own"
    trained = resolve(RunConfig.load(tmp_path / "config.yaml")).packs
    assert trained["teacher"].index["label"].equals(trained["student"].index["label"])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--data", "digit"], "did you mean 'digits'"),
        (["--data", "digits", "--methods", "none,kdd"], "unknown method 'kdd'"),
        (["--data", "digits", "--methods", "kd(temprature=2)"], "did you mean 'temperature'"),
        (["--data", "digits", "--methods", "kd kd"], "cannot read 'kd kd'"),
        (["--data", "digits", "--teacher.model", "a:Net(file=w.pt)"], "put text such as a path in quotes"),
        (["--data", "digits", "--methods", "none,none"], "lists a method twice"),
        (["--data", "digits", "--teacher.modality", "optica"], "did you mean 'optical'"),
        (["--data", "digits", "--teacher.modalty", "optical"], "did you mean --teacher.modality"),
        (["--data", "digits", "--epoch", "3.5"], "epoch"),
        (["--data", "digits", "--optimizer.name", "adam"], "optimizer.name must be 'adamw' or 'sgd', got 'adam'"),
        (["--data", "digits", "--teacher.checkpoint", "absent.safetensors"], "no checkpoint at"),
        (
            ["--data", "digits", "--teacher.checkpoint", "."],
            "'.' is a folder: give a checkpoint in it, such as teacher/",
        ),
        (["--data", "digits", "--trainer.batch_size", "1"], "must be at least 2"),
        (["--data", "digits", "--optimizer.ema", "1.0"], "optimizer.ema is 1.0; it must be at least 0 and below 1"),
        (["--data", "digits", "--student.model", "point_net"], "reads points"),
        (["--data", "digits", "--label_fraction", "0"], "label_fraction is 0.0; it must be above 0 and at most 1"),
        (["--data", "digits", "--labels", "0.1"], "labels must be a whole number or null, got '0.1'"),
        (["--data", "digits", "--labels", "9"], "labels is 9, fewer than the 10 classes"),
        (["--data", "digits", "--labels", "2000"], "only 1077 training pairs have a label; give at most 1077"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_two(
    tmp_path: Path, digits: Pack, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert main(["run", *arguments, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.startswith("cmkd: error: ") and error.count("\n") == 1 and "Traceback" not in error


@pytest.mark.usefixtures("without_page")
def test_a_teacher_can_be_reused(finished: Path, tmp_path: Path) -> None:
    teacher = finished / "teacher" / "best.safetensors"
    assert run("--data", "digits", "--methods", "kd", "--teacher.checkpoint", teacher, "--out", tmp_path / "out") == 0
    first, second = (json.loads((p / "results.json").read_text())["teacher"] for p in (finished, tmp_path / "out"))
    assert first["test_accuracy"] == second["test_accuracy"]
    assert not (tmp_path / "out" / "teacher" / "last.safetensors").exists()
    copied = shutil.copy(teacher, tmp_path / "copied.safetensors")
    assert run("--data", "digits", "--methods", "kd", "--teacher.checkpoint", copied, "--out", tmp_path / "out") == 0


def test_a_run_in_use_is_not_entered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import fcntl

    (tmp_path / "out").mkdir()
    with (tmp_path / "out" / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert run("--data", "digits", "--methods", "none", "--out", tmp_path / "out") == 2
    assert "another run is active" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["radar/ferry/1.png", "manifest.csv"])
def test_a_folder_of_other_things_is_not_entered(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("")
    before = sorted(tmp_path.rglob("*"))
    assert run("--data", "digits", "--methods", "none", "--out", tmp_path) == 2
    assert "is not of a run and could be lost: move it, or choose another --out" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before
    assert run("--data", "digits", "--methods", "none", "--out", tmp_path / name) == 2
    assert f"--out '{tmp_path / name}' is a file; give a folder" in capsys.readouterr().err


def test_logs_and_what_a_run_makes_before_its_settings_are_no_other_things(tmp_path: Path) -> None:
    for name in (".lock", ".cache/a.bin", "run.log", "slurm-1.out", "my.yaml", "data/card.json", "data/radar.bin"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "teacher").mkdir()  # as another process of the run makes it
    with RunFolder(tmp_path).held(leader=True):
        pass
    (tmp_path / "settings.json").write_text("{}")
    (tmp_path / "teacher" / "best.safetensors").write_text("")
    with RunFolder(tmp_path).held(leader=True):
        pass


def test_a_folder_that_is_no_run_is_not_swept(tmp_path: Path) -> None:
    own = tmp_path / "project" / ".a.txt.0123456789ab.tmp"
    own.mkdir(parents=True)
    assert run("--data", tmp_path / "missing", "--methods", "none", "--out", tmp_path) == 2
    assert own.exists()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write a user's folder: 120 pairs of real digits as PNG and TIFF, some without a label or a radar image."""
    images, labels = load_digits(return_X_y=True)
    rows = []
    for name in ("optical", "radar"):
        (tmp_path / name).mkdir()
    for i in range(120):
        image = (images[i].reshape(8, 8) * 15).astype(np.uint8)
        Image.fromarray(image).resize((12, 12)).save(tmp_path / "optical" / f"{i}.png")
        Image.fromarray(image.astype(np.uint16) * 200).save(tmp_path / "radar" / f"{i}.tif")
        rows.append({"id": f"p{i}", "label": labels[i] % 3, "optical": f"optical/{i}.png", "radar": f"radar/{i}.tif"})
    pd.DataFrame(rows).to_csv(tmp_path / "manifest.csv", index=False)
    return tmp_path


def edit(folder: Path, row: int, column: str, value: object) -> None:
    table = pd.read_csv(folder / "manifest.csv", dtype=object)
    table.loc[row, column] = value
    table.to_csv(folder / "manifest.csv", index=False)


ROLES = ["--teacher.modality", "optical", "--student.modality", "radar", "--seeds", "1"]


def test_a_folder_of_pairs_just_works(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(folder, 5, "radar", None)
    edit(folder, 6, "optical", None)
    assert run("--data", folder, *ROLES, "--methods", "none,kd", "--out", folder / "out") == 0
    assert (folder / "out" / "report.html").exists()
    assert "students see" not in capsys.readouterr().out  # a missing image is not a hidden label


@pytest.mark.usefixtures("without_page")
def test_pairs_without_a_label_are_used_and_counted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = pd.read_csv(folder / "manifest.csv", dtype=object)
    table["split"] = np.resize(["train", "train", "train", "validation", "test"], len(table))
    table.loc[table.index[::5], "label"] = None
    table.to_csv(folder / "manifest.csv", index=False)
    table.loc[table.index[:2], "optical"] = None  # the first also lacks its label, so it is not used
    table.to_csv(folder / "manifest.csv", index=False)
    assert run("--data", folder, *ROLES, "--methods", "kd", "--out", folder / "out") == 0
    unlabeled = int((table["label"].isna() & (table["split"] == "train")).sum()) - 1
    assert f"{unlabeled} unlabeled pairs are used by all methods but none" in capsys.readouterr().out


FEW = "teacher sees 40 of 1077 labels, students see 40 of 1077 labels; 1037 unlabeled pairs are used by all methods"


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> tuple[Path, str]:
    """Run with 40 visible labels; return the folder and the printed text."""
    out, printed = tmp_path_factory.mktemp("runs") / "few", StringIO()
    few = ["--labels", 40, "--methods", "none,kd,all_labels", "--seeds", 1, "--trainer.progress", "auto"]
    with redirect_stdout(printed), redirect_stderr(printed):
        assert run("--data", "digits", *few, "--out", out) == 0
    return out, " ".join(printed.getvalue().split())


def test_a_run_shows_teacher_and_students_the_same_few_labels(few: tuple[Path, str]) -> None:
    out, printed = few
    results = json.loads((out / "results.json").read_text())
    assert results["data"]["labels"] == {
        "teacher": {"visible": 40, "all": 1077, "wrong": 0},
        "student": {"visible": 40, "all": 1077, "unlabeled": 1037, "wrong": 0},
    }
    assert printed.startswith(FEW) and printed.count(FEW) == 2  # before the trainings, and in the title of the table
    assert FEW in (out / "report.html").read_text()
    assert results["teacher"]["labels"] == 40
    assert {s["method"]: s["labels"] for s in results["students"]} == {"none": 40, "kd": 40, "all_labels": 1077}
    steps = {pd.read_csv(path)["step"].iloc[-1] for path in out.rglob("history.csv")}
    assert len(list(out.rglob("history.csv"))) == 4 and len(steps) == 1  # all trainings have the same number of steps


def test_the_student_with_all_labels_is_a_control_and_no_gain(few: tuple[Path, str], finished: Path) -> None:
    out, printed = few
    rows = {row["method"]: row for row in json.loads((out / "results.json").read_text())["summary"]}
    assert "gain" in rows["kd"] and "gain" not in rows["all_labels"]
    assert printed.count("control, sees all labels") == 1
    page = (out / "report.html").read_text()
    assert page.count("control, sees all labels") == 1
    # only methods have a sentence about their gain
    assert re.search(r"kd: [+-]", page) and not re.search(r"all_labels: [+-]", page)
    # `all_labels` equals the student alone in a run where no label is hidden
    alone = {s["seed"]: s["test_accuracy"] for s in read_students(finished) if s["method"] == "none"}
    assert {s["test_accuracy"] for s in read_students(out) if s["method"] == "all_labels"} == {alone[0]}


def read_students(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "results.json").read_text())["students"]


@pytest.mark.usefixtures("without_page")
def test_teacher_and_students_may_see_different_labels(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = ["--label_fraction", 0.1, "--methods", "none", "--seeds", 1]
    assert run("--data", "digits", *own, "--teacher.label_fraction", 1, "--out", tmp_path / "own") == 0
    said = "teacher sees 1077 of 1077 labels, students see 110 of 1077 labels"
    assert said in " ".join(capsys.readouterr().out.split())
    given = ["--teacher.checkpoint", finished / "teacher" / "best.safetensors"]
    assert run("--data", "digits", *own, *given, "--out", tmp_path / "given") == 0
    assert "teacher trained elsewhere, students see 110 of 1077" in " ".join(capsys.readouterr().out.split())
    results = json.loads((tmp_path / "given" / "results.json").read_text())
    assert results["data"]["labels"]["teacher"]["visible"] is None and results["teacher"]["labels"] is None


def test_a_teacher_may_know_other_classes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    table = pd.read_csv(folder / "manifest.csv", dtype=object)
    assert run("--data", folder, *ROLES, "--methods", "none", "--out", tmp_path / "first") == 0
    table["label"] = ["round" if label == "0" else "not round" for label in table["label"]]
    table.to_csv(folder / "manifest.csv", index=False)
    teacher = ["--teacher.checkpoint", Path("first") / "teacher" / "best.safetensors"]
    again = ["--data", folder, *ROLES, *teacher, "--out", tmp_path / "second"]
    capsys.readouterr()
    assert run(*again, "--methods", "none,kd") == 2
    assert "kd: the student has 2 classes and the teacher 3" in capsys.readouterr().err
    assert run(*again, "--methods", "none,ds(kd_weight=0,independence_features=embedding)") == 0
    assert "other classes" in capsys.readouterr().out
    results = json.loads((tmp_path / "second" / "results.json").read_text())
    assert results["teacher"]["test_accuracy"] is None and results["teacher"]["classes"] == ["0", "1", "2"]
    first = json.loads((tmp_path / "first" / "results.json").read_text())
    assert results["teacher"]["converged"] is first["teacher"]["converged"]
    assert "<td>other classes</td>" in (tmp_path / "second" / "report.html").read_text()
    analyze = ["analyze", str(tmp_path / "second"), "--data", str(folder), "--figures", "false"]
    assert main([*analyze, "--out", str(tmp_path / "analysis")]) == 0
    found = {m["role"]: m for m in json.loads((tmp_path / "analysis" / "structure.json").read_text())["models"]}
    assert found["teacher"]["accuracy"] is None and found["student"]["accuracy"] is not None
    likeness = found["student"]["likeness"]["embedding"]
    assert likeness["metrics"]["linear_cka"] is not None and likeness["metrics"]["prediction_agreement"] is None
    assert "same classes" in likeness["reasons"]["prediction_agreement"]


def corrupt(folder: Path) -> None:
    path = folder / "optical" / "7.png"
    path.write_bytes(path.read_bytes()[:60])


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda f: edit(f, 3, "radar", "radar/nowhere.tif"), "nowhere.tif"),
        (corrupt, "7.png"),
        (lambda f: edit(f, 3, "id", "p2"), "p2"),
        (lambda f: edit(f, 3, "radar", "../../secret.tif"), "secret.tif"),
    ],
)
def test_a_fault_in_the_folder_is_one_line_that_names_it(
    folder: Path, capsys: pytest.CaptureFixture[str], spoil: object, says: str
) -> None:
    spoil(folder)  # type: ignore[operator]
    assert run("--data", folder, *ROLES, "--methods", "none", "--out", folder / "out") == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1


def test_a_group_in_two_splits_and_an_unknown_modality_are_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--data", folder, "--teacher.modality", "lidar", "--methods", "none", "--out", folder / "out") == 2
    assert "unknown modality 'lidar'" in capsys.readouterr().err
    table = pd.read_csv(folder / "manifest.csv", dtype=object)
    table["split"] = np.resize(["train", "train", "validation", "test"], len(table))
    whole = table.assign(split="test")
    table["group"] = "vessel"
    table.to_csv(folder / "manifest.csv", index=False)
    assert run("--data", folder, *ROLES, "--methods", "none", "--out", folder / "out") == 2
    assert "vessel" in capsys.readouterr().err
    whole.to_csv(folder / "manifest.csv", index=False)
    assert run("--data", folder, *ROLES, "--methods", "none", "--out", folder / "out") == 2
    assert "train" in capsys.readouterr().err
