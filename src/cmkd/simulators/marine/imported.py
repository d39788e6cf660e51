"""Ship meshes from OBJ, glTF, STL and PLY files, read by trimesh and converted to the simulator's axes and units."""

from __future__ import annotations

import io
import json
import math
import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cmkd.documents import parse_json
from cmkd.errors import CmkdError, needs_extra
from cmkd.simulators.marine.mesh import Array, Material, Mesh

SUFFIXES = (".obj", ".gltf", ".glb", ".stl", ".ply")
MOST_BYTES, MOST_FACES = 64 * 2**20, 500_000
"""Largest size of a file, also of those beside it, and largest number of triangles of a mesh."""
MOST_PARTS = 10_000
"""Largest number of nodes, and of parts, of a glTF file."""
LENGTHS = (1.0, 600.0)
"""Allowed lengths of a ship, m; the longest real ships are shorter than 460 m."""
PLAIN = (0.30, 0.33, 0.35)
"""Linear reflectance of a face without a color: gray paint."""
WORDS = {
    Material.STEEL: "steel|metal|iron|alumin",
    Material.DECK: "[a-z]*deck",
    Material.CABIN: "cabin|superstructure|bridge|[a-z]*house",
    Material.CONTAINER: "container",
    Material.PLASTIC: "plastic|fibre|fiber|grp",
    Material.GLASS: "glass|window",
    Material.CLOTH: "cloth|[a-z]*sail(?!ing|or|boat)|canvas|fabric",
    Material.ROCK: "rock(?!et)|stone|concrete",
    Material.RUBBER: "rubber|tire|tyre|fender",
}
"""Material -> beginnings of words in the name of a part or its material; the first match counts. Our choice."""
_UNREAD = "save it again as GLB or OBJ, without compression"


def read_mesh(
    path: Path,
    *,
    length: float | None = None,
    draft: float | None = None,
    heading: float | None = None,
    up: str | None = None,
    material: Material = Material.STEEL,
) -> Mesh:
    """Read the mesh of a ship, in m and centered: bow along x, z up, and the calm sea at z = 0.

    Faces take their material from the names of parts and materials (`WORDS`), and their color from the material or from
    faces and vertices; textures are not read. Colors of glTF are linear, others are taken to be sRGB.

    Args:
        path: an OBJ, glTF, GLB, STL or PLY file. Of the files beside it, only MTL and BIN files are read.
        length: length from bow to stern in m, to which the mesh is scaled; by default the file's units are meters.
        draft: distance from the lowest point to the waterline, m; by default height 0 of the file is the waterline.
        heading: direction of the bow in the file, degrees from x counter-clockwise seen from above; by default the
            longer horizontal side is put along x, and the bow may be at either end.
        up: upward axis of the file, ``y`` or ``z``; by default y for glTF, as its specification says, and z for others.
        material: material of faces whose names do not tell it.

    Raises:
        CmkdError: the file has an unsupported type, is damaged or too large, refers to other files, does not have the
            size of a ship, or has nothing above the waterline.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise CmkdError(f"'{path}' has an unsupported file type; supported: {', '.join(SUFFIXES)}")
    up = up or ("y" if suffix in (".gltf", ".glb") else "z")
    if up not in ("y", "z"):
        raise CmkdError(f"up of '{path}' must be y or z, got '{up}'")
    parts = list(_parts(path, suffix, material))
    if not parts:
        raise CmkdError(f"'{path}' holds no triangles: {_UNREAD}")
    return _placed(Mesh.joined(parts), path, length=length, draft=draft, heading=heading, up=up)


def _parts(path: Path, suffix: str, material: Material) -> Iterator[Mesh]:
    """Yield the parts of a file in the file's axes and units."""
    content = _content(path)
    if suffix in (".gltf", ".glb"):
        _check_gltf(content, path)
    elif suffix == ".obj":
        _check_count(sum(line.count(b" ") - 2 for line in re.findall(rb"^f .*", content, re.MULTILINE)), path)
    with needs_extra("marine", "reading meshes"):
        import trimesh
    options: dict[str, Any] = {"group_material": True} if suffix == ".obj" else {}
    try:
        scene = trimesh.load_scene(
            io.BytesIO(content), file_type=suffix[1:], resolver=_Beside(path.parent), process=False, **options
        )
        shown = [scene.graph[node] for node in scene.graph.nodes_geometry]
        shapes = [(transform, name, scene.geometry[name]) for transform, name in shown]
    except CmkdError:
        raise
    except Exception as error:  # readers raise anything on damaged content
        raise CmkdError(f"'{path}' cannot be read ({type(error).__name__}): {_UNREAD}") from error
    shapes = [shape for shape in shapes if isinstance(shape[2], trimesh.Trimesh)]
    _check_count(sum(len(shape.faces) for _, _, shape in shapes), path)
    for transform, name, shape in shapes:
        corners = np.asarray(shape.triangles, float) @ transform[:3, :3].T + transform[:3, 3]
        kind = _material(f"{name} {getattr(getattr(shape.visual, 'material', None), 'name', '')}", material)
        color = _color(shape.visual, len(corners), linear=suffix in (".gltf", ".glb"))
        yield Mesh(corners.astype(np.float32), color, np.full(len(corners), kind, np.uint8))


