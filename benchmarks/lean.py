"""A bare training loop around `cmkd.methods`, for studies of many small trainings on a CPU.

``cmkd run`` keeps histories, checkpoints and a state to resume from for every training. Here
the data lie in memory, the teacher's outputs are computed once, and nothing is written but numbers. The loop is the
one the library documents for other trainers: ``loss = cross-entropy + sum of the method's terms``, with the method's
parameters in the optimizer.
"""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from cmkd.data import Pack
from cmkd.datasets import open_data
from cmkd.datasets.degradations import speckle
from cmkd.methods.combine import from_expression
from cmkd.models import Model, build
from cmkd.types import UNLABELED, Batch, Modality, Output

RICH, POOR = "rich", "poor"
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Setting:
    """What one training depends on, beside its seed.

    Args:
        data: what `cmkd.data.open_data` opens.
        severity: the poor modality is the rich one through `cmkd.datasets.degradations.speckle`; None takes the data's own.
        pairs: training pairs, the first so many of the split; 0 for all. Validation keeps its size.
        labeled: training pairs that keep their label; 0 for all.
        teacher_width: channels of the first layer, or the width of the encoder of series and points.
        student_width: likewise.
        epochs: passes over the pairs.
        batch: pairs a step.
        joined: two images side by side are one sample, of as many classes as there are ordered pairs of theirs.
        other_classes: the teacher knows the first half of the classes and all their labels; the student is to tell the
            second half apart, of which it has the labels that `labeled` leaves. All pairs are there for both.
    """

    data: str
    severity: float | None = None
    pairs: int = 0
    labeled: int = 0
    teacher_width: int = 16
    student_width: int = 16
    epochs: int = 12
    batch: int = 128
    joined: bool = False
    other_classes: bool = False

    def described(self) -> dict[str, Any]:
        """Return what it says, without what is off: a step that knows nothing of it keeps its name.

        Example:
            >>> "joined" in Setting("digits").described(), Setting("digits", joined=True).described()["joined"]
            (False, True)
        """
        return {name: value for name, value in asdict(self).items() if value is not False}


