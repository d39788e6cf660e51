"""The typed configuration of a run. Its field names are the keys of ``config.yaml`` and the flags of ``cmkd run``.

Importing it is cheap: it needs neither torch nor Lightning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from cmkd import options
from cmkd.documents import read_yaml
from cmkd.errors import CmkdError
from cmkd.expression import split_list
from cmkd.io import write_text
from cmkd.options import BelowOne, Bounds, Count, Seed, Threads
from cmkd.registry import is_reference
from cmkd.types import Scaling

Fraction = Annotated[float, Bounds(above=0, most=1)]
NotNegative = Annotated[float, Bounds(least=0)]
TRIAL_SEEDS = 1_000_000
"""Distance of the seed of trials from the first one of a run; no method has more students than this."""
EXAMPLE = "data: digits"
"""A line of the file of a run."""
OWN_METHOD = "ds"
"""The method of this package, dimensional structure."""


@dataclass(frozen=True)
class ModelConfig:
    """One of the two models.

    Args:
        modality: what it sees; by default the rich (teacher) or poor (student) modality of the data. Either may see
            several, as in ``optical+radar``: the mean of an embedding of each. A teacher always gets all that a pair
            has; a student works with any subset. The main one is the rich (teacher) or poor (student) modality, or else
            the first named: a model trains on the pairs that have it, and with it alone a student is compared with
            other models. Methods that compare feature maps read those of the main one.
        model: ``auto``, an encoder, a timm name, or your own as ``package.module:Name``. Options are written as in
            ``thin_resnet(width=32)``. In Python also an ``nn.Module``, a class or a function that returns one, or what
            `cmkd.wrap` returns; see `cmkd.models.build`.
        size: resize images to this many pixels per side before the model.
        scaling: how stored values enter the network; try log for heavy tails such as SAR in linear intensity. linear
            standardizes each channel; log and rank compress its tails first. Data in dB are logarithms already. All
            are fixed by the training pairs and saved with the model (`cmkd.models.scaling`). A `checkpoint` keeps its
            own.
        pretrained: start from published weights (timm models; needs a network).
        checkpoint: a model saved by cmkd. A teacher is then used as it is and not trained; it may have been trained on
            other classes, for methods of features and relations.
        label_fraction: this model's own fraction of visible labels; by default what the run says.
        frozen: train only the classifier and keep the encoder fixed (with `pretrained`: a linear probe).
    """

    modality: str | None = None
    model: Any = "auto"
    size: Count | None = None
    scaling: Scaling = "linear"
    pretrained: bool = False
    checkpoint: Path | None = None
    label_fraction: Fraction | None = None
    frozen: bool = False

    @property
    def modalities(self) -> tuple[str, ...]:
        """The names in `modality`."""
        return tuple(name.strip() for name in (self.modality or "").replace(",", "+").split("+"))

    @property
    def own_model(self) -> bool:
        """Whether `model` is a module of the user's own."""
        return not isinstance(self.model, str) or is_reference(self.model)


@dataclass(frozen=True)
class StudentConfig(ModelConfig):
    """The student.

    Args:
        modality_dropout: probability of hiding each modality of a training pair from a student that sees several; one
            always stays (`cmkd.training.augment.drop_modalities`). By default 0.5.
    """

    modality_dropout: Annotated[float, Bounds(least=0, most=1)] | None = None


