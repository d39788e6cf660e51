"""`cmkd predict` on real files: all kinds of input and output, and many kinds of broken files."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import cmkd
from broken import write_broken
from cmkd import models
from cmkd.cli import main
from cmkd.data import CardInfo, from_dataset
from cmkd.data.manifest.reading import Reading
from cmkd.data.manifest.sample import load
from cmkd.deploy.inputs import find
from cmkd.deploy.student import load_student
from cmkd.deploy.writers import table
from cmkd.errors import CmkdError, CmkdWarning
from cmkd.models.checkpoint import save_model
from cmkd.types import Modality
from deploy.conftest import make_student

Run = Callable[..., tuple[int, str, str]]
pytestmark = pytest.mark.filterwarnings("default::cmkd.errors.CmkdWarning")  # the student has a class named -tug


def picture(path: Path, seed: int, size: tuple[int, int] = (8, 8)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, size, dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], radar_student: Path) -> Run:
    def call(*words: object, student: Path = radar_student) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(["predict", str(student), *map(str, words), "--device", "cpu"])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_all_formats_hold_what_the_student_predicts(run: Run, radar_student: Path, tmp_path: Path) -> None:
    files = [picture(tmp_path / "in" / f"{k}.png", k, (8, 8 + k)) for k in range(5)]
    expected = load_student(radar_student, device="cpu").predict(files)
    for suffix in ("csv", "parquet", "jsonl"):
        out = tmp_path / f"out.{suffix}"
        assert run(tmp_path / "in", "--out", out, "--batch_size", 2)[0] == 0
        read = {"csv": pd.read_csv, "parquet": pd.read_parquet, "jsonl": lambda p: pd.read_json(p, lines=True)}[suffix]
        found = read(out)
        if suffix == "csv":
            found["class"] = found["class"].str.removeprefix("'")
        pd.testing.assert_frame_equal(found, expected, check_dtype=False, rtol=1e-5)
    assert rows(run(tmp_path / "in")[1])[3]["input"] == str(files[3])


def test_top_and_formulas(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "=1+1.png", 0)
    picture(tmp_path / "plain.png", 1)
    code, out, told = run("*.png", "--top", 2)
    found = rows(out)
    assert code == 0 and "that a spreadsheet would run as formulas now begin with an apostrophe" in told
    assert [row["input"] for row in found] == ["'=1+1.png", "plain.png"]
    assert list(found[0])[-4:] == ["class_1", "probability_1", "class_2", "probability_2"]
    assert all(row["class_1"] == row["class"] and row["class_1"] != row["class_2"] for row in found)
    assert all(float(row["probability_1"]) >= float(row["probability_2"]) for row in found)
    assert {row["class"] for row in found} <= {"'-tug", "ferry", "tanker"}
    assert run("plain.png", "--top", 4)[0] == 2


def test_a_name_that_begins_with_a_tilde(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("~$ship.png", "ship.png", "~root/1.png"):
        picture(tmp_path / name, 0)
    for words, found in (
        (["*ship.png"], ["ship.png", "~$ship.png"]),
        (["./~root", "~$ship.png"], ["~root/1.png", "~$ship.png"]),
    ):
        code, out, error = run(*words)
        assert code == 0 and [row["input"] for row in rows(out)] == found, error
    assert run("~nobody2/ships")[2] == "cmkd: error: no input: ~nobody2/ships does not exist\n"


REASONS = {
    "half.png": "truncated",
    "end.png": "truncated",
    "empty.png": "cannot be read",
    "page.jpg": "cannot be read",
    "suffix.tif": "its content is PNG",
    "RGB.png": "3 channels",
    "16_bit.png": "uint16",
    "nan.npy": "holds float32, but 'radar' is uint8",
    "pickled.npy": "cannot be read",
    "folder.png": "empty folder",
    "link.png": "does not exist",
    "pipe.png": "no regular file",
}


def test_broken_files_are_named_and_the_rest_is_done(run: Run, tmp_path: Path) -> None:
    good, out = picture(tmp_path / "in" / "good.png", 0, (64, 64)), tmp_path / "out.csv"
    broken = write_broken(good.parent, good.read_bytes(), 64)
    code, _, error = run(good.parent, "--out", out)
    assert code == 3 and "37 of 38 inputs have no prediction" in error
    assert [row["input"] for row in rows(out.read_text())] == [str(good)]
    said = {path: [line for line in error.splitlines() if str(path) in line] for path in broken}
    assert all(len(lines) == 1 for lines in said.values()), error
    for name, reason in REASONS.items():
        assert reason in said[good.parent / f"broken_{name}"][0]


def test_a_file_without_a_finite_output_is_named(run: Run, tmp_path: Path) -> None:
    modality = Modality("poor", "image", (1, 8, 8), "float32", (0.0,), (1e-30,))
    student = make_student(tmp_path, modality, ("a", "b"), "thin_resnet(width=4,stages=1)")
    for name, value in (("fine", 0.0), ("huge", 1e38)):
        np.save(tmp_path / f"{name}.npy", np.full((8, 8), value, np.float32))
    code, out, error = run(tmp_path / "fine.npy", tmp_path / "huge.npy", student=student)
    assert code == 3 and len(rows(out)) == 1
    assert "huge.npy: the student's output is not finite" in error


def test_the_search_of_folders(run: Run, tmp_path: Path) -> None:
    wanted = [picture(tmp_path / name, 0) for name in ("b/2.png", "b/c/1.PNG", "a.png")]
    for hidden in (".x.png", ".git/y.png"):
        picture(tmp_path / hidden, 0)
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / "table.csv").write_text("describes,the,pictures\n1,2,3\n")
    (tmp_path / "b" / "circle").symlink_to(tmp_path)
    assert [row["input"] for row in rows(run(tmp_path)[1])] == sorted(map(str, wanted))
    assert [row["input"] for row in rows(run(f"{tmp_path}/**/*.png")[1])][:2] == [str(wanted[2]), str(wanted[0])]


@pytest.mark.parametrize("above", ["", "train/", "a/b/"])
def test_of_folders_by_class_those_of_the_modality_are_read(run: Run, tmp_path: Path, above: str) -> None:
    names = ("radar/tug/1.png", "radar/tanker/1.png", "radar/radar/1.png")
    wanted = [picture(tmp_path / f"{above}{name}", 0) for name in names]
    picture(tmp_path / f"{above}optical/tug/1.png", 0)
    assert [row["input"] for row in rows(run(tmp_path)[1])] == sorted(map(str, wanted))


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_manifest_keeps_its_ids(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    for k in range(3):
        picture(tmp_path / "files" / f"{k}.png", k)
    table = pd.DataFrame(
        {
            "id": ["x", "y", "z", "w"],
            "radar": ["files/0.png", None, "files\\2.png", "files/9.png"],
            "optical": ["o"] * 4,
        }
    )
    manifest = tmp_path / f"manifest{suffix}"
    table.to_csv(manifest, index=False) if suffix == ".csv" else table.to_parquet(manifest)
    code, out, error = run(manifest)
    assert code == 3 and [row["id"] for row in rows(out)] == ["x", "z"]
    if suffix == ".parquet":
        numbered = table.assign(id=[1.0, 2.0, 3.0, None], radar=["files/0.png"] * 3 + [None])
        numbered.to_parquet(tmp_path / "numbered.parquet")  # pandas stores whole numbers with gaps as floats
        assert [row["id"] for row in rows(run(tmp_path / "numbered.parquet")[1])] == ["1", "2", "3"], "as build reads"
    assert list(rows(out)[0])[:2] == ["id", "input"]
    assert "files/9.png does not exist" in error
    assert run(tmp_path)[1] == out  # a folder stands for its manifest
    before = manifest.read_bytes()
    monkeypatch.chdir(tmp_path)
    for words in ([manifest], [tmp_path], [f"man*{suffix}"], [tmp_path / "files" / ".." / manifest.name], ["-"]):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(os.fsencode(manifest) + b"\nfiles/0.png\n")))
        code, _, error = run(*words, "--out", manifest)
        assert code == 2 and f"--out {manifest} is also an input" in error and manifest.read_bytes() == before
    table.drop(columns="radar").to_csv(tmp_path / "other.csv", index=False)
    code, _, error = run(tmp_path / "other.csv", "files/0.png", "--out", "other.csv")
    assert code == 2 and "--out other.csv is also an input" in error
    code, _, error = run(tmp_path / "other.csv")
    assert code == 2 and "no column 'radar'" in error


def test_what_is_stated_of_a_folder_is_followed(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [picture(tmp_path / "radar" / "tug" / f"{k}.png", k) for k in range(3)]
    for path in files:
        pixels = np.asarray(Image.open(path)).copy()
        pixels[:4] = 250
        Image.fromarray(pixels).save(path)
    pd.DataFrame({"id": range(3), "radar": [f"radar/tug/{k}.png" for k in range(3)]}).to_csv(
        tmp_path / "manifest.csv", index=False
    )
    inputs = [[tmp_path], [tmp_path / "manifest.csv"], [tmp_path / "radar"], files, [tmp_path / "radar/*/*.png"], ["-"]]
    inputs += [[tmp_path / "radar" / "tug"]]

    def entropies() -> list[list[str]]:
        listed = b"".join(os.fsencode(path) + b"\n" for path in files)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(listed)))
        return [[row["entropy"] for row in rows(run(*words)[1])] for words in inputs]

    plain = entropies()
    (tmp_path / "manifest.yaml").write_text("modalities: {optical: {unit: counts}, radar: {nodata: 250}}")
    stated = entropies()
    assert plain == [plain[0]] * 7 and stated == [stated[0]] * 7 and plain[0] != stated[0]
    (tmp_path / "manifest.yaml").replace(files[0].with_name("manifest.yaml"))
    assert [row["entropy"] for row in rows(run(*files)[1])] == stated[0]
    (tmp_path / "manifest.yaml").write_text("modalities: {radar: {nodta: 250}}")
    files[0].with_name("manifest.yaml").unlink()
    code, _, error = run(files[0])
    assert code == 2 and error.count("\n") == 1 and "unknown option 'modalities.radar.nodta'" in error
    code, _, error = run(tmp_path)
    assert code == 2 and "unknown option 'modalities.radar.nodta'" in error and str(tmp_path / "manifest.yaml") in error


@pytest.mark.parametrize("said", ["kind: vector", "unit: linear power"])
def test_what_is_stated_otherwise_than_in_training_is_refused(
    run: Run, radar_student: Path, tmp_path: Path, said: str
) -> None:
    modality = replace(load_student(radar_student, device="cpu").modality, unit="dB")
    student = make_student(tmp_path, modality, ("a", "b"), "thin_resnet(width=4,stages=1)")
    picture(tmp_path / "radar" / "1.png", 0)
    pd.DataFrame({"id": [1], "radar": ["radar/1.png"]}).to_csv(tmp_path / "manifest.csv", index=False)
    sidecar = tmp_path / "manifest.yaml"
    sidecar.write_text("modalities: {radar: {unit: dB, kind: image, size: [4, 4]}}")
    assert run(tmp_path, student=student)[0] == 0
    sidecar.write_text(f"modalities: {{radar: {{{said}}}}}")
    for where in (tmp_path, tmp_path / "manifest.csv", tmp_path / "radar"):
        code, out, error = run(where, student=student)
        assert code == 2 and not out and f"{sidecar}: {said[:4]} of 'radar' is stated as" in error
    with pytest.raises(CmkdError, match="but for the student it is dB"):
        load_student(student).sample(np.zeros((8, 8), np.uint8), reading=Reading(unit="amplitude"))


def test_a_pack(run: Run, radar_student: Path, tmp_path: Path) -> None:
    class Pairs:
        def __len__(self) -> int:
            return 12

        def __getitem__(self, k: int) -> dict[str, object]:
            image = np.full((1, 8, 8), 10 * k, np.uint8)
            item: dict[str, object] = {"label": k % 2, "split": ("train", "validation", "test")[k // 2 % 3]}
            item |= {"id": f"pair-{k}", "optical": image}
            return item if k == 5 else item | {"radar": image}

    from_dataset(Pairs(), tmp_path / "pack", info=CardInfo("pairs", rich="optical", poor="radar"))
    code, out, _ = run(tmp_path / "pack")
    assert code == 0 and [row["id"] for row in rows(out)] == [f"pair-{k}" for k in range(12) if k != 5]
    Image.fromarray(np.full((8, 8), 70, np.uint8)).save(tmp_path / "7.png")
    one, same = rows(run(tmp_path / "7.png")[1])[0], rows(out)[6]
    assert {k: v for k, v in same.items() if k.startswith("p_")} == {k: v for k, v in one.items() if k.startswith("p_")}
    student = load_student(radar_student, device="cpu")
    stated = replace(student, modality=replace(student.modality, file_nodata=70.0))
    item = list(find([str(tmp_path / "pack")], stated.modality))[6]
    assert not next(find([str(tmp_path / "pack")], replace(student.modality, unit="dB"))).reason  # has no unit
    assert callable(item.source)
    values = stated.sample(item.source(), reading=item.reading)
    assert (values == 70).all()  # nodata was replaced when the pack was built


def test_an_empty_word_is_no_folder(run: Run) -> None:
    code, _, err = run("")
    assert code == 2 and "an input is empty: give a path, or . for the current folder" in err


def test_the_axis_of_channels_that_is_stated_is_read(tmp_path: Path) -> None:
    array = np.arange(72, dtype=np.uint8).reshape(3, 8, 3)  # three rows, three channels
    np.save(tmp_path / "1.npy", array)
    modality = Modality("radar", "image", (3, 3, 8), "uint8")
    assert (load(modality, tmp_path / "1.npy", channels="last") == np.moveaxis(array, -1, 0)).all()
    with pytest.raises(CmkdError, match="its first axis or its last"):
        load(modality, tmp_path / "1.npy")


def test_parquet_takes_batches_without_rows(tmp_path: Path) -> None:
    with table(tmp_path / "out.parquet") as write:
        for count in (0, 3, 0, 2, 0):
            write({"input": [f"{count}"] * count, "p_a": [0.5] * count})
    assert pd.read_parquet(tmp_path / "out.parquet")["input"].tolist() == ["3", "3", "3", "2", "2"]


def test_standard_input_and_a_name_that_is_no_text(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = picture(tmp_path / "good.png", 0)
    odd = os.fsencode(tmp_path) + b"/\xff.png"
    os.link(good, odd)
    given = os.fsencode(good) + b"\n\n" + odd + b"\n" + os.fsencode(tmp_path / "none.png") + b"\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
    code, _, error = run("-", "--out", tmp_path / "out.parquet")
    assert code == 3 and "none.png does not exist" in error
    found = pd.read_parquet(tmp_path / "out.parquet")["input"].tolist()
    assert found == [str(good), f"{tmp_path}/\\udcff.png"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\n")))
    assert run("-")[0] == 2


def test_series_as_tables(run: Run, tmp_path: Path) -> None:
    modality = Modality("motion", "series", (20, 2), "float32", (0.0, 0.0), (1.0, 1.0))
    student = make_student(tmp_path, modality, ("a", "b"))
    values = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
    np.save(tmp_path / "s.npy", values)
    frame = pd.DataFrame(values, columns=["x", "y"])
    frame.to_parquet(tmp_path / "s.parquet")
    frame.to_csv(tmp_path / "s.csv", index=False)
    frame.assign(name="text").to_csv(tmp_path / "text.csv", index=False)
    code, out, error = run(*(tmp_path / f"s.{suffix}" for suffix in ("npy", "parquet", "csv")), student=student)
    assert code == 0, error
    assert len({row["p_a"] for row in rows(out)}) == 1
    frame.rename(columns={"x": "motion"}).to_csv(
        tmp_path / "named.csv", index=False
    )  # a column has the modality's name
    code, named, error = run(tmp_path / "named.csv", student=student)
    assert code == 0 and rows(named)[0]["p_a"] == rows(out)[0]["p_a"], error
    (tmp_path / "named.csv").unlink()
    assert [item.input[-6:] for item in find([str(tmp_path)], modality)] == ["/s.csv", "/s.npy", "arquet", "xt.csv"]
    code, _, error = run(tmp_path / "s.npy", tmp_path / "text.csv", student=student)
    assert code == 3 and "column 'name' holds string" in error


def test_series_of_another_length_are_cut_or_padded_with_one_warning(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = make_student(
        tmp_path, Modality("motion", "series", (20, 2), "float32", (0.0, 0.0), (1.0, 1.0)), ("a", "b")
    )
    values = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
    for steps in (5, 20, 60):
        np.save(tmp_path / f"{steps}.npy", values[:steps])
    code, out, told = run(*(tmp_path / f"{steps}.npy" for steps in (5, 20, 60)), student=student)
    assert code == 0 and rows(out)[1]["p_a"] == rows(out)[2]["p_a"] != rows(out)[0]["p_a"]
    assert told.count("warning: a series of 'motion' is not 20 steps long") == 1 and "windows of 20 steps" in told
    with pytest.warns(CmkdWarning, match="cut it into windows of 20 steps"):
        load_student(student).predict(values)
    load_student(student).predict(values[:20])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["missing.png"], "missing.png does not exist"),
        (["*.png"], "no file matches '*.png'"),
        (["."], "no file of a supported type"),
        ([".", "--out", "out.xlsx"], "unsupported file type; supported"),
        ([".", "--batch_size", "0"], "--batch_size is 0"),
        ([".", "--stride", "3"], "add --tile"),
        ([".", "--tile", "3"], "needs --out MAP.tif"),
    ],
)
def test_bad_input_is_one_line(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, error = run(*words)
    assert code == 2 and said in error and error.startswith("cmkd: error: ") and error.count("\n") == 1
    assert not out and not list(tmp_path.iterdir())


class Averages(nn.Module):
    """A user's own network."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Linear(1, 3)

    def forward(self, images: Tensor) -> Tensor:
        return torch.as_tensor(self.classifier(images.mean((2, 3))))


