"""The types that all packages share: `Batch`, `Output`, `Spec`, and `Modality`, which describes a sensor's samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from cmkd.errors import CmkdError
from cmkd.options import build

if TYPE_CHECKING:  # torch takes seconds to import, and showing a pack does without it
    import torch
    from torch import Tensor

LONGEST_NAME = 100
"""Longest name of a modality in bytes; it becomes a file name in packs and caches."""
UNLABELED = -1
"""Target of a pair without a label. Such a pair counts in the distillation terms but not in the cross-entropy."""


@dataclass(frozen=True)
class Batch:
    """Batch of pairs for one step.

    Args:
        inputs: modality name -> tensor ``(batch, ...)``. Modalities may differ in shape, channels and dtype. For a
            pair that lacks a modality, the row holds the modality's mean, or zeros for points.
        target: ``(batch,)`` int64 class of each pair, `UNLABELED` (-1) if it has none.
        index: ``(batch,)`` int64 position of each pair in its data set; methods get the position among the training
            pairs.
        present: modality name -> ``(batch,)`` bool, whether the pair has that modality.
        view: ``(batch,)`` int64 number of the augmented view of each pair; 0 by default.
        teacher: the teacher's outputs, if they were computed before (`cmkd.training.teacher_cache`).
        labeled_rows: ``(n,)`` int64 positions of the labeled pairs in the batch, if they were computed on the CPU;
            computing them from `target` would make the CPU wait for the GPU.
        taught: ``(batch,)`` bool, whether the pair has a teacher output in `teacher`.

    Example:
        >>> import torch
        >>> batch = Batch({"radar": torch.zeros(2, 1, 8, 8)}, torch.tensor([0, -1]), torch.tensor([5, 7]))
        >>> len(batch), batch.labeled.tolist(), batch.present["radar"].tolist()
        (2, [True, False], [True, True])
    """

    inputs: Mapping[str, Tensor]
    target: Tensor
    index: Tensor
    present: Mapping[str, Tensor] = None  # type: ignore[assignment]  # filled below; never None afterwards
    view: Tensor = None  # type: ignore[assignment]  # filled below; never None afterwards
    teacher: Output | None = None
    labeled_rows: Tensor | None = None
    taught: Tensor | None = None

    def __post_init__(self) -> None:
        if self.present is None:
            import torch

            everywhere = torch.ones_like(self.target, dtype=torch.bool)
            object.__setattr__(self, "present", dict.fromkeys(self.inputs, everywhere))
        if self.view is None:
            object.__setattr__(self, "view", self.index.new_zeros(len(self)))

    def __len__(self) -> int:
        return int(self.target.shape[0])

    @property
    def labeled(self) -> Tensor:
        """``(batch,)`` bool: which pairs have a label."""
        return self.target != UNLABELED

    def map(self, function: Callable[[Tensor], Tensor]) -> Batch:
        """Return the batch with `function` applied to every tensor."""
        return Batch(
            {name: function(value) for name, value in self.inputs.items()},
            function(self.target),
            function(self.index),
            {name: function(value) for name, value in self.present.items()},
            function(self.view),
            None if self.teacher is None else self.teacher.map(function),
            None if self.labeled_rows is None else function(self.labeled_rows),
            None if self.taught is None else function(self.taught),
        )

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Batch:
        """Return the batch with every tensor on `device`."""
        return self.map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        """Return the batch in page-locked memory, from which copies to a GPU overlap with its work."""
        return self.map(lambda tensor: tensor.pin_memory())

    def select(self, rows: Tensor) -> Batch:
        """Return the pairs at `rows`, a bool mask or int64 positions ``(n,)``."""
        return replace(self, labeled_rows=None).map(lambda tensor: tensor[rows])


@dataclass(frozen=True)
class Output:
    """Output of every model.

    Args:
        logits: ``(batch, classes)``.
        embedding: ``(batch, dim)``, the input of the classifier.
        feature_maps: intermediate feature maps ``(batch, channels, height, width)``, shallow to deep; a series is
            ``(batch, channels, time, 1)`` and a vector ``(batch, channels, 1, 1)``.
    """

    logits: Tensor
    embedding: Tensor
    feature_maps: tuple[Tensor, ...] = ()

    def map(self, function: Callable[[Tensor], Tensor]) -> Output:
        """Return the output with `function` applied to every tensor."""
        return Output(function(self.logits), function(self.embedding), tuple(function(m) for m in self.feature_maps))

    def detach(self) -> Output:
        """Return the output detached from the autograd graph."""
        return self.map(lambda tensor: tensor.detach())

    def select(self, rows: Tensor) -> Output:
        """Return the samples at `rows`, a bool mask or int64 positions ``(n,)``."""
        return self.map(lambda tensor: tensor[rows])

    def spec(self) -> Spec:
        """Return the shape of this output."""
        shapes = tuple((int(m.shape[1]), int(m.shape[2]), int(m.shape[3])) for m in self.feature_maps)
        return Spec(int(self.logits.shape[1]), int(self.embedding.shape[1]), shapes)


@dataclass(frozen=True)
class Spec:
    """Shape of an `Output`, known before any data are processed.

    Args:
        classes: number of classes.
        dim: width of the embedding.
        map_shapes: ``(channels, height, width)`` of each intermediate map, shallow to deep.
        class_names: names of the classes in order, if known; models with different names have different classes, even
            if the numbers of classes agree.
    """

    classes: int
    dim: int
    map_shapes: tuple[tuple[int, int, int], ...] = ()
    class_names: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        maps = all(not isinstance(shape, int) and len(shape) == 3 and min(shape) > 0 for shape in self.map_shapes)
        if self.classes < 1 or self.dim < 0 or not maps:
            raise CmkdError(
                "a Spec has classes from 1, dim from 0, and map_shapes ((channels, height, width), ...) from 1, got "
                f"{self.classes}, {self.dim} and {self.map_shapes}"
            )

    def same_classes(self, other: Spec) -> bool:
        """Return whether two models have the same classes, as far as the names are known."""
        named = bool(self.class_names and other.class_names)
        return self.classes == other.classes and (not named or self.class_names == other.class_names)


Kind = Literal["image", "vector", "series", "points", "point_series"]
"""Kind of a modality, which gives the axes of its samples their meaning; see `Modality`."""
Scaling = Literal["linear", "log", "rank"]
"""Scaling of the stored values before a network; see `cmkd.models.scaling`."""

DTYPES = ("uint8", "int8", "uint16", "int16", "int32", "int64", "float16", "float32", "float64")
AXES: dict[str, tuple[str, ...]] = {
    "image": ("channels", "height", "width"),
    "vector": ("features",),
    "series": ("time", "features"),
    "points": ("points", "features"),
    "point_series": ("time", "points", "features"),
}
"""Kind -> the axes of a sample."""


def renamed(before: Sequence[str], after: Sequence[str]) -> str:
    """Describe how column names differ from earlier ones; empty if they do not differ.

    Example:
        >>> renamed(("x", "y"), ("y", "x")), renamed(("x", "y"), ("x", "z")), renamed(("x",), ("x",))
        ("in another order, such as 'y' in place of 'x'", "with other names, such as 'z' in place of 'y'", '')
    """
    different = [(new, old) for new, old in zip(after, before, strict=False) if new != old]
    how = "in another order" if sorted(after) == sorted(before) else "with other names"
    return f"{how}, such as {different[0][0]!r} in place of {different[0][1]!r}" if different else ""


@dataclass(frozen=True)
class Modality:
    """Description of one sensor's samples, with their statistics on the training split.

    Args:
        name: name in `Batch.inputs`, such as ``"radar"``.
        kind: meaning of the axes.
        shape: shape of a sample: image ``(channels, height, width)``, vector ``(features,)``, series
            ``(time, features)``, points ``(points, features)``, point_series ``(time, points, features)``. Points are
            padded with zero rows.
        dtype: NumPy name of the type, as stored and as delivered, such as ``"uint8"``; values are in the sensor's own
            units.
        mean: mean of each channel, from the rows of the train split that have the modality. Channels are the first axis
            of an image and the last axis of all other kinds. Zero rows of points (padding) and invalid values do not
            count.
        std: population standard deviation of each channel, from the same values; 1 for a constant channel.
        nodata: stored marker of an invalid value: ``"nan"`` in float modalities, whatever the files use; a number in
            integer modalities; None if all values are valid.
        file_nodata: user-given marker of invalid values in the files, used instead of the files' own tags; ``"none"``
            to ignore their tags; None to use their tags.
        unit: unit of the values, such as ``"dB"``, ``"linear power"`` or ``"amplitude"``.
        rate: samples per second of recordings; 0 if unknown.
        columns: names of the features of a series from tables, in order; empty if unknown.

    Raises:
        CmkdError: if the shape does not fit the kind, the dtype cannot be stored, or it cannot hold `nodata`.

    Example:
        >>> radar = Modality("radar", "image", (1, 1, 3), "float32", (-12.0,), (3.0,), nodata="nan")
        >>> radar.channels, radar.filled(np.array([[[-9.0, np.nan, -15.0]]], np.float32)).tolist()
        (1, [[[-9.0, -12.0, -15.0]]])
    """

    name: str
    kind: Kind
    shape: tuple[int, ...]
    dtype: str
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    nodata: int | str | None = None
    file_nodata: float | str | None = None
    unit: str = ""
    rate: int = 0
    columns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.name.isidentifier() or len(self.name.encode()) > LONGEST_NAME:
            raise CmkdError(
                f"modality name '{self.name}' must be a word of letters, digits and underscores that begins with no "
                f"digit, of at most {LONGEST_NAME} bytes: it names files"
            )
        if self.name in ("file", "allow_pickle"):  # parameters of numpy.savez
            raise CmkdError(f"a modality cannot be named '{self.name}': name it as its sensor, such as radar")
        if self.kind not in AXES:
            raise CmkdError(f"unknown kind '{self.kind}' of modality '{self.name}': use one of {', '.join(AXES)}")
        if len(self.shape) != len(AXES[self.kind]) or min(self.shape) < 1:
            raise CmkdError(
                f"modality '{self.name}' of kind {self.kind} needs the shape ({', '.join(AXES[self.kind])}), "
                f"got {self.shape}"
            )
        if self.dtype not in DTYPES:
            raise CmkdError(f"modality '{self.name}' cannot be stored as {self.dtype}: convert to {', '.join(DTYPES)}")
        if self.nodata is not None and not self._holds(self.nodata):
            raise CmkdError(f"modality '{self.name}' is {self.dtype}, which cannot hold the nodata value {self.nodata}")
        for known in (self.mean, self.std):
            if len(known) not in (0, self.channels):
                raise CmkdError(f"modality '{self.name}' has {self.channels} channels, but statistics of {len(known)}")

    def _holds(self, nodata: object) -> bool:
        if np.dtype(self.dtype).kind == "f":
            return nodata == "nan"
        limits = np.iinfo(self.dtype)
        return isinstance(nodata, int) and limits.min <= nodata <= limits.max

    @classmethod
    def from_dict(cls, described: Mapping[str, Any]) -> Modality:
        """Rebuild a modality from ``dataclasses.asdict``, also if JSON turned tuples into lists; ignore other keys.

        Raises:
            CmkdError: a field is missing or has the wrong type.
        """
        return build(cls, described, others=True)

    @property
    def channels(self) -> int:
        """Number of channels (images) or features (all other kinds)."""
        return self.shape[0] if self.kind == "image" else self.shape[-1]

    @property
    def size(self) -> tuple[int, ...]:
        """Shape of a sample without its channels: height and width, or numbers of steps and points; () for a vector."""
        return self.shape[1:] if self.kind == "image" else self.shape[:-1]

    def check_stated(
        self,
        where: object,
        holder: str,
        *,
        kind: str | None = None,
        size: tuple[int, ...] | None = None,
        unit: str = "",
        rate: int = 0,
        columns: tuple[str, ...] = (),
        fix: str = "convert the values, or correct what is stated of them",
    ) -> None:
        """Raise `CmkdError` if the stated properties of other samples contradict this modality.

        Args:
            where: place of the statement, such as a file, for the message.
            holder: owner of this modality, such as ``in the pack``, for the message.
            kind: kind of the other samples; None if not stated.
            size: size of the other samples, like `size` of a modality; None if not stated.
            unit: unit of their values; empty if not stated.
            rate: their samples per second; 0 if unknown.
            columns: names of their features; empty if unknown.
            fix: advice at the end of the message.

        Example:
            >>> radar = Modality("radar", "vector", (1,), "float32", unit="dB")
            >>> radar.check_stated("new", "in the pack", unit="amplitude")
            Traceback (most recent call last):
                ...
            cmkd.errors.CmkdError: new: unit of 'radar' is stated as amplitude, but in the pack it is dB: convert ...
        """
        for name, theirs in (("kind", kind), ("size", size), ("unit", unit), ("rate", rate)):
            ours = getattr(self, name)
            if theirs and ours and theirs != ours:
                raise CmkdError(
                    f"{where}: {name} of '{self.name}' is stated as {theirs}, but {holder} it is {ours}: {fix}"
                )
        if columns and self.columns and (how := renamed(self.columns, columns)):
            raise CmkdError(f"{where} has columns of '{self.name}' {how}, which it is {holder}: save them alike")

    def check_measured(self, other: Modality, where: object, holder: str) -> None:
        """Raise `CmkdError` if the values of another modality are known to differ in unit, sampling rate or columns.

        `where` is the place of the other modality, and `holder` the owner of this one, as in `check_stated`.
        """
        self.check_stated(where, holder, unit=other.unit, rate=other.rate, columns=other.columns)

    def masked(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return values ``(..., *shape)`` as a masked array if some are invalid: masked, NaN or `nodata`."""
        invalid = np.ma.getmaskarray(values) if np.ma.isMaskedArray(values) else None
        plain = np.ma.getdata(values)
        if plain.dtype.kind == "f" or isinstance(self.nodata, int):
            marked = np.isnan(plain) if plain.dtype.kind == "f" else plain == self.nodata
            invalid = marked if invalid is None else invalid | marked
        return plain if invalid is None or not invalid.any() else np.ma.MaskedArray(plain, invalid)

    def filled(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return values ``(..., *shape)`` for a network, with invalid ones replaced by the channel's mean.

        Standardization maps the mean to 0. The mean is rounded in integer modalities, and 0 if it is unknown. If a
        model first scales the values by ``log`` or ``rank``, the mean is not exactly the center: it lies 0.2 to 0.5
        standard deviations above it for speckle alone (4 looks to 1), and up to 0.8 with added bright targets.
        """
        found = self.masked(values)
        if not np.ma.isMaskedArray(found):
            return found
        mean = np.array(self.mean or (0.0,) * self.channels)
        mean = np.rint(mean) if found.dtype.kind in "iu" else mean
        along = mean[:, None, None] if self.kind == "image" else mean
        filled: NDArray[Any] = np.where(np.ma.getmaskarray(found), along.astype(found.dtype), np.ma.getdata(found))
        return filled

    @property
    def row_bytes(self) -> int:
        """Size in bytes of one stored sample."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    @property
    def file(self) -> str:
        """Name of the modality's file in a pack."""
        return f"{self.name}.bin"
