"""Cases: how inputs are generated, how a target is tried on one, and how a finding is classified and reduced."""

from __future__ import annotations

import re
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from random import Random

from hypothesis import HealthCheck, Phase, given, settings

import cmkd
from cmkd.errors import CmkdError, CmkdWarning
from fuzz.mutation import MOST_BYTES, mutate
from fuzz.targets import Check, Target

CORPUS = Path(__file__).parent / "corpus"
"""Folder of the stored inputs of each target: minimized findings, and others that reach deep into the code."""
PACKAGE = Path(cmkd.__file__).parent
DRAWN = 0.25
"""Fraction of cases drawn by hypothesis, which take ten times as long to make as damaged ones."""
POOL = 500
"""Most inputs, valid and drawn, that are kept for further damage."""
SHRINK_SECONDS = 2.0
"""Most CPU seconds for reducing the input of a finding."""


@dataclass(frozen=True)
class Finding:
    """A failure of a target.

    Args:
        kind: type of the exception or warning, ``memory``, ``hang``, or the signal or exit code that ended the process.
        place: functions in which the failure occurred: the last one in cmkd, and the last one of all.
        text: traceback of the failure.
    """

    kind: str
    place: str
    text: str

    @property
    def name(self) -> str:
        """File name of the finding, the same for all inputs with the same kind and place."""
        return f"found-{self.kind}-{sha256(self.place.encode()).hexdigest()[:8]}"


def tried(check: Check, data: bytes) -> Finding | None:
    """Run a case, and return the finding, or None if the input was read or refused properly."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", CmkdWarning)
        try:
            check(data)
        except CmkdError as error:
            if _ran_out(error):
                return _found("memory", error)
        except MemoryError as error:
            return _found("memory", error)
        except Exception as error:
            return _found(type(error).__name__, error)
    for warning in caught:
        place = f"{Path(warning.filename).name} {re.sub(r'[0-9]+', '', str(warning.message))[:40]}"
        return Finding(warning.category.__name__, place, warnings.formatwarning(*_parts(warning)))
    return None


def _parts(warning: warnings.WarningMessage) -> tuple[Warning | str, type[Warning], str, int]:
    return warning.message, warning.category, warning.filename, warning.lineno


def _ran_out(error: BaseException | None) -> bool:
    """Return whether an error was caused by a lack of memory, which a stated limit should have prevented."""
    seen = set[int]()
    while error is not None and id(error) not in seen:  # chains of errors may be cyclic
        if isinstance(error, MemoryError):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False


def _found(kind: str, error: BaseException) -> Finding:
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(PACKAGE)]
    place = " ".join(f"{Path(frame.filename).name}:{frame.name}" for frame in (*own[-1:], frames[-1]))
    return Finding(kind, place, "".join(traceback.format_exception(error)))


def generated(target: Target, valid: Sequence[bytes], random: Random) -> Iterator[bytes]:
    """Yield endless cases: damaged inputs and, if the target has a strategy, inputs drawn by hypothesis."""
    pool = list(valid)
    drawing = _drawing(target)
    while True:
        if drawing is not None and random.random() < DRAWN:
            drawn = drawing(random.randbytes(random.choice((64, 256, 1024))))
            if drawn is None:
                continue
            yield drawn
            if len(pool) < POOL:
                pool.append(drawn)
            else:
                pool[random.randrange(len(valid), POOL)] = drawn
        else:
            yield mutate(random.choice(pool), pool, random)


def _drawing(target: Target):  # noqa: ANN202  # bytes -> a drawn input, or None
    if target.strategy is None:
        return None
    drawn: list[bytes] = []

    @settings(database=None, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(target.strategy)
    def keep(value: bytes) -> None:
        drawn.append(value)

    def draw(choices: bytes) -> bytes | None:
        drawn.clear()
        keep.hypothesis.fuzz_one_input(choices)
        return drawn[0][:MOST_BYTES] if drawn else None

    return draw


def smaller(check: Check, data: bytes, finding: Finding) -> bytes:
    """Return a shorter input with the same finding."""
    end, size = time.process_time() + SHRINK_SECONDS, len(data) // 2
    while size and time.process_time() < end:
        place = 0
        while place < len(data) and time.process_time() < end:
            shorter = data[:place] + data[place + size :]
            again = tried(check, shorter)
            if again is not None and again.name == finding.name:
                data = shorter
            else:
                place += size
        size //= 2
    return data


def kept(folder: Path, name: str) -> dict[str, bytes]:
    """Return the stored inputs of a target, by the name of their file."""
    return {path.stem: path.read_bytes() for path in sorted((folder / name).glob("*.bin"))}
