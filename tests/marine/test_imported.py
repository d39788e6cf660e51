"""Ships from files: axes, units, waterline, materials, colors, refused files, and fleets in folders."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path

import numpy as np
import pytest
import trimesh

from cmkd.errors import CmkdError
from cmkd.simulators.marine import imported
from cmkd.simulators.marine.fleet import BuiltIn, Fleet, FolderFleet
from cmkd.simulators.marine.imported import read_mesh
from cmkd.simulators.marine.mesh import Material, Mesh
from cmkd.simulators.marine.recipe import Recipe
from cmkd.simulators.marine.simulate import generate

RNG = np.random.default_rng(0)


def boat(size: tuple[float, float, float] = (20.0, 4.0, 6.0)) -> trimesh.Trimesh:
    """Return a box with a mast at its positive x end."""
    mast = trimesh.creation.box((1.0, 1.0, 5.0))
    mast.apply_translation((size[0] / 2 - 0.5, 0, size[2] / 2 + 2.5))
    return trimesh.util.concatenate([trimesh.creation.box(size), mast])


def written(shape: trimesh.Trimesh | trimesh.Scene, path: Path) -> Path:
    shape.export(path)
    return path


def mast(mesh: Mesh) -> float:
    """Return the x position of the highest points."""
    points = mesh.triangles.reshape(-1, 3)
    return float(points[points[:, 2] > points[:, 2].max() - 0.01, 0].mean())


@pytest.mark.parametrize("suffix", ["obj", "stl", "ply", "glb"])
def test_every_format_gives_the_same_ship(suffix: str, tmp_path: Path) -> None:
    shape = boat()
    if suffix == "glb":  # in this format, y points up
        shape.apply_transform(trimesh.transformations.rotation_matrix(-math.pi / 2, (1, 0, 0)))
    mesh = read_mesh(written(shape, tmp_path / f"boat.{suffix}"), length=100, draft=5)
    low, high = mesh.bounds
    np.testing.assert_allclose(low, (-50, -10, -5), atol=1e-3)  # 20 m became 100 m, and 4 m became 20 m
    np.testing.assert_allclose(high, (50, 10, -5 + 11 * 5), atol=1e-3)
    assert mast(mesh) > 45
    assert len(mesh) == 24
    assert (mesh.material == Material.STEEL).all()


@pytest.mark.parametrize("turn", [0, 90, 180, 270, 30])
def test_the_bow_points_along_x(turn: int, tmp_path: Path) -> None:
    shape = boat()
    shape.apply_transform(trimesh.transformations.rotation_matrix(math.radians(turn), (0, 0, 1)))
    shape.apply_translation((300, 500, 0))
    mesh = read_mesh(written(shape, tmp_path / "boat.ply"), heading=turn)
    assert mast(mesh) == pytest.approx(9.5, abs=0.01)
    np.testing.assert_allclose(mesh.bounds[1] - mesh.bounds[0], (20, 4, 11), atol=1e-3)
    if turn % 90 == 0:  # without a heading the longer side lies along x
        mesh = read_mesh(tmp_path / "boat.ply")
        np.testing.assert_allclose(mesh.bounds[1] - mesh.bounds[0], (20, 4, 11), atol=1e-3)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("fiberglass_hull", Material.PLASTIC),
        ("glass-fibre hull", Material.PLASTIC),
        ("environment", None),
        ("entire hull", None),
        ("rocket launcher", None),
        ("sailing yacht", None),
        ("CargoContainer", Material.CONTAINER),
        ("foredeck", Material.DECK),
        ("Wheelhouse2", Material.CABIN),
        ("windows", Material.GLASS),
        ("mainsail", Material.CLOTH),
        ("iron_rail", Material.STEEL),
        ("tires", Material.RUBBER),
        ("rocks.001", Material.ROCK),
    ],
)
def test_materials_by_name(name: str, kind: Material | None, tmp_path: Path) -> None:
    part = trimesh.creation.box((30, 2, 2))
    part.visual = trimesh.visual.TextureVisuals(material=trimesh.visual.material.PBRMaterial(name=name))
    path = written(part, tmp_path / "part.glb")
    for other in (Material.STEEL, Material.DECK):
        assert set(read_mesh(path, material=other).material.tolist()) == {other if kind is None else kind}


def test_materials_by_name_and_colors(tmp_path: Path) -> None:
    (tmp_path / "boat.mtl").write_text(
        "newmtl Window_1\nKd 0.5 0.5 0.5\nmap_Kd /etc/passwd\nnewmtl paint\nKd 1 0 0\nmap_Kd ../secret.png\n"
    )
    lines = ["mtllib boat.mtl", "v 0 0 0", "v 30 0 0", "v 30 5 2", "v 0 5 2", "usemtl Window_1", "f 1 2 3"]
    (tmp_path / "boat.obj").write_text("\n".join([*lines, "usemtl paint", "f 1 3 4"]))
    mesh = read_mesh(tmp_path / "boat.obj", material=Material.PLASTIC)
    by = {int(kind): color for kind, color in zip(mesh.material, mesh.color, strict=True)}
    assert set(by) == {Material.GLASS, Material.PLASTIC}
    np.testing.assert_allclose(by[Material.PLASTIC], (1, 0, 0), atol=0.01)
    np.testing.assert_allclose(by[Material.GLASS], 0.214, atol=0.01)  # linear value of sRGB 0.5
    scene = trimesh.Scene()
    for name, place in (("main deck", 0.0), ("hull", 3.0)):
        part = trimesh.creation.box((30, 2, 2))
        paint = trimesh.visual.material.PBRMaterial(name=name, baseColorFactor=[0.5, 0.2, 0.1, 1.0])
        part.visual = trimesh.visual.TextureVisuals(material=paint)
        scene.add_geometry(part, transform=trimesh.transformations.translation_matrix((0, place, 0)))
    mesh = read_mesh(written(scene, tmp_path / "two.glb"))
    assert {int(m) for m in mesh.material} == {Material.DECK, Material.STEEL}
    np.testing.assert_allclose(mesh.color[0], (0.5, 0.2, 0.1), atol=0.01)  # linear by the specification
    assert mesh.bounds[1][2] == pytest.approx(4.0, abs=1e-3)  # the second part lies 3 m higher
    shape = boat()
    shape.visual.face_colors = [255, 255, 255, 255]
    np.testing.assert_allclose(read_mesh(written(shape, tmp_path / "white.ply")).color, 1, atol=0.01)


def glb(header: dict[str, object]) -> bytes:
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 4)
    return b"glTF" + struct.pack("<III", 2, 20 + len(text), len(text)) + b"JSON" + text


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.fbx", b"", "unsupported file type; supported: .obj"),
        ("a.pickle", b"", "unsupported file type"),
        ("a.obj", b"v 0 0", "cannot be read|holds no triangles"),
        ("a.stl", b"solid", "cannot be read|holds no triangles"),
        ("a.ply", b"ply\nformat ascii 1.0\nelement vertex 999999999\n", "cannot be read|holds no triangles"),
        ("a.glb", b"glTF", "is truncated"),
        ("a.glb", glb({"accessors": [{"count": 10**12, "bufferView": 0}]}), "larger than 500000 triangles"),
        ("a.glb", glb({"meshes": [{"primitives": [{}] * 10_001}]}), "in 10000 parts"),
        ("a.obj", b"v 0 0 0\nv 9 0 0\nv 0 1 1\nf " + b"1 2 3 " * 170_000, "has 509999 triangles"),
        ("a.glb", glb({"accessors": [{"count": 10**5}]}), "compressed or sparse"),
        ("a.glb", glb({"extensionsRequired": ["KHR_draco_mesh_compression"]}), "compressed with Draco"),
        ("a.gltf", b'{"buffers": [{"uri": "https://example.org/a.bin"}]}', "cannot be read|holds no triangles"),
        ("a.gltf", b'{"nodes": 3}', "is damaged"),
        ("a.gltf", b'{"meshes": [{"primitives": 5}]}', "is damaged"),
        ("a.obj", b"v 0 0 0\nv nan 0 0\nv 0 1 1\nf 1 2 3", "not finite numbers"),
        ("a.obj", b"v 0 0 0\nv 9999 0 0\nv 0 1 1\nf 1 2 3", "would be 9999 m long, .*give its length"),
        ("a.obj", b"v 0 0 -9\nv 20 0 -9\nv 0 1 -8\nf 1 2 3", "nothing above the waterline"),
    ],
)
def test_what_is_no_ship_is_refused_in_one_line(name: str, content: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CmkdError, match=says) as caught:
        read_mesh(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_large_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(boat(), tmp_path / "boat.stl")
    monkeypatch.setattr(imported, "MOST_FACES", 23)
    with pytest.raises(CmkdError, match="has 24 triangles; the limit is 23"):
        read_mesh(path)
    monkeypatch.setattr(imported, "MOST_BYTES", 1000)
    with pytest.raises(CmkdError, match="MiB: simplify"):
        read_mesh(path)


def test_only_the_files_beside_a_mesh_are_read(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "outside.mtl").write_text("newmtl glass\nKd 1 0 0\n")
    face = "v 0 0 0\nv 30 0 0\nv 30 5 2\nusemtl paint\nf 1 2 3"
    for name, reference in (("up", "../outside.mtl"), ("absolute", str(tmp_path / "outside.mtl"))):
        (tmp_path / "inside" / f"{name}.obj").write_text(f"mtllib {reference}\n{face}".replace("paint", "glass"))
        mesh = read_mesh(tmp_path / "inside" / f"{name}.obj")
        assert mesh.color[0, 0] < 0.9, "the color of a file elsewhere"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, count in (("ferry", 2), ("tug", 1)):
        (tmp_path / "fleet" / name).mkdir(parents=True)
        for number in range(count):
            boat().export(tmp_path / "fleet" / name / f"{number}.obj")
    (tmp_path / "fleet" / "ferry" / "1.yaml").write_text("length: 80\ndraft: 4\nheading: 180\nmaterial: plastic\n")
    return tmp_path / "fleet"


def test_a_folder_is_a_fleet_as_the_built_in_families_are(folder: Path) -> None:
    fleets: list[Fleet] = [FolderFleet(folder), BuiltIn(3)]
    for fleet in fleets:
        for name in fleet.classes:
            mesh = fleet.mesh(name, fleet.count(name) - 1, np.random.default_rng(0))
            assert mesh.bounds[0][2] < 0 < mesh.bounds[1][2]
    mine = FolderFleet(folder)
    mine.verify()
    assert mine.classes == ("ferry", "tug")
    assert [mine.count(name) for name in mine.classes] == [2, 1]
    plain, described = mine.mesh("ferry", 0, RNG), mine.mesh("ferry", 1, RNG)
    assert described.bounds[1][0] - described.bounds[0][0] == pytest.approx(80, abs=0.01)
    assert described.bounds[0][2] == pytest.approx(-4, abs=1e-3)
    assert mast(plain) > 0 > mast(described)
    assert (described.material == Material.PLASTIC).all()


def test_a_mesh_that_changes_is_read_again_and_does_not_continue_a_run(folder: Path, tmp_path: Path) -> None:
    recipe = Recipe(2, size=16, fleet=str(folder))
    before = list(generate(recipe, tmp_path / "parts", workers=1))
    for path in folder.glob("*/*.obj"):
        written(trimesh.creation.box((40, 9, 9)), path)
    with pytest.raises(CmkdError, match="unfinished run with other settings"):
        list(generate(recipe, tmp_path / "parts", workers=1))
    after = list(generate(recipe, tmp_path / "fresh", workers=1))
    assert not np.array_equal(before[0].arrays["radar"], after[0].arrays["radar"])


@pytest.mark.parametrize(
    ("sidecar", "says"),
    [
        ("lenght: 80", "1.yaml.*lenght"),
        ("length: -3", "1.yaml.*length"),
        ("material: wood", "unknown material in .*1.yaml"),
        ("length: &a 3\ndraft: *a", "1.yaml.*alias"),
    ],
)
def test_wrong_sidecars_are_named(sidecar: str, says: str, folder: Path) -> None:
    (folder / "ferry" / "1.yaml").write_text(sidecar)
    with pytest.raises(CmkdError, match=says):
        FolderFleet(folder).verify()


def test_wrong_folders_and_names_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CmkdError, match="is not a folder"):
        FolderFleet(tmp_path / "nowhere")
    (folder / "yacht").mkdir()
    with pytest.raises(CmkdError, match="yacht' holds no meshes"):
        FolderFleet(folder)
    (folder / "yacht").rmdir()
    with pytest.raises(CmkdError, match="did you mean 'ferry'"):
        FolderFleet(folder).mesh("fery", 0, RNG)
    with pytest.raises(CmkdError, match="has 1 meshes, but number 1 was requested"):
        FolderFleet(folder).mesh("tug", 1, RNG)
