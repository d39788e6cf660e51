"""From a configuration and the data to the resolved run: everything that was left open, decided once."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from cmkd import models
from cmkd.config import ModelConfig, RunConfig, TeacherConfig
from cmkd.data import SPLITS, Pack, PackExistsError, from_dataset, train_values
from cmkd.data.map_style import check_made_from
from cmkd.datasets import open_data
from cmkd.datasets.open import is_own
from cmkd.errors import CmkdError, in_one_line
from cmkd.experiment.devices import check_accelerator, with_launcher
from cmkd.experiment.modalities import with_modalities
from cmkd.experiment.own_code import own_code
from cmkd.experiment.tuning import check_installed
from cmkd.expression import parse_call, parse_sum
from cmkd.inference import operations
from cmkd.io import checksum, writable_cache
from cmkd.methods import METHODS
from cmkd.methods.combine import from_expression, taught_by
from cmkd.models import FusedModel, Model
from cmkd.models.checkpoint import load_model, read_about
from cmkd.models.tensor_file import raw_bytes
from cmkd.options import check, plain
from cmkd.progress import shown
from cmkd.registry import load_reference
from cmkd.training.compiling import check_compiler
from cmkd.training.schedule import epoch_steps, training_length
from cmkd.training.teacher_outputs import OutputsFile
from cmkd.types import Modality

NOT_SETTINGS = ("out", "methods", "seeds", "jobs", "preset", "data", "min_precision")
"""Options that may change between two calls on one folder; the pack behind `data` may not."""
NOT_SETTINGS_TRAINER = (
    *("devices", "num_nodes", "threads", "accelerator", "compile"),  # these change results by rounding alone
    *("checkpoint_seconds", "cache_gb", "logger", "progress"),
)
VIEWS = 16
"""Views of each pair that the teacher sees by default, at most: as in our first trial, where one averaged record a pair
was as good as an answer to each view."""
OWN_DATA = "data"
"""Folder of a run that holds the pack made from an own ``Dataset``."""


@dataclass(frozen=True)
class ResolvedRun:
    """A run with nothing left open.

    Args:
        config: the configuration, every default filled in.
        pack: the pairs.
        packs: ``teacher`` and ``student`` -> the pairs with the labels that are visible to it.
        operations: multiply-adds of the larger of the two models on one pair.
    """

    config: RunConfig
    pack: Pack
    packs: Mapping[str, Pack]
    operations: int = 0

    @property
    def rich(self) -> str:
        """The teacher's modality; of several, the one that all its training pairs have."""
        return self.config.teacher.modalities[0]

    @property
    def poor(self) -> str:
        """The student's modality; of several, the one that all its training pairs have."""
        return self.config.student.modalities[0]

    @property
    def labels(self) -> dict[str, dict[str, int | None]]:
        """Labels of training pairs that each model sees.

        ``teacher`` and ``student`` -> ``visible`` and ``all``: labeled training pairs that have its modality; and
        ``wrong``: visible labels that label noise replaced. For a teacher from a file ``visible`` and ``wrong`` are
        None, as they are not known. For the student also ``unlabeled``: pairs that have both modalities and no visible
        label.
        """
        counts: dict[str, dict[str, int | None]] = {}
        for role, name in (("teacher", self.rich), ("student", self.poor)):
            rows, every = (p.rows("train", modalities=(name,), labeled=True) for p in (self.packs[role], self.pack))
            shown, stored = (pack.index["label"].to_numpy()[rows] for pack in (self.packs[role], self.pack))
            counts[role] = {"visible": len(rows), "all": len(every), "wrong": int((shown != stored).sum())}
        if self.config.teacher.checkpoint is not None or self.config.teacher.outputs is not None:
            counts["teacher"] |= {"visible": None, "wrong": None}
        both = self.packs["student"].rows("train", modalities=(self.rich, self.poor), labeled=False)
        counts["student"]["unlabeled"] = len(both)
        return counts

    def pairs(self, role: str) -> int:
        """Return the number of training pairs in an epoch of the teacher or of each student.

        It counts the pairs that have the model's modality and either a label, hidden or not, or the other modality too:
        trainings are equally long, however many labels are visible.
        """
        return usable_pairs(self.pack, *((self.rich, self.poor) if role == "teacher" else (self.poor, self.rich)))

    def settings(self) -> dict[str, Any]:
        """Return everything that the numbers depend on, ready for JSON; one folder holds one such setting."""
        settings = self.config.to_dict()
        settings["trainer"] = {k: v for k, v in settings["trainer"].items() if k not in NOT_SETTINGS_TRAINER}
        used = {call.name for expression in self.config.expressions for call in parse_sum(expression)}
        given = settings["method_options"]
        settings["method_options"] = {
            name: plain(check(name, METHODS.find(name), given.get(name, {}))) for name in sorted(used)
        }
        for role in ("teacher", "student"):
            model = getattr(self.config, role).model
            if isinstance(model, nn.Module):  # its name does not tell its weights
                settings[role]["weights"] = checksum(map(raw_bytes, model.state_dict().values()))
            for name in ("checkpoint", "outputs"):  # nor does the name of a file tell its content
                if (path := settings[role].get(name)) is not None:
                    settings[role][f"{name}_sha256"] = checksum(Path(path))
        by_content(settings)
        settings["sources"] = own_code(self.config)
        settings["pack"] = self.pack.card.identity
        if self.pack.label_calls:  # labels hidden or changed by the caller
            settings["pack"]["labels"] = plain(self.pack.label_calls)
        return {k: v for k, v in settings.items() if k not in NOT_SETTINGS}

    def build(self, role: str) -> Model:
        """Build the teacher or the student, or load its checkpoint; weights come from torch's generator.

        Raises:
            CmkdError: it does not fit the data.
        """
        config: ModelConfig = getattr(self.config, role)
        modalities = [self.pack.modality(name) for name in config.modalities]
        early = isinstance(config, TeacherConfig) and config.fusion == "early"
        if config.checkpoint is None and early:
            model = self._stacked(config, modalities)
        elif config.checkpoint is None:
            model = self._built(config, modalities[0], len(self.pack.classes))
            if modalities[1:]:
                others = [self._built(config, other, model.spec.dim) for other in modalities[1:]]
                model = FusedModel(model, others, together=role == "teacher")
        else:
            model, about = load_model(config.checkpoint, module=config.model if config.own_model else None)
            model.train()
            if not config.own_model and config.model not in ("auto", about["model"]):
                raise CmkdError(
                    f"'{config.checkpoint}' holds the model '{about['model']}', not '{config.model}': leave out "
                    f"{role}.model"
                )
            if config.size is not None and config.size != about["size"]:
                raise CmkdError(
                    f"'{config.checkpoint}' resizes to {about['size'] or 'no size'}, not {config.size}: leave out "
                    f"{role}.size"
                )
            if model.spec.class_names != self.pack.classes and role != "teacher":
                raise CmkdError(f"'{config.checkpoint}' was trained on different classes, which only a teacher may be")
            seen = (model.modalities, modalities)
            theirs, ours = (" and ".join(f"{m.dtype} '{m.name}' {m.shape}" for m in each) for each in seen)
            if theirs != ours:
                raise CmkdError(f"'{config.checkpoint}' expects {theirs}, but the data have {ours}")
            for known, there in zip(*seen, strict=True):
                known.check_measured(there, "the data", f"for '{config.checkpoint}'")
            if early and not isinstance(model, models.StackedModel):
                raise CmkdError(f"'{config.checkpoint}' fuses its modalities late; leave out teacher.fusion early")
        if config.checkpoint is None:
            model.spec = replace(model.spec, class_names=self.pack.classes)
        if config.frozen:
            model.freeze()
        return model

    def model_name(self, role: str) -> str:
        """Return what `cmkd.models.build` makes the teacher or the student from, also where a checkpoint was."""
        config: ModelConfig = getattr(self.config, role)
        if config.checkpoint is None or config.own_model:
            return str(plain(config.model))
        return str(read_about(config.checkpoint)["model"])

    def _stacked(self, config: ModelConfig, modalities: Sequence[Modality]) -> Model:
        encoder, size = models.build_encoder(
            config.model, models.stack(modalities), pretrained=config.pretrained, size=config.size
        )
        values = None
        if config.scaling != "linear":
            each = [train_values(self.pack, modality.name) for modality in modalities]
            values = np.hstack([channel[: min(map(len, each))] for channel in each])
        return models.StackedModel(
            modalities, encoder, classes=len(self.pack.classes), size=size, scaling=config.scaling, values=values
        )

    def _built(self, config: ModelConfig, modality: Modality, classes: int) -> Model:
        return models.build(
            config.model,
            modality,
            classes=classes,
            pretrained=config.pretrained,
            size=config.size,
            scaling=config.scaling,
            values=None if config.scaling == "linear" else train_values(self.pack, modality.name),
        )


