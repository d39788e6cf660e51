"""Runs of the marine simulator."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
import warnings
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from cmkd.datasets.base import DATASETS
from cmkd.datasets.marine import Marine
from cmkd.errors import CmkdError, CmkdWarning
from cmkd.simulators.marine import optical
from cmkd.simulators.marine.describe import command
from cmkd.simulators.marine.mesh import MeshBuilder
from cmkd.simulators.marine.modes import mode, modes
from cmkd.simulators.marine.packing import write_pack
from cmkd.simulators.marine.rays import Rays
from cmkd.simulators.marine.recipe import Recipe
from cmkd.simulators.marine.scene import VESSELS_PER_CLASS, Gap, individual, sample, split_of, sun
from cmkd.simulators.marine.simulate import generate, make_pair
from cmkd.simulators.marine.vessels import CLASSES, FAMILIES, vessel

RADAR_ONLY = {
    "resolution_range", "resolution_azimuth", "nesz", "looks", "look_weight", "clutter_db", "extra_defocus"
}  # fmt: skip
SMALL = mode("iw").sized(32)


@pytest.mark.parametrize("name", CLASSES)
def test_family_makes_sound_distinct_individuals(name: str) -> None:
    meshes = [vessel(name, np.random.default_rng(i)) for i in range(30)]
    for mesh in meshes:
        low, high = mesh.bounds
        assert np.isfinite(mesh.triangles).all() and 50 < len(mesh) < 6000
        assert 8 <= high[0] - low[0] <= 380 and high[2] < 160 and low[2] < 0
        assert np.allclose(np.linalg.norm(mesh.normals, axis=1), 1, atol=1e-3)
        assert mesh.color.min() >= 0 and mesh.color.max() <= 1
    assert len({tuple(np.round(m.bounds[1], 3)) for m in meshes}) == 30


@pytest.mark.parametrize("name", modes())
def test_lens_and_detector_have_the_stated_modulation_at_the_nyquist_frequency(name: str) -> None:
    sensors = mode(name).sized(64)
    place = (np.arange(2 * sensors.optical.size) + 0.5) / 2  # pixels
    for phase in (0.0, 0.3):  # half a cycle per pixel has most contrast if its crests are at pixel centers
        wave = np.cos(np.pi * (place - 0.5 - phase))
        seen = optical.lens(sensors.optical, np.broadcast_to(wave[None, :, None], (len(place), len(place), 3)))
        expected = sensors.optical.mtf * np.cos(np.pi * phase)
        assert abs(seen[16, 8:-8, 0]) == pytest.approx(expected, rel=0.01)


def test_mode_that_no_clutter_model_covers_is_refused_before_any_pair(tmp_path: Path) -> None:
    wide = tmp_path / "wide.yaml"
    text = (files("cmkd.simulators.marine.modes") / "iw.yaml").read_text()
    wide.write_text(text.replace("incidence: [29.1, 46.0]", "incidence: [29.1, 49.3]"))
    with pytest.raises(CmkdError, match=r"no sea clutter model for .* VH at incidence 49.3 .*; change the mode's inc"):
        Recipe(640, mode=str(wide))


def test_card_states_the_command_and_the_vessels() -> None:
    recipe = Recipe(4, gap=0.1234567, classes=("tanker", "tugboat"), vessels=2, size=32, slc=True)
    *words, last = command(recipe).split()
    assert last == "--slc"
    said = dict(zip(words[3::2], words[4::2], strict=True))
    assert said == {"--pairs": "4", "--seed": "0", "--mode": "iw", "--size": "32", "--gap": "0.1234567",
                    "--vessels": "2", "--classes": "tanker,tugboat"}  # fmt: skip


def test_unknown_class_is_named() -> None:
    with pytest.raises(CmkdError, match="did you mean 'tanker'"):
        vessel("tankr", np.random.default_rng(0))


def test_pair_is_repeatable_and_depends_on_seed() -> None:
    sensors = mode("iw")
    first, again, other = make_pair(5, sensors), make_pair(5, sensors), make_pair(5, sensors, seed=1)
    assert first.scene == again.scene
    for name in ("optical", "radar", "complex"):
        assert np.array_equal(getattr(first, name), getattr(again, name))
        assert not np.array_equal(getattr(first, name), getattr(other, name))
    assert first.optical.shape == (3, 64, 64) and first.radar.shape == (2, 64, 64)
    assert first.radar.dtype == np.float32 and first.complex.dtype == np.complex64


def test_gap_changes_the_radar_alone() -> None:
    near, far = make_pair(4, SMALL, gap=0.0), make_pair(4, SMALL, gap=1.0)
    assert np.array_equal(near.optical, far.optical)
    assert not np.array_equal(near.radar, far.radar)
    changed = {
        f.name for f in dataclasses.fields(near.scene) if getattr(near.scene, f.name) != getattr(far.scene, f.name)
    }
    assert changed == RADAR_ONLY


def test_gap_is_monotonic_and_continuous() -> None:
    dials = [Gap.dial(g) for g in np.linspace(0, 1, 101)]
    for name, sign in (("coarser", 1), ("nesz_db", 1), ("look_weight", -1), ("clutter_db", 1), ("defocus", 1)):
        values = sign * np.array([getattr(d, name) for d in dials])
        steps = np.diff(values)
        assert (steps >= 0).all() and steps.max() < 0.05 * (values[-1] - values[0])
    with pytest.raises(CmkdError, match="0 to 1"):
        Gap.dial(1.2)


def test_small_step_of_the_gap_is_a_small_step_of_the_image() -> None:
    base, close, far = (make_pair(0, SMALL, gap=g).radar for g in (0.5, 0.502, 1.0))
    assert np.abs(close - base).mean() < 0.25 * np.abs(far - base).mean()


def test_splits_are_by_vessel_in_the_stated_parts() -> None:
    for label in range(len(FAMILIES)):
        splits = [split_of(7, label, n) for n in range(VESSELS_PER_CLASS)]
        assert [splits.count(s) for s in ("train", "validation", "test")] == [168, 36, 36]
    assert split_of(7, 0, 3) == sample(7, 24, SMALL)[0].split


def test_two_modes_see_the_same_scenes() -> None:
    apart = RADAR_ONLY - {"look_weight", "clutter_db", "extra_defocus"} | {
        "shift_x", "shift_y", "incidence", "range", "spacing_range", "spacing_azimuth", "optical_spacing"
    }  # fmt: skip
    for pair in range(10):
        ours, theirs = (dataclasses.asdict(sample(10, pair, mode(name))[0]) for name in ("iw", "stripmap"))
        assert {name for name in ours if ours[name] != theirs[name]} == apart


def test_individuals_are_distinct_and_stay_the_same_in_other_scenes() -> None:
    first, same = (sample(0, p, SMALL)[0] for p in (3, 3 + 8 * VESSELS_PER_CLASS))
    assert first.group == same.group and first.heading != same.heading
    assert len({individual(0, 3, n).triangles.tobytes() for n in range(20)}) == 20


@pytest.mark.filterwarnings("ignore:the .* split lacks")
def test_bytes_do_not_depend_on_workers(tmp_path: Path) -> None:
    recipe = Recipe(12, seed=2, size=16, chunk=3)
    packs = [write_pack(recipe, tmp_path / str(w), Marine.info(), workers=w) for w in (1, 2)]
    for name in ("optical", "radar"):
        assert np.array_equal(packs[0].array(name), packs[1].array(name))
    assert packs[0].card.sha256 == packs[1].card.sha256


def test_killed_run_continues_where_it_stopped(tmp_path: Path) -> None:
    recipe = Recipe(24, size=16, chunk=2)
    script = (
        "from pathlib import Path; from cmkd.simulators.marine.recipe import Recipe\n"
        "from cmkd.simulators.marine.simulate import generate\n"
        f"list(generate({recipe!r}, Path({str(tmp_path / 'parts')!r}), workers=1))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    process = subprocess.Popen([sys.executable, "-c", script], env=environment)
    limit = time.time() + 60
    while not list(tmp_path.glob("parts/chunk-*.npz")) and time.time() < limit:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = {p: p.stat().st_mtime_ns for p in tmp_path.glob("parts/chunk-*.npz")}
    assert 0 < len(kept) < 12
    resumed = list(generate(recipe, tmp_path / "parts", workers=1))
    fresh = list(generate(recipe, tmp_path / "fresh", workers=1))
    assert all(p.stat().st_mtime_ns == when for p, when in kept.items())
    for ours, theirs in zip(resumed, fresh, strict=True):
        assert ours.scenes == theirs.scenes
        assert all(np.array_equal(ours.arrays[name], theirs.arrays[name]) for name in ("optical", "radar"))


def test_ctrl_c_ends_workers_in_silence_and_keeps_their_chunks(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cmkd", "simulate", "marine", "--pairs", "4000", "--size", "16"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    process = subprocess.Popen(
        [*command, "--workers", "2", "--out", str(tmp_path / "pack")],
        env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, start_new_session=True,
    )  # fmt: skip
    limit = time.time() + 120
    while not (chunks := list(tmp_path.glob("*/chunk-*.npz"))) and time.time() < limit:
        time.sleep(0.02)
    assert chunks
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in told
    kept = set(tmp_path.glob("*/chunk-*.npz"))
    assert set(chunks) <= kept and len(kept) <= len(chunks) + 2  # at most the two that were in progress are new


def test_unfinished_chunks_of_another_recipe_are_refused(tmp_path: Path) -> None:
    list(generate(Recipe(1, size=16), tmp_path, workers=1))
    with pytest.raises(CmkdError, match="other settings"):
        list(generate(Recipe(1, size=16, seed=1), tmp_path, workers=1))


@pytest.mark.filterwarnings("ignore:the .* split lacks")
def test_pack_has_scenes_card_and_sheet(tmp_path: Path) -> None:
    from PIL import Image

    pack = DATASETS.find("marine")(pairs=48, size=16).prepare(None, tmp_path / "pack")
    assert len(pack) == 48 and pack.classes == CLASSES
    assert pack.card.rich == "optical" and pack.card.poor == "radar"
    radar = pack.modality("radar")
    assert (radar.dtype, radar.unit, radar.shape) == ("float32", "dB", (2, 16, 16))
    said = pack.index
    assert set(said["band"]) == {"C"} and set(said["polarizations"]) == {"VV VH"} and said["scene"].is_unique
    assert said["incidence"].astype(float).between(29.1, 46.0).all() and set(said["spacing_range"]) == {"10"}
    assert pd.to_datetime(said["time"], utc=True).dt.year.between(2024, 2026).all()
    for name in ("heading", "speed", "latitude", "longitude", "looks", "nesz"):
        assert said[name].astype(float).notna().all()
    card = (tmp_path / "pack" / "CARD.md").read_text()
    assert "No measured data" in card and "| radar resolution in range, m |" in card
    assert "| tugboat |" in card and "Made by `cmkd simulate marine --pairs 48" in card
    with Image.open(tmp_path / "pack" / "contact_sheet.png") as sheet:
        assert sheet.size[1] > 500
    assert not list(tmp_path.glob(".pack*"))
    pack.verify()
    with pytest.raises(CmkdError, match="exists"):
        write_pack(Recipe(1), tmp_path / "pack", Marine.info())


@pytest.mark.filterwarnings("ignore:the .* split lacks")
def test_first_pairs_do_not_depend_on_how_many_follow(tmp_path: Path) -> None:
    few, more = (write_pack(Recipe(n, size=16), tmp_path / str(n), Marine.info(), workers=1) for n in (16, 20))
    assert np.array_equal(few.array("radar"), more.array("radar")[:16])


def test_pairs_of_coarse_satellites_are_still_of_version_4(tmp_path: Path) -> None:
    assert {name: Marine(pairs=1, mode=name).revision for name in ("iw", "stripmap")} == {"iw": 4, "stripmap": 6}
    with pytest.warns(CmkdWarning, match="split lacks"):
        packs = [write_pack(Recipe(1, mode=m, size=16), tmp_path / m, Marine.info()) for m in ("iw", "stripmap")]
    assert [pack.card.recipe["version"] for pack in packs] == [4, 6]
    assert ["simulator version 4" in pack.card.notes for pack in packs] == [True, False]
    assert "simulator version 6" in (packs[1].path / "CARD.md").read_text()


@pytest.mark.parametrize(("pairs", "lacking"), [(64, 1), (160, 0)])
def test_pack_that_lacks_a_class_in_a_split_warns(tmp_path: Path, pairs: int, lacking: int) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        write_pack(Recipe(pairs, size=16), tmp_path / "pack", Marine.info(), workers=1)
    assert len([str(warning.message) for warning in caught if "split lacks" in str(warning.message)]) == lacking


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pairs": 0}, "at least 1 pair"),
        ({"size": 8}, "16 to 512"),
        ({"gap": -0.1}, "0 to 1"),
        ({"seed": -1}, "seed"),
        ({"mode": "sar"}, "sensor mode"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(CmkdError, match=words):
        DATASETS.find("marine")(**options)


def test_missing_embree_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "embreex.rtcore_scene", None)
    with pytest.raises(CmkdError, match=r"the marine simulator needs embreex.*: pip install 'cmkd\[marine\]'"):
        Rays(_box())


@pytest.mark.filterwarnings("ignore:the .* split lacks")
def test_failed_run_leaves_no_pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "embreex.rtcore_scene", None)
    with pytest.raises(CmkdError):
        write_pack(Recipe(2, size=16), tmp_path / "pack", Marine.info(), workers=1)
    assert not (tmp_path / "pack").exists()


def _box():  # noqa: ANN202
    builder = MeshBuilder()
    builder.boxes([(0, 0, 0)], [(1, 1, 1)], (1, 1, 1), 0)
    return builder.mesh()


def test_haze_leaves_less_signal_in_the_noise() -> None:
    scene, mesh, _ = sample(0, 4, SMALL)
    seen = []
    for haze in (0.0, 6.0):
        hazy = dataclasses.replace(scene, haze=haze, noise=0.01, cloud=0.0)
        first, second = (
            optical.render(hazy, SMALL.optical, mesh, Rays(mesh), np.random.default_rng(i)).ravel() for i in (0, 1)
        )
        seen.append(np.corrcoef(first, second)[0, 1])
    assert seen[1] < seen[0] - 0.2


def test_vessel_casts_a_shadow_on_the_sea_and_blocks_the_sun() -> None:
    rays = Rays(_box())
    sun = np.array([[1.0, 0.0, 1.0]]) / np.sqrt(2)
    assert rays.blocked(np.array([[-0.9, 0.0, -0.3]]), sun).tolist() == [True]
    assert rays.blocked(np.array([[3.0, 0.0, -0.3]]), sun).tolist() == [False]


@pytest.mark.slow
def test_workers_of_a_script_without_a_guard_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(
        "from pathlib import Path\nfrom cmkd.simulators.marine.recipe import Recipe\n"
        "from cmkd.simulators.marine.simulate import generate\n"
        f"list(generate(Recipe(4000, chunk=2), Path({str(tmp_path / 'parts')!r}), workers=2))\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    process = subprocess.Popen([sys.executable, str(script)], env=environment, start_new_session=True)
    limit = time.time() + 120
    while not list(tmp_path.glob("parts/chunk-*.npz")) and time.time() < limit:
        time.sleep(0.05)
    process.kill()
    process.wait()
    limit = time.time() + 20
    while time.time() < limit:
        try:
            os.killpg(process.pid, 0)  # the group exists as long as one worker does
        except ProcessLookupError:
            break
        time.sleep(0.1)
    else:
        os.killpg(process.pid, signal.SIGKILL)
        pytest.fail("workers outlived their parent by 20 s")


@pytest.mark.slow
def test_ten_thousand_is_balanced_and_split_by_vessel() -> None:
    scenes = [sample(10, p, SMALL)[0] for p in range(0, 10_000, 7)]
    owner: dict[str, str] = {}
    for scene in scenes:
        assert owner.setdefault(scene.group, scene.split) == scene.split


@pytest.mark.slow
def test_neighbors_tell_of_the_class_as_the_docs_say() -> None:
    from sklearn.ensemble import RandomForestClassifier

    scenes, sizes = [], []
    for scene, mesh, faces in (sample(0, pair, mode("iw")) for pair in range(2400)):
        if scene.clutter_objects and not scene.occluder:
            corners = mesh.triangles[faces:].reshape(-1, 3)
            scenes.append(scene)
            sizes.append([*np.ptp(corners, axis=0), corners[:, 2].max(), scene.clutter_objects])
    alone = [k for k, scene in enumerate(scenes) if scene.clutter_objects == 1 and scene.pair < 800]
    extents = [np.hypot(*sizes[k][:2]) for k in alone]
    related = np.corrcoef(np.log([scenes[k].length for k in alone]), np.log(extents))[0, 1]
    assert related == pytest.approx(0.90, abs=0.005)
    table, labels = np.array(sizes), np.array([scene.label for scene in scenes])
    train = np.array([scene.split == "train" for scene in scenes])
    forest = RandomForestClassifier(200, min_samples_leaf=5, random_state=0).fit(table[train], labels[train])
    assert (~train).sum() == 349
    assert forest.score(table[~train], labels[~train]) == pytest.approx(0.27, abs=0.02)


@pytest.mark.filterwarnings("ignore:the .* split lacks")
def test_command_prints_plain_lines_off_a_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from cmkd.cli.simulate import simulate

    simulate("marine", pairs=3, out=tmp_path / "pack", size=16, workers=1)
    said = capsys.readouterr()
    assert said.err == "simulating: 3 of 3 pairs\n" and said.out.startswith("3 pairs in ")
    assert (tmp_path / "pack" / "contact_sheet.png").is_file()


@pytest.mark.filterwarnings("ignore:the .* split lacks")
def test_complex_look_is_kept_by_flag_and_is_the_image_where_there_is_one_look(tmp_path: Path) -> None:
    recipe = Recipe(8, mode="stripmap", size=16, slc=True)
    pack = write_pack(recipe, tmp_path / "pack", Marine.info(), workers=1)
    parts = pack.array("slc")
    assert pack.modality("slc").shape == (2, 16, 16)
    decibel = 10 * np.log10(np.sum(np.square(parts, dtype=np.float64), axis=1, keepdims=True) + 1e-30)
    np.testing.assert_allclose(decibel, pack.array("radar"), atol=1e-2)


def test_metadata_do_not_depend_on_the_class_but_for_the_speed_of_platforms() -> None:
    from cmkd.simulators.marine.scene import metadata

    found = pd.DataFrame([{"label": p % 8, **metadata(sample(0, p, SMALL)[0], SMALL, 0)} for p in range(8 * 60)])
    platform = found["label"] == CLASSES.index("offshore platform")
    assert (found.loc[platform, "speed"] == "0").all()
    for name in ("heading", "speed", "range", "incidence", "wind", "look_azimuth", "nesz", "latitude"):
        values = found.loc[~platform, ["label", name]].astype(float)
        groups = [part[name].to_numpy() for _, part in values.groupby("label")]
        assert stats.kruskal(*groups).pvalue > 0.001, name


def test_sun_of_a_scene_is_where_its_time_and_place_have_it() -> None:
    # 21 June, noon at Greenwich: the sun is overhead at 23.44 degrees north, and 62 degrees high at 51.5 degrees north
    assert sun(172, 12.0, 23.45)[0] == pytest.approx(90, abs=0.5)
    assert sun(172, 12.0, 51.5)[0] == pytest.approx(61.9, abs=0.5)
    assert sun(80, 6.0, 0.0)[1] == pytest.approx(90, abs=1.5)  # equinox, dawn: due east
    scene = sample(0, 0, SMALL)[0]
    assert scene.sun_elevation > 5


def test_night_leaves_less_signal_in_the_noise() -> None:
    scene, mesh, _ = sample(0, 4, SMALL)
    seen = []
    for night in (0.0, 1.0):
        dark = dataclasses.replace(scene, haze=0.0, noise=0.01, cloud=0.0, night=night)
        first, second = (
            optical.render(dark, SMALL.optical, mesh, Rays(mesh), np.random.default_rng(i)).ravel() for i in (0, 1)
        )
        seen.append(np.corrcoef(first, second)[0, 1])
    assert seen[1] < seen[0] - 0.1
