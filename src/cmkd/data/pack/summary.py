"""The data card of a pack for people: what it holds, how it is balanced and divided, and what is unsound about it."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cmkd.data.pack.card import SPLITS
from cmkd.data.pack.pack import Pack
from cmkd.datasets.base import DATASETS

CHUNK = 4096


@dataclass(frozen=True)
class Summary:
    """What can be counted in a pack.

    Args:
        pairs: split -> labeled pairs that have every modality.
        counts: split -> labeled pairs of each class, in the order of the classes.
        groups: split -> number of groups, 0 where there are none.
        grouped: pairs that are in a group.
        crossing: groups that are in more than one split.
    """

    pairs: dict[str, int]
    counts: dict[str, tuple[int, ...]]
    groups: dict[str, int]
    grouped: int
    crossing: int

    @property
    def imbalance(self) -> float:
        """Train pairs of the commonest class for one of the rarest that occurs."""
        present = [count for count in self.counts["train"] if count]
        return max(present) / min(present) if present else 1.0

    @property
    def majority(self) -> float:
        """Test accuracy of always answering with the commonest train class."""
        guess = int(np.argmax(self.counts["train"]))
        return self.counts["test"][guess] / max(1, sum(self.counts["test"]))


def summarize(pack: Pack) -> Summary:
    """Count classes and groups, from the index alone.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from cmkd.datasets.digits import Digits
        >>> summary = summarize(Digits().prepare(None, Path(tempfile.mkdtemp()) / "digits"))
        >>> summary.pairs, round(summary.imbalance, 2), summary.crossing
        ({'train': 1077, 'validation': 360, 'test': 360}, 1.05, 0)
    """
    labels, classes = pack.index["label"].to_numpy(), len(pack.classes)
    rows = {split: pack.rows(split, modalities=list(pack.modalities), labeled=True) for split in SPLITS}
    grouped = pack.index[pack.index["group"] != ""]
    crossing = grouped.groupby("group")["split"].nunique()
    return Summary(
        pairs={split: len(chosen) for split, chosen in rows.items()},
        counts={s: tuple(np.bincount(labels[chosen], minlength=classes).tolist()) for s, chosen in rows.items()},
        groups={split: int(grouped.loc[grouped["split"] == split, "group"].nunique()) for split in SPLITS},
        grouped=len(grouped),
        crossing=int((crossing > 1).sum()),
    )


def twins(pack: Pack, modality: str) -> int:
    """Count the pairs of validation and test whose sample of a modality is, value for value, also in another split.

    Near copies are not found; a constant sample (an empty image) counts as any other.
    """
    array, seen = pack.array(modality), dict[bytes, set[str]]()
    rows = {split: pack.rows(split, modalities=[modality]) for split in SPLITS}
    digests: list[tuple[str, bytes]] = []
    for split, chosen in rows.items():
        for start in range(0, len(chosen), CHUNK):
            for sample in array[chosen[start : start + CHUNK]]:
                digest = hashlib.blake2b(sample.tobytes(), digest_size=16).digest()
                digests.append((split, digest))
                seen.setdefault(digest, set()).add(split)
    return sum(split != "train" and len(seen[digest]) > 1 for split, digest in digests)


def markdown(pack: Pack, measured: Sequence[str] = (), *, opened: str = "") -> str:
    """Return the data card as Markdown.

    Args:
        pack: prepared from a data set known by name, or any other.
        measured: lines about the gap between the modalities, each with the command that gives it.
        opened: what opened it, without the place of its files, such as ``mnist(train_pairs=4000)``; heads the card.
    """
    card, summary = pack.card, summarize(pack)
    kind = DATASETS.get(card.name)
    lines = [f"## {opened or card.name}", ""]
    if kind is None:
        lines += [card.title, ""] if card.title else []
    else:
        text = inspect.cleandoc(kind.__doc__ or "").split("\n\n")
        lines += ["\n\n".join(part for part in text if not part.startswith(("Args:", "Raises:"))), ""]
    lines += ["| modality | role | kind | shape | type |", "|---|---|---|---|---|"]
    roles = {card.rich: "rich", card.poor: "poor"}
    for name, modality in pack.modalities.items():
        shape = " x ".join(map(str, modality.shape))
        lines.append(f"| {name} | {roles.get(name, 'other')} | {modality.kind} | {shape} | {modality.dtype} |")
    lines += ["", f"| class | {' | '.join(SPLITS)} |", "|---|---|---|---|"]
    for position, name in enumerate(pack.classes):
        lines.append(f"| {name} | {' | '.join(str(summary.counts[split][position]) for split in SPLITS)} |")
    lines.append(f"| **all** | {' | '.join(str(summary.pairs[split]) for split in SPLITS)} |")
    facts = _facts(pack, summary, measured, opened)
    lines += ["", *(f"- **{name}**: {fact.rstrip('.')}." for name, fact in facts.items() if fact)]
    if card.citation:
        lines += ["", "```bibtex", card.citation, "```"]
    return "\n".join(lines) + "\n"


def _facts(pack: Pack, summary: Summary, measured: Sequence[str], opened: str) -> dict[str, str]:
    card, kind = pack.card, DATASETS.get(pack.card.name)
    unsound = kind.unsound if kind is not None else ""
    files = kind is not None and bool(kind.sources)
    where = f"`--data '{opened}:FOLDER'`, where FOLDER holds the published files" if files else f"`--data '{opened}'`"
    others = summary.pairs["validation"] + summary.pairs["test"]
    copies = ", ".join(f"{name} {twins(pack, name)}" for name in pack.modalities)
    return {
        "Open": where if opened else "",
        "Balance": _balance(pack.classes, summary),
        "Split": _split(card.split),
        "Groups": _groups(len(pack), summary, kind.group if kind is not None else ""),
        "Exact copies in another split": f"{copies} (of {others} pairs of validation and test)",
        "Gap": " ".join(measured) or "not measured",
        "Unsound": unsound or "nothing noted",
        "Notes": card.notes.removesuffix(unsound).strip() or "none",
        "License": card.license or "not stated",
        "Sources": ", ".join(dict.fromkeys(card.sources)) or "ships with a dependency, or is simulated",
        "Version": f"{card.version}, {card.rows} pairs",
    }


def _balance(classes: Sequence[str], summary: Summary) -> str:
    ratio = summary.imbalance
    text = "as many train pairs of each class"
    if ratio > 1:
        text = f"the commonest train class has {ratio:.4g} times the pairs of the rarest"
    guess = classes[int(np.argmax(summary.counts["train"]))]
    text += f"; always answering '{guess}' gives {100 * summary.majority:.1f} % on test"
    for split, counts in summary.counts.items():
        if missing := [name for name, count in zip(classes, counts, strict=True) if not count]:
            text += f"; {split} has no pair of {', '.join(missing)}"
    return text


def _split(record: Mapping[str, Any]) -> str:
    text = str(record.get("method", "not recorded"))
    if "images" in record:
        text += f"; {record['images']} published images were there"
    if copied := record.get("left_out_as_copies"):
        left = ", ".join(f"{copied.get(split, 0)} of {split}" for split in ("train", "validation"))
        text += f"; left out as copies of an image in test or validation: {left}"
    return text


def _groups(pairs: int, summary: Summary, group: str) -> str:
    """Say what a group is and how many there are, and whether one is in two splits."""
    if not any(summary.groups.values()):
        return "none"
    found = ", ".join(f"{summary.groups[split]} in {split}" for split in SPLITS)
    what = f"a group is {group}; " if group else ""
    some = f" ({summary.grouped} of {pairs} pairs are in one)" if summary.grouped < pairs else ""
    return f"{what}{found}{some}; {summary.crossing} in two splits"
