"""The typed configuration of a run. Its field names are the keys of ``config.yaml`` and the flags of ``cmkd run``.

Cheap to import: nothing but the standard library below it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from cmkd.expression import split_list


@dataclass
class ModelConfig:
    """One of the two models.

    Args:
        modality: what it sees; by default what the data set names as rich (teacher) or poor (student).
        model: ``auto``, an encoder such as ``thin_resnet(width=32)``, or a timm name such as ``resnet18``.
        size: resize images to this many pixels a side before the model.
        pretrained: start from published weights (timm models; needs a network).
        checkpoint: a model this program saved. A teacher is then used as it is and not trained; it may know other
            classes than the data, for methods of features and relations.
        labeled: the share of the training pairs of each class that shows it its label; of the others a student learns
            by the distillation terms alone. To see what a teacher is worth where pairs are cheap and labels dear: one
            that has an archive of labeled images of its own, say, and students that have few labeled pairs.
        frozen: train the classifier alone and leave the encoder as it is (with `pretrained`: a linear probe).
    """

    modality: str | None = None
    model: str = "auto"
    size: int | None = None
    pretrained: bool = False
    checkpoint: Path | None = None
    labeled: float = 1.0
    frozen: bool = False


@dataclass
class OptimizerConfig:
    """Optimizer and schedule: linear warm-up, then a cosine to zero.

    Args:
        name: AdamW, or SGD with Nesterov momentum.
        learning_rate: at the peak, for a batch of 128 pairs; scaled linearly with the batch size for sgd, by its square
            root for adamw. By default what suits the student's or teacher's encoder: 0.01 for this package's small
            ones, 0.001 for timm models; ten times as much for sgd.
        weight_decay: decoupled for adamw; not applied to biases and norms.
        momentum: of sgd.
        warmup: fraction of all steps.
        clip_norm: largest norm of the gradient; 0 for no clipping.
        label_smoothing: of the cross-entropy.
        ema: decay of an exponential moving average of the weights that is evaluated and saved; 0 for none. Early in
            training it reaches back over less (`cmkd.training.ema`).
    """

    name: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float | None = None
    weight_decay: float = 0.05
    momentum: float = 0.9
    warmup: float = 0.1
    clip_norm: float = 5.0
    label_smoothing: float = 0.0
    ema: float = 0.99


@dataclass
class AugmentationConfig:
    """Random changes of the training samples; modalities on one pixel grid get the same geometry.

    Args:
        flip: mirror images left-right half of the time. By default where the data set says that a mirrored image is as
            good a sample of its class: of a ship it is, of a letter it is not.
        shift: largest shift of an image, as a fraction of its side, in whole pixels, one at least; 0 for none. By
            default 0.1, and 0.05 where the data set says that its images are cropped to what they show.
        rotate: largest rotation of an image, in degrees.
        scale: largest relative change of size: of an image, or of the values of series and points about their mean.
        noise: standard deviation of Gaussian noise, in units of each channel's own, for vectors, series and points.
        drop: probability of dropping a point of a set, or a time step of a series, which then repeats the one before.
    """

    flip: bool | None = None
    shift: float | None = None
    rotate: float = 0.0
    scale: float = 0.1
    noise: float = 0.02
    drop: float = 0.05

    def of_data(self, *, mirror: bool, cropped: bool) -> AugmentationConfig:
        """Return it with what is open filled in by what a data set says of itself.

        Example:
            >>> AugmentationConfig(shift=0.2).of_data(mirror=True, cropped=True).shift
            0.2
        """
        flip = mirror if self.flip is None else self.flip
        shift = (0.05 if cropped else 0.1) if self.shift is None else self.shift
        return replace(self, flip=flip, shift=shift)


@dataclass
class TrainerConfig:
    """How and where training runs.

    Args:
        batch_size: pairs a step, over all devices together; by default 128, and 64 or 32 where training pairs are few
            and the preset's epochs would make fewer steps than it asks for.
        precision: arithmetic of the forward pass: 32-true, bf16-mixed or 16-mixed.
        accelerator: auto, cpu or gpu.
        devices: how many on each node.
        num_nodes: nodes of a cluster; start the same command on each (torchrun or SLURM).
        checkpoint_seconds: how often the full state is saved; a killed run trains at most this long again.
        deterministic: refuse operations without a deterministic form (CPU runs are repeatable without it).
        logger: tensorboard, mlflow or wandb, beside history.csv; none for history.csv alone.
        progress: auto shows bars on a terminal and plain lines elsewhere; none is silent.
    """

    batch_size: int | None = None
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: int = 1
    num_nodes: int = 1
    checkpoint_seconds: float = 60.0
    deterministic: bool = False
    logger: Literal["none", "tensorboard", "mlflow", "wandb"] = "tensorboard"
    progress: Literal["auto", "none"] = "auto"


@dataclass
class RunConfig:
    """A run: one teacher, then a student for each method and seed.

    Args:
        data: a data set (``digits``, ``mars:PATH``, ``digits(severity=0.3)``), a folder with a manifest, or a pack.
        out: folder of the results. The same command again continues where it stopped.
        methods: methods to distil with, by comma; sums and options are written ``kd(temperature=2)+0.5*ds``.
        seeds: students for each method.
        seed: the first of the seeds, and the teacher's.
        epochs: passes over the training pairs; by default the preset's.
        preset: quick (20 epochs, and at least 1,000 steps) or full (100 epochs, and at least 5,000 steps).
        allow_unlabeled: use pairs without a label for the distillation terms.
        teacher: the model on the rich modality.
        student: the model on the poor modality.
        optimizer: for teacher and students alike.
        augmentation: for teacher and students alike.
        trainer: devices, precision, batch size, checkpoints.
    """

    data: str
    out: Path
    methods: str | list[str] = "none,kd,ds"
    seeds: int = 3
    seed: int = 0
    epochs: int | None = None
    preset: Literal["quick", "full"] = "quick"
    allow_unlabeled: bool = False
    teacher: ModelConfig = field(default_factory=ModelConfig)
    student: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)

    @property
    def expressions(self) -> list[str]:
        """The methods, one expression each."""
        return split_list(self.methods) if isinstance(self.methods, str) else list(self.methods)


PRESETS = {"quick": (20, 1000), "full": (100, 5000)}
"""Preset -> epochs, and the least number of steps: a small data set is passed over more often, in smaller batches."""
BATCHES = (128, 64, 32)
"""Batch sizes to choose from, the usual first. Small ones make more steps of the same passes, which is what training on
few pairs lacks; the smallest still leaves the correlations and similarities that methods estimate from a batch."""


def training_length(
    pairs: int, preset: str = "quick", *, epochs: int | None = None, batch_size: int | None = None
) -> tuple[int, int]:
    """Return the epochs and the batch size of a training; what is given is kept.

    The batch is a function of pairs and preset alone: not of the epochs asked for, nor of the number of devices, so
    that a shorter run is the same training cut short, and more devices give what one gives.

    Args:
        pairs: that the students train on.
        preset: one of `PRESETS`.
        epochs: passes over the pairs, if chosen.
        batch_size: pairs a step, if chosen.

    Example:
        >>> training_length(50_000), training_length(2000), training_length(200)
        ((20, 128), (20, 32), (167, 32))
        >>> training_length(2000, "full"), training_length(2000, epochs=2), training_length(2000, batch_size=128)
        ((100, 32), (2, 32), (67, 128))
    """
    usual, steps = PRESETS[preset]
    if batch_size is None:
        batch_size = next((size for size in BATCHES if usual * (pairs // size) >= steps), BATCHES[-1])
    return epochs or max(usual, math.ceil(steps / max(1, pairs // batch_size))), batch_size
