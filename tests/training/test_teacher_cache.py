"""The cache of records: computed once, also by several processes; recomputed if incomplete; bounded in size."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cmkd.errors import CmkdError
from cmkd.training import teacher_cache
from cmkd.training.answers import Answers
from cmkd.training.teacher_cache import Contents, TeacherCache
from cmkd.types import Output

ROWS = np.arange(700) * 3
CONTENTS = Contents({"teacher": "a"}, "rich", ROWS, classes=4, dim=3, stages=2, maps={1: (2, 4, 5)}, views=2)
CHUNKS = 6  # of at most 256 rows, in two views
ROOMY = 10**9


@dataclass
class Teacher:
    """Computation of records that remembers each call and may stop before one of them."""

    stages: tuple[int, ...] = (1,)
    stop_before: int | None = None
    calls: list[tuple[int, int]] = field(default_factory=list)

    def __call__(self, rows: NDArray[np.int64], view: int) -> Output:
        if len(self.calls) == self.stop_before:
            raise KeyboardInterrupt
        self.calls.append((int(rows[0]), view))
        seed = torch.from_numpy(rows).double()[:, None] * 0.37 + 1.3 * view

        def values(*shape: int) -> torch.Tensor:
            count = int(np.prod(shape))
            return (seed * torch.arange(1, count + 1)).sin().float().view(len(rows), *shape)

        maps = {0: values(3, 1, 1) + 1, 1: values(2, 4, 5).to(memory_format=torch.channels_last)}
        return Output(values(4), values(3), tuple(maps[stage] for stage in self.stages))


def same(found: Answers | None, stages: tuple[int, ...] = (1,)) -> bool:
    """Return whether records equal those of `Teacher` exactly."""
    assert found is not None
    views = np.arange(len(ROWS)) % 2
    _, output = found.read(ROWS, views)
    for view in (0, 1):
        expected = Teacher(stages)(ROWS, view)
        maps = [output.feature_maps[stage] for stage in stages]
        pairs = zip(
            (output.logits, output.embedding, *maps),
            (expected.logits, expected.embedding, *expected.feature_maps),
            strict=True,
        )
        if not all(torch.equal(got[views == view], wanted[views == view]) for got, wanted in pairs):
            return False
    return True


def files(folder: Path) -> dict[str, bytes]:
    """Return the files of a cache entry with their content."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".filling"}


def test_records_are_read_as_they_were_computed(tmp_path: Path) -> None:
    found = TeacherCache(tmp_path, ROOMY).answers(CONTENTS, Teacher())
    assert same(found) and same(pickle.loads(pickle.dumps(found)))
    assert found is not None and found.modality == "rich" and found.views == 2
    rows, views = np.array([6, 7, 0, 2097, 2100]), np.array([3, 1, 2, 5, 0])  # the third view is the first again
    known, output = found.read(rows, views)
    assert known.tolist() == found.known(rows).tolist() == [True, False, True, True, False]
    for place, view in ((0, 1), (2, 0), (3, 1)):
        expected = Teacher()(rows[[place]], view)
        assert torch.equal(output.embedding[[place]], expected.embedding)
        assert torch.equal(output.feature_maps[1][[place]], expected.feature_maps[0])
    assert output.feature_maps[0].shape == (5, 0, 0, 0)  # not kept
    assert output.feature_maps[1].stride() == (40, 1, 10, 2)  # the layout that the teacher gave


def test_records_are_computed_once(tmp_path: Path) -> None:
    first, second = Teacher(), Teacher()
    TeacherCache(tmp_path, ROOMY).answers(CONTENTS, first)
    assert len(first.calls) == CHUNKS
    assert same(TeacherCache(tmp_path, ROOMY).answers(replace(CONTENTS, key={"teacher": "a"}), second))
    assert not second.calls


@pytest.mark.parametrize(
    "changes",
    [
        {"key": {"teacher": "b"}},
        {"key": {"teacher": "a", "seed": 0}},
        {"rows": ROWS[:-1]},
        {"rows": ROWS + 1},
        {"views": 1},
        {"views": 3},
        {"averaged": 2},
        {"maps": {}},
        {"maps": {1: (2, 5, 4)}},
    ],
)
def test_other_contents_have_an_entry_of_their_own(changes: dict[str, object], tmp_path: Path) -> None:
    other = replace(CONTENTS, **changes)  # type: ignore[arg-type]
    assert other.name != CONTENTS.name
    assert other.base != CONTENTS.base or "maps" in changes
    assert replace(other, **{name: getattr(CONTENTS, name) for name in changes}).name == CONTENTS.name


