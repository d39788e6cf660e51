"""Edited, damaged or malicious JSON and YAML files are refused in one line, quickly and with little memory."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest

from cmkd.data import CardInfo, Pack, PackWriter
from cmkd.documents import read_json, read_yaml
from cmkd.errors import CmkdError
from cmkd.types import Modality
from mutations import documents, flipped


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """Write a pack of six pairs of two modalities."""
    modalities = [Modality("optical", "image", (1, 2, 2), "uint8"), Modality("radar", "vector", (3,), "float32")]
    info = CardInfo("ships", rich="optical", poor="radar", sources=["https://example.org"])
    drawn = np.random.default_rng(0)
    with PackWriter(tmp_path / "pack", info, classes=("ferry", "tug"), modalities=modalities) as writer:
        arrays = {"optical": drawn.integers(0, 9, (6, 1, 2, 2), np.uint8)}
        arrays["radar"] = drawn.normal(size=(6, 3)).astype(np.float32)
        splits = ["train", "train", "validation", "validation", "test", "test"]
        writer.add([f"pair-{k}" for k in range(6)], [0, 1] * 3, splits, None, arrays)
    return tmp_path / "pack"


def used(path: Path) -> None:
    """Read a pack in the ways that a run does."""
    opened = Pack.open(path)
    opened.withhold(0.5).rows("train", modalities=list(opened.modalities))
    opened.batch(np.arange(2))
    opened.verify()


def refused(path: Path, content: str | bytes) -> bool:
    """Write a damaged file; return whether the pack is refused, in one line that names the file."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    try:
        used(path.parent)
    except CmkdError as error:
        assert "\n" not in str(error) and path.parent.name in str(error), error
        return True
    return False


def test_every_edit_of_a_card_is_refused_or_found_by_verify(pack: Path) -> None:
    card = pack / "card.json"
    whole = card.read_text()
    assert not refused(card, json.dumps(json.loads(whole)))  # changed whitespace is not an edit
    for name, text in documents(json.loads(whole), every=5):
        assert refused(card, text) or name.startswith("sha256"), name  # without it, a card is like an earlier release's
    edited = json.loads(whole) | {"header": json.loads(whole)["header"] | {"license": "mine"}}
    card.write_text(json.dumps(edited))
    Pack.open(pack).verify_content()
    with pytest.raises(CmkdError, match=r"card\.json was edited by hand"):
        Pack.open(pack).verify()


@pytest.mark.parametrize(
    ("place", "value", "says"),
    [
        (("versions", 0, "rows"), "six", r"rows must be a whole number, got 'six'"),
        (("versions", 0, "statistics", "radar", "std"), [1.0], "3 channels, but statistics of 1"),
        (("versions", 0, "sha256"), {"../../etc/passwd": "0"}, "sha256 names"),
        (("header", "modalities", "optical", "shape"), [1, 10**400, 2], "truncated"),
        (("header", "rich"), "sonar", "'sonar' is not a modality"),
    ],
)
def test_the_line_about_a_card_names_the_key(pack: Path, place: tuple[object, ...], value: object, says: str) -> None:
    content = json.loads((pack / "card.json").read_text())
    home = content
    for key in place[:-1]:
        home = home[key]
    home[place[-1]] = value
    (pack / "card.json").write_text(json.dumps(content))
    with pytest.raises(CmkdError, match=says):
        Pack.open(pack)


def test_damaged_indexes_are_one_line(pack: Path) -> None:
    index = pack / "index-0001.parquet"
    for name, content in flipped(index.read_bytes(), 60):
        assert refused(index, content), name


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"a":' * 50_000, "nested too deeply"),
        ('{"a": NaN}', "NaN is not a JSON number"),
        ('{"a": 1, "a": 2}', "'a' occurs twice"),
        ('{"a": ' + "1" * 5000 + "}", "is damaged"),
        ("[1]", "does not hold names"),
        ('{"a": "\ud800', "is damaged"),
    ],
)
def test_json_is_strict(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(CmkdError, match=f"x.json.*{says}.*: make it again"):
        read_json(tmp_path / "x.json", fix="make it again")


BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{k + 1}: &a{k + 1} [{', '.join([f'*a{k}'] * 9)}]\n" for k in range(9))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (BOMB, "line 2: the alias \\*a0 is not supported"),
        ("[" * 20_000, "nested too deeply"),
        ("a: 1\n" * 10_000, "is larger than 32 KiB"),
        ("seed: 3\nepochs: 1\nepochs: 2\n", "line 3: 'epochs' occurs twice"),
        ("a: 2026-99-99\n", "month must be"),
        ("a: !!bool x\n", "cannot read '"),
        ("a: !!int ''\n", "cannot read '"),
        ("a: !!timestamp x\n", "cannot read '"),
        ("a: !!map [1]\n", "cannot read '"),
        ("a: !!python/object/apply:os.system [ls]\n", "could not determine a constructor"),
    ],
)
def test_yaml_is_refused_within_a_second(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(text)
    begun = time.process_time()
    with pytest.raises(CmkdError, match=says) as caught:
        read_yaml(tmp_path / "config.yaml", example="data: digits")
    assert time.process_time() - begun < 1 and "\n" not in str(caught.value)
