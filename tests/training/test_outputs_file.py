"""Files of a teacher's outputs: what is read from them, and an error of one line for each possible defect."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from cmkd.data.pack.pack import Pack
from cmkd.errors import CmkdError
from cmkd.methods import Method
from cmkd.methods.combine import from_expression
from cmkd.training.teacher_cache import TeacherCache
from cmkd.training.teacher_outputs import OutputsFile
from cmkd.types import Spec

pytestmark = pytest.mark.filterwarnings("ignore:.* whole training pairs")  # most files lack some pairs
IDS = ["stranger", *(f"pair-{i}" for i in range(299, 9, -1)), "other"]  # not in the data's order, and not all of them
RANDOM = np.random.default_rng(0)
LOGITS = RANDOM.normal(size=(len(IDS), 3)).astype(np.float32)
EMBEDDING = RANDOM.normal(size=(len(IDS), 5)).astype(np.float32)


def npz(folder: Path, **arrays: Any) -> Path:  # noqa: ANN401  # whatever numpy can save
    path = folder / "outputs.npz"
    np.savez(path, **{"ids": np.array(IDS), "logits": LOGITS} | arrays)
    return path


def tensors(folder: Path, ids: str | None = json.dumps(IDS), dtype: torch.dtype = torch.float32) -> Path:
    path = folder / "outputs.safetensors"
    arrays = {"logits": LOGITS, "embedding": EMBEDDING}
    values = {name: torch.from_numpy(array).to(dtype) for name, array in arrays.items()}
    save_file(values, path, metadata=None if ids is None else {"ids": ids})
    return path


def raw(folder: Path, content: bytes, name: str = "outputs.npz") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("make", "width"),
    [
        (npz, 0),
        (lambda f: npz(f, embedding=EMBEDDING), 5),
        (lambda f: npz(f, logits=LOGITS.astype(np.float64), ids=np.array(IDS, dtype=np.bytes_)), 0),
        (lambda f: npz(f, something=np.array([{}])), 0),  # other arrays in the file are not read
        (tensors, 5),
    ],
)
def test_outputs_are_found_by_id(make: Callable[[Path], Path], width: int, squares: Pack, tmp_path: Path) -> None:
    outputs = OutputsFile.read(make(tmp_path), squares)
    assert outputs.spec(squares) == Spec(3, width, class_names=("0", "1", "2"))
    train = squares.rows("train")
    contents, compute = outputs.records(squares, "rich")
    found = TeacherCache(tmp_path / "cache", 10**9).answers(contents, compute)
    assert found is not None and found.modality == "rich"
    known, output = found.read(train, np.arange(len(train)))
    place = {name: k for k, name in enumerate(IDS)}
    names = squares.index["id"].to_numpy()[train]
    assert known.tolist() == [name in place for name in names] and 0 < int(known.sum()) < len(train)
    rows = [place[name] for name in names if name in place]
    np.testing.assert_array_equal(output.logits[known], LOGITS[rows])
    np.testing.assert_array_equal(output.embedding[known], EMBEDDING[rows, :width])
    test = squares.rows("test")[5:]
    np.testing.assert_array_equal(outputs.at(test), LOGITS[[place[name] for name in squares.index["id"][test]]])
    assert outputs.at(squares.rows("test")) is None  # some are missing


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_read_as_it_is(dtype: torch.dtype, squares: Pack, tmp_path: Path) -> None:
    outputs = OutputsFile.read(tensors(tmp_path, dtype=dtype), squares)
    expected = torch.from_numpy(LOGITS).to(dtype).float()
    np.testing.assert_array_equal(
        outputs.logits, expected.numpy()[-2:0:-1]
    )  # without the two unknown ids, in the order of the data


def test_records_depend_on_the_file_and_the_data(squares: Pack, tmp_path: Path) -> None:
    first = OutputsFile.read(npz(tmp_path), squares).records(squares, "rich")[0].name
    assert OutputsFile.read(npz(tmp_path), squares).records(squares, "rich")[0].name == first
    assert OutputsFile.read(npz(tmp_path, logits=LOGITS + 1), squares).records(squares, "rich")[0].name != first
    other = Pack(squares.path, squares.card, squares.index.assign(split=np.roll(squares.index["split"], 3)))
    assert OutputsFile.read(npz(tmp_path), other).records(other, "rich")[0].name != first


def spoiled(values: np.ndarray, value: float) -> np.ndarray:
    changed = values.copy()
    changed[7, 1] = value
    return changed


def torn(path: Path, size: int) -> Path:
    path.write_bytes(path.read_bytes()[:size])
    return path


def flipped(path: Path) -> Path:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    return path


def array_file(folder: Path) -> Path:
    np.save(folder / "logits.npy", LOGITS)
    return (folder / "logits.npy").rename(folder / "outputs.npz")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda f: f / "absent.npz", "no file with a teacher's outputs at"),
        (lambda f: f, "no file with a teacher's outputs at"),
        (lambda f: raw(f, b"", "outputs.csv"), "unsupported file type; supported: .npz, .safetensors"),
        (lambda f: npz(f, ids=np.zeros(0)), "lacks ids; it holds ids, logits"),
        (lambda f: tensors(f, None), "lacks ids; it holds embedding, logits"),
        (lambda f: npz(f, logits=LOGITS[:, :2]), "logits of 2 classes, but the data have 3"),
        (lambda f: npz(f, logits=LOGITS[:-1]), "logits has shape (291, 3), there are 292 ids"),
        (lambda f: npz(f, logits=LOGITS[:, 0]), "logits has shape (292,)"),
        (lambda f: npz(f, logits=np.float32(1)), "logits has shape ()"),
        (lambda f: npz(f, embedding=EMBEDDING[1:]), "embedding has shape (291, 5)"),
        (lambda f: npz(f, ids=np.array([*IDS[:-1], IDS[1]])), "lists the id 'pair-299' 2 times"),
        (
            lambda f: npz(f, ids=np.array([f"x{i}" for i in IDS])),
            "belongs to a training pair: use the ids of the data, such as 'pair-0'",
        ),
        (lambda f: npz(f, ids=np.array(IDS)[:, None]), "ids must be a list"),
        (lambda f: npz(f, logits=spoiled(LOGITS, np.nan)), "logits holds values that are not finite"),
        (lambda f: npz(f, embedding=spoiled(EMBEDDING, np.inf)), "embedding holds values that are not finite"),
        (lambda f: npz(f, logits=LOGITS.astype(np.float64) * 1e60), "logits holds values that are not finite"),
        (lambda f: npz(f, logits=LOGITS.astype(str)), "logits is of type <U32; save it as float32"),
        (lambda f: npz(f, logits=LOGITS.astype(complex)), "logits is of type complex128"),
        (lambda f: npz(f, ids=np.array(IDS, dtype=object)), "Object arrays cannot be loaded"),
        (lambda f: npz(f, logits=LOGITS.astype(object)), "Object arrays cannot be loaded"),
        (lambda f: raw(f, pickle.dumps({"ids": IDS})), "not a readable file of outputs (File is not a zip file)"),
        (lambda f: raw(f, b""), "not a readable file of outputs"),
        (lambda f: torn(npz(f), 500), "not a readable file of outputs"),
        (lambda f: torn(npz(f), -10), "not a readable file of outputs"),
        (lambda f: flipped(npz(f)), "not a readable file of outputs (Bad CRC-32"),
        (array_file, "not a readable file of outputs (File is not a zip file)"),
        (lambda f: tensors(f, "[1,"), "not a readable file of outputs (Expecting value"),
        (lambda f: tensors(f, "5"), "must be a list, and are of type int"),
        (lambda f: tensors(f, '"abc"'), "must be a list, and are of type str"),
        (lambda f: torn(tensors(f), -10), "not a readable file of outputs"),
        (lambda f: raw(f, b"hello", "outputs.safetensors"), "not a readable file of outputs"),
    ],
)
def test_what_is_wrong_is_one_line(make: Callable[[Path], Path], says: str, squares: Pack, tmp_path: Path) -> None:
    path = make(tmp_path)
    with pytest.raises(CmkdError) as told:
        OutputsFile.read(path, squares)
    assert says in str(told.value) and "\n" not in str(told.value) and str(path) in str(told.value)


def test_a_file_that_would_run_code_runs_none(squares: Pack, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "trapped",)

    with pytest.raises(CmkdError):
        OutputsFile.read(npz(tmp_path, logits=np.array([Trap()], dtype=object)), squares)
    with pytest.raises(CmkdError):
        OutputsFile.read(raw(tmp_path, pickle.dumps(Trap())), squares)
    assert not (tmp_path / "trapped").exists()


STUDENT = Spec(3, 8, ((4, 8, 8), (8, 4, 4)))


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("simkd", "simkd needs the teacher's model, not only its outputs"),
        ("c2kd", "c2kd needs the teacher's model, not only its outputs: it trains the teacher too"),
        ("kd+srrl", "^srrl needs the teacher's model"),
        ("teacher_init", "teacher_init needs the teacher's model"),
        ("fitnet", "fitnet: needs at least 2 feature maps, student has 2 and teacher 0"),
        ("ds", "ds: needs at least 1 feature maps"),
    ],
)
def test_methods_of_more_than_outputs_are_refused(expression: str, says: str) -> None:
    with pytest.raises(CmkdError, match=says):
        from_expression(expression, STUDENT, Spec(3, 8)).check_outputs_suffice()


def test_an_own_setup_is_never_skipped() -> None:
    class Copying(Method):
        def setup(self, student: nn.Module, teacher: nn.Module) -> None:
            student.load_state_dict(teacher.state_dict())

    with pytest.raises(
        CmkdError, match="Copying needs the teacher's model, not only its outputs: its setup reads both"
    ):
        Copying(STUDENT, Spec(3, 8)).check_outputs_suffice()


@pytest.mark.parametrize("expression", ["rkd", "kd+0.5*cc", "ds(uniformity_weight=0,independence_features=embedding)"])
@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_methods_of_embeddings_are_refused_where_there_are_none(expression: str) -> None:
    with pytest.raises(CmkdError, match="reads the teacher's embedding, but its outputs have none"):
        from_expression(expression, STUDENT, Spec(3, 0)).check_outputs_suffice()
    from_expression(expression, STUDENT, Spec(3, 8)).check_outputs_suffice()


@pytest.mark.parametrize("expression", ["kd", "kd+koleo", "ds(uniformity_weight=0)", "none"])
def test_methods_of_logits_need_no_more(expression: str) -> None:
    from_expression(expression, STUDENT, Spec(3, 0)).check_outputs_suffice()
