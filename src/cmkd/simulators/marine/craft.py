"""Families of small craft (fishing boats, yachts, tugs) and of offshore platforms."""

from __future__ import annotations

import numpy as np

from cmkd.simulators.marine.fittings import (
    BLACK,
    DECK,
    DECKS,
    GLASS,
    GRAY,
    HULLS,
    ORANGE,
    RUST,
    STEEL,
    WHITE,
    WOOD,
    YELLOW,
    VesselBuilder,
    pick,
    square,
)
from cmkd.simulators.marine.mesh import Material


def fishing_boat(builder: VesselBuilder, rng: np.random.Generator) -> None:
    """Add a fishing boat of 11 to 45 m: high sheer, wheelhouse, mast, gantry and gear on deck."""
    length = float(rng.uniform(11, 45))
    beam, freeboard = length / rng.uniform(3.0, 4.0), 0.9 + length * rng.uniform(0.03, 0.055)
    hull = pick(rng, (*HULLS, (0.10, 0.35, 0.55), (0.55, 0.10, 0.06)))
    sides = Material.PLASTIC if length < 18 and rng.random() < 0.6 else STEEL
    deck, sheer = pick(rng, DECKS), rng.uniform(0.7, 1.3)
    builder.hull(
        length, beam, freeboard, hull, deck, sheer=sheer, bow=0.42, stern=0.75, flare=0.4, rake=0.08, material=sides
    )
    forward = rng.random() < 0.5
    place = length * (rng.uniform(0.08, 0.2) if forward else rng.uniform(-0.33, -0.2))
    top = builder.tower(
        place,
        freeboard,
        length * rng.uniform(0.18, 0.28),
        beam * rng.uniform(0.55, 0.75),
        1 if length < 20 else 2,
        WHITE,
        deck_height=2.4,
        shrink=0.35,
    )
    builder.mast(place, top, length * rng.uniform(0.2, 0.35), pick(rng, (WHITE, YELLOW, ORANGE)), width=0.25)
    side, z, high = beam * 0.38, freeboard, freeboard + length * rng.uniform(0.15, 0.25)
    if rng.random() < 0.75:
        x = -length * 0.42 if forward or rng.random() < 0.3 else length * 0.12
        builder.beams(
            [(x, -side, z), (x, side, z), (x, -side, high)],
            [(x, -side, high), (x, side, high), (x, side, high)],
            0.35,
            pick(rng, (WHITE, YELLOW, ORANGE)),
        )
    if rng.random() < 0.6:  # outrigger booms
        lift, out = rng.uniform(0.3, 1.2), length * rng.uniform(0.3, 0.5)
        tips = [(place * 0.3, s * out * np.cos(lift), top + out * np.sin(lift)) for s in (-1, 1)]
        builder.beams([(place * 0.3, 0, freeboard + 1.5)] * 2, tips, 0.22, YELLOW)
    drum = -length * 0.3 if forward else length * 0.15
    builder.cylinder((drum, -beam * 0.25, z + 0.9), (drum, beam * 0.25, z + 0.9), 0.8, pick(rng, (ORANGE, RUST)))
    count = int(rng.integers(2, 8))
    spots = rng.uniform([-length * 0.4, -beam * 0.3], [length * 0.3, beam * 0.3], (count, 2))
    builder.boxes(
        np.column_stack([spots, np.full(count, z + 0.5)]),
        rng.uniform(0.6, 1.5, (count, 3)),
        pick(rng, (YELLOW, ORANGE, (0.1, 0.3, 0.5))),
        Material.PLASTIC,
    )


