"""Families of large ships: container ships, tankers, ferries, frigates."""

from __future__ import annotations

import numpy as np

from cmkd.simulators.marine.fittings import (
    CABIN,
    DECKS,
    GRAY,
    HULLS,
    ORANGE,
    WHITE,
    YELLOW,
    VesselBuilder,
    pick,
    square,
)
from cmkd.simulators.marine.mesh import Array, Material

_CONTAINERS = np.array(
    [
        [0.10, 0.18, 0.42],
        [0.45, 0.10, 0.07],
        [0.50, 0.22, 0.07],
        [0.55, 0.55, 0.53],
        [0.09, 0.30, 0.16],
        [0.28, 0.16, 0.12],
        [0.05, 0.28, 0.38],
    ]
)


def container_ship(builder: VesselBuilder, rng: np.random.Generator) -> None:
    """Add a container ship of 90 to 360 m with bays of stacked boxes."""
    length = float(np.exp(rng.uniform(np.log(90), np.log(360))))
    beam, freeboard = length / rng.uniform(6.0, 7.4), 3 + length * rng.uniform(0.02, 0.035)
    hull, deck = pick(rng, HULLS), pick(rng, DECKS)
    builder.hull(length, beam, freeboard, hull, deck, sheer=0.35, bow=0.24, flare=0.5)
    bridge = length * (rng.uniform(-0.42, -0.3) if rng.random() < 0.7 else rng.uniform(0.12, 0.28))
    decks = int(np.clip(4 + length / 50 + rng.integers(-1, 2), 4, 10))
    tower_length = max(9.0, length * 0.045)
    top = builder.tower(bridge, freeboard, tower_length, beam * 0.85, decks, WHITE, wings=beam)
    builder.mast(bridge, top, 6 + length * 0.02, WHITE)
    funnel = bridge if bridge < 0 else -length * 0.33
    builder.boxes([(funnel - tower_length, 0, freeboard + decks * 1.5)], [(6, 6, decks * 3.0)], pick(rng, HULLS))
    pitch = 14.0 if length > 150 else 7.5
    bays = np.arange(-length * 0.44, length * 0.36, pitch)
    blocked = (np.abs(bays - bridge) < pitch * 0.5 + tower_length) | (np.abs(bays - funnel + tower_length) < pitch)
    bays = bays[~blocked]
    rows = max(3, int(min(beam / 2.55, 9)))
    row_width = beam * 0.96 / rows
    x, y = np.meshgrid(bays, (np.arange(rows) - (rows - 1) / 2) * row_width, indexing="ij")
    most = max(2, int(2 + length / 55))
    tiers = rng.integers(max(1, most - 3), most + 1, len(bays))[:, None] - rng.integers(0, 2, x.shape)
    tiers = np.where(rng.random(len(bays))[:, None] < rng.uniform(0, 0.25), 0, np.maximum(tiers, 0))
    keep = (tiers > 0) & (np.abs(y) < beam / 2 * (1 - np.clip((x / length - 0.2) / 0.3, 0, 1) ** 2.2) + 0.1)
    height = tiers[keep] * 2.6
    center = np.column_stack([x[keep], y[keep], freeboard + 1.2 + height / 2])
    size = np.column_stack([np.full(len(height), pitch * 0.9), np.full(len(height), row_width * 0.97), height])
    builder.boxes(center, size, _CONTAINERS[rng.integers(len(_CONTAINERS), size=len(height))], Material.CONTAINER)
    if length < 190 and rng.random() < 0.5:
        for place in (-0.1, 0.15):
            builder.crane((place * length, beam * 0.45, freeboard), 16, length * 0.13, rng.uniform(-0.3, 0.3), YELLOW)


