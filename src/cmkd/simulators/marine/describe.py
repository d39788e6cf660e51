"""What only the simulator knows for a data card: the distribution of the scenes, and what is unreal about them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cmkd.simulators.marine.scene import VERSION, Gap
from cmkd.simulators.marine.simulate import Recipe

UNREAL = (
    "No measured data: the meshes are parametric families and copy no real vessel.",
    "The sea of the optical image is a plane with the slopes of a drawn wave field; vessels do not displace it.",
    "Both chips are scaled to the target's length, as a detector's crops are, so absolute size is mostly hidden.",
    "Optical light bounces once; there is no ambient occlusion, no lens distortion and no compression.",
    "Radar returns are scalar physical optics of flat patches: no edge diffraction and no cross-polarization.",
    "What the meshes leave out (rails, fittings, plate warp) is random scatter of assumed, unmeasured strength.",
    "Sea clutter is an empirical model; the Watts-Ward shape is extrapolated above 10 degrees grazing.",
    "Clutter is independent of the optical wave field but shares its wind; wakes are optical only.",
    "Target motion is a tilt of the image plane and a quadratic defocus; no micro-Doppler, no azimuth displacement.",
)
"""Known differences from reality, a sentence each."""

_SHOWN = {
    "range": "range, m", "grazing": "grazing angle, degrees", "wind": "wind, m/s", "sun_elevation": "sun, degrees",
    "cloud": "cloud cover", "visibility": "visibility, m", "speed": "speed, m/s", "clutter_objects": "other objects",
    "occluder": "breakwater, fraction of the target's height", "optical_swath": "optical chip, m",
    "radar_swath": "radar chip, m",
    "resolution": "radar resolution, m", "snr_db": "signal to noise of 1 m² per m² at 3 km, dB",
    "defocus": "defocus, rad",
}  # fmt: skip


def scene_section(scenes: pd.DataFrame, recipe: Recipe) -> str:
    """Return the distribution of the scenes' parameters as Markdown; `scenes` has a row per pair."""
    dial = Gap.dial(recipe.gap)
    lines = [
        f"Made by `cmkd simulate marine --pairs {recipe.pairs} --seed {recipe.seed} --size {recipe.size} --gap "
        f"{recipe.gap}`, simulator version {VERSION}. Radar at this gap: resolution {dial.resolution:.2f} pixels, "
        f"{dial.snr_db:.0f} dB for 1 m² per m² at 3 km, {dial.looks:.2f} looks, clutter {dial.clutter_db:+.1f} dB to "
        f"the NRL model, defocus up to {dial.defocus:.1f} rad.",
        "",
        "| scenes | least | 10 % | 50 % | 90 % | greatest | histogram |",
        "|---|---|---|---|---|---|---|",
    ]
    for column, title in _SHOWN.items():
        values = scenes[column].to_numpy(float)
        marks = " | ".join(f"{v:.3g}" for v in np.quantile(values, [0, 0.1, 0.5, 0.9, 1]))
        lines.append(f"| {title} | {marks} | {_bars(values)} |")
    return "\n".join(lines)


def _bars(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> str:
    count, _ = np.histogram(values, 12)
    return "".join(" ▁▂▃▄▅▆▇█"[int(np.ceil(8 * c / max(count.max(), 1)))] for c in count)
