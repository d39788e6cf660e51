"""Checkpoints without pickle: safetensors for tensors, JSON for the rest, written whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import CheckpointIO
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

import cmkd
from cmkd import models
from cmkd.errors import CmkdError
from cmkd.models import Model
from cmkd.types import Modality

MODEL_FORMAT = "cmkd-model-1"


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that replaces it if the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: object) -> None:
    """Write a JSON file whole or not at all."""
    write_text(path, json.dumps(value, indent=2) + "\n")


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
        "size": model.preprocess.size[0] if model.preprocess.size else None,
        "modality": asdict(model.modality),
        "classes": list(classes),
        **extra,
    }
    with atomic(path) as temporary:
        tensors = {key: value.detach().cpu().contiguous().clone() for key, value in model.state_dict().items()}
        save_file(tensors, temporary, metadata={"about": json.dumps(about)})
    write_json(path.with_suffix(".json"), about)


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
    if about.get("format") != MODEL_FORMAT:
        raise CmkdError(f"'{path}' is no model saved by cmkd; give a best.safetensors file of a run")
    return dict(about)


def load_model(path: Path) -> tuple[Model, dict[str, Any]]:
    """Load a model that `save_model` wrote, in eval mode, and what it wrote about it."""
    about = read_about(path)
    modality = Modality.from_dict(about["modality"])
    model = models.build(about["model"], modality, classes=len(about["classes"]), size=about["size"])
    with safe_open(path, framework="pt") as file:
        model.load_state_dict({key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118  # not a mapping
    return model.eval(), about


class SafeCheckpointIO(CheckpointIO):
    """Lightning's full training state as one safetensors file: tensors as such, everything else as JSON beside them."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:  # noqa: ANN401  # Lightning's signature
        """Write the state whole or not at all."""
        tensors: dict[str, Tensor] = {}
        tree = json.dumps(_encode(checkpoint, tensors))
        with atomic(Path(path)) as temporary:
            save_file(tensors, temporary, metadata={"tree": tree})

    def load_checkpoint(
        self,
        path: Any,  # noqa: ANN401
        map_location: Any | None = None,  # noqa: ANN401
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Read the state."""
        try:
            with safe_open(Path(path), framework="pt") as file:
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
                decoded = _decode(json.loads(file.metadata()["tree"]), tensors)
        except (SafetensorError, OSError, KeyError, TypeError) as error:
            raise CmkdError(f"'{path}' is damaged ({error}); delete it to train this model again") from error
        assert isinstance(decoded, dict)
        return decoded

    def remove_checkpoint(self, path: Any) -> None:  # noqa: ANN401
        """Delete the file."""
        Path(path).unlink(missing_ok=True)


def _encode(value: object, tensors: dict[str, Tensor]) -> object:
    """Turn nested containers into JSON. Each container is tagged, so that keys and tuples come back as they were."""
    match value:
        case Tensor():
            key = str(len(tensors))
            tensors[key] = value.detach().cpu().contiguous().clone()
            return {"tensor": key}
        case dict():
            return {"dict": [[_encode(k, tensors), _encode(v, tensors)] for k, v in value.items()]}
        case list():
            return {"list": [_encode(v, tensors) for v in value]}
        case tuple():
            return {"tuple": [_encode(v, tensors) for v in value]}
        case None | bool() | int() | float() | str():
            return value
    raise TypeError(f"a checkpoint cannot hold {type(value)}")


def _decode(value: object, tensors: Mapping[str, Tensor]) -> object:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    match kind:
        case "tensor":
            return tensors[content]
        case "dict":
            return {_decode(k, tensors): _decode(v, tensors) for k, v in content}
        case "list":
            return [_decode(v, tensors) for v in content]
    return tuple(_decode(v, tensors) for v in content)
