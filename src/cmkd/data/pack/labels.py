"""Hidden labels, wrong labels, left-out pairs and folds, all chosen by hashes of ids, without random numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from cmkd.errors import CmkdError

Integers = NDArray[np.int64]


def _hashes(purpose: str, names: Iterable[str]) -> list[str]:
    return [hashlib.sha256(f"{purpose} {name}".encode()).hexdigest() for name in names]


def hidden_labels(
    labels: Integers, ids: Iterable[str], partial: NDArray[np.bool_], fraction: float, number: int | None
) -> Integers:
    """Return the positions of the pairs whose label is hidden.

    Args:
        labels: ``(pairs,)`` classes.
        ids: ids of the pairs.
        partial: ``(pairs,)`` whether a pair lacks a modality; such pairs lose their label first.
        fraction: fraction of each class that keeps its label, if `number` is None.
        number: number of labels to keep, spread over the classes.

    Raises:
        CmkdError: `number` is smaller than the number of classes, or larger than the number of labels.
    """
    order, place, of_class = _label_order(labels, ids, partial)
    if number is None:
        return order[place >= np.round(fraction * of_class, 9)]  # rounded, since 0.07 * 100 is above 7
    if number < (classes := int((place == 0).sum())):
        raise CmkdError(f"labels is {number}, fewer than the {classes} classes; give at least one label per class")
    if number > (there := len(order)):
        raise CmkdError(f"labels is {number}, but only {there} training pairs have a label; give at most {there}")
    return order[number:]


def _label_order(
    labels: Integers, ids: Iterable[str], partial: NDArray[np.bool_]
) -> tuple[Integers, Integers, Integers]:
    """Return the pairs in the order in which they keep labels, their places in their classes, and the class sizes.

    The first n pairs hold the same fraction of each class, rounded up. This is a divisor method: no class loses a label
    when n grows.
    """
    ranks = np.array(_hashes("label", ids))
    by_class = np.lexsort((ranks, partial, labels))
    _, first, counts = np.unique(labels[by_class], return_index=True, return_counts=True)
    place, of_class = np.arange(len(labels)) - np.repeat(first, counts), np.repeat(counts, counts)
    order = np.lexsort((ranks[by_class], place / of_class))
    return by_class[order], place[order], of_class[order]


def left_out(ids: Iterable[str], partial: NDArray[np.bool_], number: int) -> Integers:
    """Return the positions of the pairs without a label that are left out.

    Args:
        ids: ids of the pairs.
        partial: ``(pairs,)`` whether a pair lacks a modality; such pairs are left out first.
        number: number of pairs to keep; a smaller number keeps a subset of these.
    """
    return np.lexsort((np.array(_hashes("unlabeled", ids)), partial))[number:]


def wrong_labels(labels: Integers, ids: Iterable[str], fraction: float, classes: int) -> Integers:
    """Return the labels with a fraction replaced by another class; a smaller fraction replaces a subset of these.

    Args:
        labels: ``(pairs,)`` classes.
        ids: ids of the pairs.
        fraction: fraction of the labels to replace.
        classes: number of classes, at least 2.
    """
    hashes = _hashes("noise", ids)
    chosen = np.argsort(np.array(hashes))[: round(fraction * len(hashes))]
    steps = np.array([1 + int(hashes[k][-8:], 16) % (classes - 1) for k in chosen], dtype=np.int64)
    noisy = labels.copy()
    noisy[chosen] = (labels[chosen] + steps) % classes
    return noisy


def folds_of(groups: Iterable[str], ids: Iterable[str], count: int) -> list[int]:
    """Return the fold of each pair, from 0; groups, and pairs without a group, are dealt in the order of their hashes.

    Args:
        groups: group of each pair; empty for none.
        ids: ids of the pairs.
        count: number of folds, at least 2.

    Raises:
        CmkdError: there are fewer groups than folds.
    """
    names = [f"group {group}" if group else f"pair {name}" for group, name in zip(groups, ids, strict=True)]
    unlike = sorted(set(names))
    if not 2 <= count <= len(unlike):
        raise CmkdError(f"{count} folds for {len(unlike)} groups of labeled training pairs; give 2 to {len(unlike)}")
    order = sorted(zip(_hashes("fold", unlike), unlike, strict=True))
    place = {name: position % count for position, (_, name) in enumerate(order)}
    return [place[name] for name in names]
