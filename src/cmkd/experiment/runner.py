"""One run: a teacher on the rich modality, a student for each method and seed on the poor one, and the results."""

from __future__ import annotations

import fcntl
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import yaml

import cmkd
from cmkd import models
from cmkd.config import ModelConfig, RunConfig, training_length
from cmkd.data import Pack
from cmkd.datasets.open import open_data
from cmkd.distributed import rank, world_size
from cmkd.errors import CmkdError, unknown_name
from cmkd.evaluation import prediction_table, scores, summarize
from cmkd.expression import parse_sum
from cmkd.inference import predict
from cmkd.io import atomic, write_json, write_text
from cmkd.methods.combine import from_expression
from cmkd.methods.pages import bibliography
from cmkd.models import Model
from cmkd.models.checkpoint import load_model, read_about
from cmkd.provenance import commit, hardware, versions
from cmkd.training.fit import TrainingJob, fit

RESULTS = "results.json"
_FREE = ("out", "methods", "seeds", "preset", "data")  # may change between two calls on one folder; the pack may not
_FREE_TRAINER = ("devices", "num_nodes", "accelerator", "checkpoint_seconds", "logger", "progress")


@dataclass
class Experiment:
    """A run in its folder.

    Args:
        config: what to do.
        method_options: options of methods by name, such as ``{"kd": {"temperature": 2.0}}``; those written in
            ``config.methods`` come first.

    Example:
        >>> experiment = Experiment(RunConfig(data="digits", out=Path("runs/digits")))
        >>> results = experiment.run()  # doctest: +SKIP
        >>> results["students"][0]["test_accuracy"]  # doctest: +SKIP
        0.72
    """

    config: RunConfig
    method_options: Mapping[str, Mapping[str, object]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder = Path(self.config.out)
        self.labeled: dict[str, int] = {}
        self.methods = self.config.expressions
        self.epochs = 0

    def run(self) -> dict[str, Any]:
        """Train what is not trained yet, evaluate on the test pairs, and return what ``results.json`` holds.

        Raises:
            CmkdError: for anything wrong with the configuration or the data, before any training starts.
        """
        self._check_numbers()
        with _lock(self.folder):
            if rank() == 0:
                for left in self.folder.rglob(".*.tmp"):  # half-written files of a process that was killed
                    left.unlink(missing_ok=True)
            pack = open_data(self.config.data, allow_unlabeled=self.config.allow_unlabeled)
            rich, poor = self._modalities(pack)
            self._check(pack, rich, poor)
            packs = {side: pack.withhold(getattr(self.config, side).labeled) for side in ("teacher", "student")}
            for side, name in (("teacher", rich), ("student", poor)):
                self.labeled[side] = len(packs[side].rows("train", modalities=(name,), labeled=True))
            pairs, trainer = len(pack.rows("train", modalities=(poor,))), self.config.trainer
            self.epochs, batch_size = training_length(
                pairs, self.config.preset, epochs=self.config.epochs, batch_size=trainer.batch_size
            )
            self.config = replace(
                self.config,
                trainer=replace(trainer, batch_size=batch_size),
                augmentation=self.config.augmentation.of_data(mirror=pack.card.mirror, cropped=pack.card.cropped),
            )
            self._record(pack, rich, poor)
            self._keep_samples(pack, rich, poor)
            teacher, teacher_result = self._teacher(packs["teacher"], rich)
            self._write(pack, rich, poor, teacher_result)
            for seed in range(self.config.seed, self.config.seed + self.config.seeds):
                for expression in self.methods:
                    self._student(packs["student"], poor, teacher, expression, seed)
                    self._write(pack, rich, poor, teacher_result)
            return self._write(pack, rich, poor, teacher_result)

    def _check_numbers(self) -> None:
        config = self.config
        for name, value, least in (
            ("seeds", config.seeds, 1),
            ("epochs", 1 if config.epochs is None else config.epochs, 1),
            ("trainer.batch_size", 2 if config.trainer.batch_size is None else config.trainer.batch_size, 2),
            ("trainer.devices", config.trainer.devices, 1),
        ):
            if value < least:
                raise CmkdError(f"--{name} is {value}; it must be at least {least}")
        if not 0.0 <= config.optimizer.ema < 1.0:
            raise CmkdError(f"--optimizer.ema is {config.optimizer.ema}; it must be at least 0 and below 1")
        if not self.methods:
            raise CmkdError("--methods is empty; give one or more, such as none,kd,ds")
        if len(set(self.methods)) < len(self.methods):
            raise CmkdError(f"--methods names one twice: {', '.join(self.methods)}")

    def _modalities(self, pack: Pack) -> tuple[str, str]:
        chosen = []
        for role, asked, default in (
            ("teacher", self.config.teacher.modality, pack.card.rich),
            ("student", self.config.student.modality, pack.card.poor),
        ):
            name = asked or default
            if name is None:
                raise CmkdError(
                    f"which modality does the {role} see? Give --{role}.modality, one of {', '.join(pack.modalities)}"
                )
            if name not in pack.modalities:
                raise unknown_name("modality", name, pack.modalities)
            chosen.append(name)
        return chosen[0], chosen[1]

    def _check(self, pack: Pack, rich: str, poor: str) -> None:
        """Find what would fail hours later: empty splits, methods that do not fit the models."""
        for split in ("train", "validation", "test"):
            for name in (rich, poor):
                if not len(pack.rows(split, modalities=(name,), labeled=True)):
                    raise CmkdError(f"no labeled {split} pair has the modality '{name}'; check the split column")
        if not len(pack.rows("train", modalities=(rich, poor))):
            raise CmkdError(f"no training pair has both '{rich}' and '{poor}': there is nothing to distil from")
        teacher, student = (
            self._build(side, pack, name) for side, name in ((self.config.teacher, rich), (self.config.student, poor))
        )
        for expression in self.methods:
            from_expression(expression, student.spec, teacher.spec, self.method_options)

    def _build(self, config: ModelConfig, pack: Pack, modality: str) -> Model:
        if config.checkpoint is not None:
            model, about = load_model(Path(config.checkpoint))
            names = tuple(about["classes"])
            if names != pack.classes and config is not self.config.teacher:
                raise CmkdError(
                    f"'{config.checkpoint}' knows {len(names)} other classes than the data's; only a teacher may"
                )
            if model.modality.name != modality or model.modality.shape != pack.modalities[modality].shape:
                raise CmkdError(
                    f"'{config.checkpoint}' sees '{model.modality.name}' {model.modality.shape}, the data has "
                    f"'{modality}' {pack.modalities[modality].shape}"
                )
        else:
            names = pack.classes
            model = models.build(
                config.model,
                pack.modalities[modality],
                classes=len(pack.classes),
                pretrained=config.pretrained,
                size=config.size,
            )
        model.spec = replace(model.spec, class_names=names)
        if config.frozen:
            model.encoder.requires_grad_(False)
        return model

    def _teacher(self, pack: Pack, rich: str) -> tuple[Model, dict[str, Any]]:
        config, folder = self.config, self.folder / "teacher"
        if config.teacher.checkpoint is not None:
            path = Path(config.teacher.checkpoint)
            if not (folder / "result.json").exists():
                folder.mkdir(parents=True, exist_ok=True)
                about: dict[str, Any] = {"modality": rich, "seed": None, "method": None}
                classes = read_about(path)["classes"]
                if tuple(classes) == pack.classes:
                    self._evaluate(folder, pack, path, about)
                else:  # it cannot be right or wrong about the data's classes
                    unknown = dict.fromkeys(("validation_accuracy", "test_accuracy"))
                    about |= {"classes": classes, "checkpoint": str(path.resolve()), **unknown}
                    write_json(folder / "result.json", about)
        else:
            path = folder / "best.safetensors"
            if not (folder / "result.json").exists():
                torch.manual_seed(config.seed)
                job = TrainingJob(
                    folder,
                    pack,
                    self._build(config.teacher, pack, rich),
                    config.teacher.model,
                    epochs=self.epochs,
                    seed=config.seed,
                    allow_unlabeled=config.allow_unlabeled or config.teacher.labeled < 1,
                    about={"role": "teacher"},
                    title="teacher",
                )
                fit(job, config.optimizer, config.augmentation, config.trainer)
                self._evaluate(folder, pack, path, {"modality": rich, "seed": config.seed, "method": None})
        teacher, told = load_model(path)
        teacher.spec = replace(teacher.spec, class_names=tuple(told["classes"]))
        return teacher, _read(folder / "result.json")

    def _student(self, pack: Pack, poor: str, teacher: Model, expression: str, seed: int) -> None:
        config, folder = self.config, self.student_folder(expression, seed)
        if (folder / "result.json").exists():
            return
        torch.manual_seed(seed)
        student = self._build(config.student, pack, poor)
        method = from_expression(expression, student.spec, teacher.spec, self.method_options)
        method.setup(student, teacher)
        job = TrainingJob(
            folder,
            pack,
            student,
            config.student.model,
            epochs=self.epochs,
            seed=seed,
            teacher=teacher,
            method=method,
            allow_unlabeled=config.allow_unlabeled or config.student.labeled < 1,
            about={"role": "student", "method": expression},
            title=f"{expression}, seed {seed}",
        )
        path = fit(job, config.optimizer, config.augmentation, config.trainer)
        self._evaluate(folder, pack, path, {"modality": poor, "seed": seed, "method": expression})

    def student_folder(self, expression: str, seed: int) -> Path:
        """Return where the files of one student are."""
        return self.folder / "students" / re.sub(r"[^\w.=,+*()-]", "_", expression) / f"seed-{seed}"

    def _evaluate(self, folder: Path, pack: Pack, path: Path, about: dict[str, Any]) -> None:
        """Test the model that was best on validation; ``result.json`` is written last, as it says done."""
        if rank() == 0:
            self._evaluate_here(folder, pack, path, about)
        if world_size() > 1:
            dist.barrier()

    def _evaluate_here(self, folder: Path, pack: Pack, path: Path, about: dict[str, Any]) -> None:
        model, _ = load_model(path)
        device = "cuda" if self.config.trainer.accelerator != "cpu" and torch.cuda.is_available() else "cpu"
        result = dict(about)
        for split in ("validation", "test"):
            rows = pack.rows(split, modalities=(model.modality.name,), labeled=True)
            logits = predict(model, pack, rows, device=device)
            measured = scores(logits, pack.index["label"].to_numpy()[rows])
            result |= {f"{split}_{name}": value for name, value in measured.items()} | {f"{split}_pairs": len(rows)}
            with atomic(folder / f"{split}.parquet") as temporary:
                prediction_table(pack, rows, logits).to_parquet(temporary, index=False)
        inside = path.resolve().is_relative_to(self.folder.resolve())
        result["checkpoint"] = str(path.resolve().relative_to(self.folder.resolve()) if inside else path.resolve())
        write_json(folder / "result.json", result)

    def _settings(self, pack: Pack) -> dict[str, Any]:
        """Return everything that the numbers depend on; one folder holds one such setting."""
        settings = _plain(asdict(self.config))
        settings["epochs"] = self.epochs
        settings["trainer"] = {k: v for k, v in settings["trainer"].items() if k not in _FREE_TRAINER}
        used = {call.name for expression in self.methods for call in parse_sum(expression)}
        settings["method_options"] = {
            name: dict(options) for name, options in sorted(self.method_options.items()) if name in used
        }
        settings["pack"] = {"version": pack.card.version, "sha256": dict(pack.card.sha256)}
        return dict(_plain({k: v for k, v in settings.items() if k not in _FREE}))

    def _record(self, pack: Pack, rich: str, poor: str) -> None:
        settings, path = self._settings(pack), self.folder / "settings.json"
        if path.exists():
            before = _read(path)
            # a method that is new to the folder brings its options along
            settings["method_options"] = before["method_options"] | settings["method_options"]
            both = {name: settings["method_options"][name] for name in before["method_options"]}
            different = _first_difference(before, settings | {"method_options": both})
            if different:
                raise CmkdError(
                    f"'{self.folder}' holds a run with another {different}; choose another --out, or delete the folder"
                )
        resolved = _plain(asdict(self.config))
        resolved["epochs"] = self.epochs
        resolved["teacher"]["modality"], resolved["student"]["modality"] = rich, poor
        resolved |= {name: dict(options) for name, options in settings["method_options"].items()}
        about = {"versions": versions(), "commit": commit(), "hardware": hardware(), "command": sys.argv}
        text = yaml.safe_dump(resolved, sort_keys=False)
        comments = "".join(f"# {line}\n" for line in yaml.safe_dump(about, sort_keys=False).splitlines())
        write_text(self.folder / "config.yaml", f"{text}\n{comments}")
        write_json(path, settings)

    def _keep_samples(self, pack: Pack, rich: str, poor: str) -> None:
        """Keep one training pair of each class, for the report."""
        if rank() != 0 or (self.folder / "samples.npz").exists():
            return
        rows = pack.rows("train", modalities=(rich, poor), labeled=True)
        labels = pack.index["label"].to_numpy()[rows]
        _, first = np.unique(labels, return_index=True)
        chosen = rows[first[:12]]
        batch = pack.batch(chosen, (rich, poor))
        about = {
            "labels": [pack.classes[label] for label in labels[first[:12]]],
            "modalities": {name: asdict(pack.modalities[name]) for name in (rich, poor)},
        }
        write_json(self.folder / "samples.json", about)
        with atomic(self.folder / "samples.npz") as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **{n: v.numpy() for n, v in batch.inputs.items()})

    def _write(self, pack: Pack, rich: str, poor: str, teacher: dict[str, Any]) -> dict[str, Any]:
        seeds = range(self.config.seed, self.config.seed + self.config.seeds)
        done = sorted((self.folder / "students").glob("*/seed-*/result.json"))
        found = [_read(path) for path in done]
        order = {m: i for i, m in enumerate(self.methods)}
        students = sorted(found, key=lambda r: (order.get(r["method"], len(order)), r["method"], r["seed"]))
        results = {
            "cmkd": cmkd.__version__,
            "data": {
                "name": pack.card.name,
                "version": pack.card.version,
                "classes": list(pack.classes),
                "rich": rich,
                "poor": poor,
                "pairs": {s: len(pack.rows(s)) for s in ("train", "validation", "test")},
                "labeled": self.labeled,
            },
            "epochs": self.epochs,
            "complete": {(m, s) for m in self.methods for s in seeds} <= {(r["method"], r["seed"]) for r in students},
            "teacher": teacher,
            "students": students,
            "summary": summarize(students),
        }
        if rank() == 0:
            write_json(self.folder / RESULTS, results)
            used = [*self.methods, *(student["method"] for student in students)]
            cited = [text.strip() for text in (pack.card.citation, bibliography(used)) if text]
            write_text(self.folder / "citations.bib", "\n\n".join(cited) + "\n")
        return results


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def _plain(value: Any) -> Any:  # noqa: ANN401  # any configuration value
    match value:
        case dict():
            return {k: _plain(v) for k, v in value.items()}
        case list() | tuple():
            return [_plain(v) for v in value]
        case Path():
            return str(value)
    return value


def _first_difference(old: Any, new: Any, path: str = "") -> str | None:  # noqa: ANN401
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            found = _first_difference(old.get(key), new.get(key), f"{path}.{key}" if path else key)
            if found:
                return found
        return None
    return None if old == new else f"{path} ({old}, now {new})"


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Hold the run's folder; the lock goes with the process, however it ends."""
    folder.mkdir(parents=True, exist_ok=True)
    if rank() != 0 or int(os.environ.get("RANK", "0")) != 0:
        yield
        return
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise CmkdError(f"another run is at work in '{folder}'; wait for it, or choose another --out") from error
        yield