def sailing_yacht(builder: VesselBuilder, rng: np.random.Generator) -> None:
    """Add a sailing yacht of 8 to 40 m, most with sails set."""
    length = float(np.exp(rng.uniform(np.log(8), np.log(40))))
    beam, freeboard = length / rng.uniform(3.2, 4.4), 0.5 + length * rng.uniform(0.035, 0.06)
    hull = WHITE if rng.random() < 0.6 else pick(rng, HULLS)
    form = {"sheer": 0.25, "bow": 0.55, "stern": 0.6, "flare": 0.15, "rake": 0.1}
    plastic = Material.PLASTIC
    builder.hull(
        length, beam, freeboard, hull, pick(rng, (WHITE, WOOD)), **form, material=plastic, deck_material=plastic
    )
    cabin = rng.uniform(0.05, 0.09) * length
    builder.boxes(
        [(0, 0, freeboard + cabin / 3)],
        [(length * 0.38, beam * 0.55, cabin)],
        WHITE,
        Material.PLASTIC,
        taper=(0.8, 0.8),
    )
    masts = [(rng.uniform(0.05, 0.14) * length, length * rng.uniform(1.15, 1.4))]
    if length > 18 and rng.random() < 0.4:
        masts.append((-0.3 * length, masts[0][1] * rng.uniform(0.55, 0.9)))
    set_sails, cloth = (rng.random() < 0.8, WHITE if rng.random() < 0.8 else pick(rng, (RUST, BLACK, (0.1, 0.2, 0.45))))
    swing = rng.uniform(-0.5, 0.5)
    for x, height in masts:
        z = freeboard + height
        boom = np.array([x - length * 0.36 * np.cos(swing), length * 0.36 * np.sin(swing), freeboard + 1.4])
        builder.beams(
            [(x, 0, freeboard), (x, 0, freeboard + 1.4), (x, -0.12 * height, freeboard + 0.6 * height)],
            [(x, 0, z), boom.tolist(), (x, 0.12 * height, freeboard + 0.6 * height)],
            0.12 + 0.004 * length,
            GRAY,
        )
        stays = [(x - length * 0.4, 0, freeboard), (x, beam * 0.45, freeboard), (x, -beam * 0.45, freeboard)]
        builder.beams(stays, [(x, 0, z)] * 3, 0.05, GRAY)
        if set_sails:
            builder.sheet(
                np.array([(x - 0.1, 0, freeboard + 1.6), boom + np.array([0, 0, 0.2]), (x - 0.1, 0, z - 0.3)]),
                cloth,
                Material.CLOTH,
            )
    if set_sails:
        x, height = masts[0]
        foot = np.array([x - length * 0.05, length * 0.18 * np.sin(swing), freeboard + 1.0])
        builder.sheet(
            np.array(
                [(length * 0.48, 0, freeboard + 0.8), foot, (x + 0.3, 0, freeboard + height * rng.uniform(0.75, 0.98))]
            ),
            cloth,
            Material.CLOTH,
        )


def tugboat(builder: VesselBuilder, rng: np.random.Generator) -> None:
    """Add a tug of 18 to 42 m: broad, high wheelhouse with windows all round, low after deck, fenders."""
    length = float(rng.uniform(18, 42))
    beam, freeboard = length / rng.uniform(2.5, 3.2), 0.8 + length * rng.uniform(0.025, 0.045)
    hull, deck = pick(rng, (*HULLS, (0.4, 0.06, 0.04))), pick(rng, DECKS)
    builder.hull(
        length, beam, freeboard, hull, deck, sheer=rng.uniform(0.7, 1.1), bow=0.4, stern=0.85, flare=0.2, rake=0.03
    )
    house = pick(rng, (WHITE, WHITE, YELLOW, ORANGE, (0.5, 0.4, 0.25)))
    place = length * rng.uniform(0.05, 0.16)
    storeys = 1 if length < 24 else 2
    base = builder.tower(
        place, freeboard, length * rng.uniform(0.32, 0.45), beam * 0.62, storeys, house, deck_height=2.5, shrink=0.3
    )
    wheel = length * rng.uniform(0.14, 0.2)
    builder.boxes([(place + wheel * 0.2, 0, base + 0.7)], [(wheel, wheel, 1.4)], house)
    builder.boxes(
        [(place + wheel * 0.2, 0, base + 2.0)], [(wheel, wheel, 1.3)], (0.04, 0.06, 0.08), GLASS, taper=(1.1, 1.1)
    )
    builder.boxes([(place + wheel * 0.2, 0, base + 2.8)], [(wheel * 1.15, wheel * 1.15, 0.3)], house)
    builder.mast(place, base + 2.9, length * rng.uniform(0.14, 0.25), house, width=0.25)
    funnel = pick(rng, (*HULLS, ORANGE))
    for side in (-1, 1):
        x = place - length * 0.17
        builder.cylinder(
            (x, side * beam * 0.22, freeboard), (x, side * beam * 0.22, base + 1.5), 0.035 * length, funnel, sides=8
        )
    builder.boxes([(-length * 0.22, 0, freeboard + 0.7)], [(length * 0.09, beam * 0.3, 1.4)], pick(rng, (BLACK, RUST)))
    z, half = freeboard * 0.85, beam * 0.5
    builder.beams(
        [(-length * 0.48, side * half * 0.9, z) for side in (-1, 1)],
        [(length * 0.15, side * half, z) for side in (-1, 1)],
        0.7,
        BLACK,
        Material.RUBBER,
    )
    if rng.random() < 0.4:
        x = -length * 0.33
        builder.beams(
            [(x, -half * 0.6, freeboard), (x, half * 0.6, freeboard), (x, -half * 0.6, freeboard + 2.5)],
            [(x, -half * 0.6, freeboard + 2.5), (x, half * 0.6, freeboard + 2.5), (x, half * 0.6, freeboard + 2.5)],
            0.4,
            BLACK,
        )


