"""Notes about the invalid values of a modality: how many there are, and whether they reveal the class."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cmkd.data.quality.sources import Source

SIGNIFICANCE = 1e-3
"""Maximum p-value at which classes are reported to differ."""
LEAST_DIFFERENCE = 0.05
"""Minimum difference between the mean fractions of two classes that is worth a note."""


def missing_notes(name: str, shares: Mapping[int, float], source: Source) -> list[str]:
    """Return notes about the fraction of invalid values in each sample of a modality.

    If these fractions differ between classes, a network can learn the class from them. The Kruskal-Wallis test over
    labeled pairs decides.

    Args:
        name: name of the modality.
        shares: row -> fraction of invalid values in its sample.
        source: the pairs.
    """
    some = [share for share in shares.values() if share]
    if not some:
        return []
    values = f"{100 * sum(shares.values()) / len(shares):.2g} % of all values"
    notes = [f"{name}: {len(some)} of {len(shares)} samples have invalid values (nodata or NaN), {values}"]
    classes: dict[int, list[float]] = {}
    for row, share in shares.items():
        classes.setdefault(source.labels[row], []).append(share)
    classes.pop(-1, None)
    if len(classes) < 2 or len({share for own in classes.values() for share in own}) < 2:
        return notes
    from scipy.stats import kruskal

    probability = float(kruskal(*classes.values()).pvalue)
    means = {label: float(np.mean(own)) for label, own in classes.items()}
    most, least = max(means, key=means.__getitem__), min(means, key=means.__getitem__)
    if probability < SIGNIFICANCE and means[most] - means[least] >= LEAST_DIFFERENCE:
        both = (f"{100 * means[label]:.2g} % of '{source.classes[label]}'" for label in (most, least))
        notes.append(
            f"{name}: the share of invalid values differs between classes, {' and '.join(both)} (p = {probability:.1g})"
            ": a network can learn the class from the gaps"
        )
    return notes
