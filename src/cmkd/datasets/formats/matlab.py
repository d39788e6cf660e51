"""Readers of MATLAB files: versions 5 to 7 by scipy, version 7.3 and any other HDF5 file by h5py."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

from numpy.typing import NDArray

from cmkd.errors import needs_extra


def read_mat(file: Path | IO[bytes], *names: str) -> list[NDArray[Any]]:
    """Return the named arrays of a file of version 5 to 7; any error of scipy or a KeyError means a damaged file."""
    from scipy.io import loadmat

    if isinstance(file, Path):
        with file.open("rb") as opened:  # for a missing file, scipy would only report that it cannot be read
            return read_mat(opened, *names)
    readable: Any = file  # scipy's stubs accept paths only
    content = loadmat(readable, variable_names=names)
    return [content[name] for name in names]


def open_hdf5(file: Path | IO[bytes]) -> Any:  # noqa: ANN401  # h5py has no types
    """Open an HDF5 file for reading.

    Raises:
        CmkdError: h5py is not installed; the message names the extra to install.
    """
    with needs_extra("hdf5", "reading HDF5 files"):
        import h5py
    return h5py.File(file, "r")
