"""Intervals over students and test groups at once, and a compact text form of the correct answers they need."""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cmkd.errors import CmkdError
from cmkd.evaluation.intervals import RESAMPLES, TAILS

MOST_GROUPS = 2**23
MOST_DIGITS = 32
MOST_DRAWN = 2**14
"""Number of groups above which random blocks of groups are drawn; a mean over as many blocks has the same spread."""


def encoded(counts: NDArray[np.integer]) -> str:
    """Return counts of correct answers as compact text.

    The text is ``DIGITSxNUMBERS:BASE64``. The last binary digits of all numbers come first, then those before them, and
    so on, packed eight to a byte and compressed with zlib; one correct or wrong answer takes at most about one bit.

    Args:
        counts: at most 8,388,608 numbers from 0 to 4,294,967,295.

    Example:
        >>> decoded(encoded(np.array([3, 0, 70_000]))).tolist()
        [3, 0, 70000]
    """
    digits = max(1, int(counts.max(initial=0)).bit_length())
    bits = counts.astype(np.int64) >> np.arange(digits)[:, np.newaxis] & 1
    packed = zlib.compress(np.packbits(bits.astype(np.uint8)).tobytes(), 9)
    return f"{digits}x{len(counts)}:{base64.b64encode(packed).decode()}"


def decoded(text: str) -> NDArray[np.int64]:
    """Return the numbers that `encoded` wrote.

    Raises:
        CmkdError: the text is damaged.
    """
    try:
        head, body = text.split(":")
        digits, numbers = map(int, head.split("x"))
        if not (0 < digits <= MOST_DIGITS and 0 <= numbers <= MOST_GROUPS):
            raise ValueError(f"{numbers} numbers of {digits} digits")
        length, packed = -(-digits * numbers // 8), zlib.decompressobj()
        content = packed.decompress(base64.b64decode(body, validate=True), length + 1)
        if not packed.eof or len(content) != length:
            raise ValueError("truncated, or too many")
        bits = np.unpackbits(np.frombuffer(content, np.uint8), count=digits * numbers).reshape(digits, numbers)
        return sum((plane.astype(np.int64) << k for k, plane in enumerate(bits)), np.zeros(numbers, np.int64))
    except (ValueError, zlib.error) as error:
        raise CmkdError(f"the counts of correct predictions are damaged ({error}): run the suite again") from error


@dataclass(frozen=True)
class Resamples:
    """Weights of students and test groups in each resample; the first row is the original sample.

    Teachers are drawn with replacement, then students within each teacher, as for hierarchical data (Davison and
    Hinkley 1997, section 3.8); if a teacher has one student, the two levels are one. Test groups are drawn
    independently of both. With few students or groups, percentile intervals are too narrow, so results give Student's
    intervals too.

    Attributes:
        students: ``(resamples + 1, students)`` weights; those of one teacher's students add up to the number of times
            that the teacher was drawn.
        groups: ``(resamples + 1, blocks)`` number of times that each block of test groups was drawn.
        blocks: ``(groups,)`` block of each group: the group itself, unless there are more than `MOST_DRAWN` groups.
    """

    students: NDArray[np.float64]
    groups: NDArray[np.uint16]
    blocks: NDArray[np.int64]

    @classmethod
    def draw(cls, teachers: NDArray[np.int64], groups: int, *, resamples: int = RESAMPLES, seed: int = 0) -> Resamples:
        """Draw students and groups.

        Args:
            teachers: ``(students,)`` number of each student's teacher.
            groups: number of test groups.
            resamples: number of resamples.
            seed: random seed of the draws.

        Example:
            >>> drawn = Resamples.draw(np.array([0, 0, 1]), 4, resamples=10)
            >>> drawn.students.shape, drawn.groups.sum(1).tolist()[:3]
            ((11, 3), [4, 4, 4])
        """
        generator, names = np.random.default_rng(seed), np.unique(teachers)
        members = [np.flatnonzero(teachers == name) for name in names]
        chosen = generator.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
        students = np.zeros((resamples, len(teachers)))
        for column, own in enumerate(members):
            # draw as many students as the teacher has, once for each time that the teacher was drawn
            drawn = generator.multinomial(chosen[:, column] * len(own), np.full(len(own), 1 / len(own)))
            students[:, own] = drawn / len(own)
        blocks = np.arange(groups)
        if groups > MOST_DRAWN:
            blocks = generator.permutation(blocks) % MOST_DRAWN
        count = min(groups, MOST_DRAWN)
        there = np.ones((resamples + 1, count), np.uint16)
        for row in there[1:]:
            row[:] = generator.multinomial(count, np.full(count, 1 / count))
        once = [1 / np.count_nonzero(teachers == name) for name in teachers]
        return cls(np.concatenate([[once], students]), there, blocks)

    def accuracy(self, right: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the mean accuracy of each resample.

        Args:
            right: ``(students, groups)`` number of correct answers.
            sizes: ``(groups,)`` number of pairs.

        Returns:
            ``(resamples + 1,)`` accuracies; the first is over all students and pairs, without resampling.
        """
        counts = np.stack([np.bincount(self.blocks, row) for row in (*right, sizes)], axis=1)
        drawn = np.concatenate([part @ counts for part in np.array_split(self.groups, 16)])
        hits = (self.students * drawn[:, :-1]).sum(1)
        found: NDArray[np.float64] = hits / (self.students.sum(1) * drawn[:, -1])
        return found


def percentiles(values: NDArray[np.float64]) -> list[float]:
    """Return the ends of the percentile interval of resampled values.

    Example:
        >>> [round(end, 6) for end in percentiles(np.arange(201.0))]
        [5.0, 195.0]
    """
    low, high = np.quantile(values, TAILS)
    return [float(low), float(high)]


def sign_p_value(values: NDArray[np.float64]) -> float:
    """Return the p-value of the two-sided test matching `percentiles`, from how often resampled values change sign.

    Source:
        Davison and Hinkley 1997, section 4.2, with one added to the counts.

    Example:
        >>> sign_p_value(np.arange(1.0, 40.0)), sign_p_value(np.arange(-9.0, 10.0))
        (0.05, 1.0)
    """
    fewest = min(int((values <= 0).sum()), int((values >= 0).sum()))
    return min(1.0, 2 * (fewest + 1) / (len(values) + 1))


def levels(values: NDArray[np.float64], teachers: NDArray[np.int64]) -> tuple[float, float] | None:
    """Return the standard deviations between teachers and between the students of one teacher.

    They are estimated from the mean squares of a one-way analysis of variance (Searle, Casella and McCulloch 1992,
    chapter 3); a negative estimate of the variance between teachers counts as 0. The result is None if there is only
    one teacher, or if no teacher has several students, since the two levels cannot be separated then.

    Args:
        values: ``(students,)``, such as differences of accuracy.
        teachers: ``(students,)`` number of each student's teacher.

    Example:
        >>> between, within = levels(np.array([1.0, 3.0, 5.0, 7.0]), np.array([0, 0, 1, 1]))
        >>> round(between, 3), round(within, 3)
        (2.646, 1.414)
    """
    groups = [values[teachers == name] for name in np.unique(teachers)]
    n, count = len(values), len(groups)
    if count < 2 or n == count:
        return None
    inside = sum(float(((own - own.mean()) ** 2).sum()) for own in groups) / (n - count)
    outside = sum(len(own) * float((own.mean() - values.mean()) ** 2) for own in groups) / (count - 1)
    usual = (n - sum(len(own) ** 2 for own in groups) / n) / (count - 1)
    return max(0.0, (outside - inside) / usual) ** 0.5, inside**0.5