def resolve(config: RunConfig) -> ResolvedRun:
    """Open the data, fill in every open option, and find what would fail hours later.

    Raises:
        CmkdError: for anything wrong with the configuration or the data, in one line.
    """
    config = replace(config, trainer=with_launcher(config.trainer))
    check_accelerator(config.trainer)
    check_methods(config)  # before the data: preparing them can take long
    if config.tune:
        check_installed()
    if config.trainer.compile:
        check_compiler()
    if config.teacher.views != 0:
        writable_cache("teacher_outputs")  # else it would be found after the teacher is trained
    pack = open_pairs(config)
    teacher, student = with_modalities(config, pack)
    pairs = usable_pairs(pack, student.modalities[0], teacher.modalities[0])
    epochs, batch_size = training_length(
        pairs, config.preset, epochs=config.epochs, batch_size=config.trainer.batch_size
    )
    if teacher.views is None:
        passes = math.ceil(epochs * epoch_steps(pairs, batch_size) * batch_size / max(1, pairs))
        teacher = replace(teacher, views=min(VIEWS, max(1, passes)))
    resolved = ResolvedRun(
        replace(
            config,
            epochs=epochs,
            trainer=replace(config.trainer, batch_size=batch_size),
            augmentation=config.augmentation.resolved(mirror=pack.card.mirror, cropped=pack.card.cropped),
            teacher=teacher,
            student=student,
        ),
        pack,
        {role: visible(pack, config, role) for role in ("teacher", "student")},
    )
    return replace(resolved, operations=_check(resolved))


