"""Radar returns of a target: shooting and bouncing rays with physical optics at every bounce.

A plane wave travels along `look` as a grid of ray tubes, which bounce off mesh and sea and carry the electric field. At
every bounce physical optics gives the return of the illuminated patch, whose integral over a flat patch has a closed
form.

Source:
    Ling, Chou and Lee 1989, Shooting and bouncing rays (IEEE T-AP 37).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np

from cmkd.simulators.marine import sea
from cmkd.simulators.marine.mesh import Array, Material, Mesh
from cmkd.simulators.marine.rays import Rays, facing, mirrored

BOUNCES = 3
"""Default for the largest number of reflections on a path."""
MOST_TUBES = 200_000
"""Approximate largest number of ray tubes that a limit on their side may cause, so that time stays bounded."""
SEA_COHERENCE = 0.3
"""Side of the patches over which the sea is flat within a fraction of an X-band wavelength, m; an estimate."""
CROSS_RATIO = 10**-0.8
"""Ratio of cross- to co-polarized power of the details that the mesh leaves out (-8 dB); an estimate."""

_DETAIL_SHAPE = 0.25  # shape of the gamma distribution of details' cross-sections: few are strong; our choice
_COHERENCE_WAVELENGTH = 0.03  # wavelength at which the coherence lengths hold, m

Axis = Literal["H", "V"]
"""Polarization of an antenna: horizontal, or vertical in the plane of incidence of a level sea."""


@dataclass(frozen=True)
class Surface:
    """Radar properties of the materials, each an array ``(materials,)`` indexed by `Material`."""

    reflection: Array  # reflection of the field, relative to a perfect conductor
    # side of the patches over which a plate is flat within a fraction of an X-band wavelength, m; it grows as the root
    # of the wavelength, as for plates of constant curvature. Larger plates reflect with the lobe of such a patch, and
    # patches add with random phases. Infinite for ideal plates
    coherence: Array
    warp: Array  # standard deviation of a patch's slope about the mean plate, along each axis, radians
    # cross-section per projected area of details that the mesh leaves out (fittings, rails, welds), linear
    diffuse: Array

    @classmethod
    def ideal(cls) -> Surface:
        """Return perfectly conducting, flat and bare surfaces, for tests against canonical cross-sections."""
        count = len(Material)
        return cls(np.ones(count), np.full(count, np.inf), np.zeros(count), np.zeros(count))

    @classmethod
    def marine(cls) -> Surface:
        """Return estimates for the marine materials; none is measured.

        Plates between frames 0.7 m apart and 5 mm out of fair have slopes of 0.016, and stay within a sixteenth of an
        X-band wavelength over 0.4 m. Fittings interrupt decks, windows interrupt walls, corrugations leave flats of
        about 0.06 m on containers: they reflect less, in wider lobes, and their details return more. The levels of the
        details were chosen so that chips of mode ``iw`` stand out from the sea about as 71 real Sentinel-1 chips do
        (`benchmarks/results/chip_statistics.md`); `marine_physics.md` there compares vessels with published rules.
        """
        rows = {
            Material.STEEL: (0.90, 0.30, 0.015, 2.5), Material.DECK: (0.50, 0.10, 0.040, 2.5),
            Material.CABIN: (0.65, 0.12, 0.025, 5.0), Material.CONTAINER: (0.80, 0.06, 0.025, 6.0),
            Material.GLASS: (0.45, 0.30, 0.010, 0.05), Material.PLASTIC: (0.33, 0.30, 0.020, 0.12),
            Material.CLOTH: (0.08, 0.30, 0.050, 0.002), Material.ROCK: (0.05, 0.03, 0.100, 0.01),
            Material.RUBBER: (0.2, 0.20, 0.050, 0.05),
        }  # fmt: skip
        return cls(*np.array([rows[m] for m in Material]).T)


@dataclass(frozen=True)
class Scatterers:
    """Complex returns of a target, each with its position."""

    amplitude: Array  # ``(channels, n)`` complex, root of the cross-section in m with the phase of the two-way path
    range: Array  # ``(n,)`` slant range from the scene's center, m
    position: Array  # ``(n, 3)`` m: the middle of first and last hit, which sets cross-range
    face: Array  # ``(n,)`` first face of the mesh on the path, -1 for none
    bounces: Array  # ``(n,)`` number of reflections


def tubes(look: Array, bounds: tuple[Array, Array], count: int, rng: np.random.Generator, *, mirror: bool,
          widest: float = math.inf) -> tuple[Array, Array, Array, float, float]:  # fmt: skip
    """Lay out a jittered grid of square ray tubes that covers a box, seen along `look`.

    Args:
        look: unit vector of the wave's direction of travel.
        bounds: least and greatest corner of the box, m.
        count: approximate number of tubes.
        rng: random generator of the jitter.
        mirror: also cover the box's mirror image in the sea, for paths that touch the sea first.
        widest: largest side of a tube, m; to satisfy it, there may be more than `count` tubes, up to about
            `MOST_TUBES`.

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
    area = max((u.max() - u.min()) * (v.max() - v.min()), 1e-9)
    side = min(math.sqrt(area / count), max(widest, math.sqrt(area / MOST_TUBES)))
    grid_u = np.arange(u.min(), u.max(), side) + side / 2
    grid_v = np.arange(v.min(), v.max(), side) + side / 2
    place = np.stack(np.meshgrid(grid_u, grid_v, indexing="ij"), -1).reshape(-1, 2)
    place = place + (rng.random(place.shape) - 0.5) * side
    origin = place[:, :1] * across + place[:, 1:] * upward + start * look
    return origin, across, upward, side, start