@dataclass(frozen=True)
class TeacherConfig(ModelConfig):
    """The teacher, and how its outputs reach the students.

    The outputs on the training pairs are computed once and kept on disk for all students, seeds and runs. Methods of
    logits and embeddings read one record a pair, averaged over `views` augmented views, while the student sees new
    views in each pass. Methods that compare feature maps place by place read the record of the view that the student
    sees: students then see `views` views of each pair in turn.

    Args:
        views: augmented views of each pair; by default 16, or as many as there are passes over the pairs. 0 runs the
            teacher in each step instead, on a new view in each pass.
        folds: above 1, train this many cross-fitted teachers; each labeled pair gets its outputs from one that did not
            train on it or its group. For methods that read only logits.
        self_training: train a second teacher, which also learns from the soft predictions of the first on the training
            pairs without a label, as in the method `self_training`; it teaches the students.
        outputs: a file with logits and embeddings of a teacher that is not run here (`cmkd.training.teacher_outputs`).
        fusion: how a teacher of several modalities combines them: ``late`` averages the embeddings of an encoder for
            each; ``early`` has one encoder for the channels of all, which must be of one size and should be
            co-registered.
    """

    views: Annotated[int, Bounds(least=0)] | None = None
    folds: Count = 1
    outputs: Path | None = None
    self_training: bool = False
    fusion: Literal["late", "early"] = "late"


@dataclass(frozen=True)
class OptimizerConfig:
    """Optimizer and schedule: linear warm-up, a constant rate, then a linear cooldown (`cmkd.training.schedule`).

    Args:
        name: AdamW, or SGD with Nesterov momentum.
        learning_rate: at the peak, for a batch of 128 pairs; by default what suits the encoder. It is scaled linearly
            with the batch size for sgd, by its square root for adamw. The default is 0.01 for the encoders of this
            package and 0.001 for timm models; ten times as much for sgd.
        weight_decay: decoupled for adamw; not applied to biases and norms.
        momentum: momentum of sgd.
        warmup: fraction of the largest number of steps, at most 200 steps.
        clip_norm: largest norm of the gradient; 0 disables clipping.
        label_smoothing: label smoothing of the cross-entropy.
        ema: decay of the moving average of the weights that is evaluated and saved; 0 for none. It is shorter early in
            training (`cmkd.training.ema`).
        early_stop: end a training where validation has leveled off; otherwise train to the largest number of steps.
    """

    name: Literal["adamw", "sgd"] = "adamw"
    learning_rate: Annotated[float, Bounds(above=0)] | None = None
    weight_decay: NotNegative = 0.05
    momentum: BelowOne = 0.9
    warmup: Annotated[float, Bounds(least=0, most=1)] = 0.1
    clip_norm: NotNegative = 5.0
    label_smoothing: BelowOne = 0.0
    ema: BelowOne = 0.99
    early_stop: bool = True


@dataclass(frozen=True)
class AugmentationConfig:
    """Random changes of the training samples; co-registered modalities get the same geometry.

    Args:
        flip: mirror images left-right half of the time; by default where the data set allows it. A mirrored ship is
            a ship; a mirrored letter is not a letter.
        shift: largest shift of an image, as a fraction of its side; by default 0.1, or 0.05 for cropped images. Shifts
            are whole pixels, at least one; 0 for none.
        rotate: largest rotation of an image, in degrees.
        scale: largest relative change of size: of an image, or of the values of series and points about their mean.
        noise: standard deviation of Gaussian noise, in units of each channel's own, for vectors, series and points.
            With the scaling `log` or `rank`, `scale` and this act on the scaled values.
        drop: probability of dropping a point of a set, or a time step of a series, which then repeats the one before.
    """

    flip: bool | None = None
    shift: BelowOne | None = None
    rotate: Annotated[float, Bounds(least=0, most=180)] = 0.0
    scale: BelowOne = 0.1
    noise: NotNegative = 0.02
    drop: BelowOne = 0.05

    def resolved(self, *, mirror: bool, cropped: bool) -> AugmentationConfig:
        """Return it with open fields filled in by what the data set states.

        Example:
            >>> AugmentationConfig(shift=0.2).resolved(mirror=True, cropped=True)
            AugmentationConfig(flip=True, shift=0.2, rotate=0.0, scale=0.1, noise=0.02, drop=0.05)
        """
        flip = mirror if self.flip is None else self.flip
        shift = (0.05 if cropped else 0.1) if self.shift is None else self.shift
        return replace(self, flip=flip, shift=shift)