def by_content(settings: Mapping[str, Any]) -> None:
    """Leave out where a file of settings lies whose checksum they hold: it may be named in another way."""
    for role in ("teacher", "student"):
        for name in ("checkpoint", "outputs"):
            if f"{name}_sha256" in settings.get(role, {}):
                settings[role].pop(name, None)


def usable_pairs(pack: Pack, modality: str, other: str) -> int:
    """Return the number of training pairs that have a modality, and a label or the other modality too."""
    labeled = pack.rows("train", modalities=(modality,), labeled=True)
    return len(np.union1d(labeled, pack.rows("train", modalities=(modality, other))))


def visible(pack: Pack, config: RunConfig, role: str) -> Pack:
    """Return the pairs that the teacher or the students see, with the labels that they see."""
    own: float | None = getattr(config, role).label_fraction
    seen = pack.withhold(config.label_fraction, labels=config.labels) if own is None else pack.withhold(own)
    if config.unlabeled is not None:
        seen = seen.limit_unlabeled(config.unlabeled)
    return seen.mislabel(config.label_noise)


def check_methods(config: RunConfig) -> None:
    """Refuse methods that the run cannot train, and options that they do not have.

    Raises:
        CmkdError: in one line.
    """
    calls = [call for expression in config.expressions for call in parse_sum(expression)]
    for name, options in (*config.method_options.items(), *((call.name, call.options) for call in calls)):
        check(name, METHODS.find(name), options)
    if config.teacher.checkpoint is not None:
        for call in calls:
            if METHODS.find(call.name).fresh_teacher:
                raise CmkdError(f"'{call.name}' trains a teacher of its own: leave it out, or teacher.checkpoint")