def shoot(
    mesh: Mesh, rays: Rays, look: Array, *, wavelength: float, transmit: Axis = "V", receive: Sequence[Axis] = ("V",),
    count: int = 4000, widest: float = math.inf, surface: Surface, wind: float | None = None,
    bounds: tuple[Array, Array] | None = None, bounces: int = BOUNCES, rng: np.random.Generator,
) -> Scatterers:  # fmt: skip
    """Trace ray tubes and collect their returns.

    Each bounce adds ``k/√π · d·l · (e·J) · sinc(k l g_u/2) sinc(k l g_v/2) · exp(-jkL)`` with J the physical-optics
    current of a unit wave, e the receiving polarization, L the path from the wave front to the patch and back, g its
    gradient over the tube, d the tube's side, and l the lesser of d and the patch's coherence length. A bounce counts
    only if nothing lies between patch and radar.

    Args:
        mesh: target, in place.
        rays: ray queries against `mesh`.
        look: unit vector from radar to target.
        wavelength: wavelength of the radar, m.
        transmit: polarization of the wave.
        receive: polarization of each channel of the result.
        count: approximate number of tubes.
        widest: largest side of a tube, m (see `tubes`).
        surface: radar properties of the materials.
        wind: wind speed over the sea, m/s; None for free space.
        bounds: corners of the box to cover; by default all of the mesh above the sea.
        bounces: largest number of reflections, at least 1.
        rng: random generator of the jitter, the tilts, the phases and the details.
    """
    low, high = mesh.bounds if bounds is None else bounds
    if wind is not None:
        low = np.array([low[0], low[1], 0.0])
    point, across, upward, side, start = tubes(look, (low, high), count, rng, mirror=wind is not None, widest=widest)
    axes: dict[Axis, Array] = {"H": across, "V": upward}
    tracer = _Tracer(mesh, rays, look, wavelength, surface, wind, rng)
    n = len(point)
    field, spread = axes[transmit].astype(np.complex64), np.stack([across, upward])
    directions, waves, spreads = (np.broadcast_to(v, (n, *v.shape)) for v in (look, field, spread))
    state = _Tubes(point, directions, waves, spreads, np.zeros(n), np.zeros((n, 2)), point, np.full(n, -1))
    antennas, co = np.stack([axes[r] for r in receive]), np.array([r == transmit for r in receive])
    found = []
    for bounce in range(1, bounces + 1):
        state, hits = tracer.step(state)
        if bounce == 1:
            state.entry = state.point
        found.append(tracer.returns(state, hits, side, start, bounce, antennas, co))
    names = ("range", "position", "face", "bounces")
    amplitude = np.concatenate([f.amplitude for f in found], axis=1)
    return Scatterers(amplitude, *(np.concatenate([getattr(f, name) for f in found]) for name in names))


