"""One model as a file: safetensors for its tensors, JSON for the rest, no pickle; written atomically."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch

import cmkd
from cmkd import models
from cmkd.documents import record
from cmkd.errors import CmkdError
from cmkd.io import write_json
from cmkd.models.base import Model
from cmkd.models.fused import FusedModel
from cmkd.models.header import LARGEST_SAMPLE, Shapes, check_encoder
from cmkd.models.stacked import StackedModel, stack
from cmkd.models.tensor_file import read_document, read_tensors, write_tensors
from cmkd.models.timm_backbone import stem_of
from cmkd.models.wrapping import Wrapped
from cmkd.options import Bounds
from cmkd.registry import is_reference
from cmkd.types import Modality, Scaling

MODEL_FORMAT = "cmkd-model-1"
ABOUT = "about"
"""Metadata key of the model's description, which is stored as JSON."""
AGAIN = "copy it again"
"""Advice for a damaged file."""


@dataclass(frozen=True, kw_only=True)
class _Input:
    """Schema of the description that `_input` writes."""

    modality: Modality
    size: Annotated[int, Bounds(least=1, most=2**13)] | None
    scaling: Scaling = "linear"

    def __post_init__(self) -> None:
        if math.prod(self.modality.shape) > LARGEST_SAMPLE:
            raise CmkdError(f"samples of shape {self.modality.shape} have more than {LARGEST_SAMPLE} values")
        if not self.modality.mean or not self.modality.std:
            raise CmkdError("modality lacks mean or std")


