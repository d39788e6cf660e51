"""Points as inline SVG: pictures of the guide, and embeddings whose points say what they are under the pointer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np
from numpy.typing import NDArray

from cmkd.report.figures import COLORS

Array = NDArray[np.float64]
_SIDE = 100.0  # of the square, in units of the SVG
_EDGE = 6.0
PALETTE = (*COLORS[1:], "#888888")
"""Colors that can be seen on light and on dark pages."""


@dataclass(frozen=True)
class Points:
    """Points of a made feature space.

    Args:
        places: ``(n, 2)``.
        kind: ``(n,)`` class of each.
        second: ``(n, 2)`` of a second model, drawn as crosses.
        circle: draw the unit circle.
        axes: draw the axes through 0.
    """

    places: Array
    kind: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    second: Array = field(default_factory=lambda: np.zeros((0, 2)))
    circle: bool = False
    axes: bool = False


def picture(points: Points, said: str) -> str:
    """Return made features as a small SVG, on one scale for both axes.

    Args:
        points: what to draw.
        said: what it shows, for screen readers.
    """
    reach = 1.05 * max(1.2, float(np.abs(points.places).max()))
    at = (points.places * [1, -1] + reach) * _SIDE / (2 * reach)
    parts = []
    if points.circle:
        parts.append(f'<circle class="line" cx="50" cy="50" r="{_SIDE / (2 * reach):.1f}"/>')
    if points.axes:
        parts.append('<path class="line" d="M0 50H100M50 0V100"/>')
    kinds = points.kind if len(points.kind) else np.zeros(len(at), np.int64)
    parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2" fill="{PALETTE[k]}"/>' for (x, y), k in zip(at, kinds, strict=True)]
    for x, y in (points.second * [1, -1] + reach) * _SIDE / (2 * reach):
        parts.append(_cross(x, y, 1.6, PALETTE[1]))
    return f'<svg viewBox="0 0 100 100" role="img" aria-label="{escape(said)}">{"".join(parts)}</svg>'


def embedding(
    placed: Array,
    ids: Sequence[str],
    target: NDArray[np.int64],
    predicted: NDArray[np.int64] | None,
    classes: Sequence[str],
    said: str,
) -> str:
    """Return an embedding as SVG: a dot for each pair, a cross where the model is wrong, its text under the pointer.

    Args:
        placed: ``(n, 2)``.
        ids: of the pairs.
        target: ``(n,)`` classes, -1 without a label.
        predicted: ``(n,)`` classes; None for a model of other classes.
        classes: their names.
        said: what it shows, for screen readers.
    """
    low, high = placed.min(0), placed.max(0)
    at = _EDGE / 2 + (placed - low) * (_SIDE - _EDGE) / max(float((high - low).max()), 1e-12)
    parts = []
    for place, (x, y) in enumerate(at):
        own = int(target[place])
        color = PALETTE[own % (len(PALETTE) - 1)] if own >= 0 else PALETTE[-1]
        title = f"{ids[place]}: {classes[own] if own >= 0 else 'no label'}"
        wrong = predicted is not None and own >= 0 and int(predicted[place]) != own
        if predicted is not None:
            title += f", predicted {classes[int(predicted[place])]}, wrong" if wrong else ""
            title += f", predicted {classes[int(predicted[place])]}" if own < 0 else ", right" if not wrong else ""
        shape = _cross(x, y, 1.3, color) if wrong else f'<circle cx="{x:.1f}" cy="{y:.1f}" r="1" fill="{color}"/>'
        parts.append(f"<g><title>{escape(title)}</title>{shape}</g>")
    return f'<svg viewBox="0 0 100 100" role="img" aria-label="{escape(said)}">{"".join(parts)}</svg>'


def _cross(x: float, y: float, half: float, color: str) -> str:
    path = f"M{x - half:.1f} {y - half:.1f}l{2 * half:.1f} {2 * half:.1f}m0 {-2 * half:.1f}l{-2 * half:.1f} {2 * half:.1f}"
    return f'<path d="{path}" stroke="{color}" fill="none"/>'