def _placed(
    mesh: Mesh, path: Path, *, length: float | None, draft: float | None, heading: float | None, up: str
) -> Mesh:
    """Return a mesh in the simulator's axes and units."""
    corners = mesh.triangles.astype(float)
    if not np.isfinite(corners).all():
        raise CmkdError(f"'{path}' has corners that are not finite numbers: {_UNREAD}")
    if up == "y":
        corners = np.stack([corners[..., 0], -corners[..., 2], corners[..., 1]], -1)
    low, high = corners.min((0, 1)), corners.max((0, 1))
    turn = heading if heading is not None else 90.0 * bool(high[1] - low[1] > high[0] - low[0])
    cos, sin = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    corners = corners @ np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]]).T
    low, high = corners.min((0, 1)), corners.max((0, 1))
    if not high[0] > low[0]:
        raise CmkdError(f"'{path}' has no length: {_UNREAD}")
    scale = 1.0 if length is None else length / (high[0] - low[0])
    if not LENGTHS[0] <= scale * (high[0] - low[0]) <= LENGTHS[1]:
        raise CmkdError(
            f"'{path}' would be {scale * (high[0] - low[0]):.4g} m long, expected {LENGTHS[0]:g} to {LENGTHS[1]:g}: "
            "give its length in m"
        )
    lift = 0.0 if draft is None else -draft - scale * low[2]
    corners = scale * (corners - [(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, 0.0]) + [0.0, 0.0, lift]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    solid = np.einsum("ij,ij->i", cross, cross) > 1e-10
    if not (solid & (corners[..., 2].max(1) > 0)).any():
        raise CmkdError(f"'{path}' has nothing above the waterline: give its draft and its upward axis")
    return Mesh(np.ascontiguousarray(corners[solid], np.float32), mesh.color[solid], mesh.material[solid])


def _color(visual: Any, count: int, *, linear: bool) -> Array:  # noqa: ANN401  # trimesh's visuals share no type
    """Return the linear reflectance of each face, ``(count, 3)`` float32."""
    if visual.kind == "texture" and visual.material is not None:
        shade = np.broadcast_to(np.asarray(visual.material.main_color, float)[:3], (count, 3)) / 255
    elif visual.kind in ("face", "vertex"):
        shade = np.asarray(visual.face_colors, float)[:, :3] / 255
    else:
        return np.full((count, 3), PLAIN, np.float32)
    bright = np.where(shade <= 0.04045, shade / 12.92, ((shade + 0.055) / 1.055) ** 2.4)  # IEC 61966-2-1
    return np.ascontiguousarray(shade if linear else bright, np.float32)


def _material(names: str, other: Material) -> Material:
    """Return the material that the names of parts and materials contain, or `other`.

    Example:
        >>> [_material(names, Material.STEEL).name for names in ("hull FiberglassWhite", "rocket launcher")]
        ['PLASTIC', 'STEEL']
    """
    said = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", names).lower()
    return next((m for m, words in WORDS.items() if re.search(f"(?<![a-z])(?:{words})", said)), other)


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise CmkdError(f"'{path}' cannot be read ({error.strerror or error}): give the file of a mesh") from error
    if len(content) > MOST_BYTES:
        raise CmkdError(f"'{path}' is larger than {MOST_BYTES // 2**20} MiB: simplify it")
    return content


def _check_count(triangles: int, path: Path) -> None:
    if triangles > MOST_FACES:
        raise CmkdError(f"'{path}' has {triangles} triangles; the limit is {MOST_FACES}: simplify it")


class _Beside(Mapping[str, bytes]):
    """The MTL and BIN files beside a mesh, by name; a reference to any other file is refused."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __getitem__(self, name: str) -> bytes:
        if not re.fullmatch(r"[^/\\:]+\.(mtl|bin)", name, re.IGNORECASE):
            raise KeyError(name)
        return _content(self._folder / name)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def _check_gltf(content: bytes, path: Path) -> None:
    """Refuse a glTF file whose header declares far more data than it holds, or that trimesh cannot unpack."""
    fix = _UNREAD
    if content[:4] == b"glTF":
        if len(content) < 20:
            raise CmkdError(f"'{path}' is truncated: {fix}")
        content = content[20 : 20 + struct.unpack("<I", content[12:16])[0]]
    header = parse_json(content, f"'{path}'", fix=fix)
    lists = {key: header.get(key, []) for key in ("accessors", "nodes", "buffers", "meshes")}
    if not all(isinstance(items, list) and all(isinstance(i, dict) for i in items) for items in lists.values()):
        raise CmkdError(f"'{path}' is damaged: {fix}")
    primitives = [item.get("primitives", []) for item in lists["meshes"]]
    if not all(isinstance(items, list) for items in primitives):
        raise CmkdError(f"'{path}' is damaged: {fix}")
    counts = [item.get("count", 0) for item in lists["accessors"]]
    wrong = any(not isinstance(count, int) or count > 3 * MOST_FACES for count in counts)
    empty = any("bufferView" not in item for item in lists["accessors"])  # compressed, sparse, or any number of zeros
    parts = max(len(lists["nodes"]), sum(map(len, primitives)))
    if wrong or empty or parts > MOST_PARTS:
        what = "compressed or sparse" if empty else f"larger than {MOST_FACES} triangles in {MOST_PARTS} parts"
        raise CmkdError(f"'{path}' is {what}: {fix}")
    if b"draco" in json.dumps(header.get("extensionsRequired", [])).encode().lower():
        raise CmkdError(f"'{path}' is compressed with Draco: {fix}")