def tanker(builder: VesselBuilder, rng: np.random.Generator) -> None:
    """Add a tanker of 80 to 330 m: bare deck with pipes and manifold, deckhouse aft; some carry gas domes."""
    length = float(np.exp(rng.uniform(np.log(80), np.log(330))))
    beam, freeboard = length / rng.uniform(5.4, 6.6), 2 + length * rng.uniform(0.012, 0.04)
    deck = pick(rng, DECKS)
    builder.hull(length, beam, freeboard, pick(rng, HULLS), deck, sheer=0.3, bow=0.16, flare=0.2, rake=0.02)
    aft, decks = -length * rng.uniform(0.36, 0.42), int(np.clip(3 + length / 70 + rng.integers(0, 2), 4, 8))
    top = builder.tower(aft, freeboard, length * 0.07 + 4, beam * rng.uniform(0.6, 0.85), decks, WHITE, wings=beam)
    builder.mast(aft, top, 8, WHITE)
    builder.boxes([(aft - length * 0.055 - 3, 0, freeboard + decks * 1.5)], [(6, 5, decks * 3.2)], pick(rng, HULLS))
    pipes = (np.arange(5) - 2) * beam * 0.04
    start = np.column_stack([np.full(5, aft + length * 0.07), pipes, np.full(5, freeboard + 1.6)])
    builder.beams(start, start + np.array([length * 0.68, 0, 0]), 0.7, deck)
    builder.beams(
        [(x, -beam * 0.42, freeboard + 2) for x in (-3, 0, 3)],
        [(x, beam * 0.42, freeboard + 2) for x in (-3, 0, 3)],
        0.9,
        deck,
    )
    builder.crane((2.0, beam * 0.12, freeboard), 9, length * 0.06 + 6, rng.uniform(0, 3), YELLOW)
    builder.mast(length * 0.44, freeboard, 9, WHITE)
    if rng.random() < 0.25:
        radius = beam * 0.33
        for place in np.linspace(-0.2, 0.3, int(rng.integers(3, 5))):
            for level in range(3):
                low, high = radius * np.sin(level * 0.5), radius * np.sin((level + 1) * 0.5)
                builder.cylinder(
                    (place * length, 0, freeboard + low),
                    (place * length, 0, freeboard + high),
                    radius * np.cos(level * 0.5),
                    WHITE,
                    top_radius=radius * np.cos((level + 1) * 0.5),
                )
    else:
        hatches = np.linspace(-0.22, 0.36, 7) * length
        center = [(x, side * beam * 0.27, freeboard + 0.8) for x in hatches for side in (-1, 1)]
        builder.boxes(center, [(2.5, 2.5, 1.6)] * len(center), deck)