@dataclass
class _Tubes:
    """The state of ray tubes: each field has a row per tube."""

    point: Array
    direction: Array
    field: Array  # electric field, relative to the transmitted one
    spread: Array  # (n, 2, 3) derivatives of the point over the tube's axes
    path: Array  # length from the wave front, m
    gradient: Array  # (n, 2) derivatives of `path`
    entry: Array  # first point hit; together with the last one, it sets cross-range
    face: Array  # first face of the mesh hit so far, -1 for none

    def at(self, rows: Array) -> _Tubes:
        """Return the tubes of the given rows."""
        return _Tubes(*(getattr(self, f.name)[rows] for f in fields(self)))


@dataclass
class _Hits:
    """The patches that tubes hit last."""

    face: Array  # -1 for the sea
    current: Array  # (n, 3), seen from the radar, per area across the tube


@dataclass
class _Tracer:
    mesh: Mesh
    rays: Rays
    look: Array
    wavelength: float
    surface: Surface
    wind: float | None
    rng: np.random.Generator

    def __post_init__(self) -> None:
        self.normals = self.mesh.normals
        # Waves far longer than a tube tilt the patch that it hits; ripples within it take energy from the mirror image.
        wind = 0.0 if self.wind is None else self.wind
        self.sea_slope = math.sqrt(0.35 * sea.slope_variance(wind) / 2)
        self.ripple = 0.002 + 0.0012 * wind
        self.permittivity = sea.permittivity(sea.LIGHT / self.wavelength / 1e9)
        self.stretch = math.sqrt(self.wavelength / _COHERENCE_WAVELENGTH)

    def step(self, tubes: _Tubes) -> tuple[_Tubes, _Hits]:
        """Move tubes to their next hit and reflect them there; return those that hit, and their hits."""
        distance, face = self.rays.nearest(tubes.point, tubes.direction)
        if self.wind is not None:
            down = tubes.direction[:, 2]
            with np.errstate(divide="ignore", invalid="ignore"):
                to_sea = np.where(down < -1e-6, -tubes.point[:, 2] / down, np.inf)
            wet = to_sea < distance
            distance, face = np.where(wet, to_sea, distance), np.where(wet, -1, face)
        kept = np.flatnonzero(np.isfinite(distance))
        tubes, distance, face = tubes.at(kept), distance[kept], face[kept]
        direction, normal = tubes.direction, self._normal(face, tubes.direction)
        cosine = np.maximum(-np.einsum("ij,ij->i", normal, direction), 1e-3)
        longer = np.einsum("ij,iaj->ia", normal, tubes.spread) / cosine[:, None]
        tubes.gradient += longer
        tubes.spread += longer[:, :, None] * direction[:, None]
        tubes.path += distance
        current = self._reflect(tubes, face, normal, cosine)
        tubes.point += distance[:, None] * direction + 1e-3 * normal
        tubes.direction = mirrored(direction, normal)
        tubes.face = np.where(tubes.face < 0, face, tubes.face)
        return tubes, _Hits(face, current)

    def _normal(self, face: Array, direction: Array) -> Array:
        """Return the normals of the patches, turned toward the rays: waves tilt the sea, and plates are warped."""
        wet = face < 0
        slope = np.where(wet, self.sea_slope, self.surface.warp[self.mesh.material[np.maximum(face, 0)]])
        normal = self.normals[np.maximum(face, 0)].astype(float)
        normal[wet] = (0.0, 0.0, 1.0)
        normal += slope[:, None] * self.rng.standard_normal(normal.shape, dtype=np.float32)
        normal /= np.sqrt(np.einsum("ij,ij->i", normal, normal))[:, None]
        return facing(normal, direction)

    def _reflect(self, tubes: _Tubes, face: Array, normal: Array, cosine: Array) -> Array:
        """Set the reflected field; return the current on the patches.

        A conductor reflects E to ``2 (n·E) n - E`` and returns ``E + k (n·E) / cos θ`` to the radar. A weaker reflector
        does the same with a weaker E; for the sea, E is weakened separately across and along the plane of incidence.
        """
        strength = self.surface.reflection[self.mesh.material[np.maximum(face, 0)]].astype(np.float32)
        incident = tubes.field * strength[:, None]
        wet = np.flatnonzero(face < 0)
        if len(wet):
            incident[wet] = self._sea_image(tubes.field[wet], tubes.direction[wet], normal[wet], cosine[wet])
        across = np.einsum("ij,ij->i", normal, incident)[:, None].astype(np.complex64)
        tubes.field = (2 * across) * normal.astype(np.float32) - incident
        current: Array = incident + (across / cosine[:, None].astype(np.float32)) * tubes.direction.astype(np.float32)
        return current

    def _sea_image(self, field: Array, direction: Array, normal: Array, cosine: Array) -> Array:
        """Return the incident field that a conductor would reflect in the same way as the sea reflects `field`."""
        level = np.cross(direction, normal)
        level /= np.maximum(np.linalg.norm(level, axis=1, keepdims=True), 1e-9)
        horizontal, vertical = sea.fresnel(cosine, self.permittivity)
        loss = sea.coherent_loss(self.ripple, cosine, self.wavelength)
        along = np.einsum("ij,ij->i", level, field)
        kept: Array = loss[:, None] * (vertical[:, None] * field - ((horizontal + vertical) * along)[:, None] * level)
        return kept

    def returns(self, tubes: _Tubes, hits: _Hits, side: float, start: float, bounce: int, antennas: Array,
                co: Array) -> Scatterers:  # fmt: skip
        """Return the physical-optics returns of the current hits, as seen from the radar."""
        # The clutter model covers the sea's own single-bounce return; here the sea only extends paths with the target.
        use = np.flatnonzero((hits.face >= 0) | (bounce > 1))
        use = use[~self.rays.blocked(tubes.point[use], np.broadcast_to(-self.look, (len(use), 3)))]
        point, face = tubes.point[use], hits.face[use]
        material = self.mesh.material[np.maximum(face, 0)]
        gradient = tubes.gradient[use] + tubes.spread[use] @ self.look
        total, wavenumber = tubes.path[use] + (point @ self.look - start), 2 * math.pi / self.wavelength
        flat = np.where(face >= 0, self.surface.coherence[material], SEA_COHERENCE) * self.stretch
        patch = np.minimum(side, flat)
        lobe = np.prod(np.sinc(gradient * (patch / self.wavelength)[:, None]), axis=1)
        phase = np.exp(-1j * wavenumber * total)
        loose = patch < side
        phase[loose] *= np.exp(2j * np.pi * self.rng.random(int(loose.sum())))
        amplitude = antennas @ hits.current[use].T * (wavenumber / math.sqrt(math.pi) * side * patch * lobe * phase)
        if bounce == 1:
            spikes = self.rng.gamma(_DETAIL_SHAPE, 1 / _DETAIL_SHAPE, len(use))
            power = np.where(co, 1.0, CROSS_RATIO)[:, None] * (self.surface.diffuse[material] * spikes / 2)
            noise = self.rng.standard_normal((2, len(antennas), len(use)))
            amplitude = amplitude + side * np.sqrt(power) * (noise[0] + 1j * noise[1])
        middle = (tubes.entry[use] + point) / 2
        return Scatterers(amplitude, total / 2 + start, middle, tubes.face[use], np.full(len(use), bounce))