class ThinCnn(nn.Module):
    """Three convolutions, a linear embedding and, in `Model`, the classifier: five layers.

    Args:
        channels: of the input.
        size: pixels a side; images of 16 or fewer are not halved by the first layer.
        width: of the first layer; the next have two and four times as many, the embedding four times.
    """

    def __init__(self, channels: int, size: int, *, width: int = 16) -> None:
        super().__init__()
        strides = (1, 2, 1) if size <= 16 else (2, 2, 1)
        widths = [channels, width, 2 * width, 4 * width]
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(widths[i], widths[i + 1], 3, stride, 1, bias=False), nn.BatchNorm2d(widths[i + 1]))
            for i, stride in enumerate(strides)
        )
        self.embedding = nn.Linear(4 * width, 4 * width)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return embedding and maps of images."""
        maps = []
        for layer in self.layers:
            x = F.relu(layer(x))
            maps.append(x)
        return F.relu(self.embedding(x.mean((2, 3)))), tuple(maps)


@dataclass
class Arrays:
    """One data set in memory.

    Args:
        inputs: modality -> split -> ``(n, ...)``.
        target: split -> ``(n,)``; `UNLABELED` where the label is withheld.
        modalities: their descriptions.
        classes: how many.
        taught: the teacher's labels where its classes are others.
    """

    inputs: dict[str, dict[str, Tensor]]
    target: dict[str, Tensor]
    modalities: dict[str, Modality]
    classes: int
    taught: dict[str, Tensor] | None = None

    def labels(self, role: str) -> dict[str, Tensor]:
        """Return the labels that a role learns from and is judged by."""
        return self.taught if role == RICH and self.taught is not None else self.target


@cache
def _pack(data: str) -> Pack:
    return open_data(data)


def arrays(setting: Setting) -> Arrays:
    """Read a data set; degradation and withheld labels are the same whatever the seed of a training."""
    pack = _pack(setting.data)
    names = {RICH: pack.card.rich or "", POOR: pack.card.poor or ""}
    rows = {split: pack.rows(split, modalities=list(names.values()), labeled=True) for split in SPLITS}
    if setting.pairs:
        rows["train"] = np.sort(np.random.default_rng(0).permutation(rows["train"])[: setting.pairs])
    labels = pack.index["label"].to_numpy(dtype=np.int64)
    raw = {role: {split: pack.array(name)[r] for split, r in rows.items()} for role, name in names.items()}
    target = {split: torch.from_numpy(labels[chosen]) for split, chosen in rows.items()}
    classes, taught = len(pack.classes), None
    if setting.joined:
        raw[RICH], target = _joined(raw[RICH], target, classes)
        classes *= classes
    if setting.other_classes:
        classes //= 2
        taught = {split: torch.where(known < classes, known, UNLABELED) for split, known in target.items()}
        target = {split: (known - classes).clamp(min=UNLABELED) for split, known in target.items()}
    if setting.labeled:
        target["train"] = _withhold(target["train"], setting.labeled)
    if setting.severity is not None:
        full = 16.0 if pack.card.name == "digits" else 255.0
        raw[POOR] = {
            s: _degrade(v / np.float32(full), setting.severity, i) for i, (s, v) in enumerate(raw[RICH].items())
        }
    modalities = {}
    for role, name in names.items():
        own = pack.modality(name) if setting.severity is None else pack.modality(names[RICH])
        modalities[role] = _described(role, own, raw[role]["train"])
    inputs = {role: {split: torch.from_numpy(np.array(v)) for split, v in parts.items()} for role, parts in raw.items()}
    return Arrays(inputs, target, modalities, classes, taught)


def _joined(
    images: dict[str, NDArray[Any]], target: dict[str, Tensor], classes: int
) -> tuple[dict[str, NDArray[Any]], dict[str, Tensor]]:
    """Put images of one split side by side, drawn at random: 4,000 samples to train on, 1,000 in each other split."""
    found: tuple[dict[str, NDArray[Any]], dict[str, Tensor]] = {}, {}
    for place, split in enumerate(SPLITS):
        drawn = np.random.default_rng([11, place]).integers(len(target[split]), size=(2, 4000 if place == 0 else 1000))
        found[0][split] = np.concatenate([images[split][side] for side in drawn], axis=3)
        left, right = (target[split][side] for side in torch.from_numpy(drawn))
        found[1][split] = left * classes + right
    return found


def _degrade(images: NDArray[np.float32], severity: float, stream: int) -> NDArray[np.float32]:
    return speckle(images, severity=severity, generator=np.random.default_rng([7, stream]))


def _withhold(target: Tensor, labeled: int) -> Tensor:
    """Keep as many labels of each class, those of its first pairs."""
    kept = torch.full_like(target, UNLABELED)
    classes = target[target != UNLABELED].unique()
    for label in classes:
        rows = (target == label).nonzero()[: max(1, labeled // len(classes)), 0]
        kept[rows] = label
    return kept


def _described(role: str, like: Modality, train: NDArray[np.generic]) -> Modality:
    """Describe a modality with the statistics of the training pairs at hand."""
    if like.kind != "image":
        return Modality(role, like.kind, like.shape, like.dtype, like.mean, like.std)
    axes = (0, 2, 3)
    mean, std = train.mean(axes, dtype=np.float64), train.std(axes, dtype=np.float64)
    shape = tuple(train.shape[1:])
    return Modality(role, "image", shape, train.dtype.name, tuple(map(float, mean)), tuple(map(float, std)))


def model(modality: Modality, classes: int, width: int) -> Model:
    """Build the thin CNN for images, and the library's small encoder for series and points."""
    if modality.kind == "image":
        built = Model(modality, ThinCnn(modality.channels, min(modality.shape[1:]), width=width), classes=classes)
        return built.to(memory_format=torch.channels_last)
    name = {"series": "series_net", "points": "point_net", "point_series": "point_net"}[modality.kind]
    return build(f"{name}(width={width},stages=2)", modality, classes=classes)


def outputs(trained: Model, inputs: Tensor, *, batch: int = 500) -> Output:
    """Return a model's outputs in eval mode."""
    trained.eval()
    with torch.no_grad():
        parts = [trained(piece) for piece in inputs.split(batch)]
    maps = tuple(torch.cat(stage) for stage in zip(*(p.feature_maps for p in parts), strict=True))
    return Output(torch.cat([p.logits for p in parts]), torch.cat([p.embedding for p in parts]), maps)