def ferry(builder: VesselBuilder, rng: np.random.Generator) -> None:
    """Add a ferry of 50 to 215 m: a house of several decks over most of its length, funnels and lifeboats."""
    length = float(np.exp(rng.uniform(np.log(50), np.log(215))))
    beam, freeboard = length / rng.uniform(5.2, 7.0), 3 + length * rng.uniform(0.02, 0.04)
    double_ended = length < 110 and rng.random() < 0.4
    builder.hull(
        length,
        beam,
        freeboard,
        WHITE if rng.random() < 0.4 else pick(rng, HULLS),
        pick(rng, DECKS),
        sheer=0.25,
        bow=0.2 if double_ended else 0.28,
        stern=0.5 if double_ended else 0.92,
        flare=0.4,
    )
    white = pick(rng, (WHITE, WHITE, (0.7, 0.65, 0.5)))
    decks, house = int(np.clip(2 + length / 35 + rng.integers(-1, 2), 2, 8)), rng.uniform(0.62, 0.8)
    shift = 0.0 if double_ended else -length * (0.45 - house / 2) * rng.uniform(0.4, 1)
    top = builder.tower(shift, freeboard, length * house, beam * 0.96, decks, white, shrink=rng.uniform(0.1, 0.35))
    bridges = (-1, 1) if double_ended else (1,)
    for side in bridges:
        x = shift + side * length * house * 0.3
        builder.boxes([(x, 0, top + 1.2)], [(length * 0.06 + 3, beam * rng.uniform(0.7, 1.02), 2.6)], white, CABIN)
    builder.mast(shift + length * house * 0.2, top, 5 + length * 0.03, white)
    funnel, pair = shift - length * house * rng.uniform(0.1, 0.35), rng.random() < 0.4
    for y in (-beam * 0.3, beam * 0.3) if pair else (0.0,):
        builder.boxes(
            [(funnel, y, top + 2 + length * 0.02)],
            [(length * 0.045 + 2, beam * (0.15 if pair else 0.3), 4 + length * 0.04)],
            pick(rng, HULLS),
            taper=(0.8, 0.9),
        )
    boats = int(length // 30)
    for x in shift + (np.arange(boats) - (boats - 1) / 2) * 12.0:
        for y in (-beam * 0.47, beam * 0.47):
            builder.cylinder((x - 3.5, y, top - 4.5), (x + 3.5, y, top - 4.5), 1.5, ORANGE, Material.PLASTIC, sides=6)
    if not double_ended:
        builder.boxes([(-length * 0.5, 0, freeboard * 0.9)], [(1, beam * 0.6, freeboard * 0.9)], GRAY)


def frigate(builder: VesselBuilder, rng: np.random.Generator) -> None:
    """Add a frigate of 85 to 155 m: slim gray hull, leaning walls, gun, masts, hangar and flight deck."""
    length = float(rng.uniform(85, 155))
    beam, freeboard = length / rng.uniform(7.8, 9.2), length * rng.uniform(0.035, 0.048)
    gray: Array = np.array(GRAY) * rng.uniform(0.7, 1.4)
    builder.hull(length, beam, freeboard, gray, gray * 0.75, sheer=0.55, bow=0.5, stern=0.8, flare=0.55, rake=0.06)
    lean = rng.uniform(0.72, 0.95)

    def block(x: float, along: float, across: float, base: float, height: float) -> None:
        builder.boxes(
            [(x * length, 0, base + height / 2)], [(along * length, across * beam, height)], gray, taper=(lean, lean)
        )

    storey = length * 0.024
    block(0.08, 0.3, 0.95, freeboard, storey * 1.6)
    block(rng.uniform(0.12, 0.18), 0.13, 0.85, freeboard + storey * 1.5, storey * 1.8)
    block(-rng.uniform(0.14, 0.2), 0.2, 0.9, freeboard, storey * 2.2)
    bridge_top = freeboard + storey * 3.3
    x, high = rng.uniform(0.06, 0.11) * length, length * rng.uniform(0.11, 0.16)
    if rng.random() < 0.5:
        builder.boxes([(x, 0, bridge_top + high * 0.4)], [(beam * 0.4, beam * 0.4, high)], gray, taper=(0.4, 0.4))
    else:
        builder.lattice(
            square(x, 0, bridge_top - storey, beam * 0.2), square(x, 0, bridge_top + high, beam * 0.05), 5, 0.25, gray
        )
    builder.mast(x, bridge_top + high * 0.6, high * 0.6, gray, width=0.3)
    builder.boxes(
        [(-rng.uniform(0.02, 0.08) * length, 0, freeboard + storey * 1.7)],
        [(beam * 0.5, beam * 0.45, storey * 3.2)],
        gray * 0.7,
        taper=(0.7, 0.7),
    )
    gun = length * rng.uniform(0.29, 0.34)
    builder.boxes([(gun, 0, freeboard * 1.12 + 1.5)], [(4.5, 3.2, 3.0)], gray, taper=(0.6, 0.7))
    builder.beams([(gun + 1, 0, freeboard * 1.12 + 1.8)], [(gun + 7, 0, freeboard * 1.12 + 2.8)], 0.3, gray)
    for place in (bridge_top, freeboard + storey * 2.2):
        builder.cylinder(
            (x if place == bridge_top else -0.15 * length, 0, place),
            (x if place == bridge_top else -0.15 * length, 0, place + 2.5),
            1.5,
            WHITE,
            top_radius=0.7,
        )
    if rng.random() < 0.5:
        builder.beams([(-0.1 * length, 0, freeboard)], [(-0.1 * length, 0, bridge_top + high * 0.6)], 0.8, gray)
