"""The card of a simulated data set: composition, histograms of its scenes, and what is unreal about it."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cmkd.simulators.marine.scene import VERSION, Gap
from cmkd.simulators.marine.simulate import Recipe
from cmkd.simulators.marine.vessels import CLASSES

UNREAL = (
    "No measured data: the meshes are parametric families of our own and copy no real vessel.",
    "The sea of the optical image is a plane with the slopes of a drawn wave field; vessels do not displace it.",
    "Both chips are scaled to the target's length, as a detector's crops are, so absolute size is mostly hidden.",
    "Optical light bounces once; there is no ambient occlusion, no lens distortion and no compression.",
    "Radar returns are scalar physical optics of flat patches: no edge diffraction and no cross-polarization.",
    "What the meshes leave out (rails, fittings, plate warp) is random scatter of strengths we set, not measured.",
    "Sea clutter is an empirical model; the Watts-Ward shape is extrapolated above 10 degrees grazing.",
    "Clutter is independent of the optical wave field but shares its wind; wakes are optical only.",
    "Target motion is a tilt of the image plane and a quadratic defocus; no micro-Doppler, no azimuth displacement.",
)
"""Known unrealities, a sentence each."""

_SHOWN = {
    "range": "range, m", "grazing": "grazing angle, degrees", "wind": "wind, m/s", "sun_elevation": "sun, degrees",
    "cloud": "cloud cover", "visibility": "visibility, m", "speed": "speed, m/s", "clutter_objects": "other objects",
    "occluder": "breakwater, part of the height", "optical_swath": "optical chip, m", "radar_swath": "radar chip, m",
    "resolution": "radar resolution, m", "snr_db": "signal to noise of 1 m² per m² at 3 km, dB",
    "defocus": "defocus, rad",
}  # fmt: skip


def description(scenes: pd.DataFrame, recipe: Recipe) -> str:
    """Return the card as Markdown.

    Args:
        scenes: a row per pair with the fields of `Scene` and ``group``.
        recipe: what was made.
    """
    dial = Gap.dial(recipe.gap)
    lines = [
        "# Simulated marine pairs", "",
        f"{recipe.pairs} pairs, seed {recipe.seed}, {recipe.size} x {recipe.size} pixels, gap {recipe.gap}, simulator "
        f"version {VERSION}. Made by `cmkd simulate marine --pairs {recipe.pairs} --seed {recipe.seed} --size "
        f"{recipe.size} --gap {recipe.gap}`.", "",
        f"Radar at this gap: resolution {dial.resolution:.2f} pixels, {dial.snr_db:.0f} dB for 1 m² per m² at 3 km, "
        f"{dial.looks:.2f} looks, clutter {dial.clutter_db:+.1f} dB to the NRL model, defocus up to {dial.defocus:.1f} "
        "rad.",
        "",
        "Optical and radar chips show one scene at one instant from one place and are not co-registered pixel by pixel.",
        "", "## Composition", "",
        "| class | pairs | vessels | train | validation | test |", "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for label, name in enumerate(CLASSES):
        part = scenes[scenes["label"] == label]
        splits = " | ".join(str(int((part["split"] == s).sum())) for s in ("train", "validation", "test"))
        lines.append(f"| {name} | {len(part)} | {part['group'].nunique()} | {splits} |")
    lines += [
        "",
        "## Scenes",
        "",
        "| quantity | least | 10 % | 50 % | 90 % | greatest | histogram |",
        "|---|---|---|---|---|---|---|",
    ]
    for column, title in _SHOWN.items():
        values = scenes[column].to_numpy(float)
        marks = " | ".join(f"{v:.3g}" for v in np.quantile(values, [0, 0.1, 0.5, 0.9, 1]))
        lines.append(f"| {title} | {marks} | {_bars(values)} |")
    lines += ["", "## What is unreal", "", *[f"- {sentence}" for sentence in UNREAL], ""]
    return "\n".join(lines)


def _bars(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> str:
    count, _ = np.histogram(values, 12)
    return "".join(" ▁▂▃▄▅▆▇█"[int(np.ceil(8 * c / max(count.max(), 1)))] for c in count)
