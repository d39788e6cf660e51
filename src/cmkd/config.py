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
"""Offset from the first seed of a run to the seed of its tuning trials; no method has more students than this."""
EXAMPLE = "data: digits"
"""Example line of a configuration file, for error messages."""
OWN_METHOD = "ds"
"""The main method of this package, dimensional structure."""


@dataclass(frozen=True)
class ModelConfig:
    """Settings that teacher and student have in common.

    Args:
        modality: input modality, or several as in ``optical+radar``; by default the data's rich modality (teacher) or
            poor modality (student). With several, the embeddings of one encoder per modality are averaged (for the
            teacher, see also `fusion`). A teacher always gets all of them that a pair has; a student works with any
            subset. The main modality is the rich (teacher) or poor (student) one if it is among them, else the first
            named. A model trains on the pairs that have its main modality, and a student is compared with other models
            on its main modality alone. Methods that compare feature maps use those of the main modality.
        model: network: ``auto``, an encoder of cmkd, a timm model, or your own model as ``package.module:Name``. Write
            options as in ``thin_resnet(width=32)``. In Python also an ``nn.Module``, a class or a function that returns
            one, or the result of `cmkd.wrap`; see `cmkd.models.build`.
        size: resize images to this many pixels per side before the model.
        scaling: scaling of the stored values before the network; try log for heavy-tailed values, such as SAR in linear
            intensity. linear standardizes each channel; log and rank compress its tails first. Data in dB are
            logarithmic already. Every scaling is fitted to the training pairs and saved with the model
            (`cmkd.models.scaling`). A model from a `checkpoint` keeps its own.
        pretrained: start from published weights (timm models only; they are downloaded).
        checkpoint: model file saved by cmkd; a student continues from its weights, and a teacher is used as it is,
            without training. The teacher may have been trained on other classes, for methods that use features and
            relations.
        label_fraction: fraction of the training labels visible to this model; by default the run's label_fraction or
            labels.
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
        """Whether `model` is the user's own module."""
        return not isinstance(self.model, str) or is_reference(self.model)


@dataclass(frozen=True)
class StudentConfig(ModelConfig):
    """Settings of the student.

    Args:
        modality_dropout: probability of hiding each modality of a training pair from a student with several modalities;
            by default 0.5. At least one modality always stays (`cmkd.training.augment.drop_modalities`).
    """

    modality_dropout: Annotated[float, Bounds(least=0, most=1)] | None = None


