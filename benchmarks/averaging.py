"""Which moving average of the weights to keep, measured on held-out pairs inside train and validation.

    python benchmarks/averaging.py digits presto:DATA/presto
    python benchmarks/averaging.py 'mars(test_person=1):DATA/mars' 'mars(test_person=2):DATA/mars' --own-split

The average does not affect the training, so one training serves every decay: each decay has its own best epoch on the
validation pairs and its own accuracy on the held-out pairs. The folds are those of ``fair_chance.py``, and so is
``--own-split``; the test split is never read. The figures of each training are stored in ``runs/averaging.json``, and a
second run repeats none. Writes ``averaging.md``.
"""

from __future__ import annotations

from cmkd import models  # before lightning, which cannot be imported without it beside a CPU build of torch

# isort: split
import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from cmkd.config import AugmentationConfig, OptimizerConfig, TrainerConfig
from cmkd.data import Pack
from cmkd.datasets import open_data
from cmkd.evaluation import scores
from cmkd.inference import predict
from cmkd.io import write_text
from cmkd.training.ema import ModelEma
from cmkd.training.fit import TrainingJob, fit
from cmkd.training.module import DistillationModule
from cmkd.training.schedule import training_length
from fair_chance import FOLDS, folds, own_split, recut
from records import RESULTS, Records, about, difference, percent, table, without_folder

KINDS = {
    "none": (0.0, 10),
    "0.98": (0.98, 10),
    "0.99": (0.99, 10),
    "0.995": (0.995, 10),
    "0.99, 3": (0.99, 3),
    "0.995, 3": (0.995, 3),
}
"""Decay and warmup (`cmkd.training.ema`), by column of the table; ``none`` is the weights of the last step."""


class Averages(Callback):
    """Keeps one average for each decay, and the best of each on the validation pairs."""

    def __init__(self, pack: Pack, rows: np.ndarray) -> None:
        self.pack, self.rows = pack, rows
        self.averages: dict[str, ModelEma] = {}
        self.best: dict[str, tuple[float, float]] = {}
        self.kept: dict[str, dict[str, torch.Tensor]] = {}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start from the weights that training starts from."""
        self.averages = {
            kind: ModelEma(trained_model(pl_module), decay, warmup=warmup) for kind, (decay, warmup) in KINDS.items()
        }

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        """Update every average."""
        for average in self.averages.values():
            average.update(trained_model(pl_module), trainer.global_step)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare each with its best so far, as `fit` does: by accuracy, then by log-loss."""
        for kind, average in self.averages.items():
            found = measured(cast("models.Model", average.model), self.pack, self.rows)
            order = (found["accuracy"], -found["log_loss"])
            if order > self.best.get(kind, (-1.0, 0.0)):
                self.best[kind] = order
                self.kept[kind] = {k: v.clone() for k, v in average.model.state_dict().items()}


def trained_model(module: LightningModule) -> models.Model:
    """Return the model that a Lightning module of `fit` trains."""
    return cast("DistillationModule", module).model


def measured(model: models.Model, pack: Pack, rows: np.ndarray) -> dict[str, float]:
    """Return the scores of a model's predictions for the given pairs."""
    return scores(predict(model, pack, rows), pack.index["label"].to_numpy()[rows])


def measure(pack: Pack, modality: str, fold: int | None) -> dict[str, float]:
    """Train once, and return the accuracy of each decay on the held-out pairs.

    Args:
        pack: the pairs.
        modality: what the model sees.
        fold: number of the fold, which is the seed too; None for the pack's own split.
    """
    if fold is None:
        (rows,) = own_split(pack, modality)
    else:
        rows = list(folds(pack, modality))[fold]
        pack = recut(pack, modality, *rows[:2])
    seed = fold or 0
    epochs, batch_size = training_length(len(rows[0]))
    torch.manual_seed(seed)
    model = models.build("auto", pack.modality(modality), classes=len(pack.classes))
    settings = TrainerConfig(batch_size, accelerator="cpu", progress="none")
    averages, held_out = Averages(pack, rows[1]), {}
    with tempfile.TemporaryDirectory() as folder:
        job = TrainingJob(Path(folder), pack, model, "auto", epochs=epochs, seed=seed)
        fit(job, OptimizerConfig(ema=0.0), AugmentationConfig(), settings, callbacks=[averages])
    for kind, state in averages.kept.items():
        model.load_state_dict(state)
        held_out[kind] = measured(model, pack, rows[2])["accuracy"]
    return held_out


def plan(references: Sequence[str], split: Sequence[int | None]) -> Iterator[tuple[Pack, dict[str, Any]]]:
    """Yield pack and description of each training, fold by fold, so that an interrupted table compares equal folds."""
    for fold in split:
        for reference in references:
            pack = open_data(reference)
            for role, modality in (("rich", pack.card.rich), ("poor", pack.card.poor)):
                about_data = {"data": pack.card.name, "reference": without_folder(reference)}
                yield pack, about_data | {"role": role, "modality": modality, "fold": fold}


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Return the table."""
    cells: dict[tuple[str, str], list[dict[str, float]]] = {}
    for row in sorted(rows, key=lambda row: (row["reference"], row["role"])):
        cells.setdefault((row["data"], row["modality"]), []).append(row["held_out"])
    means = [{kind: float(np.mean([one[kind] for one in each])) for kind in KINDS} for each in cells.values()]
    lines = [
        [*cell, str(len(each)), *(percent(mean[kind]) for kind in KINDS)]
        for (cell, each), mean in zip(cells.items(), means, strict=True)
    ]
    gains = [difference([mean[kind] - mean["none"] for mean in means]) for kind in list(KINDS)[1:]]
    lines.append(["mean gain", "", str(len(rows)), "", *gains])
    return (
        "# A moving average of the weights\n\n"
        "Accuracy in % on held-out pairs of train and validation, whole groups at a time, mean over trainings, for "
        "decays of an exponential moving average of the weights (after the comma the warmup, if it is not 10; "
        "`cmkd.training.ema` has the formula); `none` is the weights of the last step. Each has its own best epoch on "
        "validation. MARS: persons 1 to 3 are held out in turn, and person 4 is in train only. The test split of the "
        "benchmark is not read. Last line: mean difference from `none` over the rows, with Student's 95 % interval, in "
        "bold where it excludes 0.\n\n"
        "`python benchmarks/averaging.py --folds N REFERENCE` for each (MARS: `--own-split`); "
        f"{about()}.\n\n{table(['data set', 'modality', 'trainings', *KINDS], lines, left=2)}\n"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is missing, then write the table of all trainings."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("data", nargs="*", help="data sets, as in cmkd run --data; figures of others are kept")
    options.add_argument("--own-split", action="store_true", help="hold out the test pairs of the named data set")
    options.add_argument("--folds", type=int, default=FOLDS, help=f"use the first N of {FOLDS} folds")
    options.add_argument("--raw", type=Path, default=Path("runs/averaging.json"), help="figures of each training")
    options.add_argument("--out", type=Path, default=RESULTS / "averaging.md")
    given = options.parse_args(arguments)
    torch.set_num_threads(1)
    records = Records(given.raw, identity=("reference", "modality", "fold"))
    for pack, described in plan(given.data, [None] if given.own_split else range(given.folds)):
        key = json.dumps(described)
        if key not in records.rows:
            held_out = measure(pack, described["modality"], described["fold"])
            records.add(key, described | {"held_out": held_out})
            print(key, ", ".join(f"{kind}: {percent(accuracy)}" for kind, accuracy in held_out.items()), flush=True)
    write_text(given.out, markdown(list(records.rows.values())))


if __name__ == "__main__":
    main()