def test_an_entry_with_more_maps_serves_who_wants_fewer(tmp_path: Path) -> None:
    cache, both = TeacherCache(tmp_path, ROOMY), replace(CONTENTS, maps={0: (3, 1, 1), 1: (2, 4, 5)})
    assert same(cache.answers(both, Teacher((0, 1))), (0, 1))
    for maps, stages in (({1: (2, 4, 5)}, (1,)), ({0: (3, 1, 1)}, (0,)), ({}, ())):
        fewer = Teacher(stages)
        assert same(cache.answers(replace(CONTENTS, maps=maps), fewer), stages) and not fewer.calls
    more = Teacher()
    assert same(TeacherCache(tmp_path / "new", ROOMY).answers(replace(CONTENTS, maps={}), Teacher(())), ())
    assert same(TeacherCache(tmp_path / "new", ROOMY).answers(CONTENTS, more)) and len(more.calls) == CHUNKS


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-4])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda f: shorten(f / "logits.bin"),
        lambda f: shorten(f / "embedding.bin"),
        lambda f: shorten(f / "map-1.bin"),
        lambda f: (f / "map-1.bin").unlink(),
        lambda f: shorten(f / "rows.bin"),
        lambda f: (f / "rows.bin").write_bytes((ROWS + 3).tobytes()),
        lambda f: (f / "rows.bin").unlink(),
        lambda f: (f / "done.json").unlink(),
        lambda f: (f / "done.json").write_text("{}"),
        lambda f: (f / "done.json").write_text("[1400]"),
        lambda f: (f / "done.json").write_text('{"samples": 1400}'),
        lambda f: (f / "done.json").write_text('{"samples": "all", "channels_last": []}'),
        lambda f: (f / "entry.json").write_bytes(b"\xff{"),
        lambda f: (f / "entry.json").write_text("null"),
        lambda f: (f / "entry.json").write_text('{"arrays": []}'),
        lambda f: (f / "entry.json").unlink(),
        lambda f: [p.unlink() for p in f.iterdir()],
    ],
)
def test_a_damaged_entry_is_filled_again(spoil: Callable[[Path], object], tmp_path: Path) -> None:
    TeacherCache(tmp_path, ROOMY).answers(CONTENTS, Teacher())
    before, again = files(tmp_path / CONTENTS.name), Teacher()
    spoil(tmp_path / CONTENTS.name)
    assert same(TeacherCache(tmp_path, ROOMY).answers(CONTENTS, again))
    assert len(again.calls) == CHUNKS and files(tmp_path / CONTENTS.name) == before


def test_a_fill_of_a_damaged_entry_that_is_stopped_leaves_nothing_to_trust(tmp_path: Path) -> None:
    cache = TeacherCache(tmp_path, ROOMY)
    cache.answers(CONTENTS, Teacher())
    (tmp_path / CONTENTS.name / "entry.json").write_text("{}")
    with pytest.raises(KeyboardInterrupt):
        cache.answers(CONTENTS, Teacher(stop_before=1))
    again = Teacher()
    assert same(cache.answers(CONTENTS, again)) and len(again.calls) == CHUNKS


def test_a_stopped_fill_resumes_where_it_was_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, cache = TeacherCache(tmp_path / "whole", ROOMY), TeacherCache(tmp_path / "stopped", ROOMY)
    whole.answers(CONTENTS, Teacher())
    monkeypatch.setattr(teacher_cache, "SECONDS", -1.0)
    with pytest.raises(KeyboardInterrupt):
        cache.answers(CONTENTS, Teacher(stop_before=4))
    rest, seen = Teacher(), list[tuple[int, int]]()
    assert same(cache.answers(CONTENTS, rest, progress=lambda *done: seen.append(done)))
    assert rest.calls == [(3 * 256, 1), (3 * 512, 1)] and seen == [(1212, 1400), (1400, 1400)]
    assert files(cache.folder / CONTENTS.name) == files(whole.folder / CONTENTS.name)


def test_an_entry_that_is_not_filled_serves_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher_cache, "SECONDS", -1.0)
    cache, both = TeacherCache(tmp_path, ROOMY), replace(CONTENTS, maps={0: (3, 1, 1), 1: (2, 4, 5)})
    with pytest.raises(KeyboardInterrupt):
        cache.answers(both, Teacher((0, 1), stop_before=5))
    assert same(cache.answers(CONTENTS, Teacher()))


