"""Writes the data cards of benchmarks, with the gap between their modalities as the simple baselines measured it.

    python benchmarks/data_cards.py digits presto:DATA/presto wikipedia:DATA/wikipedia

Everything on a card is counted in the pack or taken from the data set's class; the gap comes from
``results/simple_baselines.json`` (`simple_baselines.py`). Cards of data sets that are not named are kept. Writes
``docs/data_cards.md``.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

from cmkd.data import Pack, open_data
from cmkd.data.card import write_atomically
from cmkd.data.summary import markdown

HERE = Path(__file__).parent
HEAD = (
    "# Data cards\n\nWritten by `python benchmarks/data_cards.py`; what is measured names its command. "
    "`cmkd data card NAME` prints one.\n"
)


def gap(pack: Pack, results: dict[str, Any]) -> list[str]:
    """Say how far apart the better of the simple baselines is on the two modalities; nothing if one was not measured.

    The better one is chosen on validation; a figure of another version of the data is not used.
    """
    card, best = pack.card, {}
    for place, row in results.get("rows", {}).items():
        modality = pack.modalities.get(row["modality"]) if row["data"] == card.name else None
        if modality is None or card.sha256[modality.file][:16] not in json.loads(place):
            continue
        known = best.get(row["modality"])
        if known is None or row["validation_accuracy"] > known["validation_accuracy"]:
            best[row["modality"]] = row
    if card.rich not in best or card.poor not in best:
        return []
    rich, poor = best[card.rich], best[card.poor]
    difference = 100 * (rich["test_accuracy"] - poor["test_accuracy"])
    parts = [f"{r['modality']} {100 * r['test_accuracy']:.1f} % ({r['model']})" for r in (rich, poor)]
    return [
        f"{difference:.1f} points between {parts[0]} and {parts[1]} on {poor['test_pairs']} test pairs, "
        "`python benchmarks/simple_baselines.py`"
    ]


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
        cards[pack.card.name] = markdown(pack, gap(pack, results))
        print(f"{pack.card.name}: {len(pack)} pairs", flush=True)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(given.out, "\n".join([HEAD, *(cards[name] for name in sorted(cards))]).encode())


if __name__ == "__main__":
    main()
