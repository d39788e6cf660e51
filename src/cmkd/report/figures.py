"""Figures of pages, ready to embed, in the colors of Okabe and Ito, which are safe for color-blind readers."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont
from matplotlib.ft2font import FT2Font
from numpy.typing import NDArray
from PIL import Image

from cmkd.types import Modality

COLORS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
STYLES: tuple[Any, ...] = ("-", "--", "-.", ":")
"""Styles of lines, so that methods differ by more than their color."""
LARGEST = 160
"""Largest length in pixels of the longer side of a sample on a page; larger images are reduced."""
LONGEST = 48
"""Largest number of characters of a name in a figure; the middle of a longer name is left out."""

_THEME = {"#000000": "currentColor", "#dddddd": "var(--line)", "#666666": "var(--muted)"} | {
    color.lower(): f"var(--c{place})" for place, color in enumerate(COLORS) if place
}
"""Color in a figure -> color of ``base.html``, which has a darker or lighter one of the same hue for each mode."""
_UNDATED = {"svg": {"Date": None}}


def draw(figure: Figure, kind: str) -> bytes:
    """Return the bytes of a figure as svg, pdf or png; the same figure gives the same bytes."""
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": "cmkd"}):
        figure.savefig(buffer, format=kind, dpi=160, bbox_inches="tight", metadata=_UNDATED.get(kind))
    return buffer.getvalue()


def inline(figure: Figure, label: str) -> str:
    """Return a figure as an ``<svg>`` element in the colors and the font of the page, light or dark.

    Text stays text: it takes a third of the size of outlines, can be searched, and scales with the figure.

    Args:
        figure: figure in colors of `COLORS`, ``#dddddd`` for a grid and ``#666666`` for less important parts.
        label: description of the figure for screen readers.
    """
    FigureCanvasAgg(figure)
    buffer = io.StringIO()
    with rc_context({"svg.hashsalt": label, "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", bbox_inches="tight", transparent=True, metadata=_UNDATED["svg"])
    svg = buffer.getvalue()
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', svg))  # the other ids are the same in every figure
    svg = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", svg[svg.index("<svg") :])
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"(fill|stroke): (#[0-9a-f]{6})", lambda found: f"{found[1]}: {_THEME.get(found[2], found[2])}", svg)
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(label)}"', 1)


def embed(figure: Figure, kind: str) -> str:
    """Return a figure, svg or png, as an ``<img>`` source."""
    return source(draw(figure, kind), kind)


def source(content: bytes, kind: str) -> str:
    """Return the bytes of a picture, svg, png or webp, as an ``<img>`` source."""
    media = "image/svg+xml" if kind == "svg" else f"image/{kind}"
    return f"data:{media};base64,{base64.b64encode(content).decode()}"


def shown(name: str) -> str:
    r"""Return a name from the user's data as text for matplotlib: one line, and no formula.

    Every name of a class, modality, method or model in a figure passes through this function; pages show it in full.

    Example:
        >>> shown("$5 to $10"), shown("_other"), shown("a\nb"), shown(LONGEST * "x" + "yz")
        ('\\$5 to \\$10', ' _other', 'a b', 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…xxxxxxxxxxxxxyz')
    """
    line = " ".join(name.split())
    if len(line) > LONGEST:
        line = f"{line[: 2 * LONGEST // 3]}…{line[-LONGEST // 3 + 1 :]}"
    # matplotlib leaves names that begin with an underscore out of legends, and warns about letters its font lacks
    line = "".join(letter if ord(letter) in _letters() else "□" for letter in line).replace("$", r"\$")
    return f" {line}" if line.startswith("_") else line


@cache
def _letters() -> frozenset[int]:
    return frozenset(FT2Font(findfont(FontProperties())).get_charmap())


def accuracy_figure(teacher: float | None, rows: Mapping[str, Sequence[float]]) -> Figure:
    """Draw each student's test accuracy as a dot, each method's mean as a bar, and the teacher as a line.

    Args:
        teacher: test accuracy, 0 to 1; None if it was trained on other classes.
        rows: method -> accuracies of its seeds.
    """
    figure = Figure(figsize=(5.6, 0.9 + 0.42 * len(rows)))
    axes = figure.add_subplot()
    for place, values in enumerate(rows.values()):
        color = COLORS[place % len(COLORS)]
        scaled = 100 * np.asarray(values)
        axes.plot(scaled, np.full(len(scaled), place), "o", color=color, alpha=0.55, markeredgewidth=0)
        axes.plot([scaled.mean()] * 2, [place - 0.3, place + 0.3], color=color, linewidth=2.5)
    if teacher is not None:
        axes.axvline(100 * teacher, color="#666666", linestyle="--", linewidth=1.2)
        axes.text(100 * teacher, -0.75, " teacher ", ha="right", va="center", color="#666666", fontsize=9)
    axes.set_yticks(range(len(rows)), list(map(shown, rows)))
    plain(axes, ylim=(len(rows) - 0.4, -1.1), xlabel="test accuracy (%)")
    return figure


def curves_figure(histories: Mapping[str, Sequence[pd.DataFrame]], column: str, factor: float, ylabel: str) -> Figure:
    """Draw a column of the histories by epoch: mean and range over seeds.

    A seed that has ended counts with its last value.

    Args:
        histories: name (students in the order of their colors) -> one table per seed, with the columns epoch and
            `column`; a name without tables is not drawn.
        column: column to draw, such as ``validation_accuracy``.
        factor: factor to the unit of `ylabel`.
        ylabel: label of the y axis, with its unit.
    """
    figure = Figure(figsize=(4.8, 3.4))
    axes = figure.add_subplot()
    places = {name: place for place, name in enumerate(name for name in histories if name != "teacher")}
    for name, tables in histories.items():
        if not tables:
            continue
        place = places.get(name, 0)
        color, style = COLORS[place % len(COLORS)], STYLES[place % len(STYLES)]
        if name == "teacher":
            color, style = "#666666", (0, (5, 1, 1, 1, 1, 1))
        values = factor * pd.concat([t.set_index("epoch")[column] for t in tables], axis=1)
        values = values.ffill()  # a mean over the remaining seeds would jump
        epochs = values.index + 1
        axes.plot(epochs, values.mean(axis=1), linestyle=style, color=color, label=shown(name), linewidth=1.6)
        if len(tables) > 1:
            axes.fill_between(epochs, values.min(axis=1), values.max(axis=1), color=color, alpha=0.15, linewidth=0)
    plain(axes, xlabel="epoch", ylabel=ylabel)
    if axes.lines:
        axes.legend(frameon=False, fontsize=9, ncols=3, loc="lower left", bbox_to_anchor=(0, 1.0), handlelength=3)
    return figure


def reliability_figure(models: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw accuracy against confidence in bins, and below it the fraction of predictions in each bin.

    Args:
        models: entries ``models`` of ``evaluation.json``; only ``name``, ``bins`` and ``reliability`` are read.
    """
    figure = Figure(figsize=(4.6, 5.0), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.plot([0, 100], [0, 100], color="#666666", linestyle="--", linewidth=1)
    for place, model in enumerate(models):
        color, bins = COLORS[(place + 1) % len(COLORS)], model["reliability"]
        x, y, fraction = (100 * np.array([b[key] for b in bins]) for key in ("confidence", "accuracy", "fraction"))
        above.plot(x, y, color=color, linewidth=1.2, alpha=0.7)
        above.scatter(x, y, s=10 + 2 * fraction, color=color, label=shown(model["name"]), linewidths=0, clip_on=False)
        width = 100 / model["bins"]
        left = np.floor(x / width).clip(max=model["bins"] - 1) * width
        below.bar(left + width * (place + 0.5) / len(models), fraction, 0.9 * width / len(models), color=color)
    plain(above, ylabel="accuracy (%)", xlim=(0, 100), ylim=(0, 102))
    plain(below, xlabel="confidence: probability of the predicted class (%)", ylabel="predictions (%)")
    if len(models) > 1:
        above.legend(frameon=False, fontsize=8)
    return figure


def samples_figure(
    arrays: Mapping[str, NDArray[np.generic]], modalities: Mapping[str, Modality], labels: Sequence[str]
) -> Figure:
    """Draw pairs as columns: the first modality above, the second below.

    Args:
        arrays: modality -> ``(pairs, *shape)``.
        modalities: modality -> its description.
        labels: one label per pair.
    """
    columns = len(labels)
    figure = Figure(figsize=(1.15 * columns + 0.6, 1.25 * len(arrays) + 0.35))
    grid = figure.subplots(len(arrays), columns, squeeze=False)
    for row, (name, values) in enumerate(arrays.items()):
        for column in range(columns):
            axes = grid[row, column]
            _draw(axes, np.asarray(values[column]), modalities[name])
            axes.set(xticks=[], yticks=[])
            if row == 0:
                axes.set_title(shown(labels[column]), fontsize=8)
        grid[row, 0].set_ylabel(shown(name), fontsize=9)
    figure.tight_layout(pad=0.3)
    return figure


def _draw(axes: Axes, sample: NDArray[np.generic], modality: Modality) -> None:
    values = sample.astype(np.float64)
    if modality.kind == "image":
        axes.imshow(_shades(values, modality), cmap="gray")
    elif modality.kind in ("points", "point_series"):
        points = values.reshape(-1, modality.channels)
        points = points[(points != 0).any(1)]
        height = 2 if modality.channels > 2 else 1
        axes.scatter(points[:, 0], points[:, height], s=2, color=COLORS[1], linewidths=0)
    elif modality.kind == "series":
        shown = (values - np.asarray(modality.mean)) / np.asarray(modality.std)
        axes.imshow(shown.T, aspect="auto", cmap="cividis", interpolation="nearest") if modality.channels > 3 else (
            axes.plot(shown, linewidth=0.8)
        )
    else:
        axes.bar(np.arange(len(values)), values, color=COLORS[1])


def _shades(values: NDArray[np.float64], modality: Modality) -> NDArray[np.float64]:
    """Return an image between 0 and 1, ``(height, width)`` or ``(height, width, 3)``."""
    low, high = np.percentile(values, (1, 99))
    scaled = np.clip((values - low) / max(high - low, 1e-9), 0, 1)
    if modality.dtype == "uint8" and modality.channels == 3:
        scaled = values / 255
    shades: NDArray[np.float64] = scaled[:3].transpose(1, 2, 0) if modality.channels >= 3 else scaled[0]
    return shades


def picture(sample: NDArray[np.generic], modality: Modality) -> str:
    """Return one sample as an ``<img>`` source of a few kB."""
    if modality.kind != "image":
        figure = Figure(figsize=(1.6, 1.6))
        axes = figure.add_axes((0, 0, 1, 1))
        _draw(axes, np.asarray(sample), modality)
        axes.set_axis_off()
        return embed(figure, "png")
    drawn = Image.fromarray((255 * np.nan_to_num(_shades(sample.astype(np.float64), modality))).astype(np.uint8))
    drawn.thumbnail((LARGEST, LARGEST))
    buffer = io.BytesIO()
    drawn.save(buffer, format="webp", lossless=max(drawn.size) <= 32, quality=80)
    return source(buffer.getvalue(), "webp")


def plain(axes: Axes, **properties: object) -> None:
    """Set properties such as ``xlabel``, remove the upper and right border, and add a grid."""
    axes.set(**properties)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
