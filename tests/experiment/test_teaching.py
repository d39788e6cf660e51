"""A teacher's outputs are computed once for all students of a run, within the limit of the cache."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from cmkd import CmkdError, Experiment, ModelConfig, RunConfig, StudentConfig, TeacherConfig, TrainerConfig
from cmkd.data import Pack
from cmkd.documents import read_json
from cmkd.experiment import teaching
from cmkd.experiment.resolve import resolve
from cmkd.models import Model
from cmkd.models.checkpoint import load_model, save_model
from cmkd.training import schedule
from cmkd.training.fit import fit
from cmkd.training.job import TrainingJob
from cmkd.training.teacher_cache import Compute, Contents, MapSizes
from cmkd.training.teacher_outputs import Views, of_model
from cmkd.types import Output

NAME = "thin_resnet(width=4,stages=2)"
TRAINER = TrainerConfig(batch_size=32, accelerator="cpu", progress="none")
pytestmark = pytest.mark.usefixtures("without_page")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CMKD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "teacher_outputs"


def config(data: Pack, out: Path, methods: str, **changes: object) -> RunConfig:
    models = {"teacher": TeacherConfig(model=NAME), "student": ModelConfig(model=NAME)}
    given = {"data": data, "out": out, "methods": methods, "seeds": 1, "epochs": 2, "trainer": TRAINER, **models}
    return RunConfig(**given | changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def trained(squares: Pack, tmp_path_factory: pytest.TempPathFactory) -> TeacherConfig:
    """Train a teacher for runs that train none; return its configuration."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("cmkd.experiment.runner.write_report", lambda folder: None)
        Experiment(config(squares, folder / "out", "none")).run()
    return TeacherConfig(model=NAME, checkpoint=folder / "out" / "teacher" / "best.safetensors")


