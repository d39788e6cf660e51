"""Triangle meshes with a color and a material per face, and the primitives that vessels are built from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
"""A NumPy array; docstrings give shape and type."""


class Material(IntEnum):
    """Material of a face: it sets gloss and texture in the optical image and the radar coefficients."""

    STEEL = 0
    DECK = 1
    CABIN = 2  # painted metal walls with rows of windows
    CONTAINER = 3
    GLASS = 4
    PLASTIC = 5  # glass-fiber hulls of small craft
    CLOTH = 6
    ROCK = 7
    RUBBER = 8


@dataclass(frozen=True)
class Mesh:
    """Triangles in meters; axes x forward, y to port, z up, and the calm sea is z = 0."""

    triangles: Array  # ``(n, 3, 3)`` float32, corners of each face
    color: Array  # ``(n, 3)`` float32, linear reflectance 0..1
    material: Array  # ``(n,)`` uint8 of `Material`

    def __len__(self) -> int:
        return int(self.triangles.shape[0])

    @property
    def normals(self) -> Array:
        """``(n, 3)`` float32 unit normals, outward if a face's corners run counter-clockwise seen from outside."""
        first, second, third = (self.triangles[:, i] for i in range(3))
        cross = np.cross(second - first, third - first)
        length = np.linalg.norm(cross, axis=1, keepdims=True)
        return np.asarray(cross / np.maximum(length, 1e-12), np.float32)

    @property
    def bounds(self) -> tuple[Array, Array]:
        """Least and greatest corner ``(3,)`` of the axis-aligned bounding box."""
        points = self.triangles.reshape(-1, 3)
        return points.min(0), points.max(0)

    def moved(self, rotation: Array, shift: Array) -> Mesh:
        """Return the mesh turned by `rotation` ``(3, 3)`` and then moved by `shift` ``(3,)``."""
        triangles = self.triangles @ rotation.T.astype(np.float32) + shift.astype(np.float32)
        return Mesh(np.ascontiguousarray(triangles, np.float32), self.color, self.material)

    @staticmethod
    def joined(parts: Sequence[Mesh]) -> Mesh:
        """Return one mesh of all `parts`."""
        return Mesh(
            np.concatenate([p.triangles for p in parts]),
            np.concatenate([p.color for p in parts]),
            np.concatenate([p.material for p in parts]),
        )


Color = tuple[float, float, float] | Array
"""Linear reflectance of red, green and blue."""

# Corners 0-3 are the lower rectangle and 4-7 the upper one, both counter-clockwise seen from above.
_BOX_FACES = np.array(
    [[0, 2, 1], [0, 3, 2], [4, 5, 6], [4, 6, 7], [0, 1, 5], [0, 5, 4], [1, 2, 6], [1, 6, 5], [2, 3, 7], [2, 7, 6],
     [3, 0, 4], [3, 4, 7]]
)  # fmt: skip
_BOX_CORNERS = np.array(
    [[-1, -1, -1], [1, -1, -1], [1, 1, -1], [-1, 1, -1], [-1, -1, 1], [1, -1, 1], [1, 1, 1], [-1, 1, 1]], float
)


