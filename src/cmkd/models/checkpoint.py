"""One model as a file: safetensors for its tensors, JSON for the rest, no pickle; written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

import cmkd
from cmkd import models
from cmkd.errors import CmkdError
from cmkd.io import atomic, write_json
from cmkd.models.base import Model
from cmkd.models.fused import FusedModel
from cmkd.models.wrapping import Wrapped
from cmkd.registry import is_reference
from cmkd.types import Modality

MODEL_FORMAT = "cmkd-model-1"


def save_model(path: Path, model: Model, *, name: str, classes: tuple[str, ...], extra: Mapping[str, Any]) -> None:
    """Save one model alone, with all that is needed to use it.

    Args:
        path: of the ``.safetensors`` file. Its metadata is also written beside it, as ``.json``, for people.
        model: weights and preprocessing.
        name: what `cmkd.models.build` made it from, with its options.
        classes: names of the classes, in the order of the logits.
        extra: anything else worth keeping, such as the method and the seed.
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
        about["others"] = [_input(other) for other in model.others.values()]
    with atomic(path) as temporary:
        tensors = {key: value.detach().cpu().contiguous().clone() for key, value in model.state_dict().items()}
        save_file(tensors, temporary, metadata={"about": json.dumps(about)})
    write_json(path.with_suffix(".json"), about)


def rewrite(source: Path, path: Path, extra: Mapping[str, Any]) -> None:
    """Save the model of a file in another one, with more about it.

    Args:
        source: a file of `save_model`.
        path: of the file to write, and of its ``.json``.
        extra: replaces what `source` says under the same names.
    """
    about = read_about(source) | dict(extra)
    with atomic(path) as temporary:
        save_file(_tensors(source), temporary, metadata={"about": json.dumps(about)})
    write_json(path.with_suffix(".json"), about)


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    with safe_open(path, framework="pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # not a mapping


def _input(model: Any) -> dict[str, Any]:  # noqa: ANN401  # a Model; torch does not type the values of a ModuleDict
    size = model.preprocess.size
    return {
        "size": size[0] if size else None,
        "scaling": model.preprocess.scaling,
        "modality": asdict(model.modality),
    }


def read_about(path: Path) -> dict[str, Any]:
    """Return what `save_model` wrote about a model.

    Raises:
        CmkdError: the file is missing, damaged, or something else.
    """
    if not path.is_file():
        raise CmkdError(f"no checkpoint at '{path}'")
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get("about", "{}"))
    except (SafetensorError, json.JSONDecodeError, OSError) as error:
        raise CmkdError(
            f"'{path}' is not a readable checkpoint ({error}); it may be truncated: copy it again"
        ) from error
    if about.get("format") != MODEL_FORMAT or not {"model", "size", "modality", "classes"} <= about.keys():
        raise CmkdError(f"'{path}' is no model saved by cmkd; give a best.safetensors file of a run")
    return dict(about)


def load_model(path: Path | str, *, module: object = None) -> tuple[Model, dict[str, Any]]:
    """Load a model that `save_model` wrote, in eval mode, and what it wrote about it.

    Args:
        path: of the ``.safetensors`` file.
        module: for a model made from an own module: that module, its class, or a function that returns one, as for
            `cmkd.models.build`. A file never names code to import.

    Raises:
        CmkdError: the file is missing or damaged, its module is not given, or the weights do not fit it.
    """
    about = read_about(Path(path))
    classes = len(about["classes"])
    if "own" not in about:
        if is_reference(str(about["model"])):  # `build` would import and call it
            raise CmkdError(
                f"'{path}' names code to run ({about['model']}), which no file of cmkd does: do not trust it"
            )
        model = models.build(about["model"], classes=classes, **_arguments(about))
    elif module is None:
        raise CmkdError(f"'{path}' holds weights of your own module ({about['model']}): load_model(path, module=...)")
    else:
        given = _arguments(about)
        own = models.own_module(module, given["modality"], classes, about["own"])
        model = Model(encoder=own, classes=classes, **given)
    if others := about.get("others"):
        width = model.spec.dim
        model = FusedModel(model, [models.build(about["model"], classes=width, **_arguments(one)) for one in others])
    try:
        model.load_state_dict(_tensors(Path(path)))
    except RuntimeError as error:  # torch lists every tensor that does not fit
        raise CmkdError(f"the weights in '{path}' do not fit the model '{about['model']}'; was it changed?") from error
    model.spec = replace(model.spec, class_names=tuple(about["classes"]))
    return model.eval(), about


def _arguments(described: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `_input` described, as arguments of a model."""
    modality = Modality.from_dict(described["modality"])
    return {
        "modality": modality,
        "size": described["size"],
        "scaling": described.get("scaling", "linear"),  # files of earlier versions do not say
        "values": np.zeros((1, modality.channels)),  # the file's own tensors replace what is made of them
    }
