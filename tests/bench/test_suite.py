"""Suites: which runs they consist of, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from cmkd.bench.suite import Suite
from cmkd.errors import CmkdError
from cmkd.io import write_text
from cmkd.methods import METHODS

STORE = Path("runs")
METHOD = """
from pathlib import Path

from cmkd.methods.kd import KD


class Half(KD):
    name = "half"
"""


def folders(suite: Suite) -> list[str]:
    return [planned.config.out.name for planned in suite.runs(STORE)]


def test_a_suite_is_every_data_set_in_every_setting_with_every_teacher() -> None:
    suite = Suite(("digits", "digits(severity=0.3)"), "kd", {"few": {"labels": 40}, "all": {}}, teachers=3, seeds=2)
    runs = suite.runs(STORE)
    assert len(runs) == len({planned.config.out for planned in runs}) == 12
    assert [planned.config.seed for planned in runs] == [0] * 4 + [1000] * 4 + [2000] * 4, (
        "one teacher everywhere first"
    )
    assert {(planned.data, planned.setting) for planned in runs[:4]} == {
        (d, s) for d in suite.data for s in suite.settings
    }
    assert {planned.config.labels for planned in runs} == {40, None}
    assert runs[0].config.expressions == ("none", "kd")
    assert len(runs[0].students) == 4


def test_methods_may_be_a_list() -> None:
    assert Suite(("digits",), ("kd(temperature=2,weight=1)", "ds")).expressions == (
        *("none", "kd(temperature=2,weight=1)", "ds"),
    )
    assert Suite(("digits",), ("kd",)).runs(STORE) == Suite(("digits",), "kd").runs(STORE)


def test_folders_stay_where_methods_and_seeds_are_added_and_change_with_options() -> None:
    small, large = Suite(("digits",), "kd"), Suite(("digits",), "kd,ds", seeds=9)
    assert folders(small) == folders(large)
    assert folders(small) != folders(Suite(("digits",), "kd", run={"preset": "full"}))
    assert folders(small) != folders(Suite(("digits",), "kd", {"default": {"student": {"size": 16}}}))


def test_the_folder_of_a_run_is_that_of_earlier_versions() -> None:
    assert folders(Suite(("digits",), "kd", {"few": {"labels": 40}})) == ["digits-few-1-2de8ed83"]


def test_a_setting_takes_precedence_over_the_options_of_all_runs_part_by_part() -> None:
    run = {"teacher": {"size": 16, "views": 4}, "preset": "full"}
    (planned,) = Suite(("digits",), "kd", {"two": {"teacher": {"views": 2}}}, run=run).runs(STORE)
    assert (planned.config.teacher.size, planned.config.teacher.views, planned.config.preset) == (16, 2, "full")


def test_folders_of_data_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    suite = Suite(("mars:$SENSOR_FILES/mars",), "kd")
    monkeypatch.delenv("SENSOR_FILES", raising=False)
    with pytest.raises(CmkdError, match="SENSOR_FILES=FOLDER"):
        suite.runs(STORE)
    monkeypatch.setenv("SENSOR_FILES", "/here")
    there = suite.runs(STORE)[0].config.out
    monkeypatch.setenv("SENSOR_FILES", "/elsewhere")
    planned = suite.runs(STORE)[0]
    assert planned.config.data == "mars:/elsewhere/mars"
    assert planned.config.out == there


def test_teachers_may_come_from_files_beside_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"teacher": {"checkpoint": "{data}-teacher-{teacher}/best.safetensors"}}
    suite = Suite(("$SHIPS/a", "$SHIPS/b"), "rkd", {"given": given}, teachers=2)
    monkeypatch.setenv("SHIPS", "/here")
    assert [str(planned.config.teacher.checkpoint) for planned in suite.runs(STORE)] == [
        f"/here/{data}-teacher-{teacher}/best.safetensors" for teacher in (1, 2) for data in "ab"
    ]
    names = folders(suite)
    assert len(set(names)) == 4
    monkeypatch.setenv("SHIPS", "/elsewhere")
    assert folders(suite) == names


def test_a_confirming_suite_has_new_teachers_with_the_seeds_that_a_longer_one_would_give_them() -> None:
    chosen = Suite(("digits",), "kd", {"few": {"labels": 40}}, teachers=5).runs(STORE)
    fresh = Suite(("digits",), "kd", {"few": {"labels": 40}}, teachers=2, first_teacher=5).runs(STORE)
    assert fresh[0] == chosen[4]
    assert [planned.title for planned in fresh] == ["digits, few, teacher 5", "digits, few, teacher 6"]
    assert fresh[1].config.out not in [planned.config.out for planned in chosen]


def test_our_suites_can_be_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATA", "MFEAT", "PARTLY", "OTHER"):
        monkeypatch.setenv(name, "data")
    benchmarks = Path(__file__).parents[2] / "benchmarks"
    monkeypatch.syspath_prepend(benchmarks)
    files = sorted((benchmarks / "suites").glob("*.yaml"))
    assert files
    for path in files:
        suite = Suite.load(path)
        suite.check_methods()
        assert len(suite.runs(STORE)) == len(suite.data) * len(suite.settings) * suite.teachers, path
        assert set(METHODS) == set(suite.expressions) or suite.methods != "every"


def test_methods_are_checked_before_anything_is_trained_and_may_be_classes_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    write_text(tmp_path / "mine_of_suite.py", METHOD)
    own = "mine_of_suite:Half"
    suite = Suite(("digits",), f"{own}(weight=2.0),kd+0.5*{own}", rivals=("none", f"{own}(weight=2.0)"))
    suite.check_methods()
    assert suite.runs(STORE)[0].own_classes == [own, own]
    model = Suite(("digits",), "kd", {"mine": {"student": {"model": "mine_of_suite:Net(width=4)"}}})
    assert model.runs(STORE)[0].own_classes == ["mine_of_suite:Net(width=4)"]
    for methods, words in (
        ("mine_of_suite:Hlaf", "did you mean 'Half'"),
        (f"{own}(wieght=2)", "did you mean 'weight'"),
        ("mine_of_suite:Path", "not a subclass of Method"),
        ("cmkd.methods.base:Method", "not a subclass of Method"),
        ("kd,ds,1*kd(weight=1)", r"'kd' and '1\*kd\(weight=1\)' of the suite's methods are the same"),
        ("ds+kd,kd+ds(uniformity_weight=0.1)", "are the same"),
        ("kdd", "did you mean 'kd'"),
        ("kd(weight=2", "cannot read"),
    ):
        with pytest.raises(CmkdError, match=words):
            Suite(("digits",), methods).check_methods()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("data: [digits]", "methods is missing"),
        ("data: [digits]\nmethods: kd\nmethod: kd", "did you mean 'methods'"),
        ("data: [digits]\nmethods: kd\nseeds: 0", "seeds is 0"),
        ("data: [digits]\nmethods: kd\nrivals: [dist]", "dist are not among"),
        ("data: [digits]\nmethods: kd\nsettings: {few: 3}", "setting 'few' is 3"),
        ("data: [digits]\nmethods: kd\nsettings: {few: {seed: 3}}", "'seed', which the suite sets itself"),
        ("data: [digits]\nmethods: kd\nrun: {epoch: 3}", "did you mean 'epochs'"),
        ("data: digits\nmethods: kd", "data must be a list"),
        ("data: []\nmethods: kd", "the suite's data has no entry"),
        ("data: [digits]\nmethods: []", "the suite's methods has no entry"),
        ("data: [digits]\nmethods: kd\nsettings: {}", "the suite's settings has no entry"),
        (
            "data: [digits]\nmethods: kd\nsettings: {1: {labels: 20}}",
            r"a group of names \(in quotes if they are numbers\), got",
        ),
    ],
)
def test_a_wrong_suite_is_refused_in_a_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "suite.yaml"
    write_text(path, text)
    with pytest.raises(CmkdError, match=words):
        Suite.load(path).runs(STORE)
