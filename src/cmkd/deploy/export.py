"""Export a student as one ONNX or pt2 file with preprocessing and calibration, kept only if it agrees with PyTorch."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import cmkd
from cmkd.data.pack import Pack
from cmkd.deploy.calibration import Calibration
from cmkd.deploy.onnx_model import ABOUT, load_onnx
from cmkd.deploy.quantize import Int8, quantize
from cmkd.deploy.samples import Samples, samples_for
from cmkd.deploy.student import Student, load_student, model_file
from cmkd.errors import CmkdError, needs_extra
from cmkd.io import atomic
from cmkd.models import Model
from cmkd.models.checkpoint import load_model

Format = Literal["onnx", "pt2"]
OPSET = 18
"""Opset version of ONNX files: the first with antialiased resizing; every onnxruntime since 1.14 reads it."""
TOLERANCE = 1e-4
"""Largest difference in probability from PyTorch that is allowed in an exported file."""
OUTPUTS = ("logits", "probabilities", "embedding")
LARGEST_BYTES = 2**31 - 2**24
"""Largest size of the weights in one ONNX file: protobuf is limited to 2 GiB, and the graph needs a part of this."""


@dataclass(frozen=True)
class Exported:
    """An exported student.

    Args:
        source: file of the original model.
        path: exported file.
        difference: largest difference in probability from PyTorch.
        samples: samples used for the comparison.
        reference: student that PyTorch runs.
        student: exported student.
        int8: quantized student, if one was written.
    """

    source: Path
    path: Path
    difference: float
    samples: Samples
    reference: Student
    student: Student
    int8: Int8 | None


def export(
    source: Path | str,
    out: Path | None = None,
    *,
    format: Format = "onnx",
    int8: bool = False,
    data: Pack | None = None,
    module: object = None,
) -> Exported:
    """Write a student as one file that needs no cmkd: stored samples in; logits, probabilities and embedding out.

    The graph includes preprocessing and calibration, and takes any batch size. The checkpoint's description of the
    model is stored as JSON in the metadata under the key ``cmkd`` (pt2: in an extra file of this name). The file is
    kept only if its probabilities agree with PyTorch within `TOLERANCE`.

    Args:
        source: a run's folder, for the student that the run recommends, or a ``.safetensors`` file of a model.
        out: file to write; by default beside the model, with the same name.
        format: ``onnx`` (opset `OPSET`), or ``pt2``, a program of torch.export.
        int8: also write a quantized ``NAME.int8.onnx``.
        data: pairs for the comparison and, with `int8`, for quantization and evaluation.
        module: the user's own network, if the model is one, as for `cmkd.load_model`.

    Raises:
        CmkdError: if there is no such model, it cannot be traced, the probabilities of the file differ, or `int8` is
            given without `data` or with another format.

    Example:
        >>> found = export("runs/digits")  # doctest: +SKIP
        >>> found.path, found.difference < 1e-4  # doctest: +SKIP
        (PosixPath('runs/digits/student.onnx'), True)
    """
    if int8 and (format != "onnx" or data is None):
        raise CmkdError("int8 needs the format onnx, and data to quantize and evaluate with: --format onnx --data D")
    place = model_file(source)
    if place.suffix in (".onnx", ".pt2"):
        raise CmkdError(f"'{place}' is already exported: give a run's folder or a .safetensors file")
    path = out or place.with_suffix(f".{format}")
    if path.suffix != f".{format}":
        raise CmkdError(f"the file of the format {format} must end in .{format}, got '{path.name}'")
    model, about = load_model(place, module=module)
    reference = load_student(place, device="cpu", module=module)
    samples = samples_for(reference, place, data)
    about = about | {
        "calibration": reference.calibration.to_dict(),
        "exported": {"format": format, "opset": OPSET, "cmkd": cmkd.__version__, "torch": torch.__version__},
    }
    with _quiet():
        with atomic(path) as temporary:  # before the work, which is lost if the file cannot be written
            program = _traced(model, reference.calibration, torch.from_numpy(samples.values[:1]))
            temporary.write_bytes(_onnx(program, about) if format == "onnx" else _pt2(program, about))
            student, outputs = _loaded(temporary, format)
            difference = _difference(reference, student, outputs, samples.values)
            if not difference <= TOLERANCE:  # also if it is NaN
                raise CmkdError(
                    f"a probability of the exported model differs from PyTorch by {difference:.2g} on {samples.source} "
                    f"(allowed: {TOLERANCE:g}); nothing was written"
                )
        quantized = quantize(path, reference, data) if int8 and data is not None else None
    return Exported(place, path, difference, samples, reference, student, quantized)


class _Classifier(nn.Module):
    """A model that fills invalid values like `Modality.filled`, adds calibrated probabilities, and returns tensors."""

    mean: Tensor

    def __init__(self, model: Model, temperature: float) -> None:
        super().__init__()
        self.model, self.temperature = model, temperature
        modality = model.modality
        self.nodata = modality.nodata if isinstance(modality.nodata, int) else None
        one = (modality.channels, 1, 1) if modality.kind == "image" else (modality.channels,)
        means = modality.filled(np.ma.MaskedArray(np.zeros(one, modality.dtype), mask=True))
        self.register_buffer("mean", torch.from_numpy(means).float(), persistent=False)

    def forward(self, samples: Tensor) -> dict[str, Tensor]:
        if samples.is_floating_point():
            samples = torch.where(samples.isnan(), self.mean.to(samples), samples)
        elif self.nodata is not None:
            values = samples.float()
            samples = torch.where(values == self.nodata, self.mean, values)
        output = self.model(samples)
        found = (output.logits, (output.logits / self.temperature).softmax(1), output.embedding)
        return dict(zip(OUTPUTS, found, strict=True))


def _traced(model: Model, calibration: Calibration, sample: Tensor) -> torch.export.ExportedProgram:
    classifier = _Classifier(model.eval(), calibration.temperature).eval()
    batch = torch.export.Dim("batch")
    try:
        # two samples: torch.export treats a batch size of one as a constant
        pair = torch.cat([sample, sample])
        return torch.export.export(classifier, (pair,), dynamic_shapes=({0: batch},), strict=False)
    except Exception as error:  # torch raises many error types for models that it cannot trace
        raise CmkdError(f"torch.export cannot trace this model: {_reason(error)}") from error


def _onnx(program: torch.export.ExportedProgram, about: Mapping[str, Any]) -> bytes:
    with needs_extra("onnx", "cmkd export"):
        import onnx  # noqa: F401  # needed by the exporter
        import onnxruntime  # noqa: F401  # needed later to compare: report early that it is missing
        import onnxscript  # noqa: F401
    size = sum(value.nbytes for value in program.state_dict.values())
    if size > LARGEST_BYTES:
        raise CmkdError(f"the weights have {size / 2**30:.1f} GiB, but an ONNX file holds at most 2: use --format pt2")
    try:
        made = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=OPSET,
            input_names=["samples"],
            output_names=list(OUTPUTS),
            verbose=False,
        )
    except torch.onnx.OnnxExporterError as error:
        raise CmkdError(f"torch.onnx cannot write this model ({_reason(error)}): use --format pt2") from error
    assert made is not None
    proto = made.model_proto
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    proto.metadata_props.add(key=ABOUT, value=json.dumps(about))
    content: bytes = proto.SerializeToString()
    return content


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:160]


def _pt2(program: torch.export.ExportedProgram, about: Mapping[str, Any]) -> bytes:
    file = io.BytesIO()
    torch.export.save(program, file, extra_files={ABOUT: json.dumps(about)})
    return file.getvalue()


Outputs = Callable[[NDArray[Any]], dict[str, NDArray[Any]]]


def _loaded(path: Path, format: Format) -> tuple[Student, Outputs]:
    """Return the student of an exported file, and a function from samples to the outputs of its graph."""
    if format == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return Student.of(*load_onnx(path, device="cpu")), lambda samples: dict(
            zip(OUTPUTS, session.run(list(OUTPUTS), {"samples": samples}), strict=True)
        )
    said = {ABOUT: ""}
    module = torch.export.load(io.BytesIO(path.read_bytes()), extra_files=said).module()

    def outputs(samples: NDArray[Any]) -> dict[str, NDArray[Any]]:
        with torch.inference_mode():
            return {name: value.numpy() for name, value in module(torch.from_numpy(samples)).items()}

    about = json.loads(said[ABOUT])
    return Student.of(about, lambda samples: outputs(samples)["logits"]), outputs


def _difference(reference: Student, student: Student, outputs: Outputs, values: NDArray[Any]) -> float:
    """Return the largest difference from PyTorch in the graph's probabilities or those computed from its logits.

    A batch of one and a batch with an invalid value are compared too.
    """
    found, holed = [], values[:2].copy()
    if reference.modality.nodata is not None or holed.dtype.kind == "f":
        holed[0].flat[0] = reference.modality.nodata if holed.dtype.kind in "iu" else np.nan
    for batch in (values[:1], holed, *(values[start : start + 64] for start in range(0, len(values), 64))):
        expected = reference.probabilities(reference.modality.filled(batch))
        found += [outputs(batch)["probabilities"] - expected, student.probabilities(batch) - expected]
    return float(np.abs(np.concatenate(found)).max())


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the output, warnings and logs of the exporter and the quantizer; their errors are still raised."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