class MeshBuilder:
    """Collects primitives into a `Mesh`.

    Example:
        >>> builder = MeshBuilder()
        >>> builder.boxes([(0, 0, 1)], [(2, 2, 2)], (0.5, 0.5, 0.5))
        >>> mesh = builder.mesh()
        >>> len(mesh), [float(v) for v in mesh.bounds[1]]
        (12, [1.0, 1.0, 2.0])
    """

    def __init__(self) -> None:
        self._triangles: list[Array] = []
        self._colors: list[Array] = []
        self._materials: list[Array] = []

    def mesh(self) -> Mesh:
        """Return everything added so far, without degenerate faces."""
        triangles = np.concatenate(self._triangles).astype(np.float32)
        color = np.concatenate(self._colors).astype(np.float32)
        material = np.concatenate(self._materials)
        cross = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
        solid = np.einsum("ij,ij->i", cross, cross) > 1e-10
        return Mesh(triangles[solid], color[solid], material[solid])

    def add(self, triangles: Array, color: Color, material: Material) -> None:
        """Add faces ``(n, 3, 3)`` of one color, or of one color per face ``(n, 3)``."""
        count = len(triangles)
        self._triangles.append(np.asarray(triangles, float))
        self._colors.append(np.broadcast_to(np.asarray(color, float), (count, 3)))
        self._materials.append(np.full(count, material, np.uint8))

    def boxes(
        self,
        center: Sequence[Sequence[float]] | Array,
        size: Sequence[Sequence[float]] | Array,
        color: Color,
        material: Material = Material.STEEL,
        *,
        taper: tuple[float, float] = (1.0, 1.0),
    ) -> None:
        """Add boxes with edges along the axes.

        Args:
            center: centers of the boxes, ``(n, 3)`` m.
            size: lengths of their edges, ``(n, 3)`` m.
            color: one color for all boxes, or one per box ``(n, 3)``.
            material: material of all faces.
            taper: ratio of the upper rectangle to the lower one along x and y; below 1 the walls lean inwards.
        """
        centers, sizes = np.asarray(center, float), np.asarray(size, float)
        corners = _BOX_CORNERS.copy()
        corners[4:, 0] *= taper[0]
        corners[4:, 1] *= taper[1]
        vertices = centers[:, None] + corners[None] * sizes[:, None] / 2
        shade = np.asarray(color, float)
        if shade.ndim == 2:
            shade = np.repeat(shade, len(_BOX_FACES), 0)
        self.add(vertices[:, _BOX_FACES].reshape(-1, 3, 3), shade, material)

    def beams(
        self, start: Sequence[Sequence[float]] | Array, end: Sequence[Sequence[float]] | Array, width: float,
        color: Color, material: Material = Material.STEEL,
    ) -> None:  # fmt: skip
        """Add square beams of `width` m from `start` to `end`, both ``(n, 3)``: masts, booms and lattices."""
        starts, ends = np.asarray(start, float), np.asarray(end, float)
        along = ends - starts
        along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
        helper = np.where(np.abs(along[:, 2:]) > 0.9, [1.0, 0.0, 0.0], [0.0, 0.0, 1.0])
        side = np.cross(helper, along)
        side *= width / 2 / np.maximum(np.linalg.norm(side, axis=1, keepdims=True), 1e-9)
        other = np.cross(along, side)
        ring = np.stack([-side - other, side - other, side + other, -side + other], 1)
        vertices = np.concatenate([starts[:, None] + ring, ends[:, None] + ring], 1)
        self.add(vertices[:, _BOX_FACES].reshape(-1, 3, 3), color, material)

    def cylinder(
        self, start: Sequence[float], end: Sequence[float], radius: float, color: Color,
        material: Material = Material.STEEL,
        *, top_radius: float | None = None, sides: int = 10,
    ) -> None:  # fmt: skip
        """Add a cylinder, or a cone frustum with `top_radius`, with a cap at `end`."""
        low, high = np.asarray(start, float), np.asarray(end, float)
        axis = (high - low) / np.linalg.norm(high - low)
        helper = np.array([1.0, 0.0, 0.0]) if abs(axis[2]) > 0.9 else np.array([0.0, 0.0, 1.0])
        first = np.cross(helper, axis)
        first /= np.linalg.norm(first)
        angle = np.arange(sides) * 2 * np.pi / sides
        ring = np.cos(angle)[:, None] * first + np.sin(angle)[:, None] * np.cross(axis, first)
        bottom, top = low + radius * ring, high + (radius if top_radius is None else top_radius) * ring
        self.loft(np.stack([bottom, top]), color, material, closed=True)
        cap = np.stack([np.broadcast_to(high, top.shape), top, np.roll(top, -1, 0)], 1)
        self.add(cap, color, material)

    def loft(self, sections: Array, color: Color, material: Material, *, closed: bool = False) -> None:
        """Join consecutive sections ``(m, p, 3)``, each of p points, by quadrilaterals.

        The outside is on the left of the points' direction when looking along the sections.
        """
        rows = np.concatenate([sections, sections[:, :1]], 1) if closed else np.asarray(sections)
        a, b, c, d = rows[:-1, :-1], rows[:-1, 1:], rows[1:, 1:], rows[1:, :-1]
        faces = np.concatenate([np.stack([a, b, c], 2), np.stack([a, c, d], 2)]).reshape(-1, 3, 3)
        self.add(faces, color, material)

    def prism(self, outline: Array, low: float, high: float, color: Color, material: Material) -> None:
        """Add walls and top of a convex `outline` ``(p, 2)``, counter-clockwise from above, from z `low` to `high`."""
        count = len(outline)
        bottom = np.column_stack([outline, np.full(count, low)])
        top = np.column_stack([outline, np.full(count, high)])
        self.loft(np.stack([bottom, top]), color, material, closed=True)
        self.add(np.stack([np.broadcast_to(top[0], (count - 2, 3)), top[1:-1], top[2:]], 1), color, material)

    def sheet(self, corners: Array, color: Color, material: Material) -> None:
        """Add a flat convex polygon ``(p, 3)``, seen from both sides."""
        count = len(corners)
        fan = np.stack([np.broadcast_to(corners[0], (count - 2, 3)), corners[1:-1], corners[2:]], 1)
        self.add(fan, color, material)
