"""Submitted results: which count, and which are refused."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cmkd.bench import bench, check
from cmkd.bench.resampling import encoded
from cmkd.bench.results import _changed, earlier, read_suite
from cmkd.bench.rows import as_rows, collect, complete, left, stored
from cmkd.bench.sources import changed_since, depends, options, sources
from cmkd.bench.suite import PlannedRun, Suite
from cmkd.data import from_dataset
from cmkd.errors import CmkdError, CmkdWarning
from cmkd.io import write_bytes, write_json, write_text
from cmkd.options import plain

ROOT = Path(__file__).parents[2]
SUITE = Suite(("digits",), "kd", teachers=2, seeds=1)
COMMIT = "0a1b2c3d4e" * 4
ASKED = "data: [digits]\nmethods: kd\nteachers: 2\nseeds: 1\n"


def rows(suite: Suite) -> pd.DataFrame:
    return pd.DataFrame(
        {
            **{"data": "digits", "setting": "default", "teacher": teacher, "method": method, "seed": 1000 * teacher},
            **{"validation": 0.5, "test": 0.75, "teacher_test": None, "converged": True, "sees_all_labels": False},
            **{"commit": COMMIT, "right": encoded(np.array([2, 1])), "groups": encoded(np.array([2, 2]))},
        }
        for teacher in range(2)
        for method in suite.expressions
    )


def handed_in(folder: Path, suite: Suite, students: pd.DataFrame, others: dict[str, Any]) -> Path:
    write_text(folder / "small.yaml", ASKED)
    about = {"suite": plain(suite), "command": "", "commit": "abc", "runs": {"complete": 2, "all": 2}, "failures": {}}
    write_json(folder / "small.json", about | stored(students) | others)
    return folder / "small.yaml"


def test_results_with_a_method_more_are_those_of_the_suite(tmp_path: Path) -> None:
    suite = replace(SUITE, methods="kd,ds")
    path = handed_in(tmp_path, suite, rows(suite), {})
    assert check(path, tmp_path).startswith(
        f"6 students of 2 runs, as the suite asks, trained at commit {COMMIT}; 0 not converged"
    )
    assert check(path, tmp_path, method="ds")
    with pytest.raises(CmkdError, match="methods lacks dist"):
        check(path, tmp_path, method="dist")
    with pytest.raises(CmkdError, match="unknown method 'dd'"):
        check(path, tmp_path, method="dd")
    with pytest.raises(CmkdError, match="--method is empty"):
        check(path, tmp_path, method="")


@pytest.mark.parametrize(
    ("suite", "change", "words"),
    [
        (replace(SUITE, methods="ds"), {}, "methods lacks kd"),
        (replace(SUITE, run={"epochs": 90}), {}, "run is {'epochs': 90}, not {}"),
        (SUITE, {"commit": f"{COMMIT}-dirty"}, f"4 students were trained by commit {COMMIT}-d"),
        (SUITE, {"steps": [3501, 3500, 3500, None]}, "none on digits, default, teacher 1, seed 0 has more than 3500"),
        (SUITE, {"commit": "latest"}, "4 students were trained by commit latest"),
        (SUITE, {"teacher_test": [0.5, 0.6, 0.5, 0.5]}, "students on digits, default, teacher 1 have several teachers"),
        (SUITE, {"sees_all_labels": True}, "seed 0 has a wrong sees_all_labels"),
        (SUITE, {"seed": 7}, "none on digits, default, teacher 1, seed 0 is missing"),
        (SUITE, {"teacher": 0, "seed": 0}, "seed 0 occurs twice"),
        (SUITE, {"test": 0.8}, "give a different test accuracy"),
        (SUITE, {"right": encoded(np.array([3, 0]))}, "do not match its test groups"),
        (SUITE, {"right": "eJw="}, "damaged"),
        (SUITE, {"converged": "yes"}, "converged must be"),
    ],
)  # fmt: skip
def test_what_does_not_count_is_said(tmp_path: Path, suite: Suite, change: dict[str, Any], words: str) -> None:
    path = handed_in(tmp_path, suite, rows(suite).assign(**change), {})
    with pytest.raises(CmkdError, match=words.replace("{", r"\{")):
        check(path, tmp_path)


@pytest.mark.parametrize(
    "other",
    [
        {"seeds": 2},
        {"teachers": 1},
        {"first_teacher": 2},
        {"settings": {"few": {"labels": 40}}},
        {"data": ("digits", "mnist")},
    ],
)
def test_results_of_a_suite_of_another_size_are_refused(tmp_path: Path, other: dict[str, Any]) -> None:
    path = handed_in(tmp_path, replace(SUITE, **other), rows(SUITE), {})
    with pytest.raises(CmkdError, match=rf"{next(iter(other))} is .*, not "):
        check(path, tmp_path)


def test_stored_accuracies_come_back_exactly(tmp_path: Path) -> None:
    thirds = {"right": encoded(np.array([2])), "groups": encoded(np.array([3])), "test": round(2 / 3, 7)}
    handed_in(tmp_path, SUITE, rows(SUITE).assign(**thirds), {})
    assert set(read_suite(tmp_path / "small.json")[2]["test"]) == {2 / 3}


@pytest.mark.parametrize("count", [0, 3, 4])
def test_results_continue_a_suite_as_far_as_they_go(tmp_path: Path, count: int) -> None:
    handed_in(tmp_path, SUITE, rows(SUITE)[:count], {})
    known = earlier(tmp_path / "small.json", SUITE)
    assert len(known) == len(collect(SUITE.runs(tmp_path), known)) == count
    assert [planned.teacher for planned in complete(SUITE.runs(tmp_path), known)] == {0: [], 3: [0], 4: [0, 1]}[count]
    assert len(earlier(tmp_path / "small.json", replace(SUITE, run={"epochs": 2}))) == 0
    assert len(earlier(tmp_path / "small.json", replace(SUITE, methods="ds"))) == -(-count // 2)


@pytest.mark.parametrize("changed", [{"settings": {"a": {}, "b": {"label_fraction": 1.0}}}, {"data": SUITE.data * 2}])
def test_a_run_that_a_suite_names_twice_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(CmkdError, match=r"'digits, .*, teacher 1' .* are the same run; remove one"):
        replace(SUITE, **changed).runs(Path())


def test_a_rival_named_twice_is_refused() -> None:
    with pytest.raises(CmkdError, match="rivals none, none name a method twice"):
        replace(SUITE, rivals=("none", "none"))


def test_students_of_a_setting_that_is_gone_are_kept(tmp_path: Path) -> None:
    settings = {"right": {}, "wrong": {"label_noise": 0.2}, "worse": {"label_noise": 0.4}}
    three = replace(SUITE, settings=settings)
    handed_in(tmp_path, three, pd.concat([rows(SUITE).assign(setting=name) for name in settings]), {})
    assert set(earlier(tmp_path / "small.json", replace(SUITE, settings={"other name": {}}))["setting"]) == {
        "other name"
    }
    assert len(read_suite(tmp_path / "small.before-1.json")[2]) == 12


def test_a_run_of_another_suite_in_the_folder_counts_as_far_as_it_is_the_same(tmp_path: Path) -> None:
    handed_in(tmp_path, SUITE, rows(SUITE), {})
    found = json.loads((tmp_path / "small.json").read_text())
    write_json(tmp_path / "small.json", {"command": found["command"]} | found)  # keys may be in any order
    write_text(tmp_path / "notes.json", "[]")
    (tmp_path / "folder.json").mkdir()
    write_text(tmp_path / "torn.json", (tmp_path / "small.json").read_text()[:-40])
    more = replace(SUITE, methods="ds,kd", settings={"all labels": {}, "few": {"labels": 40}}, seeds=2)
    with pytest.warns(CmkdWarning, match=r"students of another suite do not count: .*torn\.json' is damaged"):
        known = earlier(tmp_path / "other.json", more)
    assert list(known["setting"]) == ["all labels"] * 4
    assert list(known["teacher"]) == [0, 0, 1, 1]
    assert list(known["method"]) == ["none", "kd"] * 2
    assert not list(tmp_path.glob("*.before-*")), "the file of the other suite stays as it is"


def test_rows_of_a_version_without_a_column_and_newer_ones_make_a_file_that_can_be_read(tmp_path: Path) -> None:
    known = rows(SUITE)
    handed_in(tmp_path, SUITE, known[known["method"] == "kd"].assign(teacher_converged=True), {})
    (tmp_path / "small.json").rename(tmp_path / "newer.json")
    handed_in(tmp_path, SUITE, known[known["method"] == "none"], {})
    asked = SUITE.runs(tmp_path)
    handed_in(tmp_path, SUITE, collect(asked, earlier(tmp_path / "small.json", SUITE)), {})
    students = read_suite(tmp_path / "small.json")[2]
    assert list(students["teacher_converged"].isna()) == [True, False, True, False]
    assert list(students["method"]) == ["none", "kd"] * 2


def test_methods_known_from_elsewhere_are_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (first, second), known = replace(SUITE, methods="kd,ds").runs(tmp_path), rows(SUITE)
    known = known.assign(teacher_validation=None, teacher_test=0.5)

    def methods(run: PlannedRun) -> list[str] | None:
        part = left(run, known)
        return part and [method for method, _ in part.students]

    assert [methods(run) for run in (first, second)] == [["ds"], ["ds"]]

    def trained(run: PlannedRun, score: float) -> list[dict[str, Any]]:
        return [{"method": "ds", "seed": run.config.seed, "teacher_validation": None, "teacher_test": score}]

    monkeypatch.setattr("cmkd.bench.rows._students", lambda run: trained(run, 0.5 if run.teacher else 0.6))
    assert methods(first) == ["none", "kd", "ds"], "its teacher is another one than that of the students known"
    assert methods(second) is None
    assert len(collect([second], known)) == 3
    assert len(collect([first], known)) == 2, "students of two teachers are not mixed"


def test_students_that_a_suite_no_longer_asks_for_are_kept_and_come_back(tmp_path: Path) -> None:
    place, fewer = tmp_path / "small.json", replace(SUITE, methods="ds")
    handed_in(tmp_path, SUITE, rows(SUITE), {})
    known = earlier(place, fewer)
    assert list(known["method"]) == ["none", "none"]
    assert (tmp_path / "small.before-1.json").read_bytes() == place.read_bytes()
    handed_in(tmp_path, fewer, known, {})
    assert list(earlier(place, fewer)["method"]) == ["none", "none"]
    assert not (tmp_path / "small.before-2.json").exists(), "nothing is lost"
    assert len(earlier(place, SUITE)) == 4
    retrained = known.assign(teacher_test=0.9)
    handed_in(tmp_path, fewer, retrained, {})
    assert len(earlier(place, SUITE)) == 2, "students of another teacher are not mixed in"
    (tmp_path / "small.json").rename(tmp_path / "small.before-10.json")
    assert set(earlier(place, fewer)["teacher_test"]) == {0.9}, "the latest file counts"


def test_a_call_that_fails_keeps_a_file_once(tmp_path: Path) -> None:
    handed_in(tmp_path, SUITE, rows(SUITE), {})
    for _ in range(3):
        earlier(tmp_path / "small.json", replace(SUITE, methods="ds"))
    assert len(list(tmp_path.glob("small.before-*.json"))) == 1


def test_a_file_from_before_names_were_kept_once_continues(tmp_path: Path) -> None:
    handed_in(tmp_path, SUITE, rows(SUITE), {})
    found = json.loads((tmp_path / "small.json").read_text())
    places = {found["columns"].index(column): names for column, names in found.pop("names").items()}
    found["rows"] = [[places[k][v] if k in places else v for k, v in enumerate(row)] for row in found["rows"]]
    write_json(tmp_path / "small.json", found)
    assert len(earlier(tmp_path / "small.json", SUITE)) == 4


def test_a_kept_file_is_never_replaced(tmp_path: Path) -> None:
    handed_in(tmp_path, SUITE, rows(SUITE), {})
    kept = handed_in(tmp_path, SUITE, rows(SUITE), {"command": "older"}).with_suffix(".json").read_bytes()
    write_bytes(tmp_path / "small.before-2.json", kept)
    handed_in(tmp_path, SUITE, rows(SUITE), {})
    earlier(tmp_path / "small.json", replace(SUITE, methods="ds"))
    assert (tmp_path / "small.before-2.json").read_bytes() == kept
    assert (tmp_path / "small.before-1.json").exists()


def ships(count: int) -> list[dict[str, Any]]:
    return [
        {"radar": np.full((1, 4, 4), k, np.float32), "optical": np.zeros((3, 4, 4), np.uint8), "label": k % 2}
        for k in range(count)
    ]


def test_students_of_a_pack_that_has_changed_do_not_count(tmp_path: Path) -> None:
    pack = tmp_path / "ships"
    from_dataset(ships(20), pack)
    suite = replace(SUITE, data=(str(pack),))
    students = rows(SUITE).assign(data=str(pack))
    handed_in(tmp_path, suite, students, {"packs": suite.packs()})
    assert len(earlier(tmp_path / "small.json", suite)) == len(earlier(tmp_path / "other.json", suite)) == 4
    shutil.rmtree(pack)
    from_dataset(ships(21), pack)
    assert len(earlier(tmp_path / "other.json", suite)) == 0
    with pytest.raises(CmkdError, match=r"ships' has changed since .*small\.json' was written: choose another --out"):
        earlier(tmp_path / "small.json", suite)
    shutil.rmtree(pack)
    assert len(earlier(tmp_path / "small.json", suite)) == 4, "it is not here to compare"


def test_students_depend_on_the_code_of_their_own_data_and_method_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    write_text(tmp_path / "own_of_results.py", "class Ships: ...\n\n\nclass Half: ...\n")
    data, method = "own_of_results:Ships", "own_of_results:Half"
    suite = replace(SUITE, data=(data, "digits"), methods=f"kd,kd+{method}")
    ships, digits = (planned for planned in suite.runs(tmp_path) if planned.teacher == 0)
    assert set(sources(suite)) == {data, method}
    assert changed_since(ships) == set(), "it was not started"
    ships.config.out.mkdir()
    settings = {"method_options": {}, "sources": sources(suite) | {data: "0" * 64}}
    write_json(ships.config.out / "settings.json", settings)
    assert changed_since(ships) == {data}
    write_json(ships.config.out / "settings.json", settings | {"teacher": 5})
    with pytest.raises(CmkdError, match=r"settings.json.*teacher"):
        changed_since(ships)
    assert depends(ships, "kd", {data}) and not depends(digits, "kd", {data})
    assert depends(digits, f"kd+{method}", {method}) and not depends(ships, "kd", {method})


def test_students_depend_on_the_file_of_their_own_teacher_alone(tmp_path: Path) -> None:
    for number in (6, 7):
        write_text(tmp_path / f"{number}.safetensors", f"teacher {number}")
    given = {"teacher": {"checkpoint": f"{tmp_path}/{{teacher}}.safetensors"}}
    suite = replace(SUITE, settings={"default": given}, first_teacher=6)
    students = rows(SUITE).assign(teacher=lambda found: found["teacher"] + 5)
    students["seed"] = 1000 * students["teacher"]
    handed_in(tmp_path, suite, students, {"sources": sources(suite)})
    assert len(earlier(tmp_path / "small.json", suite)) == 4
    write_text(tmp_path / "7.safetensors", "another teacher")
    with pytest.warns(CmkdWarning, match=r"do not count \(2\): .*7\.safetensors has changed since, or the file does"):
        assert set(earlier(tmp_path / "small.json", suite)["teacher"]) == {5}
    (tmp_path / "small.before-1.json").unlink()
    handed_in(tmp_path, suite, students, {})
    with pytest.warns(CmkdWarning, match=r"do not count \(4\): "):
        assert not len(earlier(tmp_path / "small.json", suite)), "a file that does not say which teachers they had"


def test_students_of_other_defaults_do_not_count(tmp_path: Path) -> None:
    students, defaults = rows(SUITE), options(SUITE.expressions)
    handed_in(tmp_path, SUITE, students, {"options": defaults | {"kd": {}}})
    assert len(earlier(tmp_path / "small.json", SUITE)) == 4, "an option that is new"
    handed_in(tmp_path, SUITE, students, {"options": defaults | {"kd": defaults["kd"] | {"weight": 4.0}}})
    with pytest.warns(CmkdWarning, match=r"do not count \(2\): kd has changed since"):
        assert set(earlier(tmp_path / "small.json", SUITE)["method"]) == {"none"}


def test_results_of_other_data_are_refused_and_data_named_twice_too(tmp_path: Path) -> None:
    pack = tmp_path / "ships"
    from_dataset(ships(20), pack)
    suite = replace(SUITE, data=(str(pack),))
    path = handed_in(tmp_path, suite, rows(SUITE).assign(data=str(pack)), {"packs": {str(pack): "0" * 64}})
    write_text(path, ASKED.replace("digits", str(pack)))
    with pytest.raises(CmkdError, match=r"ships' is not the data at hand here$"):
        check(path, tmp_path)
    with pytest.raises(CmkdError, match=r"ships/' of the suite are the same data; remove one"):
        replace(suite, data=(str(pack), f"{pack}/")).packs()
    write_text(tmp_path / "gone.yaml", ASKED.replace("digits", str(tmp_path / "shipz")))
    with pytest.raises(CmkdError, match="shipz does not exist"):
        bench(tmp_path / "gone.yaml", tmp_path / "out")


def trained(planned: PlannedRun, *, same: bool = True, accuracy: float = 1.0) -> pd.DataFrame:
    """Write the folder of a run with one test pair of each class, and return the predictions of its students."""
    out, data = planned.config.out, {"name": "digits", "classes": ["a", "b"], "rich": "optical", "poor": "radar"}
    scores = {"validation_accuracy": 0.5, "test_accuracy": accuracy, "steps": 9, "converged": True}
    about = data | {"same_test_pairs": same, "pairs": {"train": 5, "validation": 2, "test": 2}}
    (out / "students").mkdir(parents=True)
    student = scores | {"checkpoint": "students/best.safetensors", "commit": COMMIT}
    students = [student | {"method": method, "seed": seed} for method, seed in planned.students]
    write_json(out / "results.json", {"data": about, "teacher": scores, "students": students})
    predictions = pd.DataFrame({"id": ["p0", "p1"], "target": [0, 1], "predicted": [0, 1]})
    predictions.to_parquet(out / "students/test.parquet")
    return predictions


@pytest.mark.parametrize(
    "changed", [{"seed": 5}, {"labels": 40}, {"optimizer": {"ema": 0.5}}, {"teacher": {"folds": 2}}]
)
def test_a_run_that_was_started_with_other_settings_does_not_count(tmp_path: Path, changed: dict[str, Any]) -> None:
    planned = SUITE.runs(tmp_path)[0]
    trained(planned)
    # settings that a run chooses itself, and settings that older versions wrote or lacked
    settings = {"epochs": 9, "optimizer": {"ema": 0.99}, "teacher": {"views": 3, "modality": "b+a"}, "older": 1}
    write_json(planned.config.out / "settings.json", {"method_options": {}} | settings)
    assert len(collect([planned])) == 2
    write_json(planned.config.out / "settings.json", {"method_options": {}} | settings | changed)
    with pytest.raises(CmkdError, match=f"was started with {next(iter(changed))}.*=.*, now .* choose another --out"):
        collect([planned])


def test_an_accuracy_that_the_predictions_of_a_run_do_not_have_is_refused_before_it_is_stored(tmp_path: Path) -> None:
    planned = SUITE.runs(tmp_path)[0]
    trained(planned, accuracy=0.5)
    with pytest.raises(CmkdError, match=r"results.json' is damaged \(test_accuracy does not match .*test.parquet'\)"):
        collect([planned])


def test_students_of_other_defaults_or_code_are_no_results_of_the_suite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    write_text(tmp_path / "own_to_check.py", "from cmkd.methods.kd import KD\n\n\nclass Half(KD): ...\n")
    suite = replace(SUITE, methods="kd,own_to_check:Half")
    defaults, code = options(suite.expressions), sources(suite)
    path = handed_in(tmp_path, suite, rows(suite), {"options": defaults, "sources": code})
    assert check(path, tmp_path)
    other = {"options": defaults | {"kd": defaults["kd"] | {"weight": 4.0}}, "sources": dict.fromkeys(code, "0")}
    handed_in(tmp_path, suite, rows(suite), other)
    with pytest.raises(CmkdError, match=r": kd has changed since the .*; own_to_check:Half has changed since the res"):
        check(path, tmp_path)
    handed_in(tmp_path, suite, rows(suite), {})
    planned = suite.runs(tmp_path / "runs")[0]
    trained(planned)
    write_json(planned.config.out / "settings.json", {"method_options": {"kd": {"weight": 4.0}}})
    with pytest.raises(CmkdError, match=r"kd on digits, default, teacher 1 cannot be counted again: kd has changed"):
        check(path, tmp_path)


@pytest.mark.parametrize("same", [True, False])
def test_a_teacher_that_was_tested_on_other_pairs_leaves_no_gap_to_close(tmp_path: Path, same: bool) -> None:
    planned = SUITE.runs(tmp_path)[0]
    predictions = trained(planned, same=same)
    out = planned.config.out
    row = collect([planned]).to_dict("records")[0]
    assert row["test"] == 1.0 and pd.isna(row["teacher_test"]) != same
    predictions.drop(columns="id").to_parquet(out / "students/test.parquet")
    os.utime(out / "students/test.parquet", (1, 1))
    with pytest.raises(CmkdError, match="no column 'id'"):
        collect([planned])


def test_what_the_folders_of_the_runs_say_otherwise_is_found() -> None:
    there = rows(SUITE).assign(steps=7)
    assert _changed(there, there.assign(test=there["test"] + 1e-8, teacher_test=np.nan)) == []
    measured = there.assign(effective_rank=49.2282433)
    assert _changed(there.assign(effective_rank=49.2282), measured) == [], "six digits, as results are stored"
    assert len(_changed(there.assign(effective_rank=49.228), measured)) == 4
    assert _changed(there.assign(commit=COMMIT[:12]), there) == []
    assert len(_changed(there.assign(commit=COMMIT[:12]), there.assign(commit=f"{COMMIT}-dirty"))) == 4
    said = _changed(there.assign(steps=9, converged=[True, True, True, False]), there)
    assert said[0] == "kd on digits, default, teacher 2, seed 1000 has another converged in its folder"
    assert len(said) == 5
    assert said[1].endswith("seed 0 has another steps in its folder")


NAMES = {"data": ["digits"], "setting": ["default"], "method": ["none", "kd"], "commit": [COMMIT]}
FEWER = [NAMES | {"method": ["none"]}, NAMES | {"commit": []}, {"data": ["digits"]}, NAMES | {"place": ["here"]}]


@pytest.mark.parametrize(
    "others",
    [
        *({"names": names} for names in FEWER),
        *({"groups": {}}, {"rows": [[1]]}, {"suite": {"data": ["digits"]}}, {"runs": {}}),
        *({"rows": [[number, *([0] * 10)]]} for number in (0.5, 10**300)),
    ],
)
def test_a_damaged_file_is_refused_in_a_line(tmp_path: Path, others: dict[str, Any]) -> None:
    with pytest.raises(CmkdError, match=r"small.json' is damaged \(.*\): restore"):
        check(handed_in(tmp_path, SUITE, rows(SUITE), others), tmp_path)


@pytest.mark.parametrize(
    "change",
    [{"validation": 7.0}, {"teacher_test": "x"}, {"steps": "many"}, {"uniformity": "x"}, {"method": "none"}],
    ids=lambda change: next(iter(change)),
)
def test_a_student_that_cannot_be_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    handed_in(tmp_path, SUITE, rows(SUITE).assign(**change), {})
    with pytest.raises(CmkdError, match=r"small.json' is damaged \(.*\): restore"):
        earlier(tmp_path / "small.json", SUITE)


def test_a_suite_that_cannot_be_planned_is_told_apart_from_a_file_of_results(tmp_path: Path) -> None:
    path = handed_in(tmp_path, SUITE, rows(SUITE), {})
    write_text(path, ASKED.replace("digits", "$NOT_SET/digits"))
    with pytest.raises(CmkdError, match=r"^'\$NOT_SET/digits' needs the folder of its files: set the variable"):
        check(path, tmp_path)


def test_a_suite_in_a_file_that_cannot_be_planned_is_refused_with_the_name_of_the_file(tmp_path: Path) -> None:
    handed_in(tmp_path, replace(SUITE, run={"epochz": 1}), rows(SUITE), {})
    with pytest.raises(CmkdError, match=r"small.json' cannot be planned \(unknown option 'epochz'"):
        earlier(tmp_path / "small.json", SUITE)


def test_rows_are_pooled_by_all_options_and_teachers_of_two_trainings_are_not_mixed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(ROOT / "docs")
    pooled = importlib.import_module("results").pooled
    known, options = as_rows(rows(SUITE)), {"preset": "full", "label_fraction": 0.1}
    other = known.assign(setting="default", teacher_test=0.9, method=["none", "ds"] * 2)
    assert set(pooled([(replace(SUITE, run=options), known)])["setting"]) == {"10 %"}
    assert not len(pooled([(replace(SUITE, run=options | {"label_noise": 0.2}), known)]))
    for trainer, counts in (({"precision": "bf16-mixed"}, True), ({"batch_size": 64}, False)):
        assert bool(len(pooled([(replace(SUITE, run=options | {"trainer": trainer}), known)]))) == counts
    found = pooled([(replace(SUITE, run=options), students) for students in (known.assign(teacher_test=0.8), other)])
    assert list(found["method"]) == ["none", "kd"] * 2


def test_settings_with_fewer_students_are_not_correlated_with_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "docs")
    relation = importlib.import_module("observation").relation
    score = [0.1, 0.2, 0.3, 0.4] * 4 + [0.5] * 10  # unrelated within a; the settings of one student tell nothing
    measure = [1, 2, 3, 4, 4, 3, 2, 1] * 2 + [0.5] * 10
    rows = pd.DataFrame({"data": "d", "teacher": 0, "setting": ["a"] * 16 + list("bcdefghijk")})
    found = relation(rows.assign(measure=measure, test=score), "measure", within=True)
    assert found.startswith("+0.00 (")  # 11 runs have an interval


def test_the_page_of_claims_is_made_from_stored_rows(tmp_path: Path) -> None:
    few = {"few": {"label_fraction": 0.1}, "all": {}}
    suite = Suite(("a", "b"), "kd,ds", few, teachers=4, seeds=1, run={"preset": "full"})
    generator, noise = np.random.default_rng(0), np.random.default_rng(1)

    def right(gain: float) -> np.ndarray:
        return (np.arange(400) < 200 + 400 * gain + generator.integers(0, 4)).astype(int)

    gains = {"none": 0.0, "kd": 0.1, "ds": 0.1}
    shown = {(data, method): 0.3 if (data, method) == ("b", "ds") else 1.0 for data in suite.data for method in gains}
    students = pd.DataFrame(
        {
            **{"data": data, "setting": setting, "teacher": teacher, "method": method, "seed": 1000 * teacher},
            **{
                "validation": 0.5 + gain * (setting == "few") + 1e-4 * noise.normal(),
                "test": float(answers.mean()),
                "teacher_validation": 0.9,
                "teacher_test": 0.9,
            },
            **{"converged": teacher > 0, "sees_all_labels": False, "commit": COMMIT},
            **{"right": encoded(answers), "groups": encoded(np.ones(400, int))},
            "uniformity": None if data == "b" else -float(answers.mean()),  # results of b have an older version
        }
        for data in suite.data
        for setting in few
        for teacher in range(4)
        for method, gain in gains.items()
        for answers in [right(gain * (shown[data, method] if setting == "few" else method == "ds"))]
    )
    about = {"suite": plain(suite), "command": "cmkd bench own.yaml", "commit": "abc", "failures": {}}
    write_json(tmp_path / "own.json", about | {"runs": {"complete": 16, "all": 16}} | stored(students))
    (tmp_path / "stored").mkdir()
    command = [sys.executable, str(ROOT / "docs" / "results.py"), "--stored", str(tmp_path / "stored")]
    command += ["--out", str(tmp_path / "results.md")]
    forest = {"modality": "radar", "model": "random forest", "validation_accuracy": 0.9, "test_pairs": 100}
    poor = {"poor": forest | {"reference": "a", "role": "poor", "test_accuracy": 0.7}}
    write_json(tmp_path / "stored" / "simple_baselines.json", {"rows": poor})
    # a suite that varies one setting has its own table and does not count in the claims
    lacking = (students[["data", "setting", "teacher", "method"]] == ["a", "few", 3, "kd"]).all(axis=1)
    gap = stored(students[~lacking])
    write_json(tmp_path / "stored" / "gap.json", about | {"runs": {"complete": 15, "all": 16}} | gap)
    subprocess.run([*command, "--add", str(tmp_path / "own.json")], check=True, timeout=600)
    lines = (tmp_path / "results.md").read_text().splitlines()
    found = {line.split(" | ")[0].removeprefix("| "): line.split(" | ")[1:] for line in lines if line.startswith("| ")}
    assert found["with few labels for both, a teacher helps"][3:] == [
        "2 of 2",
        "2, 0 of 2",
        "holds on some data |",
    ]  # no interval over two data sets
    assert found["with all labels, a teacher helps"][4:] == ["0, 0 of 2", "not shown |"]
    assert found["structure adds to the teacher's logits"][4:] == ["2, 1 of 4", "depends on the data |"]
    assert found["`ds` gives more than the teacher's features"][-1] == "no results yet |"
    assert found["few labels"][:3] == ["2", "1.8 of 3", "`kd`"] and found["few labels"][-1] == "0, 1 of 2 |"
    assert found["10 %"][0] == "2 of 2" and found["10 %"][-1] == "a teacher |"
    assert "| a | raw uniformity | 24 | -1.00 | -1.00 |" in lines
    assert not any(line.startswith("| b | raw uniformity") for line in lines)
    assert lines.count("## Gain and the gap") == 1 and any(s.startswith("| a | few | 4 | 90.0 |") for s in lines)
    assert sum(", n = 3 |" in line for line in lines) == 1, "kd in one row of the gap alone has fewer students"
    assert [line for line in lines if "random forest |" in line] == [
        "| a | radar | `none` | 4 | **50.6** | 70.0 (60.4 to 78.1) | random forest |"
    ]
    assert found["100 %"][-1] == "`none` |"  # ds is better only on the test split, which chooses nothing
    assert {p.name for p in tmp_path.glob("images/*")} == {"results-gains.svg", "results-ranks.svg"}
    assert any("not converged (student or teacher): 12" in line and f"commit {COMMIT[:10]}" in line for line in lines)
    about["runs"] = {"complete": 0, "all": 16}
    write_json(tmp_path / "own.json", about | stored(students.assign(commit=None)))
    done = subprocess.run([*command, "--add", str(tmp_path / "own.json")], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "48 students were trained by commit unknown" in done.stderr