@dataclass(frozen=True)
class TrainerConfig:
    """How and where training runs.

    Args:
        batch_size: pairs per step, over all devices together; by default 128, fewer for small training sets.
        shuffle_window: shuffle training pairs within windows of this size, filled with runs of neighbors; by default
            over all pairs. A pushed pack is then read nearly in order, with far fewer requests, and any pack gives the
            same batches. The order is less random: choose a window of many batches.
        precision: arithmetic of the forward pass.
        compile: run the models through torch.compile in training: a minute or more at the start of each training, then
            faster steps. It needs a C++ compiler; results are equal up to rounding.
        accelerator: where to train.
        devices: number of devices on each node; torchrun and srun set their own number.
        num_nodes: number of nodes of a cluster; start the same command on each (torchrun or srun).
        threads: CPU threads of each training; by default 1 for small models, whose results then do not depend on the
            number of cores, and for large ones those that torch chooses.
        checkpoint_seconds: time between full checkpoints; a killed run loses at most this much training.
        cache_gb: largest size of the cache of teachers' outputs on disk; the least recently used are removed first.
        deterministic: refuse operations without a deterministic form (CPU runs are repeatable without it).
        logger: a logger besides history.csv, from the extra of its name; MLFLOW_TRACKING_URI and WANDB_MODE apply.
        progress: auto shows a live screen on a terminal and plain lines elsewhere; none is silent.
    """

    batch_size: Annotated[int, Bounds(least=2)] | None = None
    shuffle_window: Annotated[int, Bounds(least=2)] | None = None
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    compile: bool = False
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: Count = 1
    num_nodes: Count = 1
    threads: Threads | None = None
    checkpoint_seconds: NotNegative = 60.0
    cache_gb: NotNegative = 10.0
    deterministic: bool = False
    logger: Literal["none", "tensorboard", "mlflow", "wandb"] = "none"
    progress: Literal["auto", "none"] = "auto"