@dataclass(frozen=True)
class _Layers:
    """Schema of the layer names of a wrapped module."""

    classifier: str
    feature_maps: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _About(_Input):
    """Schema of the description that `save_model` writes, with the entries that the package adds to it."""

    model: str
    classes: tuple[str, ...]
    own: _Layers | None = None
    others: tuple[_Input, ...] = ()
    together: bool = False
    stacked: bool = False
    role: str = ""
    method: str | None = None
    seed: int | None = None
    converged: bool | None = None
    calibration: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    validation_accuracy: float | None = None
    test_accuracy: float | None = None
    test: Mapping[str, int | float | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.classes:
            raise CmkdError("classes is empty")


def save_model(path: Path, model: Model, *, name: str, classes: tuple[str, ...], extra: Mapping[str, Any]) -> None:
    """Save a single model with everything that is needed to use it.

    Args:
        path: output ``.safetensors`` file. Its metadata is also written beside it as readable ``.json``.
        model: model to save, with its weights and preprocessing.
        name: name, with options, from which `cmkd.models.build` made the model.
        classes: names of the classes, in the order of the logits.
        extra: further entries of the description, such as the method and the seed.
    """
    about = {
        "format": MODEL_FORMAT,
        "cmkd": cmkd.__version__,
        "torch": torch.__version__,
        "model": name,
        **_input(model),
        "classes": list(classes),
        **extra,
    }
    if isinstance(model.encoder, Wrapped):
        about["own"] = {"classifier": model.encoder.classifier_name, "feature_maps": list(model.encoder.map_names)}
    if isinstance(model, FusedModel):
        about |= {"others": [_input(other) for other in model.others], "together": model.together}
    if isinstance(model, StackedModel):
        first, *others = (_input(model) | {"modality": asdict(part)} for part in model.parts)
        about |= {**first, "others": others, "together": True, "stacked": True}
    write_tensors(path, model.state_dict(), ABOUT, about)
    write_json(path.with_suffix(".json"), about)


def rewrite(source: Path, path: Path, extra: Mapping[str, Any]) -> None:
    """Save the model of one file in another file, with more entries in its description.

    Args:
        source: file written by `save_model`.
        path: output file; its ``.json`` is written too.
        extra: entries to add; they replace entries of `source` with the same names.
    """
    about = read_about(source) | dict(extra)
    write_tensors(path, read_tensors(source, ABOUT, fix=AGAIN), ABOUT, about)
    write_json(path.with_suffix(".json"), about)


def _input(model: Any) -> dict[str, Any]:  # noqa: ANN401  # a Model; torch does not type the items of a ModuleList
    size = model.preprocess.size
    return {
        "size": size[0] if size else None,
        "scaling": model.preprocess.scaling,
        "modality": asdict(model.modality),
    }


def read_about(path: Path) -> dict[str, Any]:
    """Return the description that `save_model` wrote about a model.

    Raises:
        CmkdError: if the file is missing, damaged, or not a model.
    """
    return _read(path)[0]


def _read(path: Path) -> tuple[dict[str, Any], Shapes]:
    if path.is_file() and path.suffix in (".onnx", ".pt2"):
        raise CmkdError(f"'{path}' is exported: give the .safetensors file that it was exported from")
    if path.is_file() and path.suffix != ".safetensors":
        raise CmkdError(f"'{path}' is not a model: give the folder of a run, or a .safetensors file")
    about, shapes = read_document(path, ABOUT, fix=AGAIN)
    if about.get("format") != MODEL_FORMAT:
        raise CmkdError(f"'{path}' is not a model saved by cmkd; give a best.safetensors file of a run")
    record(_About, about, f"'{path}'", fix=AGAIN)
    return about, shapes


def load_model(path: Path | str, *, module: object = None) -> tuple[Model, dict[str, Any]]:
    """Load a model that `save_model` wrote; return it in eval mode, together with its description.

    Args:
        path: ``.safetensors`` file of the model.
        module: for a model made from your own module: that module, its class, or a function that returns one, as for
            `cmkd.models.build`. A file never names code to import.

    Raises:
        CmkdError: if the file is missing or damaged, its module is not given, or the weights do not fit the model.
    """
    place = Path(path)
    about, shapes = _read(place)
    with _one_line(place), stem_of(shapes):
        model = _built(place, about, shapes, module)
        try:
            model.load_state_dict(read_tensors(place, ABOUT, fix=AGAIN))
        except RuntimeError as error:  # torch lists every tensor that does not fit
            raise CmkdError(
                f"the weights in '{path}' do not fit the model '{about['model']}': use the module as it was in training"
            ) from error
    model.spec = replace(model.spec, class_names=tuple(about["classes"]))
    return model.eval(), about


def _built(path: Path, about: Mapping[str, Any], shapes: Shapes, module: object) -> Model:
    classes = len(about["classes"])
    if "own" in about:
        if module is None:
            raise CmkdError(
                f"'{path}' holds weights of your own module ({about['model']}): add --module package.module:Name to "
                "predict, serve, evaluate, export or analyze, or call load_model(path, module=...)"
            )
        given, layers = _arguments(about), {name: about["own"][name] for name in ("classifier", "feature_maps")}
        own = models.own_module(module, given["modality"], classes, layers)
        return Model(encoder=own, classes=classes, **given)
    if is_reference(about["model"]):  # `build` would import and call it
        raise CmkdError(f"'{path}' names code to run ({about['model']}), which files of cmkd never do: do not trust it")
    others = about.get("others", ())
    if about.get("stacked"):
        return _stacked(about, shapes)
    inputs = {"": about} | {f"others.{index}.": one for index, one in enumerate(others)}
    outputs, width = classes, shapes.get("classifier.weight", (0,))[-1]
    for prefix, one in inputs.items():
        check_encoder(shapes, about["model"], **_described(one), prefix=prefix)
        if shapes.get(f"{prefix}classifier.weight", ())[:1] != (outputs,):
            raise CmkdError(f"the weights do not fit the model: {prefix}classifier.weight lacks {outputs} outputs")
        outputs = width
    model = models.build(about["model"], classes=classes, **_arguments(about))
    if others:
        width = model.spec.dim
        also = [models.build(about["model"], classes=width, **_arguments(one)) for one in others]
        model = FusedModel(model, also, together=about.get("together", False))
    return model


def _stacked(about: Mapping[str, Any], shapes: Shapes) -> StackedModel:
    parts = [Modality.from_dict(one["modality"]) for one in (about, *about.get("others", ()))]
    size, whole = about["size"], stack(parts)
    check_encoder(shapes, about["model"], modality=whole, size=size, prefix="")
    if shapes.get("classifier.weight", ())[:1] != (len(about["classes"]),):
        raise CmkdError(f"the weights do not fit the model: classifier.weight lacks {len(about['classes'])} outputs")
    encoder, size = models.build_encoder(about["model"], whole, size=size)
    given = _arguments(about) | {"size": size, "values": np.zeros((1, whole.channels))}
    del given["modality"]
    return StackedModel(parts, encoder, classes=len(about["classes"]), **given)


@contextmanager
def _one_line(path: Path) -> Iterator[None]:
    try:
        yield
    except CmkdError as error:
        raise error if str(path) in str(error) else CmkdError(f"'{path}': {error}") from error
    except Exception as error:  # encoders raise arbitrary errors for invalid options and shapes
        reason = (str(error).splitlines() or [""])[0][:100]
        what = f"'{path}' describes a model that cannot be built"
        raise CmkdError(f"{what} ({type(error).__name__}: {reason}): {AGAIN}") from error


def _described(one: Mapping[str, Any]) -> dict[str, Any]:
    """Return modality and size from a description that `_input` wrote."""
    return {"modality": Modality.from_dict(one["modality"]), "size": one["size"]}


def _arguments(one: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a model from a description that `_input` wrote."""
    given = _described(one)
    return given | {
        "scaling": one.get("scaling", "linear"),  # missing in files of earlier versions
        "values": np.zeros((1, given["modality"].channels)),  # placeholder: the file's tensors replace the results
    }
