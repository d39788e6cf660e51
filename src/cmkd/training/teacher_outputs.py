"""Sources of the cached records: a model that is run on augmented views, or a file of outputs."""

from __future__ import annotations

import copy
import inspect
import json
import warnings
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor

from cmkd.config import AugmentationConfig
from cmkd.data.pack.pack import Pack
from cmkd.errors import CmkdError, CmkdWarning, not_let
from cmkd.io import checksum
from cmkd.models import Model
from cmkd.models.tensor_file import raw_bytes
from cmkd.ops import resize_like
from cmkd.training.augment import augment
from cmkd.training.teacher_cache import Compute, Contents, MapSizes
from cmkd.types import Output, Spec

ARRAYS = ("logits", "embedding")
"""Names of the arrays in a file of outputs."""
PROBES = 8
"""Number of random inputs whose outputs distinguish one model from another."""


@dataclass(frozen=True)
class Views:
    """The augmented views of each training pair that a teacher sees.

    Args:
        number: number of views.
        averaged: keep one record per pair, the average over its views, instead of one record per view.
        seed: random seed of the augmentation.
        augmentation: resolved augmentation.
    """

    number: int
    averaged: bool
    seed: int
    augmentation: AugmentationConfig


def of_model(
    teacher: Model, pack: Pack, views: Views, maps: MapSizes, *, device: torch.device | str = "cpu"
) -> tuple[Contents, Compute]:
    """Return the description of a model's records on training pairs with its first modality, and how to compute them.

    Args:
        teacher: model to run; put in eval mode on `device`.
        pack: pack that holds the pairs.
        views: augmented views that the teacher sees.
        maps: feature maps to keep: stage (from 0) -> size to pool the map to.
        device: device of the forward passes.
    """
    names = teacher.subsets[0]
    sizes = {stage: (shape[0], *(size or shape[1:])) for stage, (shape, size) in _stages(teacher.spec, maps).items()}
    key = {
        "teacher": model_key(teacher, names),
        "torch": torch.__version__,
        "inputs": inputs_key(pack, names),
        "augmentation": asdict(views.augmentation),
        "seed": views.seed,
    }
    contents = Contents(
        key=key,
        modality=names[0],
        rows=pack.rows("train", modalities=names[:1]),
        classes=teacher.spec.classes,
        dim=teacher.spec.dim,
        stages=len(teacher.spec.map_shapes),
        maps=sizes,
        views=1 if views.averaged else views.number,
        averaged=views.number if views.averaged else 1,
    )

    def compute(rows: NDArray[np.int64], view: int) -> Output:
        batch = replace(pack.batch(rows, names), view=torch.full((len(rows),), view, dtype=torch.int64)).to(device)
        model = teacher.to(device).eval()
        batch = augment(
            batch,
            pack.modalities,
            views.augmentation,
            seed=views.seed,
            co_registered=pack.card.co_registered,
            scalings=model.scalings,
        )
        with torch.inference_mode():
            output = model.classify(batch.inputs, batch.present)
        kept = tuple(resize_like(output.feature_maps[stage], shape[1:]) for stage, shape in sorted(sizes.items()))
        return Output(output.logits, output.embedding, kept)

    return contents, compute


def model_key(model: Model, names: Sequence[str]) -> list[Any]:
    """Return a key of the function that a model computes from some of its modalities; weights alone do not define it.

    The key covers the code, as far as it is in the files of its modules. Anything else that the function depends on,
    such as a plain attribute, shows in the output on a few random inputs.
    """
    weights = checksum(map(raw_bytes, model.state_dict().values()))
    seen = [asdict(modality) for modality in model.modalities if modality.name in names]
    files = set[str]()
    for kind in {type(module) for module in model.modules()}:
        with suppress(TypeError, OSError):  # a class defined in a notebook
            files.add(inspect.getfile(kind))
    code = checksum(Path(file).read_bytes() for file in sorted(files) if Path(file).is_file())
    return [weights, repr(model), code, model.preprocess.size, *seen, _told(model, names)]


