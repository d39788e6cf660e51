"""The simulator's part of a data card: the distribution of the scenes, and known differences from reality."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cmkd.simulators.marine.recipe import Recipe
from cmkd.simulators.marine.scene import VESSELS_PER_CLASS, Gap

UNREAL = (
    "No measured data.",
    "Both sensors see one instant; positions are drawn from a box of latitudes, not from a map.",
    "Range and incidence of the mode coastal are drawn independently, so its antenna is 7 to 140 m high.",
    "The sea of the optical image is a plane with the slopes of a drawn wave field; vessels do not displace it.",
    "Optical light bounces once; the horizon counts for four tenths of the sky's diffuse light, more than its share; "
    "there is no ambient occlusion, no lens distortion and no compression.",
    "Radar returns are physical optics of flat patches: no edge diffraction, no creeping waves.",
    "What the meshes leave out (rails, fittings, plate warp) is random scatter of assumed, unmeasured strength.",
    "Sea clutter is an empirical model; it is independent of the optical wave field but shares its wind.",
    "Wakes are optical only; looks share the target's position, and there is no micro-Doppler within one.",
    "Size and distance of buoys, boats, rocks and breakwaters follow the target's length, so they tell of the class: "
    "the logarithms of an object's extent and of the length correlate by 0.90, and the number and bounding box of the "
    "objects alone tell the class in 27 % of held-out pairs (chance 12.5 %).",
    "Images of coarse satellite radars, such as mode iw, are periodic: the response of a bright point near an edge "
    "continues at the opposite edge, at least 6 dB above sea and noise in 9 % of chips of 24 pixels and in 0.5 % of "
    "full ones.",
    "Rays of these radars miss faces that cross a chip and have no corner in it: at 24 pixels, this lowers the mean "
    "sigma nought of 3 in 400 chips by 0.5 to 1.8 dB, and that of no full chip.",
    "Each pair is a scene of its own; no land, no azimuth ambiguities, no interference.",
)
"""Known differences from reality, a sentence each."""

PHYSICAL = (
    "Metadata are drawn alike for all classes, but for the speed of platforms, which is 0. The images tell size in "
    "meters, and how a hull moves follows from its length."
)
"""How metadata depend on the class."""

_SHOWN = {
    "incidence": "incidence of the radar, degrees", "range": "slant range, m", "nesz": "NESZ, dB",
    "resolution_range": "radar resolution in range, m", "resolution_azimuth": "radar resolution in azimuth, m",
    "optical_incidence": "incidence of the camera, degrees", "wind": "wind, m/s", "speed": "speed, m/s",
    "sun_elevation": "sun, degrees", "cloud": "opacity of clouds", "night": "night",
}  # fmt: skip


def scene_section(index: pd.DataFrame, recipe: Recipe) -> str:
    """Return the sensors and the distribution of the scenes' parameters as Markdown; `index` has a row per pair."""
    sensors, dial = recipe.sensors, Gap.dial(recipe.gap)
    radar, optical = sensors.radar, sensors.optical
    made = "Made" if recipe.pairs == len(index) else "Made in part"  # a delivery, or a machine's part of a run
    lines = [
        f"{made} by `{command(recipe)}`, simulator version {recipe.version}: {sensors.title}. Radar: "
        f"{radar.frequency} GHz ({radar.band} band), {', '.join(radar.polarizations)}, {radar.size} x {radar.size} "
        f"pixels in {radar.plane} range, sigma nought in dB. Camera: {optical.size} x {optical.size} pixels of "
        f"{optical.spacing:g} m. "
        f"At gap {recipe.gap:g} the resolution is {dial.coarser:.2f} times the mode's, the noise "
        f"{dial.nesz_db:+z.1f} dB, the clutter {dial.clutter_db:+z.1f} dB, further looks weigh {dial.look_weight:.2f}, "
        f"and up to {dial.defocus:.1f} rad of defocus are added.",
        "",
        _vessels(recipe),
        "",
        PHYSICAL,
        "",
        *(f"- {source}" for source in sensors.sources),
        "",
        "| scenes | least | 10 % | 50 % | 90 % | greatest | histogram |",
        "|---|---|---|---|---|---|---|",
    ]
    for column, title in _SHOWN.items():
        values = pd.to_numeric(index[column], errors="coerce").dropna().to_numpy(float)  # appended pairs may have none
        marks = " | ".join(f"{v:.3g}" for v in np.quantile(values, [0, 0.1, 0.5, 0.9, 1]))
        lines.append(f"| {title} | {marks} | {_bars(values)} |")
    return "\n".join(lines)


def _vessels(recipe: Recipe) -> str:
    if recipe.fleet is not None:
        return f"The meshes are those of the folder {Path(recipe.fleet).name}, at most {recipe.vessels} of a class."
    return f"The meshes are parametric families and copy no real vessel; each class has {recipe.vessels} of them."


def command(recipe: Recipe) -> str:
    """Return the command that makes the pack of a recipe, without the folders of the user's own files.

    Example:
        >>> command(Recipe(100, gap=0.5, classes=("tanker", "tugboat")))
        'cmkd simulate marine --pairs 100 --seed 0 --mode iw --gap 0.5 --classes tanker,tugboat'
    """
    said: dict[str, Any] = {
        "pairs": recipe.pairs,
        "seed": recipe.seed,
        "mode": Path(recipe.mode).name,
        "size": recipe.size,
    }
    said |= {"gap": recipe.gap or None, "fleet": recipe.fleet and Path(recipe.fleet).name}
    if recipe.vessels != VESSELS_PER_CLASS:
        said["vessels"] = recipe.vessels
    if recipe.classes != recipe.ships.classes:
        said["classes"] = ",".join(recipe.classes)
    words = [word for name, value in said.items() if value is not None for word in (f"--{name}", str(value))]
    return shlex.join(["cmkd", "simulate", "marine", *words, *["--slc"] * recipe.slc])


def _bars(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> str:
    count, _ = np.histogram(values, 12)
    return "".join(" ▁▂▃▄▅▆▇█"[int(np.ceil(8 * c / max(count.max(), 1)))] for c in count)