def weights(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in out.glob("students/**/best.safetensors")}


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bool, int]]:
    """Return a list to which (averaged, view) is added for each pass of a teacher over the pairs."""
    made: list[tuple[bool, int]] = []

    def counting(teacher: Model, pack: Pack, views: Views, maps: MapSizes, *, device: str) -> tuple[Contents, Compute]:
        contents, compute = of_model(teacher, pack, views, maps, device=device)

        def call(rows: NDArray[np.int64], view: int) -> Output:
            made.append((views.averaged, view))
            return compute(rows, view)

        return contents, call

    monkeypatch.setattr(teaching, "of_model", counting)
    return made


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[TrainingJob, Tensor]]:
    """Return a dictionary that fills with each training, by title, and its initial weights."""
    found: dict[str, tuple[TrainingJob, Tensor]] = {}

    def seen(job: TrainingJob, *rest: object, **options: object) -> Path:
        found[job.title] = (job, torch.cat([p.detach().flatten() for p in job.model.parameters()]))
        return fit(job, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("cmkd.experiment.fitting.fit", seen)
    return found


def test_students_of_every_seed_see_the_views_that_the_teacher_answered(
    squares: Pack, tmp_path: Path, jobs: dict[str, tuple[TrainingJob, Tensor]]
) -> None:
    teacher = TeacherConfig(model=NAME, views=2)
    asked = config(squares, tmp_path, "kd,fitnet", seed=5, seeds=2, epochs=1, teacher=teacher, jobs=1)
    Experiment(asked).run()
    assert {title: (job.seed, job.views, job.view_seed) for title, (job, _) in jobs.items() if title != "teacher"} == {
        "kd, seed 5": (5, 0, 5),
        "fitnet, seed 5": (5, 2, 5),
        "kd, seed 6": (6, 0, 5),
        "fitnet, seed 6": (6, 2, 5),
    }


def test_teachers_of_other_seeds_start_from_other_weights(
    squares: Pack, tmp_path: Path, jobs: dict[str, tuple[TrainingJob, Tensor]]
) -> None:
    starts = []
    for seed in (0, 1):
        Experiment(config(squares, tmp_path / str(seed), "none", seed=seed, epochs=1, jobs=1)).run()
        starts.append(jobs["teacher"][1])
    assert not torch.equal(*starts)


def test_the_modality_dropout_reaches_the_training_of_the_student_alone(
    squares: Pack, tmp_path: Path, jobs: dict[str, tuple[TrainingJob, Tensor]]
) -> None:
    student = StudentConfig("rich+poor", NAME, modality_dropout=0.25)
    Experiment(config(squares, tmp_path, "none", student=student, epochs=1, jobs=1)).run()
    assert {title: job.modality_dropout for title, (job, _) in jobs.items()} == {"teacher": 0.0, "none, seed 0": 0.25}


@pytest.mark.parametrize("modality", ["rich", "rich+poor"])
def test_a_frozen_teacher_is_as_frozen_when_students_load_it(squares: Pack, tmp_path: Path, modality: str) -> None:
    frozen = TeacherConfig(model=NAME, modality=modality, frozen=True)
    run = resolve(config(squares, tmp_path / "out", "c2kd", teacher=frozen))
    built = run.build("teacher")
    save_model(tmp_path / "best.safetensors", built, name=NAME, classes=squares.classes, extra={})
    loaded = teaching.Teaching.of(run, tmp_path / "best.safetensors").model
    assert loaded is not None
    trained, again = ({n for n, p in m.named_parameters() if p.requires_grad} for m in (built, loaded))
    assert again == trained and all("classifier" in name for name in trained)


def test_records_are_computed_once_for_all_students_and_runs(
    squares: Pack, trained: TeacherConfig, tmp_path: Path, passes: list[tuple[bool, int]]
) -> None:
    asked = config(squares, tmp_path / "one", "ds,fitnet,at", seeds=2, teacher=trained)
    results = Experiment(asked).run()
    once = [(True, 0), (True, 1), (False, 0), (False, 1)]  # one chunk: an average of two views, then two views
    assert results["complete"] and len(results["students"]) == 6 and passes == once
    Experiment(replace(asked, out=tmp_path / "two", methods="kd,at", seeds=1)).run()
    assert passes == once
    first, second = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert len(second) == 2 and len(first.items() & second.items()) == 1
    Experiment(replace(asked, out=tmp_path / "three", methods="kd", seed=5, seeds=1)).run()
    assert passes == [*once, (True, 0), (True, 1)]  # another seed has other views


@pytest.mark.parametrize("methods", ["none", "koleo"])
def test_what_reads_no_teacher_computes_no_records(
    methods: str, squares: Pack, trained: TeacherConfig, tmp_path: Path, passes: list[tuple[bool, int]]
) -> None:
    Experiment(config(squares, tmp_path / "out", methods, teacher=trained)).run()
    assert not passes


def test_a_teacher_may_run_in_each_step(
    squares: Pack, trained: TeacherConfig, tmp_path: Path, passes: list[tuple[bool, int]], own_cache: Path
) -> None:
    live = config(squares, tmp_path / "live", "kd,fitnet", teacher=replace(trained, views=0))
    Experiment(live).run()
    assert not passes and not own_cache.exists()
    Experiment(replace(live, out=tmp_path / "cached", teacher=trained)).run()
    new, cached = weights(tmp_path / "live"), weights(tmp_path / "cached")
    # `fitnet` sees a new view in each pass, cached or not; `kd` learns from an average if cached, so it differs
    assert {name.split("/")[1] for name, _ in new.items() & cached.items()} == {"fitnet"} and len(new) == 2


def test_averages_that_do_not_fit_are_refused_before_a_student_is_trained(
    squares: Pack, trained: TeacherConfig, tmp_path: Path
) -> None:
    asked = config(squares, tmp_path / "out", "none,kd", teacher=trained, trainer=replace(TRAINER, cache_gb=1e-6))
    with pytest.raises(CmkdError, match=r"do not fit a cache of 1e-06 GB, .*; increase .* --teacher.views 0$"):
        Experiment(asked).run()
    assert not (tmp_path / "out" / "students").exists()


def test_the_teacher_runs_where_its_views_do_not_fit_and_nothing_else_changes(
    squares: Pack, trained: TeacherConfig, tmp_path: Path, passes: list[tuple[bool, int]]
) -> None:
    roomy = config(squares, tmp_path / "roomy", "fitnet,at+0.5*kd", teacher=trained)
    Experiment(roomy).run()
    assert len(passes) == 2
    Experiment(replace(roomy, out=tmp_path / "none", trainer=replace(TRAINER, cache_gb=0))).run()
    assert len(passes) == 2 and weights(tmp_path / "none") == weights(tmp_path / "roomy")


@pytest.mark.parametrize("methods", ["kd,fitnet", "fitnet,kd"])
def test_a_cache_with_room_for_one_method_serves_one_after_the_other(
    methods: str, squares: Pack, trained: TeacherConfig, tmp_path: Path, own_cache: Path
) -> None:
    def size() -> int:
        return sum(path.stat().st_size for path in own_cache.glob("*/*.bin") if path.name != "rows.bin")

    roomy = config(squares, tmp_path / "roomy", methods, teacher=trained)
    Experiment(roomy).run()
    tight = replace(TRAINER, cache_gb=(size() - 1) / 1e9)
    for path in own_cache.glob("*/done.json"):
        path.unlink()
    Experiment(replace(roomy, out=tmp_path / "tight", trainer=tight)).run()
    assert weights(tmp_path / "tight") == weights(tmp_path / "roomy") and 0 < size() <= tight.cache_gb * 1e9


def test_results_say_whether_a_training_had_leveled_off(
    squares: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "still_rising", lambda accuracies: len(accuracies) < 5)  # half of the steps
    Experiment(config(squares, tmp_path / "long", "none", epochs=10)).run()
    Experiment(config(squares, tmp_path / "short", "none", epochs=3)).run()
    for run, converged in (("long", True), ("short", False)):
        found = list((tmp_path / run).rglob("result.json"))
        assert len(found) == 2
        for path in found:
            result, history = read_json(path), pd.read_csv(path.with_name("history.csv"))
            assert result["converged"] is converged
            assert result["steps"] == history["step"].iloc[-1] == (28 if converged else 12)


def test_a_self_trained_teacher_learns_from_an_earlier_one_on_the_pairs_without_a_label(
    squares: Pack, tmp_path: Path
) -> None:
    teacher = TeacherConfig(model=NAME, self_training=True, views=2)
    Experiment(config(squares, tmp_path / "out", "kd", teacher=teacher, label_fraction=0.2)).run()
    folder = tmp_path / "out" / "teacher"
    first, second = (pd.read_csv(place / "history.csv") for place in (folder / "first", folder))
    assert "train_kd" not in first and (second["train_kd"] > 0).all()
    alone = Experiment(
        config(squares, tmp_path / "alone", "kd", label_fraction=0.2, teacher=replace(teacher, self_training=False))
    )
    alone.run()
    same, other = (place / "best.safetensors" for place in (folder / "first", folder))
    reference = (tmp_path / "alone" / "teacher" / "best.safetensors").read_bytes()
    assert same.read_bytes() == reference != other.read_bytes()
    assert weights(tmp_path / "out") != weights(tmp_path / "alone")  # students learn from the second teacher
    before = sorted(path.stat().st_mtime_ns for path in folder.rglob("best.safetensors"))
    Experiment(config(squares, tmp_path / "out", "kd,none", teacher=teacher, label_fraction=0.2)).run()
    assert sorted(path.stat().st_mtime_ns for path in folder.rglob("best.safetensors")) == before


def test_a_teacher_cannot_be_self_trained_and_given(trained: TeacherConfig, squares: Pack, tmp_path: Path) -> None:
    for given, said in ((trained, "checkpoint"), (TeacherConfig(model=NAME, folds=2), "folds")):
        with pytest.raises(CmkdError, match=f"leave out teacher.{said}"):
            Experiment(config(squares, tmp_path / said, "kd", teacher=replace(given, self_training=True))).run()


def test_a_rival_without_a_teacher_starts_its_rich_model_untrained(
    squares: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[bytes] = []

    def seen(job: TrainingJob, *rest: object, **options: object) -> Path:
        if job.teacher is not None:
            given.append(job.teacher.encoder.state_dict()["stem.0.weight"].numpy().tobytes())
        return fit(job, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("cmkd.experiment.fitting.fit", seen)
    out = tmp_path / "out"
    Experiment(config(squares, out, "discom_kd,c2kd", jobs=1, epochs=1)).run()
    model, _ = load_model(out / "teacher" / "best.safetensors")
    first = model.encoder.state_dict()["stem.0.weight"].numpy().tobytes()
    assert [start == first for start in given] == [False, True]
    assert {"train_discom_overlap", "train_teacher_cross_entropy"} <= set(
        pd.read_csv(out / "students" / "discom_kd" / "seed-0" / "history.csv")
    )