def open_pairs(config: RunConfig) -> Pack:
    """Open the data of a configuration; an own ``Dataset`` becomes a pack in the run's folder.

    Raises:
        CmkdError: there is no such data.
    """
    data = config.data
    if isinstance(data, str) and is_own(data):
        package, _, text = data.partition(":")
        call = parse_call(text)
        name = f"{package}:{call.name}"
        data = load_reference(name)
        if callable(data):
            with in_one_line(f"{name} cannot be called with {', '.join(call.options) or 'no options'}"):
                inspect.signature(data).bind(**call.options)
            data = data(**call.options)
        elif call.options:
            raise CmkdError(f"{name} is no class or function and takes no options; remove them")
    if isinstance(data, Pack):
        return data
    if isinstance(data, str | Path):
        with shown("preparing data") as progress:
            return open_data(data, progress=progress)
    place = config.out / OWN_DATA
    try:
        return from_dataset(data, place)
    except PackExistsError:  # of an earlier call, or of another process of this run
        pack = Pack.open(place)
    try:
        check_made_from(pack, data)
    except CmkdError as error:
        raise CmkdError(f"{error}; choose another --out") from error
    return pack


def _check(run: ResolvedRun) -> int:
    """Check that models, methods and data fit together, and return the operations of the larger model."""
    for split in SPLITS:
        for names in (run.config.teacher.modalities, (run.rich,), (run.poor,), run.config.student.modalities):
            if not len(run.pack.rows(split, modalities=names, labeled=True)):
                raise CmkdError(f"no labeled {split} pair has the modality '{'+'.join(names)}'; check the split column")
    for role, name in (("teacher", run.rich), ("student", run.poor)):
        if not len(run.packs[role].rows("train", modalities=(name,), labeled=True)):
            raise CmkdError(f"no training pair with a visible label has the modality '{name}'; show the {role} more")
    if not len(run.pack.rows("train", modalities=(run.rich, run.poor))):
        raise CmkdError(f"no training pair has both '{run.rich}' and '{run.poor}': there is nothing to distill from")
    _check_self_training(run.config.teacher)
    if run.config.teacher.folds > 1:
        given = {"checkpoint": run.config.teacher.checkpoint, "outputs": run.config.teacher.outputs}
        if any(given.values()) or not run.config.teacher.views:
            raise CmkdError("teacher.folds trains its own teachers: leave out teacher.checkpoint, outputs and views 0")
        run.packs["teacher"].folds(run.config.teacher.folds)
    outputs = run.config.teacher.outputs
    built = [run.build(role) for role in ("student", "teacher") if role == "student" or outputs is None]
    student = built[0].spec
    teacher = built[-1].spec if outputs is None else OutputsFile.read(outputs, run.pack).spec(run.pack)
    for expression in run.config.expressions:
        own = taught_by(expression)
        method = from_expression(expression, student, student if own else teacher, run.config.method_options)
        if outputs is not None and not own:
            method.check_outputs_suffice()
        if run.config.teacher.folds > 1 and method.uses_teacher and not own:
            method.check_logits_suffice()
        if "setup" in method.required_hooks and (outputs is None or own):  # which changes the student, here a copy
            method.setup(*(copy.deepcopy(model).eval() for model in (built[0], built[0 if own else -1])))
    return max(operations(model, run.pack) for model in built)


def _check_self_training(teacher: TeacherConfig) -> None:
    given = {"checkpoint": teacher.checkpoint, "outputs": teacher.outputs, "folds": teacher.folds > 1}
    if teacher.self_training and (other := [name for name, value in given.items() if value]):
        raise CmkdError(f"teacher.self_training trains two teachers on all pairs: leave out teacher.{other[0]}")
