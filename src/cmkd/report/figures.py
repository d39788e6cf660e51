"""Figures of a run's page, ready to embed, in the colors of Okabe and Ito, safe for color-blind readers."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont
from matplotlib.ft2font import FT2Font
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix

from cmkd.types import Modality

COLORS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
LONGEST = 48
"""Characters of a name in a figure; the middle of a longer one is left out."""

_UNDATED = {"svg": {"Date": None}, "pdf": {"CreationDate": None, "ModDate": None}}


def draw(figure: Figure, kind: str) -> bytes:
    """Return a figure as a file of a kind: svg, pdf or png. The same figure gives the same bytes."""
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": "cmkd"}):
        figure.savefig(buffer, format=kind, dpi=160, bbox_inches="tight", metadata=_UNDATED.get(kind))
    return buffer.getvalue()


def embed(figure: Figure, kind: str = "svg") -> str:
    """Return a figure, svg or png, as an ``<img>`` source."""
    return source(draw(figure, kind), kind)


def source(content: bytes, kind: str) -> str:
    """Return the bytes of a picture, svg or png, as an ``<img>`` source."""
    media = "image/svg+xml" if kind == "svg" else "image/png"
    return f"data:{media};base64,{base64.b64encode(content).decode()}"


def shown(name: str) -> str:
    r"""Return a name of the user's data as matplotlib takes it: one line of text, and no formula.

    Every name of a class, modality, method or model goes through here on its way to a figure; pages show it in full.

    Example:
        >>> shown("$5 to $10"), shown("_other"), shown("a\nb"), shown(LONGEST * "x" + "yz")
        ('\\$5 to \\$10', ' _other', 'a b', 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…xxxxxxxxxxxxxyz')
    """
    line = " ".join(name.split())
    if len(line) > LONGEST:
        line = f"{line[: 2 * LONGEST // 3]}…{line[-LONGEST // 3 + 1 :]}"
    # matplotlib leaves what begins with an underscore out of legends, and warns of each letter that its font lacks
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
    figure = Figure(figsize=(7.0, 0.9 + 0.42 * len(rows)))
    axes = figure.add_subplot()
    for place, values in enumerate(rows.values()):
        color = COLORS[place % len(COLORS)]
        scaled = 100 * np.asarray(values)
        axes.plot(scaled, np.full(len(scaled), place), "o", color=color, alpha=0.55, markeredgewidth=0)
        axes.plot([scaled.mean()] * 2, [place - 0.3, place + 0.3], color=color, linewidth=2.5)
    if teacher is not None:
        axes.axvline(100 * teacher, color="#666666", linestyle="--", linewidth=1.2)
        axes.text(100 * teacher, -0.75, " teacher ", ha="right", va="center", color="#555555", fontsize=9)
    axes.set_yticks(range(len(rows)), list(map(shown, rows)))
    plain(axes, ylim=(len(rows) - 0.4, -1.1), xlabel="test accuracy (%)")
    return figure


def curves_figure(histories: Mapping[str, Sequence[pd.DataFrame]]) -> Figure:
    """Draw validation accuracy and training loss by epoch: the mean over seeds, and their range.

    Args:
        histories: name -> one table a seed, with columns epoch, validation_accuracy, train_cross_entropy.
    """
    figure = Figure(figsize=(9.5, 3.2))
    left, right = figure.subplots(1, 2)
    for place, (name, tables) in enumerate(histories.items()):
        color = "#888888" if name == "teacher" else COLORS[(place - 1) % len(COLORS)]
        style = "--" if name == "teacher" else "-"
        for axes, column, factor in ((left, "validation_accuracy", 100.0), (right, "train_cross_entropy", 1.0)):
            values = factor * pd.concat([t.set_index("epoch")[column] for t in tables], axis=1)
            epochs = values.index + 1
            axes.plot(epochs, values.mean(axis=1), style, color=color, label=shown(name), linewidth=1.6)
            if len(tables) > 1:
                axes.fill_between(epochs, values.min(axis=1), values.max(axis=1), color=color, alpha=0.15, linewidth=0)
    plain(left, xlabel="epoch", ylabel="validation accuracy (%)")
    plain(right, xlabel="epoch", ylabel="training cross-entropy")
    left.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    return figure


def confusion_figure(target: NDArray[np.int64], predicted: NDArray[np.int64], classes: Sequence[str]) -> Figure:
    """Draw a confusion matrix in percent of each true class.

    Args:
        target: ``(n,)`` true classes; several seeds one after the other.
        predicted: ``(n,)``.
        classes: their names.
    """
    share = 100 * confusion_matrix(target, predicted, labels=range(len(classes)), normalize="true")
    side = min(7.0, 2.0 + 0.32 * len(classes))
    figure = Figure(figsize=(side, side))
    axes = figure.add_subplot()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
    if len(classes) <= 12:
        for row, column in np.ndindex(share.shape):
            if share[row, column] >= 0.5:
                shade = "white" if share[row, column] > 55 else "#333333"
                axes.text(column, row, f"{share[row, column]:.0f}", ha="center", va="center", fontsize=7, color=shade)
    if len(classes) <= 25:
        names = list(map(shown, classes))
        axes.set_xticks(range(len(classes)), names, rotation=60, ha="right", fontsize=8)
        axes.set_yticks(range(len(classes)), names, fontsize=8)
    axes.set(xlabel="predicted", ylabel="true")
    return figure


def samples_figure(
    arrays: Mapping[str, NDArray[np.generic]], modalities: Mapping[str, Modality], labels: Sequence[str]
) -> Figure:
    """Draw pairs as columns: the first modality above, the second below.

    Args:
        arrays: modality -> ``(pairs, *shape)``.
        modalities: their descriptions.
        labels: one a pair.
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
        low, high = np.percentile(values, (1, 99))
        scaled = np.clip((values - low) / max(high - low, 1e-9), 0, 1)
        if modality.dtype == "uint8" and modality.channels == 3:
            scaled = values / 255
        axes.imshow(scaled[:3].transpose(1, 2, 0) if modality.channels >= 3 else scaled[0], cmap="gray")
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


def plain(axes: Axes, **properties: object) -> None:
    """Set properties such as ``xlabel``, remove the upper and right border, and add a grid."""
    axes.set(**properties)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
