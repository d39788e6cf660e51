"""Colors and parts that several families of vessels share."""

from __future__ import annotations

import numpy as np

from cmkd.simulators.marine.mesh import Array, Color, Material, MeshBuilder

WHITE, GRAY, BLACK = (0.75, 0.75, 0.73), (0.30, 0.33, 0.35), (0.05, 0.05, 0.06)
RUST, ORANGE, YELLOW, WOOD = (0.30, 0.12, 0.08), (0.75, 0.28, 0.06), (0.70, 0.55, 0.10), (0.35, 0.24, 0.14)
STEEL, DECK, CABIN, GLASS = Material.STEEL, Material.DECK, Material.CABIN, Material.GLASS
HULLS = (
    (0.05, 0.08, 0.20),
    (0.03, 0.03, 0.04),
    (0.35, 0.05, 0.04),
    (0.06, 0.22, 0.12),
    (0.22, 0.24, 0.26),
    (0.65, 0.65, 0.63),
    (0.10, 0.28, 0.42),
)
DECKS = ((0.30, 0.10, 0.07), (0.12, 0.26, 0.16), (0.28, 0.29, 0.30), (0.20, 0.22, 0.24))


def pick(rng: np.random.Generator, colors: tuple[tuple[float, float, float], ...]) -> Array:
    """Draw one of `colors` and vary its brightness."""
    return np.clip(np.array(colors[rng.integers(len(colors))]) * rng.uniform(0.75, 1.25, 3), 0.02, 0.85)


def square(x: float, y: float, z: float, side: float) -> Array:
    """Return the corners ``(4, 3)`` of a level square."""
    return np.array(
        [[x - side, y - side, z], [x + side, y - side, z], [x + side, y + side, z], [x - side, y + side, z]]
    )


class VesselBuilder(MeshBuilder):
    """Collects primitives and the parts that several families of vessels share."""

    def hull(
        self,
        length: float,
        beam: float,
        freeboard: float,
        color: Color,
        deck: Color,
        *,
        sheer: float = 0.3,
        bow: float = 0.3,
        stern: float = 0.85,
        flare: float = 0.2,
        rake: float = 0.04,
        material: Material = Material.STEEL,
        deck_material: Material = Material.DECK,
    ) -> None:
        """Add a hull from x = -length/2 (stern) to length/2 (bow) with its deck.

        Args:
            length: length over all, m.
            beam: greatest breadth, m.
            freeboard: height of the deck amidships, m.
            color: color of the sides.
            deck: color of the deck.
            sheer: rise of the deck at the bow, as a fraction of the freeboard.
            bow: fraction of the length over which the bow narrows.
            stern: breadth of the transom as a fraction of the beam.
            flare: fraction by which the waterline is narrower than the deck at the bow.
            rake: overhang of the stem as a fraction of the length.
            material: material of the sides.
            deck_material: material of the deck.
        """
        t = np.concatenate([np.linspace(0, 1 - bow, 5), np.linspace(1 - bow, 1, 8)[1:]])
        toward_bow = np.clip((t - 1 + bow) / bow, 0, 1)
        half = beam / 2 * (stern + (1 - stern) * np.clip(t / 0.25, 0, 1)) * (1 - toward_bow**2.2)
        wet = half * (1 - flare * toward_bow)
        x = (t - 0.5) * length
        x_wet = x - rake * length * toward_bow**2
        top = freeboard * (1 + sheer * toward_bow**2 + 0.25 * sheer * np.clip(1 - t / 0.3, 0, 1) ** 2)
        zero, low = np.zeros_like(t), np.full_like(t, -1.5)
        port = [np.stack(p, 1) for p in ((x, half, top), (x_wet, wet, zero), (x_wet, wet, low))]
        starboard = [p * [1, -1, 1] for p in port[::-1]]
        self.loft(np.stack(port, 1), color, material)
        self.loft(np.stack(starboard, 1), color, material)
        self.loft(np.stack([port[0], starboard[-1]], 1), deck, deck_material)
        self.sheet(np.stack([port[0][0], port[1][0], starboard[1][0], starboard[2][0]]), color, material)

    def tower(
        self,
        x: float,
        base: float,
        length: float,
        width: float,
        decks: int,
        color: Color,
        *,
        deck_height: float = 2.8,
        wings: float = 0.0,
        shrink: float = 0.0,
        taper: float = 1.0,
    ) -> float:
        """Add a deckhouse of `decks` stories centered at `x`, with bridge wings `wings` m across; return its top z."""
        floor = np.arange(decks)
        scale = 1 - shrink * floor / max(decks, 1)
        size = np.column_stack([length * scale, width * scale, np.full(decks, deck_height * 0.97)])
        center = np.column_stack([np.full(decks, x), np.zeros(decks), base + deck_height * (floor + 0.5)])
        self.boxes(center, size, color, CABIN, taper=(taper, taper))
        top = base + decks * deck_height
        if wings:
            self.boxes([(x + length * 0.2, 0, top - deck_height * 0.5)], [(length * 0.35, wings, 1.2)], color)
        return top

    def mast(self, x: float, base: float, height: float, color: Color, *, width: float = 0.4) -> None:
        """Add a mast with a yard and a radar scanner."""
        self.beams(
            [(x, 0, base), (x, -height * 0.22, base + height * 0.7), (x, -height * 0.12, base + height * 0.45)],
            [(x, 0, base + height), (x, height * 0.22, base + height * 0.7), (x, height * 0.12, base + height * 0.45)],
            width,
            color,
        )

    def lattice(self, foot: Array, head: Array, levels: int, width: float, color: Color) -> None:
        """Add a braced tower between rings of corners `foot` and `head`, both ``(p, 3)``."""
        t = np.linspace(0, 1, levels + 1)[:, None, None]
        ring = foot[None] * (1 - t) + head[None] * t
        around = np.roll(ring, -1, 1)
        starts = [ring[:-1], ring[1:], ring[:-1], around[:-1]]
        ends = [ring[1:], around[1:], around[1:], ring[1:]]
        self.beams(
            np.concatenate([s.reshape(-1, 3) for s in starts]),
            np.concatenate([e.reshape(-1, 3) for e in ends]),
            width,
            color,
        )

    def crane(
        self,
        foot: tuple[float, float, float],
        height: float,
        reach: float,
        angle: float,
        color: Color,
        *,
        width: float = 0.8,
    ) -> None:
        """Add a deck crane: a pedestal, and a jib of `reach` m pointing along `angle` (radians from forward)."""
        x, y, z = foot
        self.cylinder(foot, (x, y, z + height), width, color, sides=8)
        tip = (x + reach * 0.8 * np.cos(angle), y + reach * 0.8 * np.sin(angle), z + height + reach * 0.5)
        self.beams([(x, y, z + height)], [tip], width * 0.8, color)
        self.boxes([(x, y, z + height)], [(width * 3, width * 3, width * 2.5)], color)
