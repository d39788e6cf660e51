"""The optical image: rays against the mesh and the sea, light of sun and sky, haze, lens and sensor.

The sea is the plane z = 0 with the slopes of a drawn wave field (no parallax of the waves), and its unresolved
roughness follows Cox and Munk. Light bounces once between objects and sea; sky light between objects is not
occluded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import fft, ndimage

from cmkd.simulators.marine import sea
from cmkd.simulators.marine.mesh import Array, Material, Mesh
from cmkd.simulators.marine.modes import SAMPLES, OpticalMode
from cmkd.simulators.marine.rays import Rays, facing, mirrored
from cmkd.simulators.marine.scene import Scene

_WHITECAP = 1.5  # size of a whitecap, m; an estimate
_ABOVE = 1000.0  # height above the sea at which a satellite's rays start: higher than any target, m
_WATER = np.array([0.012, 0.035, 0.045])  # reflectance of the water body: green-blue coastal water
_CONTAINER_TINTS = np.array([[0.8, 1.0, 1.2], [1.2, 0.9, 0.8], [1.0, 1.0, 1.0], [0.7, 1.2, 0.9], [1.3, 1.1, 0.6]])


@dataclass(frozen=True)
class _Light:
    """Sun and sky: direction of the sun, its irradiance, and radiances of zenith and horizon, RGB."""

    direction: Array
    sun: Array
    zenith: Array
    horizon: Array

    def sky(self, up: Array) -> Array:
        """Return the radiance ``(n, 3)`` of the sky at sines of elevation `up` ``(n,)``."""
        mix = (1 - np.clip(up, 0, 1))[:, None] ** 3
        return np.asarray(self.zenith * (1 - mix) + self.horizon * mix)

    @property
    def diffuse(self) -> Array:
        """Irradiance ``(3,)`` on a level plane from the whole sky.

        The weights of 0.6 and 0.4 are our approximation; the integral of `sky` has weights of 0.9 and 0.1.
        """
        return np.asarray(math.pi * (0.6 * self.zenith + 0.4 * self.horizon))


def _light(scene: Scene) -> _Light:
    elevation, azimuth = math.radians(scene.sun_elevation), scene.turned(scene.sun_azimuth)
    flat = math.cos(elevation)
    direction = np.array([flat * math.cos(azimuth), flat * math.sin(azimuth), math.sin(elevation)])
    # Beer-Lambert over the air mass, with more extinction in blue (Rayleigh) than in red
    through = np.exp(-np.array([0.10, 0.16, 0.27]) / max(math.sin(elevation), 0.08))
    clear = 1 - scene.overcast
    sun = 3.0 * through * (0.05 + 0.95 * clear**1.5)
    bright = 0.25 + 0.75 * math.sin(elevation)
    blue, gray = np.array([0.10, 0.18, 0.34]), np.array([0.26, 0.27, 0.29])
    zenith = bright * (blue * clear + gray * scene.overcast)
    warm = np.array([0.42, 0.36, 0.33]) if scene.sun_elevation < 12 else np.array([0.36, 0.40, 0.45])
    return _Light(direction, sun, zenith, bright * (warm * clear + 1.15 * gray * scene.overcast))


def _albedo(mesh: Mesh, face: Array, point: Array, number: int) -> Array:
    """Return the color ``(n, 3)`` of points on faces, with windows, single containers and a boot-topping."""
    color = mesh.color[face].astype(float)
    material, normal, z = mesh.material[face], mesh.normals[face], point[:, 2]
    wall = np.abs(normal[:, 2]) < 0.5
    along = point[:, 0] * normal[:, 1] - point[:, 1] * normal[:, 0]
    window = (
        (material == Material.CABIN)
        & wall
        & (np.mod(z, 2.8) > 1.3)
        & (np.mod(z, 2.8) < 2.1)
        & (np.mod(along, 2.2) < 1.5)
    )
    color[window] = [0.03, 0.04, 0.05]
    box = material == Material.CONTAINER
    tint = np.floor(z[box] / 2.6) * 7 + np.floor(along[box] / 6.1) * 3 + face[box] // 12 + number
    color[box] *= _CONTAINER_TINTS[tint.astype(int) % len(_CONTAINER_TINTS)]
    foot = (material == Material.STEEL) & wall & (z < 0.6)
    color[foot] = color[foot] * 0.4 + np.array([0.12, 0.03, 0.02])
    return np.asarray(np.clip(color, 0, 0.9))


def _shade(
    scene: Scene, mesh: Mesh, rays: Rays, light: _Light, hit: tuple[Array, Array, Array], *, shadows: bool
) -> Array:
    """Return the radiance ``(n, 3)`` of points on the mesh: `hit` is faces, points and ray directions."""
    face, point, direction = hit
    albedo = _albedo(mesh, face, point, scene.vessel)
    normal = facing(mesh.normals[face], direction)
    cosine = np.maximum(normal @ light.direction, 0.0)
    if shadows:
        lit = cosine > 0
        lit[lit] = ~rays.blocked(point[lit] + 2e-3 * normal[lit], np.broadcast_to(light.direction, (int(lit.sum()), 3)))
        cosine = cosine * lit
    up = 0.5 + 0.5 * normal[:, 2:]
    irradiance = cosine[:, None] * light.sun + up * light.diffuse + (1 - up) * 0.12 * light.diffuse
    radiance = albedo / math.pi * irradiance
    glossy = np.isin(mesh.material[face], (Material.GLASS, Material.PLASTIC))
    if glossy.any():
        mirror = mirrored(direction[glossy], normal[glossy])
        fresnel = 0.04 + 0.96 * (1 - np.abs(np.einsum("ij,ij->i", direction[glossy], normal[glossy]))) ** 5
        radiance[glossy] += fresnel[:, None] * light.sky(mirror[:, 2])
    return np.asarray(radiance)


def _wake(scene: Scene, point: Array) -> Array:
    """Return the foam cover 0..1 ``(n,)`` behind a moving hull: a turbulent strip and bow waves."""
    length, beam, bow = scene.length, scene.beam, scene.turned(scene.heading)
    c, s = math.cos(bow), math.sin(bow)
    dx, dy = point[:, 0] - scene.shift_x, point[:, 1] - scene.shift_y
    astern, side = -(dx * c + dy * s) - 0.45 * length, np.abs(-dx * s + dy * c)
    power = min(scene.speed / 9.0, 1.0)
    width = 0.35 * beam + 0.06 * np.maximum(astern, 0)
    strip = (
        (astern > 0) * np.exp(-((side / width) ** 2)) * np.exp(-np.maximum(astern, 0) / (length * (0.4 + 2 * power)))
    )
    arms = np.exp(-(((side - 0.5 * beam - 0.3 * (astern + 0.95 * length)) / (0.03 * length + 0.3)) ** 2))
    arms = arms * (astern > -0.95 * length) * np.exp(-np.maximum(astern + length, 0) / (0.8 * length))
    return np.asarray(power * (0.7 * strip + 0.2 * arms))


def _water(scene: Scene, mesh: Mesh, rays: Rays, light: _Light, swath: float, point: Array, direction: Array,
           rng: np.random.Generator) -> Array:  # fmt: skip
    """Return the radiance ``(n, 3)`` of the sea at `point` seen along `direction`."""
    count, extent, fine = 128, 2.5 * swath, math.sqrt(len(point))
    height, slope_x, slope_y = sea.surface(scene.wind, scene.turned(scene.wind_direction), extent, count, rng)
    cell = tuple(np.mod((point[:, i] / extent * count).astype(np.int64), count) for i in (0, 1))
    sx, sy = slope_x[cell], slope_y[cell]
    rough = max(
        sea.slope_variance(scene.wind) - float(slope_x.var() + slope_y.var()), 0.25 * sea.slope_variance(scene.wind)
    )
    normal = np.column_stack([-sx, -sy, np.ones_like(sx)])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    normal = np.where(np.einsum("ij,ij->i", normal, direction)[:, None] > -0.05, np.array([0.0, 0.0, 1.0]), normal)
    cosine = -np.einsum("ij,ij->i", normal, direction)
    fresnel = (0.02 + 0.98 * (1 - cosine) ** 5 / (1 + 25 * rough))[:, None]  # roughness lowers it at grazing angles
    mirror = mirrored(direction, normal)
    reflected = light.sky(mirror[:, 2])
    mirror[:, 2] = np.abs(mirror[:, 2]) + 1e-3
    mirror /= np.linalg.norm(mirror, axis=1, keepdims=True)
    distance, face = rays.nearest(point + 1e-3 * normal, mirror)
    seen = face >= 0
    struck = point[seen] + distance[seen, None] * mirror[seen]
    reflected[seen] = _shade(scene, mesh, rays, light, (face[seen], struck, mirror[seen]), shadows=False)
    sunlit = ~rays.blocked(point + np.array([0, 0, 1e-3]), np.broadcast_to(light.direction, point.shape))
    half = light.direction - direction
    half /= np.linalg.norm(half, axis=1, keepdims=True)
    tilt = (half[:, 0] / half[:, 2] + sx) ** 2 + (half[:, 1] / half[:, 2] + sy) ** 2
    density = np.exp(-tilt / rough) / (math.pi * rough)
    bend = np.einsum("ij,ij->i", half, np.broadcast_to(light.direction, half.shape))
    glint = (0.02 + 0.98 * (1 - bend) ** 5) * density / (4 * np.maximum(-direction[:, 2], 0.1) * half[:, 2] ** 4)
    down = light.sun * light.direction[2] * sunlit[:, None] + light.diffuse
    radiance = fresnel * reflected + (1 - fresnel) * _WATER / math.pi * down + (glint * sunlit)[:, None] * light.sun
    caps = 3.84e-6 * scene.wind**3.41  # cover of whitecaps, Monahan and O'Muircheartaigh 1980
    crest = height[cell] / max(float(height.std()), 1e-6) + 0.5 * rng.standard_normal(len(point))
    foam = np.full_like(sx, caps)  # mean cover, for samples wider than a whitecap
    if swath < _WHITECAP * fine:
        foam = (crest > 1.118 * math.sqrt(2) * _quantile(caps)) * 1.0
    foam = np.clip(foam + _wake(scene, point) * rng.uniform(0.5, 1.2, len(point)), 0, 0.9)[:, None]
    return np.asarray(radiance * (1 - foam) + foam * 0.5 / math.pi * down)


def _quantile(part: float) -> float:
    """Return x such that a standard normal exceeds √2 x with probability `part`."""
    from scipy.special import erfcinv

    return float(erfcinv(2 * min(max(part, 1e-6), 0.4)))


def _camera(scene: Scene, mode: OpticalMode, fine: int) -> tuple[Array, Array]:
    """Return origins and unit directions of the rays, both ``(fine², 3)``.

    A camera beside the radar sees in perspective, upright. A satellite's image is orthorectified to the plane of the
    sea: parallel rays through a grid of points on it, with the far side up.
    """
    swath = mode.size * mode.spacing
    step = ((np.arange(fine) + 0.5) / fine - 0.5) * swath
    aim = np.array([scene.shift_x, scene.shift_y, 0.0]) * 0.6
    theta, azimuth = math.radians(scene.optical_incidence), scene.turned(scene.optical_azimuth)
    ahead, right = (np.array([math.cos(a), math.sin(a), 0.0]) for a in (azimuth, azimuth - math.pi / 2))
    if not mode.beside:
        forward = math.sin(theta) * ahead - [0, 0, math.cos(theta)]
        ground = aim + step[None, :, None] * right - step[:, None, None] * ahead
        return (ground - _ABOVE / math.cos(theta) * forward).reshape(-1, 3), np.broadcast_to(forward, (fine**2, 3))
    camera = -scene.look * scene.range
    forward = aim + np.array([0, 0, 0.08 * swath]) - camera
    away = float(np.linalg.norm(forward))
    forward /= away
    direction = forward + (step[None, :, None] * right - step[:, None, None] * np.cross(right, forward)) / away
    direction = (direction / np.linalg.norm(direction, axis=2, keepdims=True)).reshape(-1, 3)
    return np.broadcast_to(camera, direction.shape), direction


def render(scene: Scene, mode: OpticalMode, mesh: Mesh, rays: Rays, rng: np.random.Generator) -> Array:
    """Render the optical chip ``(3, size, size)`` uint8, sRGB, of `mesh`: target and other objects, in place."""
    fine, light, swath = mode.size * SAMPLES, _light(scene), mode.size * mode.spacing
    origin, direction = _camera(scene, mode, fine)
    distance, face = rays.nearest(origin, direction)
    with np.errstate(divide="ignore"):
        to_sea = np.where(direction[:, 2] < -1e-6, origin[:, 2] / -direction[:, 2], np.inf)
    solid = distance < to_sea
    wet = ~solid & (to_sea < 60_000)
    away = np.minimum(distance, np.minimum(to_sea, 60_000))
    point = origin + away[:, None] * direction
    radiance = light.sky(direction[:, 2])
    radiance[solid] = _shade(scene, mesh, rays, light, (face[solid], point[solid], direction[solid]), shadows=True)
    radiance[wet] = _water(scene, mesh, rays, light, swath, point[wet], direction[wet], rng)
    # haze is uniform along the path; a satellite sees the sea through all of it
    depth = scene.haze * (away / scene.range if mode.beside else np.ones_like(away))
    clear = np.exp(-depth)[:, None]
    airlight = light.horizon + 0.05 * light.sun
    radiance = radiance * clear + airlight * (1 - clear)
    if scene.cloud > 0:
        cover = scene.cloud * _clouds(fine, rng)[:, None]
        radiance = radiance * (1 - cover) + cover * (0.8 / math.pi * (light.sun * light.direction[2] + light.diffuse))
    return _expose(scene, mode, radiance.reshape(fine, fine, 3), rng)


def _clouds(count: int, rng: np.random.Generator) -> Array:
    """Draw the opacity of clouds ``(count²,)``, 0 to 1: a field with a spectrum of f⁻³, with gaps; an estimate."""
    frequency = np.hypot(fft.fftfreq(count)[:, None], fft.rfftfreq(count)[None]) * count
    noise = rng.standard_normal((2, *frequency.shape), dtype=np.float32)
    field = fft.irfft2((noise[0] + 1j * noise[1]) / np.maximum(frequency, 1) ** 1.5, s=(count, count))
    return np.asarray(np.clip(0.5 * field / field.std(), 0, 1).reshape(-1))


def lens(mode: OpticalMode, radiance: Array) -> Array:
    """Return the radiance on the pixels ``(size, size, 3)`` from the radiance of the rays ``(fine, fine, 3)``."""
    blurred = ndimage.gaussian_filter(radiance, (mode.blur, mode.blur, 0))
    return np.asarray(blurred.reshape(mode.size, SAMPLES, mode.size, SAMPLES, 3).mean((1, 3)))


def _expose(scene: Scene, mode: OpticalMode, radiance: Array, rng: np.random.Generator) -> Array:
    """Apply lens, noise, automatic contrast with its error, and sRGB to radiance ``(fine, fine, 3)``."""
    image = lens(mode, radiance)
    image = image * (0.22 / max(float(np.median(image)), 1e-6))
    draw = rng.standard_normal(image.shape, dtype=np.float32)
    faint = 10.0**scene.night  # night has a hundredth of the light; a longer exposure recovers half of these stops
    image = image + draw * np.sqrt((scene.noise * faint) ** 2 + 0.015 * scene.noise * faint * np.maximum(image, 0))
    # Automatic contrast, as in surveillance cameras: haze then adds noise instead of lowering the contrast.
    low, high = np.percentile(image.mean(2), (1.0, 99.5))
    image = (image - 0.9 * low) * min(0.6 / max(high - 0.9 * low, 1e-6), 5.0) * 2**scene.exposure
    image = np.clip(image, 0, 1)
    coded = np.where(image <= 0.0031308, 12.92 * image, 1.055 * np.maximum(image, 1e-9) ** (1 / 2.4) - 0.055)
    return np.ascontiguousarray((coded * 255 + 0.5).astype(np.uint8).transpose(2, 0, 1))
