"""Use a trained student: samples of the poor modality in, calibrated predictions out. An ONNX file needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cmkd.data.manifest.reading import Reading
from cmkd.deploy.calibration import Calibration
from cmkd.deploy.new_sample import numbered, sample_of_array, sample_of_file
from cmkd.documents import RESULTS, SETTINGS, read_json
from cmkd.errors import CmkdError
from cmkd.options import build
from cmkd.types import Modality

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from cmkd.models import Model

STUDENT = "student.safetensors"
"""Name of the recommended student in the folder of a run."""


@dataclass(frozen=True)
class _Said:
    """Schema of the metadata in a model's file that a student needs."""

    modality: Modality
    classes: tuple[str, ...]
    calibration: Calibration = field(default_factory=Calibration)


@dataclass(frozen=True)
class Student:
    """A trained classifier of one modality, ready for use; `load_student` makes one.

    Args:
        modality: modality of the samples.
        classes: names of the classes, in the order of the logits.
        calibration: calibration of the probabilities.
        about: metadata of the model's file.
        logits: function from samples ``(n, *modality.shape)`` in the modality's dtype to float32 logits
            ``(n, classes)``.
    """

    modality: Modality
    classes: tuple[str, ...]
    calibration: Calibration
    about: Mapping[str, Any]
    logits: Callable[[NDArray[Any]], NDArray[np.float32]]

    @classmethod
    def of(cls, about: Mapping[str, Any], logits: Callable[[NDArray[Any]], NDArray[np.float32]]) -> Student:
        """Create a student from the metadata of a model's file and a function that computes its logits.

        Raises:
            CmkdError: if a part of the metadata is missing or has another type.
        """
        said = build(_Said, about, others=True)
        if len(said.calibration.thresholds) not in (0, len(said.classes)):
            raise CmkdError("calibration.thresholds needs one threshold for each class")
        return cls(said.modality, said.classes, said.calibration, about, logits)

    def probabilities(self, samples: NDArray[Any]) -> NDArray[np.float64]:
        """Return the calibrated probabilities ``(n, classes)`` of samples ``(n, *modality.shape)``."""
        return self.calibration.probabilities(self.logits(samples))

    def predict(
        self, inputs: NDArray[Any] | Path | str | Sequence[NDArray[Any] | Path | str], *, batch_size: int = 256
    ) -> pd.DataFrame:
        """Classify samples.

        Args:
            inputs: a file, an array of one sample or of several ``(n, *modality.shape)``, or a list of files and
                arrays. Images of other sizes are resized. Series of another length are cut or padded, with a
                warning. Everything else must be as in the training data. Invalid values (NaN, masked, nodata
                of a GeoTIFF, or the nodata value that was stated for training) are filled with the modality's mean.
            batch_size: samples classified at a time.

        Returns:
            One row per sample, with the columns that `columns` describes.

        Raises:
            CmkdError: if a file or an array is not a sample of the modality, or `batch_size` is less than 1.
        """
        import pandas as pd

        if batch_size < 1:
            raise CmkdError(f"batch_size is {batch_size}; it must be at least 1")

        given = self._listed(inputs)
        parts = [
            pd.DataFrame(
                self.columns(
                    [str(one) if isinstance(one, Path | str) else str(start + k) for k, one in enumerate(batch)],
                    self.probabilities(np.stack([*self._samples(batch, start, len(given))])),
                )
            )
            for start in range(0, len(given), batch_size)
            if (batch := given[start : start + batch_size])
        ]
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(self.columns([], self._none()))

    def sample(self, one: NDArray[Any] | Path | str, *, reading: Reading | None = None) -> NDArray[Any]:
        """Return a file or an array as a sample ``(*modality.shape)``, invalid values filled with the modality's mean.

        Args:
            one: the file or the array.
            reading: stated nodata value and, for a file, channels; by default as in training. A stated kind or unit
                must match the modality.

        Raises:
            CmkdError: if it is not a sample of the modality; the message says why.
        """
        said = reading or Reading()
        where = one if isinstance(one, Path | str) else "the array"
        self.modality.check_stated(where, "for the student", kind=said.kind, unit=said.unit)
        nodata = self.modality.file_nodata if said.nodata is None else said.nodata
        there = replace(self.modality, file_nodata=nodata)
        if isinstance(one, Path | str):
            return sample_of_file(there, Path(one), channels=said.channels)
        return sample_of_array(there, np.asanyarray(one))

    def columns(self, names: Sequence[str], probabilities: NDArray[Any]) -> dict[str, list[Any]]:
        """Return the columns of a table of predictions, one entry per sample.

        Args:
            names: names of the samples.
            probabilities: calibrated probabilities ``(n, classes)``.

        Returns:
            ``input``; ``class``, the most probable one; its ``probability``; ``entropy`` of the probabilities in nats;
            ``rejected``, whether the probability is below the threshold of the class; ``p_NAME`` for each class.
        """
        highest = probabilities.argmax(axis=1)
        logs = np.log(np.where(probabilities > 0, probabilities, 1.0))
        return {
            "input": list(names),
            "class": [self.classes[k] for k in highest],
            "probability": probabilities.max(axis=1).tolist() if len(names) else [],
            "entropy": (-(probabilities * logs).sum(axis=1)).tolist(),
            "rejected": self.calibration.rejected(probabilities).tolist() if len(names) else [],
            **{f"p_{name}": probabilities[:, k].tolist() for k, name in enumerate(self.classes)},
        }

    def _listed(self, inputs: Any) -> list[Any]:  # noqa: ANN401  # what `predict` takes
        if isinstance(inputs, Path | str):
            return [inputs]
        if isinstance(inputs, np.ndarray):
            one = inputs.ndim <= len(self.modality.shape)
            return [inputs] if one else list(inputs)
        if not isinstance(inputs, Sequence):
            raise CmkdError(f"expected a file, an array, or a list of these, got {type(inputs).__name__}")
        return list(inputs)

    def _samples(self, batch: Sequence[Any], start: int, count: int) -> Iterator[NDArray[Any]]:
        for place, one in enumerate(batch, start):
            with numbered(place, 1 if isinstance(one, Path | str) else count):  # errors already name a file
                yield self.sample(one)

    def _none(self) -> NDArray[np.float64]:
        return np.zeros((0, len(self.classes)))