def _told(model: Model, names: Sequence[str]) -> list[str]:
    """Return weighted norms of a model's output on `PROBES` random inputs with the statistics of its modalities.

    They are computed in float32 on the CPU and rounded, so that they depend neither on the device nor on the order in
    which threads add up.
    """
    random, inputs = torch.Generator().manual_seed(0), dict[str, Tensor]()
    for modality in model.modalities:
        if modality.name in names:
            axis = (-1, 1, 1) if modality.kind == "image" else (-1,)
            mean, std = (torch.tensor(known).view(axis) for known in (modality.mean, modality.std))
            inputs[modality.name] = mean + std * torch.randn(PROBES, *modality.shape, generator=random)
    with torch.inference_mode():
        output = copy.deepcopy(model).cpu().float().eval().classify(inputs)
    told = [value.flatten(1) for value in (output.logits, output.embedding, *output.feature_maps)]
    return [f"{norm:.2g}" for value in told for norm in (value * torch.linspace(1, 2, value.shape[1])).norm(dim=1)]


def inputs_key(pack: Pack, names: Sequence[str]) -> dict[str, Any]:
    """Return what the augmented inputs of some modalities depend on, apart from strengths and seed."""
    arrays = [pack.card.sha256[pack.modality(name).file] for name in names]
    return pack.card.identity | {"sha256": arrays}


def _stages(spec: Spec, maps: MapSizes) -> dict[int, tuple[tuple[int, int, int], tuple[int, int] | None]]:
    return {stage % len(spec.map_shapes): (spec.map_shapes[stage], size) for stage, size in maps.items()}


@dataclass(frozen=True)
class OutputsFile:
    """Outputs of a teacher that is not run here, because it may not be shared or is too large.

    A ``.npz`` file holds the arrays ``ids`` (text, the ids of the pairs), ``logits`` ``(pairs, classes)`` in the order
    of the data's classes and, if there is one, ``embedding`` ``(pairs, dim)``. A ``.safetensors`` file holds ``logits``
    and ``embedding``, and the ids as a JSON list in its metadata, under ``ids``. Pairs that the file lacks contribute
    only to the cross-entropy.

    Args:
        path: the file.
        rows: positions of the file's pairs in the pack, ascending.
        logits: ``(pairs, classes)`` float32.
        embedding: ``(pairs, dim)`` float32; of width 0 if the file has none.
    """

    path: Path
    rows: NDArray[np.int64]
    logits: NDArray[np.float32]
    embedding: NDArray[np.float32]

    @classmethod
    def read(cls, path: Path, pack: Pack) -> OutputsFile:
        """Read a file and find its pairs.

        Raises:
            CmkdError: if the file is missing or damaged, lacks an array, or does not fit the data.
        """
        ids, arrays = _read(path)
        for name, array in arrays.items():
            if array.ndim != 2 or len(array) != len(ids):
                raise CmkdError(f"'{path}': {name} has shape {array.shape}, there are {len(ids)} ids; one row per id")
            if not np.isfinite(array).all():
                raise CmkdError(f"'{path}': {name} holds values that are not finite: leave those rows out")
        logits, embedding = arrays["logits"], arrays.get("embedding", np.zeros((len(ids), 0), dtype=np.float32))
        if logits.shape[1] != len(pack.classes):
            raise CmkdError(f"'{path}' has logits of {logits.shape[1]} classes, but the data have {len(pack.classes)}")
        first, count = Counter(ids).most_common(1)[0]
        if count > 1:
            raise CmkdError(f"'{path}' lists the id '{first}' {count} times; save one row per id")
        position = {str(name): row for row, name in enumerate(pack.index["id"])}
        known = np.array([position.get(name, -1) for name in ids], dtype=np.int64)
        order = np.argsort(known, kind="stable")[(known < 0).sum() :]
        if not len(np.intersect1d(known, pack.rows("train"))):
            example = pack.index["id"].iloc[int(pack.rows("train")[0])]
            hint = f"use the ids of the data, such as '{example}'"
            raise CmkdError(f"none of the {len(ids)} ids in '{path}' belongs to a training pair: {hint}")
        rows = pack.rows("train", modalities=tuple(pack.modalities))
        if len(lacking := np.setdiff1d(rows, known)):
            example = pack.index["id"].iloc[int(lacking[0])]
            message = f"'{path}' lacks {len(lacking)} of {len(rows)} whole training pairs, such as '{example}'"
            warnings.warn(f"{message}; of these, students learn from labels alone", CmkdWarning, stacklevel=2)
        return cls(path, known[order], logits[order], embedding[order])

    def spec(self, pack: Pack) -> Spec:
        """Return the shapes of these outputs."""
        return Spec(self.logits.shape[1], self.embedding.shape[1], class_names=pack.classes)

    def at(self, rows: NDArray[np.int64]) -> NDArray[np.float32] | None:
        """Return the logits of the given pairs; None if one of them is missing."""
        place = np.searchsorted(self.rows, rows).clip(max=len(self.rows) - 1)
        return self.logits[place] if (self.rows[place] == rows).all() else None

    def records(self, pack: Pack, modality: str) -> tuple[Contents, Compute]:
        """Return the description of the records of the training pairs, and the function to look them up."""
        contents = Contents(
            key={"file": checksum(self.path), "pack": [pack.card.version, dict(pack.card.sha256)]},
            modality=modality,
            rows=np.intersect1d(self.rows, pack.rows("train")),
            classes=self.logits.shape[1],
            dim=self.embedding.shape[1],
            stages=0,
            maps={},
            views=1,
        )

        def compute(rows: NDArray[np.int64], view: int) -> Output:
            place = np.searchsorted(self.rows, rows)
            return Output(torch.from_numpy(self.logits[place]), torch.from_numpy(self.embedding[place]))

        return contents, compute


