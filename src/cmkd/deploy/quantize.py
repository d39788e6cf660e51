"""Quantize an ONNX student to 8-bit integers, and measure the loss of accuracy on validation pairs."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cmkd.data.pack import Pack
from cmkd.deploy.onnx_model import ABOUT, load_onnx
from cmkd.deploy.samples import batches, labeled, labeled_rows
from cmkd.deploy.student import Student, load_student
from cmkd.errors import CmkdError, needs_extra
from cmkd.io import write_bytes

RANGE_PAIRS = 256
"""Largest number of training pairs from which the ranges of activations are taken."""
PRODUCTS = ["Gemm", "MatMul"]
QUANTIZED = ["Conv", *PRODUCTS, "Relu", "MaxPool"]
"""Operators that compute in integers. Preprocessing is not included, because its values can have any range."""
SLACK = 1.1
"""Largest size of the dynamic file relative to the static file; a larger one leaves too much in float."""
BATCH = 64
"""Number of pairs in each batch that is used to find the ranges."""
Method = Literal["static", "dynamic"]


@dataclass(frozen=True)
class Int8:
    """A quantized student.

    Args:
        path: path of the quantized file.
        student: the quantized student.
        method: ``static`` (ranges of activations are fixed in advance) or ``dynamic`` (found for each batch).
        accuracy: accuracy on the validation pairs.
        float_accuracy: accuracy of the original student on the same pairs.
        pairs: number of validation pairs.
    """

    path: Path
    student: Student
    method: Method
    accuracy: float
    float_accuracy: float
    pairs: int


def quantize(path: Path, reference: Student, data: Pack) -> Int8:
    """Write ``NAME.int8.onnx`` beside an exported ``NAME.onnx``.

    Quantization is static, unless dynamic quantization is more accurate on validation and about as small. Dynamic
    quantization covers only matrix products, because onnxruntime has no fast dynamic convolution. Ranges come from
    training pairs, so that the validation pairs measure the loss.

    Args:
        path: path of the exported file.
        reference: the student in PyTorch.
        data: labeled pairs with the student's modality.
    """
    rows = labeled_rows(reference, data, "validation")
    ranges, _ = labeled(reference, data, "train", RANGE_PAIRS)
    out = path.with_suffix(".int8.onnx")
    before = accuracy(reference, data, rows)
    found: dict[Method, tuple[float, bytes]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for method, content in _variants(path, ranges, Path(folder)).items():
            trial = Path(folder) / "trial.onnx"
            trial.write_bytes(content)
            found[method] = accuracy(load_student(trial, device="cpu"), data, rows), content
    method = max(found, key=lambda name: (found[name][0], name == "static"))
    write_bytes(out, found[method][1])
    return Int8(out, load_student(out, device="cpu"), method, found[method][0], before, len(rows))


def accuracy(student: Student, data: Pack, rows: NDArray[np.int64]) -> float:
    """Return the accuracy of a student on labeled pairs of its classes; the pairs are read in batches."""
    target = data.index["label"].to_numpy()[rows]
    right = [student.logits(samples).argmax(1) == target[place] for place, samples in batches(student, data, rows)]
    return float(np.concatenate(right).mean())


class _Reader:
    """Batches of samples, with the interface of onnxruntime's ``CalibrationDataReader``.

    Args:
        samples: samples ``(n, ...)``.
    """

    def __init__(self, samples: NDArray[Any]) -> None:
        self._batches = iter([samples[start : start + BATCH] for start in range(0, len(samples), BATCH)])

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """Return the next batch by the name of the input, or None after the last one."""
        batch = next(self._batches, None)
        return None if batch is None else {"samples": batch}


def _variants(path: Path, ranges: NDArray[Any], folder: Path) -> dict[Method, bytes]:
    """Return the quantized files, each with the metadata of `path`."""
    with needs_extra("onnx", "int8"):
        import onnx
        from onnxruntime import quantization
        from onnxruntime.quantization.shape_inference import quant_pre_process
    ready = folder / "ready.onnx"
    made: dict[Method, Path] = {"static": folder / "static.onnx", "dynamic": folder / "dynamic.onnx"}
    try:
        quant_pre_process(
            path, ready, skip_symbolic_shape=True
        )  # symbolic shapes need sympy; all but the batch are known
        quantization.quantize_static(
            ready,
            made["static"],
            _Reader(ranges),
            op_types_to_quantize=QUANTIZED,
            per_channel=True,
            # with signed activations onnxruntime is ten times slower on x86
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
        quantization.quantize_dynamic(ready, made["dynamic"], op_types_to_quantize=PRODUCTS, per_channel=True)
    except Exception as error:  # onnx and onnxruntime raise many error types for unsupported graphs
        reason = " ".join(str(error).split())[:160]
        raise CmkdError(f"'{path}' is written, but onnxruntime cannot quantize it: {reason}") from error
    about, _ = load_onnx(path, device="cpu")
    found: dict[Method, bytes] = {}
    for method, file in made.items():
        proto = onnx.load(file)
        del proto.metadata_props[:]
        said = about | {"exported": about["exported"] | {"int8": method}}
        proto.metadata_props.add(key=ABOUT, value=json.dumps(said))
        found[method] = proto.SerializeToString()
    return found if len(found["dynamic"]) <= SLACK * len(found["static"]) else {"static": found["static"]}
