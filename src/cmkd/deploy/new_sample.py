"""Convert a file or an array to a sample of a student's modality."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from numpy.typing import NDArray

from cmkd.data.manifest.content import File
from cmkd.data.manifest.gdal import measured
from cmkd.data.manifest.header import Channels, ExtraAxisError
from cmkd.data.manifest.sample import header_of, load, sample
from cmkd.errors import CmkdError, CmkdWarning
from cmkd.types import Modality

SERIES = ("series", "point_series")
"""Kinds whose first axis is time."""


def sample_of_file(modality: Modality, path: File, *, channels: Channels | None = None) -> NDArray[Any]:
    """Return a file as a sample ``(*modality.shape)``, with invalid values filled with the modality's mean.

    Arguments and errors are those of `cmkd.data.manifest.sample.load`. A different sampling rate and different columns
    of a table are errors too.
    """
    try:
        if modality.kind in SERIES:
            header = header_of(modality, path, channels=channels)
            modality.check_stated(path, "for the student", rate=header.rate, columns=header.names, fix="resample it")
            warn_of_length(modality, header.shape)
        return modality.filled(load(modality, path, channels=channels))
    except ExtraAxisError as error:
        raise CmkdError(
            f"{path} has one axis more than a sample of '{modality.name}', so it holds several samples: save each in a "
            "file of its own, or use cmkd.load_student(...).predict(array)"
        ) from error


def sample_of_array(modality: Modality, values: NDArray[Any]) -> NDArray[Any]:
    """Return an array as a sample ``(*modality.shape)``, with invalid values filled with the modality's mean.

    Args:
        modality: modality of the sample; its `file_nodata` marks invalid values, as it does in files.
        values: the array, as for `cmkd.data.manifest.sample.sample`.

    Raises:
        CmkdError: if the array is not a sample of the modality.
    """
    stated: Any = modality.file_nodata
    if values.dtype.kind in "iuf":  # `sample` refuses other dtypes
        values = measured(values, stated=stated)
    found = modality.filled(sample(modality, values))
    warn_of_length(modality, values.shape)
    return found


@contextmanager
def numbered(place: int, count: int) -> Iterator[None]:
    """Add the number of the array to the message of an error inside the block.

    Args:
        place: position of the array, from 0.
        count: number of all arrays; a single array gets no number.
    """
    try:
        yield
    except CmkdError as error:
        if count == 1:
            raise
        raise CmkdError(f"sample {place}: {error}") from error


def warn_of_length(modality: Modality, shape: tuple[int, ...]) -> None:
    """Warn if a series has another number of steps than in training; the message is the same for all lengths."""
    steps = modality.shape[0]
    if modality.kind in SERIES and shape[0] != steps:
        warnings.warn(
            f"a series of '{modality.name}' is not {steps} steps long, as in training: it is cut or padded; "
            f"cut it into windows of {steps} steps",
            CmkdWarning,
            stacklevel=1,
        )