def _read(path: Path) -> tuple[Sequence[str], dict[str, NDArray[np.float32]]]:
    readers = {".npz": _read_npz, ".safetensors": _read_safetensors}
    if not path.is_file():
        raise CmkdError(f"no file with a teacher's outputs at '{path}'")
    if path.suffix not in readers:
        raise CmkdError(f"'{path}' has an unsupported file type; supported: {', '.join(readers)}")
    try:
        held, ids, arrays = readers[path.suffix](path)
    except Exception as error:  # zipfile, numpy and safetensors raise arbitrary errors on damaged bytes
        reason = " ".join(str(error).split())
        damaged = f"'{path}' is not a readable file of outputs ({reason}); see cmkd.training.teacher_outputs"
        raise (not_let(f"'{path}'", error) or CmkdError(damaged)) from error
    if "logits" not in arrays or not len(ids):
        missing = "ids" if "logits" in arrays else "logits"
        raise CmkdError(f"'{path}' lacks {missing}; it holds {', '.join(held) or 'nothing'}")
    for name, array in arrays.items():
        if array.dtype.kind not in "fiu":
            raise CmkdError(f"'{path}': {name} is of type {array.dtype}; save it as float32")
    with np.errstate(over="ignore"):  # overflow becomes infinity, which `read` refuses
        return [str(name) for name in ids], {name: array.astype(np.float32) for name, array in arrays.items()}


def _read_npz(path: Path) -> tuple[list[str], Sequence[object], dict[str, NDArray[Any]]]:
    # np.load would accept other file types too, and leave a damaged file open
    with path.open("rb") as stream, NpzFile(stream, allow_pickle=False) as file:
        held = list(file.files)
        arrays = {name: file[name] for name in (*ARRAYS, "ids") if name in held}
    ids = arrays.pop("ids", np.zeros(0))
    if ids.ndim != 1:
        raise ValueError(f"ids must be a list, and have shape {ids.shape}")
    return held, np.char.decode(ids).tolist() if ids.dtype.kind == "S" else ids.tolist(), arrays


def _read_safetensors(path: Path) -> tuple[list[str], Sequence[object], dict[str, NDArray[Any]]]:
    with safe_open(path, framework="pt") as file:  # numpy has no bfloat16
        held = list(file.keys())
        arrays = {name: file.get_tensor(name).float().numpy() for name in ARRAYS if name in held}
        ids = json.loads((file.metadata() or {}).get("ids", "[]"))
    if not isinstance(ids, list):
        raise ValueError(f"the ids in its metadata must be a list, and are of type {type(ids).__name__}")
    return held, ids, arrays
