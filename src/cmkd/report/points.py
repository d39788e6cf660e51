"""Draw points as inline SVG: pictures of the guide, and embeddings whose points have tooltips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_SIDE = 100.0  # side of the picture in units of the SVG
_EDGE = 6.0
_COLORS = 7
"""Colors of `base.html`, ``--c1`` to ``--c7``, which differ between a light and a dark page."""


@dataclass(frozen=True)
class Points:
    """Points of a synthetic feature space.

    Args:
        places: positions ``(n, 2)``.
        kind: classes ``(n,)``.
        second: positions ``(m, 2)`` of a second model, drawn as crosses.
        circle: draw the unit circle.
        axes: draw the axes through 0.
    """

    places: Array
    kind: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    second: Array = field(default_factory=lambda: np.zeros((0, 2)))
    circle: bool = False
    axes: bool = False


def picture(points: Points, said: str) -> str:
    """Return synthetic features as a small SVG, with one scale for both axes.

    Args:
        points: points to draw.
        said: description of the picture for screen readers.
    """
    reach = 1.05 * max(1.2, float(np.abs(points.places).max()))
    at = (points.places * [1, -1] + reach) * _SIDE / (2 * reach)
    parts = []
    if points.circle:
        parts.append(f'<circle class="line" cx="50" cy="50" r="{_SIDE / (2 * reach):.1f}"/>')
    if points.axes:
        parts.append('<path class="line" d="M0 50H100M50 0V100"/>')
    kinds = points.kind if len(points.kind) else np.zeros(len(at), np.int64)
    parts += [_dot(x, y, 2.0, int(kind)) for (x, y), kind in zip(at, kinds, strict=True)]
    parts += [_cross(x, y, 1.6, 1) for x, y in (points.second * [1, -1] + reach) * _SIDE / (2 * reach)]
    return f'<svg viewBox="0 0 100 100" role="img" aria-label="{escape(said)}">{"".join(parts)}</svg>'


def embedding(
    placed: Array,
    ids: Sequence[str],
    target: NDArray[np.int64],
    predicted: NDArray[np.int64] | None,
    classes: Sequence[str],
    said: str,
) -> str:
    """Return an embedding as SVG: a dot for each pair, a cross if the model is wrong, and text as a tooltip.

    Args:
        placed: positions ``(n, 2)``.
        ids: ids of the pairs.
        target: true classes ``(n,)``, -1 without a label.
        predicted: predicted classes ``(n,)``; None for a model with other classes.
        classes: names of the classes.
        said: description of the picture for screen readers.
    """
    low, high = placed.min(0), placed.max(0)
    at = _EDGE / 2 + (placed - low) * (_SIDE - _EDGE) / max(float((high - low).max()), 1e-12)
    parts = []
    for place, (x, y) in enumerate(at):
        own, guess = int(target[place]), None if predicted is None else int(predicted[place])
        wrong = guess is not None and own not in (guess, -1)
        said_of = [classes[own] if own >= 0 else "no label"]
        if guess is not None:
            said_of.append("right" if guess == own else f"predicted {classes[guess]}{', wrong' if wrong else ''}")
        shape = _cross(x, y, 1.3, own) if wrong else _dot(x, y, 1.0, own)
        title = escape(f"{ids[place]}: " + ", ".join(said_of))
        parts.append(f"<g><title>{title}</title>{shape}</g>")
    return f'<svg viewBox="0 0 100 100" role="img" aria-label="{escape(said)}">{"".join(parts)}</svg>'


def legend(classes: Sequence[str]) -> list[dict[str, str]]:
    """Return a mark (SVG) and a name for each class: all colors filled, then all colors hollow, and so on in turn."""
    dots = [f'<svg viewBox="0 0 4 4" aria-hidden="true">{_dot(2, 2, 1.4, kind)}</svg>' for kind in range(len(classes))]
    return [{"svg": dot, "name": name} for dot, name in zip(dots, classes, strict=True)]


def _color(kind: int) -> str:
    return "k0" if kind < 0 else f"k{kind % _COLORS + 1}"


def _dot(x: float, y: float, radius: float, kind: int) -> str:
    hollow = " hollow" if kind // _COLORS % 2 and kind >= 0 else ""
    return f'<circle class="{_color(kind)}{hollow}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}"/>'


def _cross(x: float, y: float, half: float, kind: int) -> str:
    path = (
        f"M{x - half:.1f} {y - half:.1f}l{2 * half:.1f} {2 * half:.1f}m0 {-2 * half:.1f}l{-2 * half:.1f} {2 * half:.1f}"
    )
    return f'<path class="{_color(kind)}" d="{path}"/>'
