"""Which moving average of the weights to keep, asked of held-out pairs inside train and validation.

    python benchmarks/averaging.py digits presto:DATA/presto
    python benchmarks/averaging.py 'mars(test_person=1):DATA/mars' 'mars(test_person=2):DATA/mars' --own-split

The average does not act on the training, so one training serves every decay: each has its own best epoch on the
validation pairs, and its own accuracy on the held-out ones. The cut into folds is that of ``fair_chance.py``, and the
test split is never read. ``--own-split`` is for data of few groups: the test pairs of what is named are then held out,
so name a variant whose test pairs are not those of the benchmark. Each training's figures are one file, and a second
run repeats none of them; ``--write`` gathers them in ``averaging.json`` and ``averaging.md``.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from documents import about, paired, said, table
from fair_chance import FOLDS, folds, own_split, recut
from lightning.pytorch import Callback, LightningModule, Trainer
from simple_baselines import placeless
from steps import RESULTS, RUNS, Step, load, work

from cmkd import models
from cmkd.config import AugmentationConfig, OptimizerConfig, TrainerConfig, training_length
from cmkd.data import Pack
from cmkd.datasets import open_data
from cmkd.evaluation import scores
from cmkd.inference import predict
from cmkd.io import write_json, write_text
from cmkd.provenance import commit, hardware, versions
from cmkd.training.ema import ModelEma
from cmkd.training.fit import TrainingJob, fit

KINDS = {
    "none": (0.0, 10),
    "0.98": (0.98, 10),
    "0.99": (0.99, 10),
    "0.995": (0.995, 10),
    "0.99, 3": (0.99, 3),
    "0.995, 3": (0.995, 3),
}
"""Decay, and warmup where it is not 10 (`cmkd.training.ema`); none is the weights of the last step."""
FOLDER = RUNS / "averaging"


class Averages(Callback):
    """Keeps an average for each decay, and the best of each on the validation pairs."""

    def __init__(self, pack: Pack, rows: np.ndarray) -> None:
        self.pack, self.rows = pack, rows
        self.averages: dict[str, ModelEma] = {}
        self.best: dict[str, tuple[float, float]] = {}
        self.kept: dict[str, dict[str, torch.Tensor]] = {}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin with the weights that training begins with."""
        self.averages = {
            kind: ModelEma(pl_module.model, decay, warmup=warmup) for kind, (decay, warmup) in KINDS.items()
        }

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        """Follow one step."""
        for average in self.averages.values():
            average.update(pl_module.model, trainer.global_step)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare each with its best so far, as `fit` does: by accuracy, and then by log-loss."""
        for kind, average in self.averages.items():
            found = measured(average.model, self.pack, self.rows)
            order = (found["accuracy"], -found["log_loss"])
            if order > self.best.get(kind, (-1.0, 0.0)):
                self.best[kind] = order
                self.kept[kind] = {k: v.clone() for k, v in average.model.state_dict().items()}


def measured(model: models.Model, pack: Pack, rows: np.ndarray) -> dict[str, float]:
    """Return how good the answers for some pairs are."""
    return scores(predict(model, pack, rows), pack.index["label"].to_numpy()[rows])


def measure(step: Step) -> dict[str, Any]:
    """Train once, and return the accuracies of each decay."""
    pack, name = open_data(step["place"]), step["modality"]
    if step["fold"] is None:
        (rows,) = own_split(pack, name)
    else:
        rows = list(folds(pack, name))[step["fold"]]
        pack = recut(pack, name, *rows[:2])
    epochs, batch_size = training_length(len(rows[0]))
    torch.manual_seed(step["seed"])
    model = models.build("auto", pack.modality(name), classes=len(pack.classes))
    settings = TrainerConfig(batch_size, accelerator="cpu", logger="none", progress="none")
    averages, held = Averages(pack, rows[1]), {}
    with tempfile.TemporaryDirectory() as folder:
        task = TrainingJob(Path(folder), pack, model, "auto", epochs=epochs, seed=step["seed"])
        fit(task, OptimizerConfig(ema=0.0), AugmentationConfig(), settings, callbacks=[averages])
    for kind, state in averages.kept.items():
        model.load_state_dict(state)
        held[kind] = measured(model, pack, rows[2])
    validation = {kind: accuracy for kind, (accuracy, _) in averages.best.items()}
    says = {kind: round(found["accuracy"], 3) for kind, found in held.items()}
    return {"held_out": held, "validation": validation, "pairs": [len(part) for part in rows], "says": str(says)}


def plan(references: Sequence[str], *, own_split: bool, count: int) -> Iterator[Step]:
    """Yield the trainings, fold by fold, so that what is there when it is stopped compares."""
    for fold in [None] if own_split else range(count):
        for place in references:
            card = open_data(place).card
            for role, modality in (("rich", card.rich), ("poor", card.poor)):
                yield {
                    "data": card.name,
                    "place": place,
                    "role": role,
                    "modality": modality,
                    "fold": fold,
                    "seed": fold or 0,
                }


def markdown(found: Mapping[str, Any]) -> str:
    """Return the table."""
    cells: dict[tuple[str, str], list[dict[str, float]]] = {}
    for result in found["results"]:
        accuracies = {kind: 100 * measured["accuracy"] for kind, measured in result["held_out"].items()}
        cells.setdefault((result["step"]["data"], result["step"]["modality"]), []).append(accuracies)
    means = {
        cell: {kind: float(np.mean([one[kind] for one in each])) for kind in KINDS} for cell, each in cells.items()
    }
    rows = [[*cell, str(len(cells[cell])), *(f"{means[cell][kind]:.1f}" for kind in KINDS)] for cell in cells]
    summary = ["mean gain", "", str(sum(map(len, cells.values()))), ""]
    for kind in list(KINDS)[1:]:
        ours, theirs = ({n: mean[k] for n, mean in enumerate(means.values())} for k in (kind, "none"))
        summary.append(said(paired(ours, theirs)))
    return "\n".join(
        [
            "# A moving average of the weights",
            "",
            "Accuracy in % on held-out pairs of train and validation, whole groups at a time, mean over trainings, for "
            "decays of an exponential moving average of the weights (behind the comma the warmup at the start, if it is"
            " not 10; `cmkd.training.ema` has the formula); none is the weights of the last step. Each has its own "
            "best epoch on validation. MARS: persons 1 to 3 are held out in turn, and person 4 is in train alone. "
            "The test split of the benchmark is not read. Last line: mean difference from none over the rows, with "
            "Student's 95 % interval over them.",
            "",
            "`python benchmarks/averaging.py --folds N REFERENCE` for each (MARS: `--own-split`), then `--write`. "
            f"{about(found['about'])}",
            "",
            table(["data set", "modality", "trainings", *KINDS], [*rows, summary]),
            "",
        ]
    )


def main() -> None:
    """Run from a command line."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("data", nargs="*", help="data sets, as in cmkd run --data")
    options.add_argument("--own-split", action="store_true", help="hold out the test pairs of what is named")
    options.add_argument("--folds", type=int, default=FOLDS, help="the first so many of five")
    options.add_argument("--write", action="store_true", help="gather what there is")
    given = options.parse_args()
    torch.set_num_threads(1)
    work(FOLDER, list(plan(given.data, own_split=given.own_split, count=given.folds)), measure)
    if given.write:
        write(RESULTS / "averaging.json")


def write(path: Path) -> None:
    """Gather all trainings, without the place of their files, and write the table beside them."""
    results = [
        {**found, "step": {**found["step"], "place": placeless(found["step"]["place"])}}
        for found in load(FOLDER).values()
    ]
    results.sort(key=lambda found: (found["step"]["place"], found["step"]["role"], found["step"]["seed"]))
    found = {"about": {"versions": versions(), "commit": commit(), "hardware": hardware()}, "results": results}
    write_json(path, found)
    write_text(path.with_suffix(".md"), markdown(found))


if __name__ == "__main__":
    main()
