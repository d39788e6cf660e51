"""Earlier findings of fuzzing stay fixed, a short run finds nothing new, and the fuzzer detects planted bugs."""

from __future__ import annotations

import os
import signal
import zlib
from itertools import islice
from pathlib import Path
from random import Random

import pytest

from cmkd.errors import CmkdError
from fuzz.cases import CORPUS, Finding, generated, kept, smaller, tried
from fuzz.mutation import mutate
from fuzz.process import Session
from fuzz.targets import TARGETS, Check, Target

CASES = 60
"""New cases per target, with a fixed seed, so that a build never fails by chance."""


@pytest.mark.filterwarnings("ignore::cmkd.errors.CmkdWarning")  # warnings of cmkd are not findings
@pytest.mark.parametrize("name", TARGETS)
def test_valid_cases_are_read_and_damaged_ones_refused_at_worst(name: str, tmp_path: Path) -> None:
    target = TARGETS[name]
    valid, check = target.prepare(tmp_path)
    assert sum(read(check, data) for data in valid) > len(valid) / 2
    stored = kept(CORPUS, name)
    assert {case: finding for case, data in stored.items() if (finding := tried(check, data))} == {}
    for data in islice(generated(target, [*valid, *stored.values()], Random(0)), CASES):
        finding = tried(check, data)
        assert finding is None, f"{finding}\n{data!r}"


def read(check: Check, data: bytes) -> bool:
    try:
        check(data)
    except CmkdError:
        return False
    return True


def test_corpus_belongs_to_targets_and_is_small() -> None:
    files = [path for path in CORPUS.rglob("*") if path.is_file()]
    assert {path.parent.name for path in files} <= TARGETS.keys()
    assert {path.suffix for path in files} <= {".bin"}
    assert sum(path.stat().st_size for path in files) < 400_000


def planted(data: bytes) -> None:
    match data[:1]:
        case b"k":
            raise KeyError(data)
        case b"m":
            raise CmkdError(f"{bytearray(2**31)[:1]!r}")
        case b"s":
            os.kill(os.getpid(), signal.SIGSEGV)
        case b"h":
            signal.setitimer(signal.ITIMER_PROF, 0.05)  # the limit is five seconds
            while True:
                pass
    raise CmkdError("refused")


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # from Python 3.12 on, if other tests left threads
def test_each_kind_of_finding_is_found_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    valid = [b"a", b"k1", b"s", b"k2", b"m", b"h"]
    monkeypatch.setitem(TARGETS, "planted", Target(lambda folder: (valid, planted)))
    for _ in range(2):
        session = Session("planted", tmp_path, seed=0)
        session.run(0.0)
        assert sorted(name.split("-")[1] for name in session.names()) == ["KeyError", "SIGSEGV", "hang", "memory"]
        assert kept(tmp_path, "planted").keys() == session.names()
    assert session.progress.cases == len(valid) + 4, "found inputs are tried again"


def test_a_new_finding_is_made_smaller() -> None:
    cases = islice(generated(Target(lambda folder: ([], planted)), [b"okay"], Random(0)), 5000)
    data = next(data for data in cases if data[:1] == b"k" and len(data) > 1)
    finding = tried(planted, data)
    assert finding is not None
    assert smaller(planted, data, finding) == b"k"


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fixed_finding_is_not_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TARGETS, "planted", Target(lambda folder: ([b"a"], planted)))
    (tmp_path / "planted").mkdir()
    (tmp_path / "planted" / "found-KeyError-0.bin").write_bytes(b"a")
    session = Session("planted", tmp_path, seed=0)
    session.run(0.0)
    assert session.names() == set()


def test_mutations_keep_the_checksums_of_a_png() -> None:
    valid, random = TARGETS["png"].prepare(Path())[0], Random(0)
    right = 0
    for _ in range(200):
        data = mutate(valid[0], valid, random)
        right += (
            len(data) > 33
            and zlib.crc32(data[12:29]).to_bytes(4, "big") == data[29:33]
            and data[8:33] != valid[0][8:33]
        )
    assert right > 5


def test_a_finding_is_named_by_kind_and_place() -> None:
    one, other = (tried(planted, data) for data in (b"k", b"kk"))
    assert isinstance(one, Finding) and isinstance(other, Finding)
    assert one.name == other.name
    assert tried(planted, b"") is None
