"""Radar returns of a target: shooting and bouncing rays with physical optics at every bounce.

A plane wave travels along `look` as a grid of ray tubes, which bounce off mesh and sea. At every bounce physical optics
gives the return of the illuminated patch, whose integral over a flat patch has a closed form.

Source:
    Ling, Chou and Lee 1989, Shooting and bouncing rays (IEEE T-AP 37).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from cmkd.simulators.marine import sea
from cmkd.simulators.marine.mesh import Array, Material, Mesh
from cmkd.simulators.marine.rays import Rays, facing, mirrored

BOUNCES = 3
"""Reflections to follow."""
SEA_COHERENCE = 0.3
"""Side of the patches over which the sea is flat within a fraction of an X-band wavelength, m; an estimate."""


@dataclass(frozen=True)
class Surface:
    """Radar properties of the materials, each an array indexed by `Material`."""

    reflection: Array  # of the field at specular reflection, (materials, 2) for HH and VV
    # side of the patches over which a plate is flat within a fraction of the wavelength, m: larger plates reflect with
    # the lobe of such a patch, and patches add with random phases. Infinite for ideal plates
    coherence: Array
    # cross-section per projected area of details that the mesh leaves out (fittings, rails, welds), linear
    diffuse: Array

    @classmethod
    def ideal(cls) -> Surface:
        """Return perfectly conducting, flat and bare surfaces, for tests against canonical cross-sections."""
        count = len(Material)
        return cls(np.ones((count, 2)), np.full(count, np.inf), np.zeros(count))

    @classmethod
    def marine(cls) -> Surface:
        """Return estimates for the marine materials: steel is a conductor; nothing is measured."""
        rows = {
            Material.STEEL: (0.95, 0.95, 0.30, 0.05), Material.DECK: (0.9, 0.9, 0.25, 0.12),
            Material.CABIN: (0.9, 0.9, 0.25, 0.10), Material.CONTAINER: (0.95, 0.9, 0.20, 0.10),
            Material.GLASS: (0.5, 0.4, 0.30, 0.01), Material.PLASTIC: (0.35, 0.3, 0.30, 0.01),
            Material.CLOTH: (0.08, 0.08, 0.30, 0.002), Material.ROCK: (0.05, 0.05, 0.03, 0.01),
            Material.RUBBER: (0.2, 0.2, 0.20, 0.01),
        }  # fmt: skip
        table = np.array([rows[m] for m in Material])
        return cls(table[:, :2], table[:, 2], table[:, 3])


@dataclass(frozen=True)
class Scatterers:
    """Complex returns of a target, each with its position in the image."""

    amplitude: Array  # ``(n,)`` complex, root of the cross-section in m with the phase of the two-way path
    range: Array  # ``(n,)`` slant range from the scene's center, m
    cross: Array  # ``(n,)`` cross-range, m
    bounces: Array  # ``(n,)`` number of reflections


def tubes(look: Array, bounds: tuple[Array, Array], count: int, rng: np.random.Generator, *,
          mirror: bool) -> tuple[Array, Array, Array, float, float]:  # fmt: skip
    """Lay out a jittered grid of square ray tubes that covers a box, seen along `look`.

    Args:
        look: unit vector of the wave's travel.
        bounds: least and greatest corner of the box, m.
        count: about how many tubes.
        rng: source of the jitter.
        mirror: whether to cover the box's image in the sea too, for paths that touch the sea first.

    Returns:
        Origins ``(n, 3)``, the two axes of the wave front, the side of a tube (m), and the origins' distance along
        `look` from the world's origin.
    """
    low, high = bounds
    corners = np.array([[x, y, z] for x in (low[0], high[0]) for y in (low[1], high[1]) for z in (low[2], high[2])])
    if mirror:
        corners = np.concatenate([corners, corners * [1, 1, -1]])
    across = np.cross([0.0, 0.0, 1.0], look)
    across = np.array([0.0, 1.0, 0.0]) if np.linalg.norm(across) < 1e-6 else across / np.linalg.norm(across)
    upward = np.cross(look, across)
    u, v, start = corners @ across, corners @ upward, float((corners @ look).min()) - 1.0
    side = math.sqrt(max((u.max() - u.min()) * (v.max() - v.min()), 1e-9) / count)
    grid_u = np.arange(u.min(), u.max(), side) + side / 2
    grid_v = np.arange(v.min(), v.max(), side) + side / 2
    place = np.stack(np.meshgrid(grid_u, grid_v, indexing="ij"), -1).reshape(-1, 2)
    place = place + (rng.random(place.shape) - 0.5) * side
    origin = place[:, :1] * across + place[:, 1:] * upward + start * look
    return origin, across, upward, side, start


def shoot(
    mesh: Mesh, rays: Rays, look: Array, *, wavelength: float, count: int = 4000, surface: Surface,
    polarization: sea.Polarization = "VV", wind: float | None = None, tilt: float = 0.0,
    bounds: tuple[Array, Array] | None = None, bounces: int = BOUNCES, rng: np.random.Generator,
) -> Scatterers:  # fmt: skip
    """Trace ray tubes and collect their returns.

    Each bounce adds ``k/√π · d·l · Γ · sinc(k l g_u/2) sinc(k l g_v/2) · exp(-jkL)`` with L the path from the
    wave front to the patch and back, g its gradient over the tube, d the tube's side, and l the lesser of d and the
    material's coherence length. It counts only if nothing lies between patch and radar.

    Args:
        mesh: target, in place.
        rays: ray queries against `mesh`.
        look: unit vector from radar to target.
        wavelength: m.
        count: about how many tubes.
        surface: radar properties of the materials.
        polarization: HH or VV.
        wind: m/s over the sea; None for free space.
        tilt: radians, see `Scene`.
        bounds: corners of the box to cover; by default all of the mesh above the sea.
        bounces: greatest number of reflections, at least 1.
        rng: source of jitter and random phases.
    """
    low, high = mesh.bounds if bounds is None else bounds
    if wind is not None:
        low = np.array([low[0], low[1], 0.0])
    point, across, upward, side, start = tubes(look, (low, high), count, rng, mirror=wind is not None)
    tracer = _Tracer(mesh, rays, look, wavelength, surface, int(polarization == "VV"), wind, rng)
    n = len(point)
    ahead, du, dv = (np.broadcast_to(v, (n, 3)) for v in (look, across, upward))
    state = _Tubes(point, ahead, np.zeros(n), np.ones(n, complex), du, dv, np.zeros((n, 2)), point)
    found = []
    for bounce in range(1, bounces + 1):
        state, face = tracer.step(state)
        if bounce == 1:
            state.entry = state.point
        if len(face) == 0:
            break
        found.append(tracer.returns(state, face, side, start, bounce, across, tilt))
        state = state.after()
    if not found:
        empty = np.zeros(0)
        return Scatterers(empty.astype(complex), empty, empty, empty.astype(int))
    return Scatterers(
        *(np.concatenate([getattr(f, name) for f in found]) for name in ("amplitude", "range", "cross", "bounces"))
    )


@dataclass
class _Tubes:
    """The state of ray tubes: each field has a row per tube."""

    point: Array
    direction: Array
    path: Array  # length from the wave front, m
    weight: Array  # product of reflection coefficients
    du: Array  # derivative of the point over the tube's first axis
    dv: Array
    gradient: Array  # (n, 2) derivative of `path`
    entry: Array  # first point hit: with the last one it fixes cross-range
    outgoing: Array | None = None

    def after(self) -> _Tubes:
        """Return the tubes with their reflected directions."""
        assert self.outgoing is not None
        return replace(self, direction=self.outgoing, outgoing=None)

    def at(self, rows: Array) -> _Tubes:
        """Return some of the tubes."""
        return _Tubes(self.point[rows], self.direction[rows], self.path[rows], self.weight[rows], self.du[rows],
                      self.dv[rows], self.gradient[rows], self.entry[rows])  # fmt: skip


@dataclass
class _Tracer:
    mesh: Mesh
    rays: Rays
    look: Array
    wavelength: float
    surface: Surface
    channel: int
    wind: float | None
    rng: np.random.Generator

    def __post_init__(self) -> None:
        self.normals = self.mesh.normals
        # Waves far longer than a tube tilt what the tube sees; ripples within it take energy from the mirror image.
        wind = 0.0 if self.wind is None else self.wind
        self.sea_slope = math.sqrt(0.35 * sea.slope_variance(wind) / 2)
        self.ripple = 0.002 + 0.0012 * wind
        self.permittivity = sea.permittivity(sea.LIGHT / self.wavelength / 1e9)

    def step(self, tubes: _Tubes) -> tuple[_Tubes, Array]:
        """Move tubes to their next hit, reflect them there; return those that hit, and faces (-1 for the sea)."""
        distance, face = self.rays.nearest(tubes.point, tubes.direction)
        if self.wind is not None:
            down = tubes.direction[:, 2]
            with np.errstate(divide="ignore", invalid="ignore"):
                to_sea = np.where(down < -1e-6, -tubes.point[:, 2] / down, np.inf)
            wet = to_sea < distance
            distance, face = np.where(wet, to_sea, distance), np.where(wet, -1, face)
        kept = np.flatnonzero(np.isfinite(distance))
        tubes, distance, face = tubes.at(kept), distance[kept], face[kept]
        direction = tubes.direction
        normal = self.normals[np.maximum(face, 0)].astype(float)
        wet = face < 0
        if wet.any():
            slopes = self.rng.standard_normal((int(wet.sum()), 2)) * self.sea_slope
            wave = np.column_stack([-slopes, np.ones(len(slopes))])
            normal[wet] = wave / np.linalg.norm(wave, axis=1, keepdims=True)
        normal = facing(normal, direction)
        cosine = np.maximum(-np.einsum("ij,ij->i", normal, direction), 1e-3)
        for axis, spread in ((0, tubes.du), (1, tubes.dv)):
            longer = np.einsum("ij,ij->i", normal, spread) / cosine
            tubes.gradient[:, axis] += longer
            spread = spread + longer[:, None] * direction
            if axis == 0:
                tubes.du = spread
            else:
                tubes.dv = spread
        tubes.path = tubes.path + distance
        tubes.weight = tubes.weight * self._reflection(face, cosine)
        tubes.outgoing = mirrored(direction, normal)
        tubes.point = tubes.point + distance[:, None] * direction + 1e-3 * normal
        return tubes, face

    def _reflection(self, face: Array, cosine: Array) -> Array:
        material = self.mesh.material[np.maximum(face, 0)]
        value: Array = self.surface.reflection[material, self.channel].astype(complex)
        wet = face < 0
        if wet.any():
            coefficient = sea.fresnel(cosine[wet], self.permittivity)[self.channel]
            value[wet] = coefficient * sea.coherent_loss(self.ripple, cosine[wet], self.wavelength)
        return value

    def returns(self, tubes: _Tubes, face: Array, side: float, start: float, bounce: int, across: Array,
                tilt: float) -> Scatterers:  # fmt: skip
        """Return the physical-optics returns of the current hits, as seen from the radar."""
        # The sea's own single-bounce return is the clutter model's; here it only closes paths with the target.
        use = np.flatnonzero((face >= 0) | (bounce > 1))
        use = use[~self.rays.blocked(tubes.point[use], np.broadcast_to(-self.look, (len(use), 3)))]
        tubes, face, material = tubes.at(use), face[use], self.mesh.material[np.maximum(face[use], 0)]
        back = tubes.point @ self.look - start
        gradient = tubes.gradient + np.column_stack([tubes.du @ self.look, tubes.dv @ self.look])
        total, wavenumber = tubes.path + back, 2 * math.pi / self.wavelength
        patch = np.minimum(side, np.where(face >= 0, self.surface.coherence[material], SEA_COHERENCE))
        lobe = np.prod(np.sinc(gradient * (patch / self.wavelength)[:, None]), axis=1)
        phase = np.exp(-1j * wavenumber * total)
        loose = patch < side
        phase[loose] *= np.exp(2j * np.pi * self.rng.random(int(loose.sum())))
        amplitude = wavenumber / math.sqrt(math.pi) * side * patch * lobe * tubes.weight * phase
        if bounce == 1:
            scatter = side * np.sqrt(self.surface.diffuse[material] / 2)
            noise = self.rng.standard_normal((2, len(use)))
            amplitude = amplitude + scatter * (noise[0] + 1j * noise[1])
        middle = (tubes.entry + tubes.point) / 2
        cross = middle @ across + math.tan(tilt) * middle[:, 2]
        return Scatterers(amplitude, total / 2 + start, cross, np.full(len(use), bounce))