def test_a_network_of_ones_own_is_named(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modality, path = Modality("radar", "image", (1, 8, 8), "uint8", (120.0,), (60.0,)), tmp_path / "own.safetensors"
    save_model(path, models.build(Averages(), modality, classes=3), name="Averages", classes=("a", "b", "c"), extra={})
    monkeypatch.setitem(sys.modules, "own_networks", sys.modules[__name__])
    image = picture(tmp_path / "in" / "one.png", 0)
    code, _, error = run(image, student=path)
    assert code == 2 and "add --module package.module:Name" in error and error.count("\n") == 1
    code, out, _ = run(image, "--module", "own_networks:Averages", student=path)
    assert code == 0 and len(rows(out)) == 1
    served = []
    monkeypatch.setattr("uvicorn.Server.run", lambda *_, **__: served.append(True))
    assert main(["serve", str(path), "--port", "0", "--device", "cpu", "--module", "own_networks:Averages"]) == 0
    assert served


def test_reading_ahead_is_bounded(radar_student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cmkd.deploy import predict

    student, taken, most = load_student(radar_student, device="cpu"), 0, 0
    picture(tmp_path / "one.png", 0)

    def endless(inputs: object, modality: Modality) -> object:
        nonlocal taken
        for item in list(find([str(tmp_path / "one.png")], modality)) * 200:
            taken += 1
            yield item

    done = 0
    with predict.closing(predict._read_ahead(student, endless((), student.modality), 2, 16)) as items:  # type: ignore[arg-type]
        for done, _ in enumerate(items, start=1):
            most = max(most, taken - done)
    assert done == 200 and most <= 17


@pytest.mark.slow
def test_a_killed_writer_leaves_no_table(radar_student: Path, tmp_path: Path) -> None:
    one = picture(tmp_path / "one.png", 0)
    out = tmp_path / "out" / "table.csv"
    command = [sys.executable, "-m", "cmkd", "predict", str(radar_student), "-", "--out", str(out), "--device", "cpu"]
    environment = os.environ | {"PYTHONPATH": str(Path(cmkd.__file__).parents[1])}
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=environment) as process:
        assert process.stdin is not None
        process.stdin.write(os.fsencode(one) + b"\n")  # the list never ends
        process.stdin.flush()
        limit = time.monotonic() + 60
        while not (out.parent.exists() and list(out.parent.iterdir())) and time.monotonic() < limit:
            time.sleep(0.05)
        process.kill()
    (begun,) = out.parent.iterdir()  # it had begun to write
    assert begun.name.startswith(".table.csv.")


def test_a_stopped_writer_leaves_nothing(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, out = picture(tmp_path / "one.png", 0), tmp_path / "out" / "table.csv"

    class Interrupted:
        @property
        def buffer(self) -> Iterator[bytes]:
            yield from [os.fsencode(one) + b"\n"] * 20
            assert list(out.parent.iterdir())  # it has begun to write
            os.kill(os.getpid(), signal.SIGTERM)
            yield b""

    monkeypatch.setattr(sys, "stdin", Interrupted())
    code, _, error = run("-", "--batch_size", 1, "--out", out)
    assert code == 143 and error.endswith("cmkd: stopped; no partial file is left\n")
    assert not list(out.parent.iterdir())


def test_json_lines_are_json(run: Run, tmp_path: Path) -> None:
    picture(tmp_path / 'ünï"code.png', 0)
    out = tmp_path / "out.jsonl"
    assert run(tmp_path, "--out", out)[0] == 0
    (line,) = out.read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["input"].endswith('ünï"code.png')
