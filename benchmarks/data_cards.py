"""Writes the data cards of benchmarks, with the gap between their modalities as the simple baselines measured it.

    python benchmarks/data_cards.py digits "mnist(train_pairs=4000):DATA/mnist" presto:DATA/presto

Everything on a card is counted in the pack or taken from the data set's class; the gap comes from
``results/simple_baselines.json`` (`simple_baselines.py`). A card is headed by what opens its data set; cards under
other headings are kept. Writes ``docs/data_cards.md``.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from pathlib import Path
from typing import Any

from cmkd.data import Pack
from cmkd.data.pack.summary import markdown
from cmkd.datasets import open_data
from cmkd.datasets.open import without_place
from cmkd.io import write_bytes

HERE = Path(__file__).parent
HEAD = (
    "# Data cards\n\nWritten by `python benchmarks/data_cards.py`; what is measured names its command. "
    "`cmkd data card NAME` prints one,\nbut for the gap, which takes minutes to measure. Standard errors (s.e.) are "
    "binomial and take test pairs for\nindependent, which windows of one person, pixels of one site and patches of one "
    "block are not.\n"
)


def gap(pack: Pack, results: dict[str, Any]) -> list[str]:
    """Say how far apart the better of the simple baselines is on the two modalities; nothing if one was not measured.

    The better one is chosen on validation; a figure of another version of the data is not used.
    """
    card, best = pack.card, {}
    for place, row in results.get("rows", {}).items():
        modality = pack.modalities.get(row["modality"]) if row["data"] == card.name else None
        files = [] if modality is None else [modality.file, card.index_file]
        if not files or not {card.sha256[file][:16] for file in files} <= set(json.loads(place)):
            continue
        known = best.get(row["modality"])
        if known is None or row["validation_accuracy"] > known["validation_accuracy"]:
            best[row["modality"]] = row
    if card.rich not in best or card.poor not in best:
        return []
    rich, poor = best[card.rich], best[card.poor]
    others = [row for name, row in best.items() if name not in (card.rich, card.poor)]
    text = (
        f"{100 * (rich['test_accuracy'] - poor['test_accuracy']):.1f} points on {poor['test_pairs']} test pairs "
        f"between {figure(rich)} and {figure(poor)}"
    )
    text += "".join(f"; {figure(row)}" for row in others)
    return [
        f"{text}; the better of two classifiers on validation, `python benchmarks/simple_baselines.py {command(poor)}`"
    ]


def figure(row: dict[str, Any]) -> str:
    """Return a test accuracy in %, with the binomial standard error and the model."""
    accuracy = row["test_accuracy"]
    error = math.sqrt(accuracy * (1 - accuracy) / row["test_pairs"])
    return f"{row['modality']} {100 * accuracy:.1f} % (s.e. {100 * error:.1f}, {row['model']})"


def command(row: dict[str, Any]) -> str:
    """Return the reference of a row as one writes it in a shell."""
    reference: str = row["reference"]
    return f"'{reference}'" if "(" in reference else reference


def main() -> None:
    """Write the cards."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("data", nargs="+", help="data sets, as in cmkd run --data")
    options.add_argument("--baselines", type=Path, default=HERE / "results" / "simple_baselines.json")
    options.add_argument("--out", type=Path, default=HERE.parent / "docs" / "data_cards.md")
    given = options.parse_args()
    results = json.loads(given.baselines.read_text(encoding="utf-8")) if given.baselines.exists() else {}
    cards: dict[str, str] = {}
    if given.out.exists():
        parts = re.split(r"^## ", given.out.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
        cards = {part.split("\n", 1)[0]: f"## {part.rstrip()}\n" for part in parts}
    for reference in given.data:
        pack = open_data(reference)
        opened = without_place(reference)
        cards[opened or pack.card.name] = markdown(pack, gap(pack, results), opened=opened)
        print(f"{opened or pack.card.name}: {len(pack)} pairs", flush=True)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(given.out, "\n".join([HEAD, *(cards[name] for name in sorted(cards))]).encode())


if __name__ == "__main__":
    main()
