"""Load the model of an ONNX file; onnxruntime computes, and torch is not needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmkd.documents import parse_json
from cmkd.errors import CmkdError, needs_extra

ABOUT = "cmkd"
"""Metadata key of the file for the checkpoint's description of the model, stored as JSON."""
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
"""Device -> its execution provider in onnxruntime."""


def load_onnx(
    path: Path, *, device: str = "auto", threads: int | None = None
) -> tuple[dict[str, Any], Callable[[NDArray[Any]], NDArray[np.float32]]]:
    """Load a file that ``cmkd export`` wrote.

    Args:
        path: path of the ``.onnx`` file.
        device: ``auto`` (the best that this onnxruntime offers), ``cpu`` or ``cuda``.
        threads: CPU threads of one prediction; by default as many as onnxruntime chooses.

    Returns:
        The description of the model in the file, and a function from samples to logits ``(n, classes)``.

    Raises:
        CmkdError: if onnxruntime is not installed or lacks the device, or the file is missing, damaged or not a model
            of ``cmkd export``.
    """
    with needs_extra("onnx", "predicting with an ONNX file"):
        import onnxruntime
    if not path.is_file():
        raise CmkdError(f"no model at '{path}'")
    offered = onnxruntime.get_available_providers()
    providers = offered if device == "auto" else [PROVIDERS.get(device, "")]
    _check_device(device, providers[0], offered)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    try:
        session = onnxruntime.InferenceSession(path, options, providers=providers)
        text = session.get_modelmeta().custom_metadata_map.get(ABOUT, "{}")
    except Exception as error:  # onnxruntime raises error classes that it does not export
        reason = " ".join(str(error).split())[:80]
        raise CmkdError(f"'{path}' is not a readable ONNX file ({reason}): export it again") from error
    if device != "auto":
        _check_device(device, providers[0], session.get_providers())
    about = parse_json(text, f"'{path}'", fix="export it again")
    if not {"modality", "classes", "calibration"} <= about.keys():
        raise CmkdError(f"'{path}' was not written by cmkd export: its metadata name no classes")
    name = session.get_inputs()[0].name

    def logits(samples: NDArray[Any]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = session.run(["logits"], {name: samples})[0]
        return found

    return about, logits


def _check_device(device: str, wanted: str, known: Sequence[str]) -> None:
    if wanted not in known:  # onnxruntime would silently compute on the CPU
        raise CmkdError(f"device '{device}' is not available (onnxruntime offers {', '.join(known)}): use cpu")
