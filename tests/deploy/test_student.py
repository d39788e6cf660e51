"""`load_student` and `Student.predict` accept all forms of input, and refuse everything else in one line."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from cmkd import CmkdError, load_model, load_student, models
from cmkd.deploy.new_sample import sample_of_file
from cmkd.deploy.student import Student
from cmkd.models.checkpoint import rewrite, save_model
from cmkd.types import DTYPES, Kind, Modality


@pytest.fixture(scope="module")
def student(radar_student: Path) -> Student:
    return load_student(radar_student, device="cpu")


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 1, 8, 8), dtype=np.uint8)


def test_probabilities_are_those_of_the_model(student: Student, radar_student: Path, images: np.ndarray) -> None:
    with torch.no_grad():
        logits = load_model(radar_student)[0](torch.from_numpy(images)).logits
    expected = torch.softmax(logits.double() / 1.5, 1).numpy()
    table = student.predict(images)
    np.testing.assert_allclose(table[["p_-tug", "p_ferry", "p_tanker"]], expected, atol=1e-6)
    assert table["class"].tolist() == [student.classes[k] for k in expected.argmax(1)]
    np.testing.assert_allclose(table["probability"], expected.max(1), atol=1e-6)
    np.testing.assert_allclose(table["entropy"], -(expected * np.log(expected)).sum(1), atol=1e-6)
    assert table["rejected"].tolist() == (expected.max(1) < 0.4).tolist()
    assert table["input"].tolist() == ["0", "1", "2", "3", "4"]


def test_array_batch_path_and_list_agree(student: Student, images: np.ndarray, tmp_path: Path) -> None:
    expected = student.predict(images).drop(columns="input")
    places = [tmp_path / f"{k}.png" for k in range(5)]
    for place, image in zip(places, images, strict=True):
        Image.fromarray(image[0]).save(place)
    forms: list[Any] = [
        list(images),
        [image[0] for image in images],
        places,
        [str(p) for p in places],
        images.astype(float),
    ]
    for form in forms:
        for batch_size in (1, 2, 256):
            found = student.predict(form, batch_size=batch_size)
            np.testing.assert_allclose(found["probability"], expected["probability"], atol=1e-6)
            assert found.drop(columns="input").columns.equals(expected.columns) and found.index.tolist() == [
                0,
                1,
                2,
                3,
                4,
            ]
    mixed = student.predict([places[0], images[1]])
    assert mixed["input"].tolist() == [str(places[0]), "1"]
    for one in (images[0], images[0, 0], places[0], str(places[0])):
        np.testing.assert_allclose(student.predict(one)["probability"], expected["probability"][:1], atol=1e-6)


def test_samples_are_numbered_through_all_batches(student: Student, images: np.ndarray) -> None:
    assert student.predict(images, batch_size=2)["input"].tolist() == ["0", "1", "2", "3", "4"]


def test_nothing_gives_an_empty_table(student: Student, images: np.ndarray) -> None:
    columns = student.predict(images).columns
    for nothing in ([], (), images[:0]):
        found = student.predict(nothing)
        assert len(found) == 0 and found.columns.equals(columns)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (np.zeros((3, 8, 8), np.uint8), "has 3 channels, but 'radar' has 1"),
        (np.zeros((2, 3, 8, 8), np.uint8), "has 3 channels, but 'radar' has 1"),
        (np.zeros((8, 8, 2), np.uint8), "has 8 channels, but 'radar' has 1"),
        (np.zeros((1, 1, 1, 8, 8), np.uint8), "does not fit the kind image"),
        (np.zeros(8, np.uint8), "does not fit the kind image"),
        (np.full((8, 8), 0.5), "holds float64, but 'radar' is uint8"),
        (np.full((8, 8), 300), "holds int64, but 'radar' is uint8"),
        (np.full((8, 8), -1), "holds int64, but 'radar' is uint8"),
        (np.full((8, 8), np.nan), "no valid value"),
        (np.full((8, 8), 1j), "is complex"),
        (np.array([["a"] * 8] * 8), "cannot be stored"),
        (np.zeros((8, 8), object), "cannot be stored"),
        (np.zeros((1, 0, 8), np.uint8), "is empty"),
        ([None], r"has shape \(\), which does not fit the kind image \(channels, height, width\)"),
        ([np.zeros((8, 8), np.uint8), np.zeros((3, 8, 8), np.uint8)], "^sample 1: the array has 3 channels"),
        (["absent.png"], "absent.png does not exist"),
        ("absent.png", "absent.png does not exist"),
        (__file__, "unsupported file type"),
        (5, "expected a file, an array, or a list of these, got int"),
        (None, "expected a file, an array, or a list of these, got NoneType"),
        ({"a": 1}, "expected a file, an array, or a list of these, got dict"),
    ],
)
def test_what_is_no_sample_is_one_line(given: Any, says: str, student: Student) -> None:  # noqa: ANN401
    with pytest.raises(CmkdError, match=says) as caught:
        student.predict(given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("kind", "shape"), [("image", (1, 8, 8)), ("series", (8, 2)), ("vector", (4,))])
def test_a_file_of_several_samples_says_what_to_do(kind: Kind, shape: tuple[int, ...], tmp_path: Path) -> None:
    modality = Modality("echo", kind, shape, "float32")
    np.save(tmp_path / "batch.npy", np.zeros((5, *shape), np.float32))
    with pytest.raises(
        CmkdError, match=r"batch.npy has .* holds several samples: .*load_student\(...\).predict"
    ) as caught:
        sample_of_file(modality, tmp_path / "batch.npy")
    assert "kind" not in str(caught.value) and "\n" not in str(caught.value)


def test_a_batch_size_below_one_is_refused(student: Student, images: np.ndarray) -> None:
    for size in (0, -3):
        with pytest.raises(CmkdError, match=f"batch_size is {size}; it must be at least 1"):
            student.predict(images, batch_size=size)


def test_a_copy_by_pickle_predicts_the_same(student: Student, images: np.ndarray) -> None:
    copy = pickle.loads(pickle.dumps(student))  # processes of scikit-learn pass estimators like this
    assert copy.predict(images).equals(student.predict(images))


def test_an_unfinished_run_says_how_to_finish_it(tmp_path: Path) -> None:
    with pytest.raises(CmkdError, match=r"holds no student.safetensors: give a run's folder"):
        load_student(tmp_path)
    (tmp_path / "settings.json").write_text("{}")  # as in a run that was stopped in its first training
    with pytest.raises(CmkdError, match="run the same `cmkd run` again to finish it"):
        load_student(tmp_path)


def test_a_continued_run_says_that_its_file_is_not_what_it_recommends(radar_student: Path, tmp_path: Path) -> None:
    rewrite(radar_student, tmp_path / "student.safetensors", {"method": "none", "seed": 0})
    for chosen, fits in (({"method": "none", "seed": 0}, True), ({"method": "none", "seed": 3}, False), (None, True)):
        (tmp_path / "results.json").write_text(json.dumps({"recommended": chosen}))
        assert load_student(tmp_path / "student.safetensors").about["seed"] == 0
        if fits:
            assert load_student(tmp_path).about["seed"] == 0
            continue
        with pytest.raises(CmkdError, match=r"recommends none \(seed 3\) by now, .* still none \(seed 0\)") as caught:
            load_student(tmp_path)
        assert "run the same `cmkd run` again" in str(caught.value) and "\n" not in str(caught.value)


def test_torch_has_the_threads_asked_for(radar_student: Path, images: np.ndarray) -> None:
    before = torch.get_num_threads()
    try:
        load_student(radar_student, device="cpu", threads=before + 1).probabilities(images)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("device", ["gpu", "", "cuda:99", "meta", "xla"])
def test_a_device_that_is_not_there_is_one_line(device: str, radar_student: Path) -> None:
    with pytest.raises(CmkdError, match=f"device '{device}' is not available .*: use cpu") as caught:
        load_student(radar_student, device=device)
    assert len(str(caught.value)) < 150 and "\n" not in str(caught.value)


def test_files_that_hold_no_student_are_one_line(radar_student: Path, tmp_path: Path) -> None:
    with pytest.raises(CmkdError, match="no checkpoint at"):
        load_student(tmp_path / "absent.safetensors")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(radar_student.read_bytes()[:-100])
    with pytest.raises(CmkdError, match="is damaged or truncated"):
        load_student(cut)


@pytest.mark.parametrize("name", ["scene.tif", "results.json", "config.yaml"])
def test_a_file_of_another_type_is_not_called_damaged(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"anything else")
    for load in (load_student, load_model):
        with pytest.raises(
            CmkdError, match=f"{name}' is not a model: give the folder of a run, or a .safetensors file"
        ):
            load(tmp_path / name)
    with pytest.raises(CmkdError, match=r"no checkpoint at"):
        load_student(tmp_path / f"absent-{name}")


@pytest.mark.parametrize("name", ["student.onnx", "student.pt2"])
def test_an_exported_file_points_to_the_file_that_it_was_exported_from(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"anything else")
    with pytest.raises(CmkdError, match=f"{name}' is exported: give the .safetensors file"):
        load_model(tmp_path / name)


def test_a_file_never_names_code_to_run(radar_student: Path, tmp_path: Path) -> None:
    bad, trace = tmp_path / "bad.safetensors", tmp_path / "trace"
    rewrite(radar_student, bad, {"model": f"subprocess:getoutput(cmd='touch {trace}')"})
    with pytest.raises(CmkdError, match=r"names code to run .* do not trust it"):
        load_student(bad)
    assert not trace.exists()


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_stored_dtype_is_predicted_from(dtype: str, tmp_path: Path) -> None:
    vector, path = Modality("echo", "vector", (4,), dtype, (0.0,) * 4, (1.0,) * 4), tmp_path / "echo.safetensors"
    save_model(path, models.build("mlp", vector, classes=2), name="mlp", classes=("a", "b"), extra={})
    values = np.arange(8).reshape(2, 4)
    expected = load_model(path)[0](torch.from_numpy(values).float()).logits.detach().softmax(1).numpy()
    np.testing.assert_allclose(load_student(path).predict(values)[["p_a", "p_b"]], expected, atol=1e-6)


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x)


def test_an_own_module_is_given_and_not_named_by_the_file(tmp_path: Path) -> None:
    vector, path = Modality("echo", "vector", (4,), "float16", (0.0,) * 4, (1.0,) * 4), tmp_path / "own.safetensors"
    save_model(path, models.build(Own(), vector, classes=2), name="own", classes=("a", "b"), extra={})
    with pytest.raises(CmkdError, match="your own module"):
        load_student(path)
    student = load_student(path, module=Own)
    table = student.predict(np.arange(8.0).reshape(2, 4))
    assert len(table) == 2 and not table["rejected"].any()  # without calibration, there are no thresholds
    with pytest.raises(CmkdError, match="holds 100000, which float16 cannot hold"):
        student.predict(np.full(4, 1e5))