@pytest.mark.parametrize("count", [2, 5])
def test_averages_are_of_probabilities_embeddings_and_maps(count: int, tmp_path: Path) -> None:
    contents = replace(CONTENTS, views=1, averaged=count)
    found = TeacherCache(tmp_path, ROOMY).answers(contents, Teacher())
    assert found is not None and found.views == 1
    _, output = found.read(ROWS, np.arange(len(ROWS)) % 7)  # every view is the average
    views = [Teacher()(ROWS, view) for view in range(count)]
    torch.testing.assert_close(output.logits.softmax(1), sum(v.logits.softmax(1) for v in views) / count)
    torch.testing.assert_close(output.embedding, sum(v.embedding for v in views) / count)
    torch.testing.assert_close(output.feature_maps[1], sum(v.feature_maps[0] for v in views) / count)
    partition = sum(v.logits.logsumexp(1) for v in views) / count
    torch.testing.assert_close(output.logits.logsumexp(1), partition)


def test_the_average_of_equal_outputs_is_that_output(tmp_path: Path) -> None:
    contents = replace(CONTENTS, views=1, averaged=3)
    found = TeacherCache(tmp_path, ROOMY).answers(contents, lambda rows, view: Teacher()(rows, 0))
    assert found is not None
    _, output = found.read(ROWS, np.zeros_like(ROWS))
    expected = Teacher()(ROWS, 0)
    torch.testing.assert_close(output.logits, expected.logits, rtol=0, atol=2e-6)
    torch.testing.assert_close(output.embedding, expected.embedding, rtol=0, atol=2e-6)


def room(cache: TeacherCache) -> int:
    return sum(path.stat().st_size for path in cache.folder.glob("*/*.bin") if path.name != "rows.bin")


def named(letter: str) -> Contents:
    return replace(CONTENTS, key={"teacher": letter})


def test_the_least_recently_used_entries_go_first_and_the_limit_holds(tmp_path: Path) -> None:
    cache = TeacherCache(tmp_path, 2 * CONTENTS.bytes)
    for age, letter in ((100, "a"), (200, "b")):
        found = cache.answers(named(letter), Teacher())
        assert found is not None
        found.close()
        os.utime(tmp_path / named(letter).name / "entry.json", (age, age))
    used = cache.answers(named("a"), Teacher())  # now the most recently used entry
    assert used is not None
    used.close()
    assert same(cache.answers(named("c"), Teacher()))
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {named("a").name, named("c").name}
    assert room(cache) == cache.limit


def test_what_is_being_filled_counts_whole(tmp_path: Path) -> None:
    cache, smaller = TeacherCache(tmp_path, 2 * CONTENTS.bytes), []

    class Nested(Teacher):
        def __call__(self, rows: NDArray[np.int64], view: int) -> Output:
            if not self.calls:
                smaller.append(TeacherCache(tmp_path, 2 * CONTENTS.bytes - 1).answers(named("b"), Teacher()))
            return super().__call__(rows, view)

    assert same(cache.answers(named("a"), Nested()))
    assert smaller == [None]


def test_what_is_larger_than_the_limit_is_refused_and_costs_nothing_else(tmp_path: Path) -> None:
    exact = TeacherCache(tmp_path, CONTENTS.bytes)
    assert same(exact.answers(CONTENTS, Teacher()))
    larger, teacher = replace(CONTENTS, key={"teacher": "b"}, maps={0: (3, 1, 1), 1: (2, 4, 5)}), Teacher((0, 1))
    assert exact.answers(larger, teacher) is None and not teacher.calls
    again = Teacher()
    assert same(exact.answers(CONTENTS, again)) and not again.calls
    assert TeacherCache(tmp_path / "none", 0).answers(CONTENTS, Teacher()) is None
    assert not any(path.is_dir() for path in (tmp_path / "none").iterdir())


def test_an_entry_in_use_stays_until_it_is_closed(tmp_path: Path) -> None:
    cache = TeacherCache(tmp_path, CONTENTS.bytes)
    used = cache.answers(named("a"), Teacher())
    assert used is not None and cache.answers(named("b"), Teacher()) is None
    assert same(used) and not (tmp_path / named("b").name).exists()
    used.close()
    assert same(cache.answers(named("b"), Teacher())) and not (tmp_path / named("a").name).exists()


