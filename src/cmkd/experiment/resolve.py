"""Resolve a run: fill in all open settings once, from the configuration and the data."""

from __future__ import annotations

import copy
import inspect
import math
import warnings
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
from cmkd.data.pack.card import AGAIN, CardFile
from cmkd.datasets import open_data
from cmkd.datasets.open import is_own
from cmkd.errors import CmkdError, CmkdWarning, in_one_line
from cmkd.experiment.devices import check_accelerator, with_launcher
from cmkd.experiment.modalities import with_modalities
from cmkd.experiment.own_code import own_code
from cmkd.experiment.tuning import check_installed, trial_count
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
    *("devices", "num_nodes", "threads", "accelerator", "compile"),  # these change results only by rounding
    *("checkpoint_seconds", "cache_gb", "logger", "progress"),
)
VIEWS = 16
"""Largest default number of views of each pair that the teacher sees. In our first experiment, one record per pair,
averaged over so many views, was as good as a teacher output for each view."""
OWN_DATA = "data"
"""Subfolder of a run with the pack made from the user's own ``Dataset``."""


@dataclass(frozen=True)
class ResolvedRun:
    """A run with all settings filled in.

    Args:
        config: the configuration with every default filled in.
        pack: the pairs.
        packs: ``teacher`` and ``student`` -> the pairs with the labels that are visible to this role.
        operations: multiply-adds per pair of the larger of the two models.
    """

    config: RunConfig
    pack: Pack
    packs: Mapping[str, Pack]
    operations: int = 0

    @property
    def rich(self) -> str:
        """The teacher's main modality, which all its training pairs have."""
        return self.config.teacher.modalities[0]

    @property
    def poor(self) -> str:
        """The student's main modality, which all its training pairs have."""
        return self.config.student.modalities[0]

    @property
    def labels(self) -> dict[str, dict[str, int | None]]:
        """Numbers of training labels visible to each model.

        ``teacher`` and ``student`` -> ``visible`` and ``all``: training pairs with the model's main modality and a
        visible label, or any label; and ``wrong``: visible labels replaced by label noise. For a teacher from a file,
        ``visible`` and ``wrong`` are None, because they are unknown. The student also has ``unlabeled``: pairs with
        both main modalities and no visible label.
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

        It counts the pairs that have the model's modality, and also either a label (hidden or not) or the other model's
        modality. So the length of a training does not depend on the number of visible labels.
        """
        return usable_pairs(self.pack, *((self.rich, self.poor) if role == "teacher" else (self.poor, self.rich)))

    def settings(self) -> dict[str, Any]:
        """Return all settings that affect the results, ready for JSON; all runs in one folder must share them."""
        settings = self.config.to_dict()
        settings["trainer"] = {k: v for k, v in settings["trainer"].items() if k not in NOT_SETTINGS_TRAINER}
        used = {call.name for expression in self.config.expressions for call in parse_sum(expression)}
        given = settings["method_options"]
        settings["method_options"] = {
            name: plain(check(name, METHODS.find(name), given.get(name, {}))) for name in sorted(used)
        }
        for role in ("teacher", "student"):
            model = getattr(self.config, role).model
            if isinstance(model, nn.Module):  # its name does not identify its weights
                settings[role]["weights"] = checksum(map(raw_bytes, model.state_dict().values()))
            for name in ("checkpoint", "outputs"):  # a file's name does not identify its content
                if (path := settings[role].get(name)) is not None:
                    settings[role][f"{name}_sha256"] = checksum(Path(path))
        by_content(settings)
        settings["sources"] = own_code(self.config)
        settings["pack"] = self.pack.card.identity
        if self.pack.label_calls:  # labels hidden or changed by the caller
            settings["pack"]["labels"] = plain(self.pack.label_calls)
        return {k: v for k, v in settings.items() if k not in NOT_SETTINGS}

    def build(self, role: str) -> Model:
        """Build the teacher or the student, or load its checkpoint; new weights are drawn from torch's generator.

        Raises:
            CmkdError: the model does not fit the data.
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
        """Return the model name from which `cmkd.models.build` makes the teacher or student, also for a checkpoint."""
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
    """Open the data, fill in every open option, and detect errors that would otherwise occur hours later.

    Raises:
        CmkdError: the configuration or the data are invalid.
    """
    config = replace(config, trainer=with_launcher(config.trainer))
    check_accelerator(config.trainer)
    check_methods(config)  # before the data: preparing them can take long
    if config.tune and any(trial_count(config, expression) for expression in config.expressions):
        check_installed()
    elif config.tune:
        warnings.warn(
            f"tune={config.tune} has no effect: no weight or temperature of {', '.join(config.expressions)} is left to "
            "tune (options written in the methods are fixed)",
            CmkdWarning,
            stacklevel=2,
        )
    if config.trainer.compile:
        check_compiler()
    if config.teacher.views != 0:
        writable_cache("teacher_outputs")  # else an error would occur after the teacher is trained
    pack = open_pairs(config)
    if not CardFile.read(pack.path).unedited:
        warnings.warn(
            f"{pack.place}/card.json was edited by hand: its statistics, classes and flags are used as they are now; "
            f"restore it, or {AGAIN}",
            CmkdWarning,
            stacklevel=2,
        )
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
    """Remove the paths of files whose checksums are in the settings, because the paths may change."""
    for role in ("teacher", "student"):
        for name in ("checkpoint", "outputs"):
            if f"{name}_sha256" in settings.get(role, {}):
                settings[role].pop(name, None)


def usable_pairs(pack: Pack, modality: str, other: str) -> int:
    """Return the number of training pairs that have a modality, and also a label or the other modality."""
    labeled = pack.rows("train", modalities=(modality,), labeled=True)
    return len(np.union1d(labeled, pack.rows("train", modalities=(modality, other))))


def visible(pack: Pack, config: RunConfig, role: str) -> Pack:
    """Return the pairs that the teacher or the students use, with the labels that are visible to them."""
    own: float | None = getattr(config, role).label_fraction
    seen = pack.withhold(config.label_fraction, labels=config.labels) if own is None else pack.withhold(own)
    if config.unlabeled is not None:
        seen = seen.limit_unlabeled(config.unlabeled)
    return seen.mislabel(config.label_noise)


def check_methods(config: RunConfig) -> None:
    """Check that the run can train its methods, and that their options exist.

    Raises:
        CmkdError: a method or option is invalid, or does not fit the teacher.
    """
    calls = [call for expression in config.expressions for call in parse_sum(expression)]
    for name, options in (*config.method_options.items(), *((call.name, call.options) for call in calls)):
        check(name, METHODS.find(name), options)
    if config.teacher.checkpoint is not None:
        for call in calls:
            if METHODS.find(call.name).fresh_teacher:
                raise CmkdError(f"'{call.name}' trains a teacher of its own: leave it out, or teacher.checkpoint")


def open_pairs(config: RunConfig) -> Pack:
    """Open the data of a configuration; the user's own ``Dataset`` becomes a pack in the run's folder.

    Raises:
        CmkdError: the data do not exist or are invalid, or the pack in the folder was made from other data.
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
    except PackExistsError:  # from an earlier call, or from another process of this run
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
        if "setup" in method.required_hooks and (outputs is None or own):  # setup changes the student: use copies
            method.setup(*(copy.deepcopy(model).eval() for model in (built[0], built[0 if own else -1])))
    return max(operations(model, run.pack) for model in built)


def _check_self_training(teacher: TeacherConfig) -> None:
    given = {"checkpoint": teacher.checkpoint, "outputs": teacher.outputs, "folds": teacher.folds > 1}
    if teacher.self_training and (other := [name for name, value in given.items() if value]):
        raise CmkdError(f"teacher.self_training trains two teachers on all pairs: leave out teacher.{other[0]}")