def accuracy(trained: Model, data: Arrays, role: str, split: str) -> float:
    """Return the share of right answers among the pairs with a label."""
    target = data.labels(role)[split]
    right = outputs(trained, data.inputs[role][split]).logits.argmax(1) == target
    return float(right[target != UNLABELED].double().mean())


@dataclass
class Teacher:
    """A trained teacher and its outputs on the training pairs."""

    model: Model
    output: Output
    accuracy: dict[str, float] = field(default_factory=dict)


def teacher(setting: Setting, data: Arrays, seed: int) -> Teacher:
    """Train the teacher of a seed on the rich modality with all labels of its pairs that the setting leaves."""
    trained = train(setting, data, seed, role=RICH)
    found = {split: accuracy(trained, data, RICH, split) for split in SPLITS[1:]}
    return Teacher(trained, outputs(trained, data.inputs[RICH]["train"]), found)


def train(
    setting: Setting, data: Arrays, seed: int, *, role: str = POOR, method: str = "none", guide: Teacher | None = None
) -> Model:
    """Train one network; one seed gives the same first weights and order of pairs whatever the method.

    Args:
        setting: sizes and schedule: SGD with Nesterov momentum for images, AdamW for the rest, one cycle.
        data: see `arrays`.
        seed: of weights, order and dropout.
        role: which modality it sees.
        method: an expression of `cmkd.methods`, such as ``kd(weight=8)``.
        guide: the teacher, unless the method is ``none``.
    """
    torch.manual_seed(seed)
    width = setting.teacher_width if role == RICH else setting.student_width
    student = model(data.modalities[role], data.classes, width)
    inputs, target = data.inputs[role]["train"], data.labels(role)["train"]
    if guide is None or method == "none":
        rows_all, term = (target != UNLABELED).nonzero()[:, 0], None
    else:
        rows_all = torch.arange(len(target))
        term = from_expression(method, student.spec, guide.model.spec, {})
        term.bind(student, guide.model)
        term.on_train_start(len(target))
    trained: list[nn.Module] = [student] if term is None else [student, term]
    # pairs without a label are extra pairs, not extra steps: every method makes as many steps as there are pairs for
    steps = max(1, len(target) // setting.batch) * setting.epochs
    optimizer, schedule = _optimizer(trained, data.modalities[role].kind, steps, setting.batch)
    order = torch.Generator().manual_seed(seed)
    student.train()
    step = 0
    while step < steps:
        for rows in rows_all[torch.randperm(len(rows_all), generator=order)].split(setting.batch):
            if step == steps or (len(rows) < setting.batch and len(rows_all) >= setting.batch):
                break
            output = student(inputs[rows])
            labels = target[rows]
            loss = F.cross_entropy(output.logits, labels, ignore_index=UNLABELED, reduction="sum")
            loss = loss / (labels != UNLABELED).sum().clamp(min=1)
            if term is not None and guide is not None:
                batch = Batch({}, labels, rows, {})
                loss = loss + torch.stack(list(term(output, guide.output.select(rows), batch).values())).sum()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_([p for part in trained for p in part.parameters()], 5.0)
            optimizer.step()
            schedule.step()
            step += 1
    return copy.deepcopy(student).eval().requires_grad_(False)


def _optimizer(
    trained: list[nn.Module], kind: str, steps: int, batch: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    parameters = [p for part in trained for p in part.parameters() if p.requires_grad]
    if kind == "image":
        rate = 0.05 * batch / 64
        built: torch.optim.Optimizer = torch.optim.SGD(parameters, rate, 0.9, weight_decay=5e-4, nesterov=True)
    else:
        rate = 3e-3 * (batch / 64) ** 0.5
        built = torch.optim.AdamW(parameters, rate, weight_decay=0.05)
    return built, torch.optim.lr_scheduler.OneCycleLR(built, rate, total_steps=steps, pct_start=0.25)


def data_place(name: str, folder: Path | None) -> str:
    """Return what to open: a data set's name, with the folder of its files if there is one.

    Example:
        >>> data_place("mars", None), data_place("fashion_mnist(train_pairs=16000)", None)
        ('mars', 'fashion_mnist(train_pairs=16000)')
    """
    if folder is None:
        return name
    inside = folder / name.partition("(")[0]
    dashed = folder / inside.name.replace("_", "-")
    found = next((p for p in (inside, dashed) if p.exists()), None)
    return name if found is None else f"{name}:{found}"
