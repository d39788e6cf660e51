"""The reader of all tables keeps cells literally, and refuses in one line what it cannot keep."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cmkd.data import build
from cmkd.data.manifest.table import read_table
from cmkd.data.text_table import read_text_table
from cmkd.errors import CmkdError, CmkdWarning

Folder = Callable[..., Path]
Rows = list[dict[str, str]]
CELLS = st.one_of(
    st.sampled_from(
        ["None", "NA", "null", "nan", "007", "1e5", "", "-", "True", "a,b", 'a"b', "two\nlines", "ä\u00a0x"]
    ),
    st.text(st.characters(codec="utf-8", exclude_characters="\r\x00"), max_size=8),
)
few = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@few
@given(st.lists(st.lists(CELLS, min_size=3, max_size=3), min_size=1, max_size=6), st.booleans())
def test_every_cell_comes_back(tmp_path: Path, rows: list[list[str]], mark: bool) -> None:
    wanted = [[cell.strip() for cell in row] for row in rows if any(cell.strip() for cell in row)]
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["id", "label", "note"])
    for row in rows:
        writer.writerow(row)
        text.write("\r\n")  # a blank line
    path = tmp_path / "table.csv"
    path.write_bytes((b"\xef\xbb\xbf" if mark else b"") + text.getvalue().encode())
    if not wanted:
        with pytest.raises(CmkdError, match="no rows"):
            read_text_table(path, "rows")
        return
    assert read_text_table(path, "rows").rows == wanted
    frame = pd.DataFrame(rows, columns=["id", "label", "note"], dtype=object)
    frame.to_parquet(tmp_path / "table.parquet")
    found = read_text_table(tmp_path / "table.parquet", "rows")
    assert found.rows == [[cell.strip() for cell in row] for row in rows]


@few
@given(st.binary(max_size=200), st.sampled_from(["csv", "parquet"]))
def test_noise_is_a_table_or_one_line(tmp_path: Path, content: bytes, kind: str) -> None:
    path = tmp_path / f"noise.{kind}"
    path.write_bytes(content)
    try:
        read_text_table(path, "rows")
    except CmkdError as error:
        assert "\n" not in str(error)


def test_a_damaged_parquet_file_is_one_line(tmp_path: Path) -> None:
    """Change every byte of a small file, one at a time; only `CmkdError` may be raised."""
    path = tmp_path / "table.parquet"
    pd.DataFrame({"id": ["a", "b"], "label": ["x", None]}).to_parquet(path)
    whole, refused = path.read_bytes(), 0
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            read_text_table(path, "rows")
        except CmkdError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 10


def test_typed_parquet_columns(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "whole": [1.0, np.nan],
            "day": pd.to_datetime(["2023-01-31", "2023-02-01"]).date,
            "at": pd.to_datetime(["2023-01-31T12:00:00.25Z", None]),
            "kind": pd.Categorical(["NA", "b"]),
        },
        index=[5, 9],
    )
    frame.to_parquet(tmp_path / "table.parquet")
    table = read_text_table(tmp_path / "table.parquet", "rows")
    assert table.header == ["whole", "day", "at", "kind"]
    assert table.rows == [["1", "2023-01-31", "2023-01-31T12:00:00.250000+00:00", "NA"], ["", "2023-02-01", "", "b"]]


def test_labels_that_look_like_nothing_backslashes_and_blank_lines(make_folder: Folder, tmp_path: Path) -> None:
    def edit(rows: Rows) -> None:
        for k, row in enumerate(rows):
            row.update(label=["None", "NA", "null"][k % 3], group="", optical=row["optical"].replace("/", "\\"))

    folder = make_folder(edit)
    text = (folder / "manifest.csv").read_text()
    header, *rows = text.splitlines()
    (folder / "manifest.csv").write_text("\ufeff" + "\n\n".join([f"{header},", *(f"{row}," for row in rows)]) + "\n\n")
    with pytest.warns(CmkdWarning, match="'NA' is read as a class; leave the cell empty where there is no label"):
        pack = build(folder, tmp_path / "pack")
    assert pack.classes == ("NA", "None", "null")
    assert pack.index["has_optical"].all() and len(pack) == 24
    (folder / "files" / "o4.png").unlink()
    with (
        pytest.warns(CmkdWarning, match="is read as a class"),
        pytest.raises(CmkdError, match=r"manifest\.csv line 11, optical: .*o4\.png does not exist"),
    ):
        read_table(folder)


@pytest.mark.parametrize(
    ("column", "cell", "says"),
    [
        ("optical", "C:\\files\\o0.png", "leaves the folder"),
        ("splits", "train", "did you mean 'split'"),
        ("notes", "files/note.txt", "column 'notes' names files/note.txt; a modality's files end in"),
        ("sar", "files/s1.SAFE", "column 'sar' names files/s1.SAFE; a modality's files end in"),
        ("position", "aft", "'position' is a reserved name"),
        ("has_radar", "yes", "'has_radar' is a reserved name"),
    ],
)
def test_columns_that_were_meant_otherwise(make_folder: Folder, column: str, cell: str, says: str) -> None:
    # the file of the first row is missing
    folder = make_folder(lambda rows: [row.update({column: cell if k else f"{cell}0"}) for k, row in enumerate(rows)])
    (folder / "files" / "note.txt").write_text("calm")
    (folder / "files" / "s1.SAFE").mkdir()
    with pytest.raises(CmkdError, match=says):
        read_table(folder)


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda text: f"sep=,\n{text}", ""),
        (lambda text: text.replace("\n", ",,\n").replace(",,\n", "\n", 1), ""),  # surplus commas, except in the header
        (lambda text: f"\ufeff\ufeff{text}", ""),
        (lambda text: text.replace("\n", "\r"), ""),
        (lambda text: "sep=;\n" + text.replace(",", ";"), "separated by semicolons"),
        (lambda text: text.replace(",", "\t"), "separated by tabs"),
        (lambda text: text.encode("utf-16").decode("latin-1"), "not UTF-8|zero bytes"),
        (lambda text: text.replace("p01", '"p\n01"'), r"id 'p\n01' holds a line break"),
        (lambda text: text.replace("cargo", "\x1b[31mcargo"), "holds a line break or unprintable characters"),
        (lambda text: text.replace("o3.png", f"{'o' * 5000}.png"), "does not exist"),
        (lambda text: text.replace("p01", "p" * 200_000), "field larger than field limit"),
        (lambda text: text.replace("optical", "group", 1), "two columns 'group'"),
    ],
)
def test_tables_as_programs_save_them(make_folder: Folder, edit: Callable[[str], str], says: str) -> None:
    folder = make_folder()
    path = folder / "manifest.csv"
    wanted = read_table(folder).ids
    path.write_bytes(edit(path.read_text()).encode())
    if says:
        with pytest.raises(CmkdError, match=says):
            read_table(folder)
    else:
        assert read_table(folder).ids == wanted
