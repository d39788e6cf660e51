"""Objects beside a target: buoys, boats, rocks, and a breakwater."""

from __future__ import annotations

import math

import numpy as np

from cmkd.simulators.marine.mesh import Material, Mesh, MeshBuilder


def surroundings(
    place: tuple[float, float], length: float, height: float, objects: int, occluder: float, rng: np.random.Generator
) -> list[Mesh]:
    """Draw buoys, boats and rocks beside the target, and a breakwater in front of it; sizes scale with the target.

    Args:
        place: x and y of the target, m.
        length: length of the target, m.
        height: height of the target, m.
        objects: number of buoys, boats and rocks.
        occluder: height of the breakwater as a fraction of the target's; 0 for none.
        rng: random generator of everything else.

    Returns:
        A list of one mesh, or an empty list if there are no objects.
    """
    builder = MeshBuilder()
    for _ in range(objects):
        angle, away = rng.uniform(0, 2 * math.pi), length * rng.uniform(0.45, 1.1)
        x, y = place[0] + away * math.cos(angle), place[1] + away * math.sin(angle)
        scale = length * rng.uniform(0.02, 0.07)
        kind = rng.integers(3) if scale < 2.5 else rng.integers(1, 3)  # no buoy is taller than 7.5 m
        if kind == 0:
            builder.cylinder((x, y, -1), (x, y, 3 * scale), 0.7 * scale, (0.6, 0.1, 0.05), top_radius=0.2 * scale)
        elif kind == 1:
            builder.boxes([(x, y, 0.3 * scale), (x, y, scale)],
                          [(4 * scale, 1.5 * scale, scale), (scale, scale, scale)],
                          (0.6, 0.6, 0.6), Material.PLASTIC, taper=(1.1, 1.1))  # fmt: skip
        else:
            builder.boxes(rng.normal((x, y, 0), scale, (4, 3)), rng.uniform(0.8, 2.5, (4, 3)) * scale,
                          (0.16, 0.14, 0.12), Material.ROCK, taper=(0.6, 0.6))  # fmt: skip
    if occluder:
        count = 14
        places = np.linspace(-0.8, 0.8, count) + rng.normal(0, 0.05, count) + 0.6 * rng.normal()
        ys = place[1] + places * length
        xs = place[0] - length * rng.uniform(0.65, 0.75) + rng.normal(0, 0.02, count) * length
        tall = height * occluder * rng.uniform(0.7, 1.2, count)
        center = np.column_stack([xs, ys, tall * 0.3])
        size = np.column_stack([rng.uniform(0.06, 0.12, count) * length, np.full(count, 0.16 * length), tall * 1.4])
        builder.boxes(center, size, (0.17, 0.15, 0.13), Material.ROCK, taper=(0.5, 0.7))
    return [builder.mesh()] if objects or occluder else []
