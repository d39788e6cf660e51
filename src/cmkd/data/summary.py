"""Counts of a pack, and its data card: contents, balance, splits, duplicates and known problems."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cmkd.data.pack.card import SPLITS, Card
from cmkd.data.pack.history import history
from cmkd.data.pack.pack import Pack
from cmkd.data.quality.duplicates import digest, exact_duplicates
from cmkd.data.quality.faults import HEADER, RULE, Shortcuts
from cmkd.data.quality.shortcuts import find_shortcuts
from cmkd.data.quality.sources import PackSource
from cmkd.markdown import address, code, escape, fenced, table
from cmkd.types import Modality


@dataclass(frozen=True)
class Summary:
    """Counts of a pack.

    Args:
        pairs: split -> labeled pairs that have every modality.
        counts: split -> labeled pairs of each class, in the order of the classes.
        unlabeled: split -> pairs without a label.
        groups: split -> number of groups, 0 where there are none.
        grouped: pairs that are in a group.
        crossing: groups that are in more than one split.
    """

    pairs: dict[str, int]
    counts: dict[str, tuple[int, ...]]
    unlabeled: dict[str, int]
    groups: dict[str, int]
    grouped: int
    crossing: int

    @property
    def imbalance(self) -> float:
        """Ratio of the train pairs of the most frequent class to those of the rarest one present."""
        present = [count for count in self.counts["train"] if count]
        return max(present) / min(present) if present else 1.0

    @property
    def majority(self) -> float:
        """Test accuracy of always predicting the most frequent train class."""
        guess = int(np.argmax(self.counts["train"]))
        return self.counts["test"][guess] / max(1, sum(self.counts["test"]))


def summarize(pack: Pack) -> Summary:
    """Count classes and groups; only the index is read.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from cmkd.datasets.digits import Digits
        >>> summary = summarize(Digits().prepare(None, Path(tempfile.mkdtemp()) / "digits"))
        >>> summary.pairs, round(summary.imbalance, 2), summary.crossing
        ({'train': 1077, 'validation': 360, 'test': 360}, 1.05, 0)
    """
    labels, classes = pack.index["label"].to_numpy(), len(pack.classes)
    rows = {split: pack.rows(split, labeled=True) for split in SPLITS}
    grouped = pack.index[pack.index["group"] != ""]
    crossing = grouped.groupby("group")["split"].nunique()
    return Summary(
        pairs={split: len(pack.rows(split, modalities=list(pack.modalities), labeled=True)) for split in SPLITS},
        counts={s: tuple(np.bincount(labels[chosen], minlength=classes).tolist()) for s, chosen in rows.items()},
        unlabeled={split: len(pack.rows(split, labeled=False)) for split in SPLITS},
        groups={split: int(grouped.loc[grouped["split"] == split, "group"].nunique()) for split in SPLITS},
        grouped=len(grouped),
        crossing=int((crossing > 1).sum()),
    )


def leaked(pack: Pack, modality: str) -> int:
    """Count the validation and test pairs whose sample of a modality also occurs, with equal values, in another split.

    Near duplicates are not found; a constant sample (an empty image) counts like any other.
    """
    splits = pack.index["split"].to_numpy()
    rows = np.flatnonzero(pack.index[f"has_{modality}"])
    first = {
        again.later: again.earlier
        for again in exact_duplicates([digest(sample) for sample in pack.samples(modality, rows)])
    }
    found: dict[int, list[str]] = {}
    for place, split in enumerate(splits[rows]):
        found.setdefault(first.get(place, place), []).append(split)
    return sum(sum(s != "train" for s in alike) for alike in found.values() if len(set(alike)) > 1)


def markdown(pack: Pack, measured: Sequence[str] = (), *, opened: str = "", heading: str = "", lead: str = "") -> str:
    """Return the data card as Markdown; only `measured`, `heading`, `lead` and the description may hold markup.

    Args:
        pack: any pack.
        measured: lines about the gap between the modalities, each with the command that measures it.
        opened: value of ``--data`` that opens the data set, such as ``digits`` or ``mnist(train_pairs=4000):FOLDER``;
            empty for a folder.
        heading: first line; by default `opened`, or the data set's name if `opened` is empty.
        lead: paragraph after the description.
    """
    card, summary, roles = pack.card, summarize(pack), {pack.card.rich: "rich", pack.card.poor: "poor"}
    sensors = [
        (
            escape(m.name),
            roles.get(m.name, "other"),
            m.kind,
            _size(m.shape),
            escape(type_and_unit(m)),
            short(m.mean),
            short(m.std),
        )
        for m in pack.modalities.values()
    ]
    counts = [
        (escape(name), *row) for name, row in zip(pack.classes, zip(*summary.counts.values(), strict=True), strict=True)
    ]
    if any(summary.unlabeled.values()):
        counts.append(("(no label)", *summary.unlabeled.values()))
    counts.append(("**all**", *np.sum([row[1:] for row in counts], axis=0)))
    where = ", where FOLDER holds the published files" if opened.endswith(":FOLDER") else ""
    again = ", ".join(f"{name} {leaked(pack, name)}" for name in pack.modalities)
    others = sum(len(pack.rows(split)) for split in SPLITS[1:])
    opening = code(f"--data '{opened}'") + where
    lines = ({"Open": opening} if opened else {}) | {name: escape(fact) for name, fact in facts(pack).items()}
    lines |= {"Sources": ", ".join(map(address, card.sources))} if card.sources else {}
    lines |= {
        "Exact duplicates in another split": f"{again} (of {others} pairs of validation and test)",
        "Gap": " ".join(measured) or "not measured",
    }
    parts = [
        heading or f"## {escape(opened.removesuffix(':FOLDER') or card.name)}",
        card.description or escape(card.title),
        lead,
        table(("modality", "role", "kind", "shape", "type", "mean", "standard deviation"), sensors),
        table(("class", *SPLITS), counts),
        _shortcuts(find_shortcuts(PackSource(pack))),
        table(HISTORY, [tuple(map(escape, row)) for row in history_rows(pack)]) if card.version > 1 else "",
        "\n".join(f"- **{name}**: {fact.rstrip('.')}." for name, fact in lines.items()),
        fenced(card.citation, "bibtex") if card.citation else "",
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


HISTORY = ("version", "date", "pairs", "by split", "by class", "new groups", "notes")
"""Columns of the changelog of a pack."""


def history_rows(pack: Pack) -> list[tuple[str, ...]]:
    """Return the changelog of a pack as rows of `HISTORY`."""
    rows = list[tuple[str, ...]]()
    for entry in history(pack):
        splits = ", ".join(f"{split} +{count}" for split, count in entry.added.items() if count)
        classes = ", ".join(
            f"{name or 'no label'}{' (new)' if name in entry.new_classes else ''} +{count}"
            for name, count in entry.classes.items()
        )
        pairs = f"{entry.pairs} (+{sum(entry.added.values())})"
        rows.append((str(entry.version), entry.date[:10], pairs, splits, classes, str(entry.groups), entry.notes))
    return rows


def facts(pack: Pack) -> dict[str, str]:
    """Return one-line facts about a pack, by heading."""
    card, summary = pack.card, summarize(pack)
    complete, unlabeled = (
        ", ".join(f"{count} in {split}" for split, count in counts.items())
        for counts in (summary.pairs, summary.unlabeled)
    )
    return {
        "Version": f"{card.version}, {card.rows} pairs",
        "Balance": _balance(pack.classes, summary),
        "Split": _split(card.split),
        "Groups": _groups(len(pack), summary, card.group),
        **({"Label and every modality": complete} if sum(summary.pairs.values()) < len(pack) else {}),
        **({"No label": unlabeled} if any(summary.unlabeled.values()) else {}),
        **({"Invalid values": invalid} if (invalid := invalid_values(card)) else {}),
        "Co-registered": "; ".join(", ".join(group) for group in card.co_registered) or "none",
        "Known problems": card.unsound or "nothing noted",
        "Notes": card.notes or "none",
        "License": card.license or "not stated; state it before you share the data",
        "Sources": ", ".join(card.sources) or "not stated",
    }


def type_and_unit(modality: Modality) -> str:
    """Return the type of a modality's values, and their unit where it is known.

    Example:
        >>> type_and_unit(Modality("radar", "image", (1, 8, 8), "float32", unit="dB"))
        'float32, dB'
    """
    return f"{modality.dtype}, {modality.unit}" if modality.unit else modality.dtype


def invalid_values(card: Card) -> str:
    """Return how many values of each modality are invalid, empty if all are valid."""
    lines = []
    for name, (values, pairs) in card.invalid.items():
        if values:
            share = 100 * values / (pairs * math.prod(card.modalities[name].shape))
            lines.append(f"{name} {values} in {pairs} of {card.rows} pairs ({share:.2g} % of their values)")
    return "; ".join(lines) + ": nodata or NaN, out of the statistics and filled with the mean" if lines else ""


def short(values: Sequence[float], most: int = 4) -> str:
    """Return the first few numbers in a line.

    Example:
        >>> short([1.0, 2 / 3, 30000.0, 4.0, 5.0])
        '1 0.667 3e+04 4 ...'
    """
    return " ".join(f"{value:.3g}" for value in values[:most]) + (" ..." if len(values) > most else "")


def _shortcuts(shortcuts: Shortcuts) -> str:
    """Return a table of how well trivial features and metadata predict the class, and why others are left out."""
    rows = [tuple(map(escape, one.cells())) for one in shortcuts.found]
    told = [f"Shortcuts to the class, cross-validated by group within train ({RULE}):", table(HEADER, rows)]
    notes = "; ".join(map(escape, shortcuts.notes))
    return "\n\n".join([*(told if rows else []), *([f"{notes[0].upper()}{notes[1:]}."] if notes else [])])


def _size(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _balance(classes: Sequence[str], summary: Summary) -> str:
    ratio = summary.imbalance
    text = "as many train pairs of each class"
    if ratio > 1:
        text = f"the most frequent train class has {ratio:.4g} times the pairs of the rarest"
    guess = classes[int(np.argmax(summary.counts["train"]))]
    text += f"; always answering '{guess}' gives {100 * summary.majority:.1f} % on test"
    for split, counts in summary.counts.items():
        if missing := [name for name, count in zip(classes, counts, strict=True) if not count]:
            text += f"; {split} has no pair of {', '.join(missing)}"
    return text


def _split(record: Mapping[str, Any]) -> str:
    """Return a sentence on how a split was made, from a card's record of it."""
    text = str(record.get("method", "not recorded"))
    text += f", seed {record['seed']}" if isinstance(record.get("seed"), int) else ""
    if "images" in record:
        text += f"; {record['images']} published images were there"
    if isinstance(copied := record.get("left_out_as_copies"), Mapping) and copied:
        left = ", ".join(f"{copied.get(split, 0)} of {split}" for split in ("train", "validation"))
        text += f"; left out as duplicates of an image in test or validation: {left}"
    return text


def _groups(pairs: int, summary: Summary, group: str) -> str:
    """Return a sentence on what a group is, how many there are, and how many are in two splits."""
    if not any(summary.groups.values()):
        return "none"
    found = ", ".join(f"{summary.groups[split]} in {split}" for split in SPLITS)
    what = f"a group is {group}; " if group else ""
    some = f" ({summary.grouped} of {pairs} pairs are in one)" if summary.grouped < pairs else ""
    policy = "in later versions a group keeps its split, and a new one without a split gets one by name and seed alone"
    return f"{what}{found}{some}; {summary.crossing} in two splits; {policy}"