@dataclass(frozen=True)
class RunConfig:
    """A run: one teacher, then a student for each method and seed.

    Args:
        data: a data set, a pack (``PACK@N`` for version N), a folder of pairs, or your own data set as
            ``package.module:Name``. A data set takes options and a folder, as in ``digits(severity=0.3)`` and
            ``mars:FOLDER``. In Python also a `Pack` or a map-style ``Dataset`` of dicts.
        out: folder of the results; the same command continues there.
        methods: methods, separated by commas; options and sums as in ``kd(temperature=2)+0.5*ds``, your own class as
            ``package.module:Name``.
        seeds: number of students for each method.
        seed: first seed, also the teacher's.
        jobs: students trained at the same time, each in its own process; by default as many as the CPU's cores allow
            for small models, and 1 on a GPU, which several share if this is set.
        epochs: largest number of passes over the training pairs (parts of 500 steps where a pass is longer); by default
            the preset's number of steps.
        preset: quick (at most 3,000 steps) or full (at most 16,000). A training ends earlier where validation has
            leveled off.
        label_fraction: fraction of the training pairs of each class whose label teacher and students see. The other
            pairs take part only in the distillation terms; validation and test keep all labels.
        labels: number of labels that they see, instead of a fraction; spread over the classes, at least one each.
        unlabeled: number of training pairs without a visible label that take part, for each pair with one; by default
            all. It shows whether more of them would help.
        label_noise: fraction of these labels that are replaced by another class, for studies of robustness; teacher
            and students that see the same labels see the same wrong ones.
        tune: trials that choose each method's weights and temperatures on the validation pairs. They come before the
            students, with a seed that no student has. The first has the options given or the defaults, and Optuna draws
            those of the others; options written in `methods` stay as they are.
        min_precision: precision that accepted predictions of each class reach on the validation pairs; the recommended
            student marks the others as rejected.
        teacher: the model on the rich modality.
        student: the model on the poor modality.
        optimizer: of teacher and students alike.
        augmentation: of the training pairs of teacher and students alike.
        trainer: devices, precision, batch size, checkpoints.
        method_options: options of methods by name, such as ``{"kd": {"temperature": 2.0}}``; those written in `methods`
            take precedence.

    Raises:
        CmkdError: an unknown field, or a value of a wrong type or out of range.

    Example:
        >>> config = RunConfig(data="digits", out="runs/digits", teacher={"size": 16})
        >>> config.teacher.size, config.expressions
        (16, ('none', 'kd', 'ds'))
        >>> RunConfig(data="digits", out="runs/digits", seeds=0)
        Traceback (most recent call last):
            ...
        cmkd.errors.CmkdError: seeds is 0; it must be at least 1 and at most 999999
    """

    data: Any
    out: Path
    methods: str | tuple[str, ...] = f"none,kd,{OWN_METHOD}"
    seeds: Annotated[int, Bounds(least=1, most=TRIAL_SEEDS - 1)] = 3
    seed: Seed = 0
    jobs: Count | None = None
    epochs: Count | None = None
    preset: Literal["quick", "full"] = "quick"
    label_fraction: Fraction = 1.0
    labels: Annotated[int, Bounds(least=2)] | None = None
    unlabeled: Annotated[float, Bounds(least=0)] | None = None
    label_noise: Annotated[float, Bounds(least=0, below=1)] = 0.0
    tune: Annotated[int, Bounds(least=0)] = 0
    min_precision: Fraction = 0.9
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    student: StudentConfig = field(default_factory=StudentConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    method_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for role, kind in (("teacher", TeacherConfig), ("student", StudentConfig)):
            given = getattr(self, role)
            if not isinstance(given, ModelConfig | Mapping):  # a model by itself
                object.__setattr__(self, role, kind(model=given))
        for name, value in options.checked(type(self), {f.name: getattr(self, f.name) for f in fields(self)}).items():
            object.__setattr__(self, name, value)
        self._check_together()

    def _check_together(self) -> None:
        if self.teacher.outputs is not None and self.teacher.checkpoint is not None:
            raise CmkdError("teacher.outputs and teacher.checkpoint each name a teacher; give one of them")
        if self.labels is not None and self.label_fraction != 1.0:
            raise CmkdError(f"labels is {self.labels} and label_fraction is {self.label_fraction}; give one of them")
        momentum, usual = self.optimizer.momentum, OptimizerConfig.momentum
        if self.optimizer.name != "sgd" and momentum != usual:
            raise CmkdError(f"optimizer.momentum is {momentum}, but only sgd has it; leave it out, or name sgd")
        if not self.expressions:
            raise CmkdError("methods is empty; give one or more, such as none,kd,ds")
        if len(set(self.expressions)) < len(self.expressions):
            raise CmkdError(f"methods lists a method twice: {', '.join(self.expressions)}")

    @property
    def expressions(self) -> tuple[str, ...]:
        """The methods, one expression each."""
        return tuple(split_list(self.methods)) if isinstance(self.methods, str) else tuple(self.methods)

    @property
    def trial_seed(self) -> int:
        """Seed of the students that only try options; no other student has it, however many seeds are added."""
        return self.seed + TRIAL_SEEDS

    @classmethod
    def load(cls, path: Path | str) -> RunConfig:
        """Read a YAML file such as ``config.yaml`` of a run.

        Raises:
            CmkdError: the file is missing or no YAML, or a field or value is wrong.
        """
        return options.build(cls, read_yaml(Path(path), example=EXAMPLE))

    def save(self, path: Path | str) -> None:
        """Write it as YAML, which `load` reads; own modules and data in it are written by name only."""
        import yaml

        write_text(Path(path), yaml.safe_dump(self.to_dict(), sort_keys=False))

    def to_dict(self) -> dict[str, Any]:
        """Return it as nested dictionaries of plain values, ready for YAML and JSON."""
        return dict(options.plain({f.name: getattr(self, f.name) for f in fields(self)}))