@dataclass(frozen=True)
class TeacherConfig(ModelConfig):
    """Settings of the teacher, and how its outputs reach the students.

    The teacher's outputs on the training pairs are computed once and cached on disk for all students, seeds and runs.
    Methods that use logits and embeddings read one record per pair, averaged over `views` augmented views, while the
    student sees new views in each pass. Methods that compare feature maps position by position read the record of the
    view that the student sees: students then cycle through `views` views of each pair.

    Args:
        views: number of augmented views of each pair that the teacher sees; by default 16, or the number of passes over
            the training pairs if that is smaller. 0 runs the teacher in each training step instead, on a new view in
            each pass.
        folds: number of cross-fitted teachers, if above 1; each labeled pair gets its teacher outputs from one that was
            not trained on this pair or its group. Works with methods that read only logits.
        self_training: train a second teacher, which also learns from the first one's soft predictions on unlabeled
            training pairs; the second one teaches the students. The training is that of the method `self_training`.
        outputs: file with the logits and embeddings of a teacher, used instead of running one. See
            `cmkd.training.teacher_outputs` for its format.
        fusion: how a teacher with several modalities combines them: ``late`` averages the embeddings of one encoder per
            modality; ``early`` feeds the channels of all modalities to one encoder. For ``early``, the modalities must
            have the same size and should be co-registered.
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
        name: optimizer: AdamW, or SGD with Nesterov momentum.
        learning_rate: peak learning rate for a batch of 128 pairs; by default 0.01 for the encoders of cmkd and your
            own models, 0.001 for timm models, and the attribute `learning_rate` of an encoder that has one; with late
            fusion, the smallest of its models; ten times as much with sgd. It is scaled linearly with the batch size
            for sgd, and with its square root for adamw.
        weight_decay: weight decay, decoupled for adamw; not applied to biases and normalization layers.
        momentum: momentum of sgd.
        warmup: length of the linear warm-up, as a fraction of the largest number of steps; at most 200 steps.
        clip_norm: largest gradient norm, to which larger gradients are clipped; 0 disables clipping.
        label_smoothing: label smoothing of the cross-entropy.
        ema: decay of the moving average of the weights, which is evaluated and saved; 0 disables it. The average is
            shorter early in training (`cmkd.training.ema`).
        early_stop: end training once validation accuracy has leveled off; otherwise train to the largest number of
            steps.
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
    """Random augmentation of the training samples; co-registered modalities get the same geometric changes.

    Args:
        flip: mirror images left-right half of the time; by default if the data set allows it. A mirrored ship is
            a ship; a mirrored letter is not a letter.
        shift: largest shift of an image, as a fraction of its side; by default 0.1, or 0.05 for cropped images. Shifts
            are in whole pixels, and the largest is at least one pixel; 0 disables shifts.
        rotate: largest rotation of an image, in degrees.
        scale: largest relative change of the size of an image, or of the values of vectors, series and points about
            their mean.
        noise: standard deviation of the Gaussian noise added to vectors, series and points, in units of each channel's
            standard deviation. With the scaling `log` or `rank`, `noise` and `scale` act on the scaled values.
        drop: probability of dropping each point of a set or time step of a series; a dropped time step repeats the one
            before it.
    """

    flip: bool | None = None
    shift: BelowOne | None = None
    rotate: Annotated[float, Bounds(least=0, most=180)] = 0.0
    scale: BelowOne = 0.1
    noise: NotNegative = 0.02
    drop: BelowOne = 0.05

    def resolved(self, *, mirror: bool, cropped: bool) -> AugmentationConfig:
        """Return the configuration with its open fields filled in from the properties of the data set.

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
        shuffle_window: number of training pairs in a shuffle window, filled with runs of neighboring pairs; by default
            all pairs are shuffled together. With a window, a pack on object storage (`cmkd data push`) is read nearly
            in order, with far fewer requests; a local pack gives the same batches. The order is less random: choose a
            window of many batches.
        precision: floating-point precision of the forward pass.
        compile: run the models through torch.compile in training: each training starts a minute or more later, then its
            steps are faster. It needs a C++ compiler; results are equal up to rounding.
        accelerator: device type to train on; auto uses a GPU if there is one.
        devices: number of devices on each node; torchrun and srun set it themselves.
        num_nodes: number of cluster nodes; start the same command on each node with torchrun or srun.
        threads: CPU threads of each training; by default 1 for small models on a CPU, so that results do not depend on
            the number of cores, and otherwise torch's own choice, as for any training on several devices. Large models,
            and models on a GPU, share the cores equally if several train at a time (`jobs`).
        checkpoint_seconds: seconds between full checkpoints; a killed run loses at most this much training.
        cache_gb: largest size in GB of the disk cache of teacher outputs; the least recently used are removed first.
        deterministic: raise an error for operations that have no deterministic implementation (CPU runs are repeatable
            without this).
        logger: logger besides history.csv; install the extra of the same name, such as cmkd[wandb]. The environment
            variables MLFLOW_TRACKING_URI and WANDB_MODE apply.
        progress: progress display: auto shows a live screen on a terminal and plain lines elsewhere; none is silent.
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
        data: a data set's name, a pack (``PACK@N`` for version N), a folder of pairs, or your own data set as
            ``package.module:Name``. A data set takes options and a folder, as in ``digits(severity=0.3)`` and
            ``mars:FOLDER``. In Python also a `Pack` or a map-style ``Dataset`` of dicts.
        out: folder of the results; the same command resumes an unfinished run there.
        methods: distillation methods, separated by commas; write options and weighted sums as in
            ``kd(temperature=2)+0.5*ds``, and your own class as ``package.module:Name``.
        seeds: number of students per method, each with its own seed.
        seed: random seed of the teacher and of each method's first student; the other students use the next seeds.
        jobs: number of students trained at the same time, each in its own process; by default as many as the CPU cores
            allow for small models, and 1 for large models or on a GPU. With more on a GPU, the students share it.
        epochs: largest number of passes over the training pairs; by default the preset's number of steps. Where a pass
            is longer than 500 steps, an epoch is 500 steps.
        preset: length of each training: quick (at most 3,000 steps) or full (at most 16,000). Training ends earlier
            once validation accuracy has leveled off.
        label_fraction: fraction of the labeled training pairs of each class whose label is visible to teacher and
            students. The other pairs count only in the distillation terms; validation and test keep all labels.
        labels: number of training labels visible to teacher and students, instead of a fraction; they are spread over
            the classes, at least one per class.
        unlabeled: number of training pairs without a visible label to use for each pair with one; by default all. Vary
            it to see whether more unlabeled pairs would help.
        label_noise: fraction of the visible training labels replaced by another class, for robustness studies. Teacher
            and students that see the same labels see the same wrong ones.
        tune: number of trials that choose each method's weights and temperatures on the validation pairs; 0 disables
            tuning. Trials run before the students, with a seed that no student has. The first trial uses the given
            options or the defaults, and Optuna proposes the options of the others; options written in `methods` are
            not tuned.
        min_precision: precision that the accepted predictions of each class must reach on the validation pairs; the
            recommended student marks all other predictions as rejected.
        teacher: settings of the teacher, the model on the rich modality.
        student: settings of the students, the models on the poor modality.
        optimizer: optimizer and schedule, the same for teacher and students.
        augmentation: random augmentation of the training pairs, the same for teacher and students.
        trainer: devices, precision, batch size, checkpoints and progress.
        method_options: options by method name, such as ``{"kd": {"temperature": 2.0}}``; options written in `methods`
            take precedence.

    Raises:
        CmkdError: a field is unknown, a value has the wrong type or is out of range, or two settings contradict each
            other.

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
            if not isinstance(given, ModelConfig | Mapping):  # a model given directly
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
        """Seed of the students trained in tuning trials; no other student has it, however many seeds are added."""
        return self.seed + TRIAL_SEEDS

    @classmethod
    def load(cls, path: Path | str) -> RunConfig:
        """Read a YAML file, such as the ``config.yaml`` of a run.

        Raises:
            CmkdError: the file is missing or not valid YAML, or a field or value is wrong.
        """
        return options.build(cls, read_yaml(Path(path), example=EXAMPLE))

    def save(self, path: Path | str) -> None:
        """Write the configuration as YAML, which `load` reads; the user's own models and data are written by name."""
        import yaml

        write_text(Path(path), yaml.safe_dump(self.to_dict(), sort_keys=False))

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as nested dictionaries of plain values, ready for YAML and JSON."""
        return dict(options.plain({f.name: getattr(self, f.name) for f in fields(self)}))
