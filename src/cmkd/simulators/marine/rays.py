"""Ray queries against one mesh, by Embree."""

from __future__ import annotations

import numpy as np

from cmkd.errors import needs_extra
from cmkd.simulators.marine.mesh import Array, Mesh


class Rays:
    """An Embree scene of one mesh.

    Embree scenes cannot be shared between processes or pickled: each worker builds its own.

    Args:
        mesh: mesh to query, in meters.

    Raises:
        CmkdError: ``embreex`` is missing or does not load on this platform.

    Example:
        >>> from cmkd.simulators.marine.mesh import MeshBuilder, Material
        >>> builder = MeshBuilder()
        >>> builder.boxes([(0, 0, 0)], [(2, 2, 2)], (1, 1, 1), Material.STEEL)
        >>> rays = Rays(builder.mesh())
        >>> origin, direction = np.array([[-5.0, 0.1, 0.2], [-5.0, 3.0, 0.0]]), np.array([[1.0, 0.0, 0.0]] * 2)
        >>> distance, face = rays.nearest(origin, direction)
        >>> [round(float(d), 3) for d in distance], bool(face[0] >= 0), int(face[1])
        ([4.0, inf], True, -1)
    """

    def __init__(self, mesh: Mesh) -> None:
        with needs_extra("marine", "the marine simulator"):
            from embreex.mesh_construction import TriangleMesh
            from embreex.rtcore_scene import EmbreeScene
        self._scene = EmbreeScene()
        TriangleMesh(self._scene, np.ascontiguousarray(mesh.triangles, np.float32))

    def nearest(self, origin: Array, direction: Array) -> tuple[Array, Array]:
        """Return the distance to the first hit (inf for none) and its face (-1 for none), both ``(n,)``.

        Args:
            origin: origins of the rays, ``(n, 3)`` m.
            direction: unit directions of the rays, ``(n, 3)``.
        """
        if len(origin) == 0:
            return np.zeros(0, np.float32), np.zeros(0, np.int32)
        result = self._scene.run(*_float32(origin, direction), output=1)
        face = result["primID"]
        return np.where(face >= 0, result["tfar"], np.float32(np.inf)), face

    def blocked(self, origin: Array, direction: Array) -> Array:
        """Return whether anything lies on each ray, ``(n,)`` bool."""
        if len(origin) == 0:
            return np.zeros(0, bool)
        return np.asarray(self._scene.run(*_float32(origin, direction), query="OCCLUDED") >= 0)


def _float32(*arrays: Array) -> tuple[Array, ...]:
    return tuple(np.ascontiguousarray(a, np.float32) for a in arrays)


def facing(normal: Array, direction: Array) -> Array:
    """Return the normals ``(n, 3)`` turned toward the origins of the rays."""
    return np.asarray(np.where(np.einsum("ij,ij->i", normal, direction)[:, None] > 0, -normal, normal))


def mirrored(direction: Array, normal: Array) -> Array:
    """Return the directions of specular reflection ``(n, 3)``."""
    return np.asarray(direction - 2 * np.einsum("ij,ij->i", direction, normal)[:, None] * normal)
