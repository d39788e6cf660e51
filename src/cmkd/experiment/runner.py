"""One run: a teacher on the rich modality, a student for each method and seed on the poor one, and the results."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from cmkd.config import RunConfig
from cmkd.deploy.recommend import publish
from cmkd.distributed import leads, world_size
from cmkd.documents import BEST, RESULT
from cmkd.errors import CmkdError, DiedError
from cmkd.evaluation.results import read_result
from cmkd.experiment import capacity, standing
from cmkd.experiment.fitting import Fitting
from cmkd.experiment.folder import RunFolder
from cmkd.experiment.plan import PlannedStudent, students
from cmkd.experiment.resolve import ResolvedRun, resolve
from cmkd.experiment.standing import outcome
from cmkd.experiment.teachers import Teachers
from cmkd.experiment.teaching import Teaching
from cmkd.experiment.tuning import Options, Trials, with_options
from cmkd.experiment.workers import one_after_another, packed, processes
from cmkd.methods.combine import from_expression
from cmkd.models.checkpoint import load_model
from cmkd.progress import Screen, busy, screen
from cmkd.provenance import commit
from cmkd.report import write_report
from cmkd.report.page import labels_seen
from cmkd.training.display import style
from cmkd.training.fit import threads
from cmkd.training.job import TrainingJob
from cmkd.training.reporting import Tell

if TYPE_CHECKING:
    from lightning.pytorch.callbacks import Callback

    from cmkd.training.loggers import MakeLogger


@dataclass(frozen=True)
class Experiment:
    """A run in its folder; the same as ``cmkd run``.

    Args:
        config: configuration of the run; it is not modified.
        callbacks: extra Lightning callbacks of every training, run before checkpointing.
        logger: function that makes the Lightning logger of a training from its job, such as from ``job.title`` and
            ``job.folder``; it replaces ``config.trainer.logger``.
        page: write ``report.html``, which takes a few seconds.
        others: folder of other runs, from which equal teachers are copied (`cmkd.experiment.teachers.Teachers`).

    Example:
        >>> experiment = Experiment(RunConfig(data="digits", out="runs/digits"))
        >>> results = experiment.run()  # doctest: +SKIP
        >>> results["students"][0]["test_accuracy"]  # doctest: +SKIP
        0.72
    """

    config: RunConfig
    callbacks: Sequence[Callback] = ()
    logger: MakeLogger | None = None
    page: bool = True
    others: Path | None = None

    @property
    def folder(self) -> RunFolder:
        """The files of the run."""
        return RunFolder(self.config.out)

    def run(self) -> dict[str, Any]:
        """Train the models that are not trained yet, evaluate on the test pairs, and write results and report.

        Returns:
            The content of ``results.json``.

        Raises:
            CmkdError: the configuration or the data are invalid (raised before any training starts), or some students
                could not be trained (raised after the others are trained).
        """
        leader = leads()
        commit()  # cached now, because the source tree may change during the run
        with screen(style(self.config.trainer)) as on, self.folder.held(leader=leader):
            with busy(on, "opening the data"):
                run = resolve(self.config)
                content, jobs = self._jobs(run)
            with threads(capacity.threads(run, jobs)):
                if leader:
                    run.pack.verify_content()  # a resumed run needs the same data; sizes and times are not enough
                    self.folder.record(run)
                    if seen := labels_seen(run.labels):
                        on.say(seen)
                failures = self._train(run, content, jobs, leader, on)
            if leader:
                with busy(on, "writing the report"):
                    publish(
                        self.config.out, self.folder.results(run), run.pack.card, precision=self.config.min_precision
                    )
                    if self.page:
                        write_report(self.config.out)
            if failures:
                count = f"{len(failures)} students were not trained: " if len(failures) > 1 else ""
                died = any(isinstance(failure, DiedError) for failure in failures)
                raise (DiedError if died else CmkdError)(count + "; ".join(map(str, failures)))
            return self.folder.results(run)

    def _missing(self, run: ResolvedRun) -> list[PlannedStudent]:
        return [s for s in students(run.config) if not self._trained(run, s)]

    def _trained(self, run: ResolvedRun, which: PlannedStudent) -> bool:
        if which.trial is not None:
            return self._trials(run, which.expression).ended(which.trial)
        return (self._home(run, which) / RESULT).exists()

    def _home(self, run: ResolvedRun, which: PlannedStudent) -> Path:
        """Return the folder of a student's files."""
        if which.seed != run.config.trial_seed:
            return self.folder.student(which.expression, which.seed)
        return self.folder.tuning(which.expression) / ("teacher" if which.trial is None else f"trial-{which.trial}")

    def _trials(self, run: ResolvedRun, expression: str) -> Trials:
        return Trials.of(run.config, expression, self.folder.tuning(expression))

    def _jobs(self, run: ResolvedRun) -> tuple[bytes, int]:
        """Return the pickled training function for other processes, and their number.

        If the function cannot be pickled and `RunConfig.jobs` is not set, the number is 1.

        Raises:
            CmkdError: the user set `jobs` above 1, and that is not possible.
        """
        jobs = capacity.jobs(run, len(self._missing(run)), callbacks=bool(self.callbacks))
        if jobs == 1:
            return b"", 1
        config = replace(run.config, data=run.pack)  # other processes open the pack itself, not its source
        there = replace(self, config=config)
        try:
            return packed(partial(there._student, replace(run, config=config))), jobs
        except CmkdError:
            if self.config.jobs is None:
                return b"", 1
            raise

    def _train(self, run: ResolvedRun, content: bytes, jobs: int, leader: bool, on: Screen) -> list[CmkdError]:
        """Train the missing models, and return the errors of students that could not be trained."""
        missing, count = self._missing(run), capacity.threads(run, jobs)
        teachers, homes = self._teachers(run), {student: self._home(run, student) for student in students(run.config)}
        with (
            standing.display(on, teachers.planned(), homes, missing, jobs) as display,
            processes(content, jobs, count) if jobs > 1 else nullcontext() as side_by_side,
        ):
            teachers.make(display)
            self._write(run, leader)
            self._fill(run)

            def ended(student: PlannedStudent) -> None:
                display.end(student.title, outcome(homes[student]))
                self._write(run, leader)

            if side_by_side is None:
                return one_after_another(partial(self._student, run), missing, tell=display, ended=ended)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()  # memory left by the teacher's training
            return side_by_side(missing, tell=display, ended=ended)

    def _teachers(self, run: ResolvedRun) -> Teachers:
        return Teachers(self._fitting(run), self.folder, self.others)

    def _fitting(self, run: ResolvedRun) -> Fitting:
        return Fitting(run, self.callbacks, self.logger)

    def _write(self, run: ResolvedRun, leader: bool) -> None:
        if leader:
            self.folder.write_results(run)

    def _student(self, run: ResolvedRun, which: PlannedStudent, tell: Tell) -> None:
        """Train a student with the chosen options of its method, or run one of the trials that choose them."""
        trials, result = self._trials(run, which.expression), self._home(run, which) / RESULT
        if which.trial is None:
            self._train_student(run, which, trials.chosen(), tell)
            return

        def train(options: Options) -> dict[str, Any]:
            if not result.exists():
                self._train_student(run, which, options, tell)
            return read_result(result)

        trials.run(which.trial, train, writes=leads())
        if world_size() > 1:
            dist.barrier()  # the other processes read the files that the leader writes

    def _train_student(self, run: ResolvedRun, which: PlannedStudent, options: Options, tell: Tell) -> None:
        (expression, seed, *_), config = which, run.config
        teaching = self._teaching(run, which)
        torch.manual_seed(seed)
        student = run.build("student")
        text = with_options(expression, options)
        method = from_expression(text, student.spec, teaching.spec, config.method_options)
        teaching.setup(method, student)
        answers = teaching.answers(method)
        teacher = run.build("teacher") if method.fresh_teacher else teaching.model
        job = TrainingJob(
            self._home(run, which),
            run.pack if method.sees_all_labels else run.packs["student"],
            student,
            run.model_name("student"),
            epochs=int(config.epochs or 0),
            seed=seed,
            teacher=teacher if answers is None else None,
            answers=answers,
            views=teaching.views(method),
            view_seed=config.seed,
            modality_dropout=config.student.modality_dropout or 0.0,
            method=method,
            pairs=run.pairs("student"),
            about={"role": "student", "method": expression},
            title=which.title,
            logs=config.out,
        )
        about = {"modality": run.poor, "seed": seed, "method": expression, "sees_all_labels": method.sees_all_labels}
        self._fitting(run).fit(job, about | ({"options": dict(options)} if options else {}), tell)

    def _teaching(self, run: ResolvedRun, which: PlannedStudent) -> Teaching:
        """Return the source that a student learns from: the run's teacher, or an earlier student of the same seed."""
        if not which.after:
            return self._teachers(run).teaching()
        folder = self._home(run, which.teacher)
        if not (folder / RESULT).exists():
            raise CmkdError(f"its teacher, the student '{which.after}' of the same seed, was not trained")
        model, _ = load_model(folder / BEST, module=run.config.student.model)
        return Teaching(run, model)

    def _fill(self, run: ResolvedRun) -> None:
        """Compute the teacher outputs that the missing students need."""
        missing = dict.fromkeys(student.expression for student in self._missing(run) if not student.after)
        if missing:
            teaching = self._teachers(run).teaching()
            student = run.build("student").spec
            options = run.config.method_options
            teaching.fill(from_expression(e, student, teaching.spec, options) for e in missing)