def load_student(
    path: Path | str, *, device: str = "auto", module: object = None, threads: int | None = None
) -> Student:
    """Load a student for use.

    Args:
        path: a run's folder, which stands for the student that the run recommends; a ``.safetensors`` file of a model;
            or an ``.onnx`` file of ``cmkd export``, which needs onnxruntime and no torch.
        device: device of the model: ``auto`` (a GPU if there is one), ``cpu``, ``cuda``, ...
        module: the user's own network, if the model is one, as for `cmkd.load_model`.
        threads: CPU threads of one prediction; by default as many as torch or onnxruntime choose.

    Raises:
        CmkdError: if there is no such file, it is damaged or holds something else, or the device is not available.

    Example:
        >>> student = load_student("runs/digits")  # doctest: +SKIP
        >>> student.predict("tomorrow/ship.png")  # doctest: +SKIP
                        input class  probability   entropy  rejected     p_0 ...
        0  tomorrow/ship.png     3     0.971523  0.153104     False  0.0004 ...
    """
    place = model_file(path)
    if place.suffix == ".onnx":
        from cmkd.deploy.onnx_model import load_onnx

        about, logits = load_onnx(place, device=device, threads=threads)
    else:
        about, logits = _load_torch(place, device, module, threads)
    try:
        return Student.of(about, logits)
    except CmkdError as error:
        raise CmkdError(f"'{place}' is damaged ({error}): write it again") from error


def model_file(path: Path | str) -> Path:
    """Return the model's file at a path; for a run's folder, the file of the student that the run recommends.

    Raises:
        CmkdError: if a folder holds no student, or one that the run no longer recommends.
    """
    place = Path(path)
    if not place.is_dir():
        return place
    if not (place / STUDENT).is_file():
        run = (place / SETTINGS).is_file()
        hint = "run the same `cmkd run` again to finish it" if run else "give a run's folder, or a model's file"
        raise CmkdError(f"'{place}' holds no {STUDENT}: {hint}")
    _check_recommended(place)
    return place / STUDENT


def _check_recommended(run: Path) -> None:
    """Raise if a run was continued and now recommends a student other than the one in its file."""
    from cmkd.evaluation.results import superseded

    about, results = (run / STUDENT).with_suffix(".json"), run / RESULTS
    if not (about.is_file() and results.is_file()):
        return  # copied without the run
    this = f"give {run / STUDENT} to use this one"
    said, found = (read_json(path, fix=this) for path in (about, results))
    if superseded(said, found):
        new, old = (f"{one['method']} (seed {one['seed']})" for one in (found["recommended"], said))
        raise CmkdError(
            f"'{run}' recommends {new} by now, but its {STUDENT} is still {old}: run the same `cmkd run` again to "
            f"finish it, or {this}"
        )


def _load_torch(
    path: Path, device: str, module: object, threads: int | None
) -> tuple[dict[str, Any], Callable[[NDArray[Any]], NDArray[np.float32]]]:
    try:
        import torch

        from cmkd.models.checkpoint import load_model
    except ImportError as error:
        raise CmkdError(
            f"'{path}' needs {error.name or 'torch'}: pip install cmkd, or give an .onnx file from `cmkd export`"
        ) from error

    model, about = load_model(path, module=module)
    try:
        there = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
        torch.zeros(1, device=there).item()  # some devices can be named but hold no values
    except (RuntimeError, AssertionError) as error:  # torch raises them for unknown and missing devices
        raise CmkdError(f"device '{device}' is not available ({str(error).splitlines()[0][:80]}): use cpu") from error
    return about, partial(_torch_logits, model.to(there), there, threads)  # a partial, which can be pickled


def _torch_logits(
    model: Model, device: torch.device, threads: int | None, samples: NDArray[Any]
) -> NDArray[np.float32]:
    import torch

    if threads is not None:
        torch.set_num_threads(threads)  # the setting is separate for each calling thread
    with torch.inference_mode():
        found: NDArray[np.float32] = model(torch.from_numpy(samples).to(device)).logits.float().cpu().numpy()
        return found
