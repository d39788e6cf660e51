"""Write the self-contained page of a data check: flagged pairs by fault, with thumbnails, and shortcuts."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmkd.data.quality import KINDS, Fault, FaultReport
from cmkd.data.quality.faults import HEADER, RULE
from cmkd.data.quality.sources import Source
from cmkd.io import write_text
from cmkd.report.html import render

SIDE = 112
"""Longer side of a thumbnail, pixels."""
SHOWN = 60
"""Pairs shown per kind of fault; all are in ``faults.json``."""
_SAMPLED = 50
_Scale = tuple[str, float, float]  # usual dtype of a modality, and its values of black and white


def write_faults_page(report: FaultReport, source: Source, path: Path) -> None:
    """Write the page of a check.

    Args:
        report: result of the check.
        source: the checked pairs, for the pictures.
        path: HTML file to write.
    """
    place = {name: row for row, name in enumerate(source.ids)}
    scales = {name: _scale(source, name) for name in source.modalities}
    sections = []
    for kind, meaning in KINDS.items():
        faults = [fault for fault in report.faults if fault.kind == kind]
        cards = [_card(fault, source, place, scales) for fault in faults[:SHOWN]]
        if faults:
            sections.append({"kind": kind, "meaning": meaning, "cards": cards, "more": len(faults) - len(cards)})
    page = render(
        "faults.html",
        report=report,
        summary=report.summary(),
        notes=[*report.notes, *report.shortcuts.notes],
        sections=sections,
        kinds=KINDS,
        header=HEADER,
        rule=RULE,
    )
    write_text(path, page)


def _card(fault: Fault, source: Source, place: Mapping[str, int], scales: Mapping[str, _Scale]) -> dict[str, Any]:
    flagged = fault.modality.split("+")
    pictures = [
        {"title": name, "flagged": name in flagged, "source": _thumbnail(source, place[fault.id], name, scales)}
        for name in source.modalities
    ]
    if fault.other:
        other = _thumbnail(source, place[fault.other], fault.modality, scales)
        pictures.append({"title": f"{fault.other}, {fault.modality}", "flagged": False, "source": other})
    return {"fault": fault, "pictures": pictures}


def _scale(source: Source, name: str) -> _Scale:
    """Return usual dtype, black and white of a modality: one scale for all its pairs, so that low contrast shows."""
    rows = np.linspace(0, len(source.ids) - 1, min(_SAMPLED, len(source.ids)), dtype=int)
    cells = [source.cell(int(row), name) for row in rows]
    arrays = [cell.array for cell in cells if cell is not None and cell.array is not None and cell.kind == "image"]
    if not arrays:
        return "", 0.0, 255.0
    usual = Counter(array.dtype.name for array in arrays).most_common(1)[0][0]
    low, high = np.median([_ends(array) for array in arrays if array.dtype.name == usual], axis=0)
    return usual, float(low), float(high)


def _ends(array: NDArray[Any]) -> tuple[float, float]:
    if array.dtype == np.uint8:
        return 0.0, 255.0
    finite = np.ma.compressed(np.ma.masked_invalid(array.astype(np.float64)))
    low, high = np.percentile(finite, (1, 99)) if finite.size else (0.0, 1.0)
    return float(low), float(high)


def _thumbnail(source: Source, row: int, name: str, scales: Mapping[str, _Scale]) -> str:
    """Return a picture as an ``<img>`` source, empty if there is none."""
    array = source.picture(row, name)
    if array is None or array.ndim != 3 or array.shape[0] > 64:
        return ""
    from PIL import Image

    if np.ma.isMaskedArray(array):
        array = np.ma.filled(array.astype(np.float64), np.nan)
    usual, *ends = scales[name]
    image = Image.fromarray(_bytes(array, *(ends if array.dtype.name == usual else _ends(array))))
    factor = SIDE / max(image.size)
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    image = image.resize(size, Image.Resampling.NEAREST if factor >= 1 else Image.Resampling.BOX)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _bytes(array: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """Return ``(height, width, 3)``; values that are not finite are magenta."""
    shown = array[:3] if len(array) >= 3 else np.repeat(array[:1], 3, axis=0)
    values = shown.astype(np.float64)
    finite = np.isfinite(values).all(axis=0)
    scaled = (np.where(finite, values, 0) - low) / max(high - low, 1e-12)
    picture = np.moveaxis((255 * scaled.clip(0, 1)).astype(np.uint8), 0, -1)
    picture[~finite] = (255, 0, 255)
    return np.ascontiguousarray(picture)