def offshore_platform(builder: VesselBuilder, rng: np.random.Generator) -> None:
    """Add a platform of 30 to 100 m on a braced jacket or columns, with derrick, modules, crane, flare and helideck."""
    side = float(rng.uniform(30, 100))
    across, air = side * rng.uniform(0.6, 1.0), rng.uniform(12, 24)
    thick, paint = rng.uniform(5, 12), pick(rng, (YELLOW, GRAY, ORANGE, (0.45, 0.42, 0.36)))
    corner = np.array([[-side, -across], [side, -across], [side, across], [-side, across]]) * 0.4
    if rng.random() < 0.6:
        foot = np.column_stack([corner * 1.12, np.full(4, -2.0)])
        builder.lattice(foot, np.column_stack([corner, np.full(4, air)]), 2, rng.uniform(1.2, 2.2), paint)
    else:
        for x, y in corner:
            builder.cylinder((x, y, -2), (x, y, air), side * rng.uniform(0.06, 0.1), paint)
    builder.boxes([(0, 0, air + thick / 2)], [(side, across, thick)], paint)
    top, count = air + thick, int(rng.integers(5, 14))
    spots = rng.uniform([-side * 0.42, -across * 0.42], [side * 0.42, across * 0.42], (count, 2))
    size = rng.uniform([side * 0.08, side * 0.08, 3], [side * 0.25, side * 0.2, 10], (count, 3))
    shades = np.stack([pick(rng, (GRAY, WHITE, YELLOW, RUST, (0.2, 0.3, 0.35))) for _ in range(count)])
    builder.boxes(np.column_stack([spots, top + size[:, 2] / 2]), size, shades)
    quarters = -side * 0.4
    builder.tower(quarters, top, side * 0.18, across * 0.5, int(rng.integers(2, 6)), WHITE)
    if rng.random() < 0.8:
        x, y = rng.uniform(-0.15, 0.25) * side, rng.uniform(-0.2, 0.2) * across
        base, high = side * rng.uniform(0.06, 0.1), top + side * rng.uniform(0.5, 0.9)
        builder.lattice(square(x, y, top, base), square(x, y, high, base * 0.3), 6, 0.5, pick(rng, (WHITE, RUST, GRAY)))
    for y in (-across * 0.45, across * 0.45)[: int(rng.integers(1, 3))]:
        builder.crane((side * rng.uniform(-0.2, 0.4), y, top), 10, side * 0.4, rng.uniform(0, 6.28), YELLOW, width=1.2)
    if rng.random() < 0.6:
        reach = side * rng.uniform(0.4, 0.7)
        angle = rng.uniform(-0.6, 0.6)
        tip = np.array([side * 0.5 + reach * 0.8 * np.cos(angle), reach * 0.8 * np.sin(angle), top + reach * 0.55])
        builder.lattice(
            np.array([[side * 0.5, s, top + h] for s, h in ((-2, 0), (2, 0), (0, 3))]),
            tip + np.zeros((3, 1)),
            5,
            0.4,
            GRAY,
        )
    corners = np.arange(8) * np.pi / 4 + np.pi / 8
    deck = np.column_stack([quarters - side * 0.1 + 11 * np.cos(corners), across * 0.2 + 11 * np.sin(corners)])
    builder.prism(deck, top + 12, top + 13, (0.12, 0.26, 0.16), DECK)
    builder.cylinder(
        (quarters - side * 0.08, across * 0.2, top), (quarters - side * 0.08, across * 0.2, top + 12), 1.5, WHITE
    )