def test_a_disk_that_is_full_is_one_line_and_the_fill_goes_on_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(teacher_cache, "SECONDS", -1.0)
    cache, before, first = TeacherCache(tmp_path, ROOMY), resource.getrlimit(resource.RLIMIT_FSIZE), Teacher()
    resource.setrlimit(resource.RLIMIT_FSIZE, (160 * 1000, before[1]))  # Python ignores SIGXFSZ, so it is an error
    try:
        with pytest.raises(
            CmkdError, match=r"cannot cache the teacher's outputs in .*; free some space, or set"
        ) as told:
            cache.answers(CONTENTS, first)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(told.value) and 1 < len(first.calls) < CHUNKS
    rest = Teacher()
    assert same(cache.answers(CONTENTS, rest)) and rest.calls[0] == first.calls[-1]


WORKER = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
import test_teacher_cache as here
from cmkd.training import teacher_cache

class Slow(here.Teacher):
    def __call__(self, rows, view):
        print("computes", flush=True)
        time.sleep(0.15)
        return super().__call__(rows, view)

teacher_cache.SECONDS = -1.0
print("ready", flush=True)
for line in sys.stdin:
    if line.strip():
        found = here.TeacherCache(Path(line.strip()), here.ROOMY).answers(here.CONTENTS, Slow())
        print("filled" if here.same(found) else "wrong", flush=True)
    else:
        found.close()
        print("closed", flush=True)
"""


@pytest.fixture(scope="module")
def workers() -> Iterator[list[subprocess.Popen[str]]]:
    """Start two processes that fill a cache entry when told to, and keep it open until they are told again."""
    command = [sys.executable, "-c", WORKER.format(tests=str(Path(__file__).parent))]
    pipes, environment = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}, os.environ | {"OMP_NUM_THREADS": "1"}
    started = [subprocess.Popen(command, text=True, env=environment, **pipes) for _ in range(2)]
    for process in started:
        assert not heard(process, "ready")
    yield started
    for process in started:
        process.kill()
        process.communicate()


def tell(process: subprocess.Popen[str], folder: Path | str = "") -> None:
    """Tell a process to fill the cache entry in a folder, or to close the entry that it has open."""
    assert process.stdin is not None
    process.stdin.write(f"{folder}\n")
    process.stdin.flush()


def heard(process: subprocess.Popen[str], word: str) -> list[str]:
    """Return the lines that a process prints before a word."""
    assert process.stdout is not None
    lines = []
    while (line := process.stdout.readline()) and line != f"{word}\n":
        lines.append(line.strip())
    assert line, lines
    return lines


def test_two_processes_compute_the_records_once_and_what_they_use_stays(
    tmp_path: Path, workers: list[subprocess.Popen[str]]
) -> None:
    shared = TeacherCache(tmp_path / "shared", CONTENTS.bytes)
    for process in workers:
        tell(process, shared.folder)
    assert sorted(len(heard(process, "filled")) for process in workers) == [0, CHUNKS]
    TeacherCache(tmp_path / "alone", ROOMY).answers(CONTENTS, Teacher())
    assert files(shared.folder / CONTENTS.name) == files(tmp_path / "alone" / CONTENTS.name)
    for process in workers:  # the entry is removed only after both have closed it
        assert shared.answers(named("b"), Teacher()) is None
        tell(process)
        heard(process, "closed")
    assert same(shared.answers(named("b"), Teacher())) and not (shared.folder / CONTENTS.name).exists()


def test_a_killed_fill_is_taken_up_by_who_waits_for_it(tmp_path: Path, workers: list[subprocess.Popen[str]]) -> None:
    first, second = workers
    tell(first, tmp_path / "shared")
    heard(first, "computes")
    tell(second, tmp_path / "shared")
    heard(first, "computes")
    heard(first, "computes")
    first.send_signal(signal.SIGKILL)
    assert first.wait(30) == -signal.SIGKILL and first.stdout is not None
    begun = 3 + first.stdout.read().count("computes")
    assert CHUNKS - begun <= len(heard(second, "filled")) <= CHUNKS - begun + 1  # all but the last are saved
    TeacherCache(tmp_path / "alone", ROOMY).answers(CONTENTS, Teacher())
    found = files(tmp_path / "shared" / CONTENTS.name)
    whole = {name: content for name, content in found.items() if not name.endswith(".tmp")}
    assert whole == files(tmp_path / "alone" / CONTENTS.name)
