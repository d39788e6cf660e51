"""Write the data cards of the benchmarks, with the gap between modalities that the simple baselines measured.

    python benchmarks/data_cards.py digits "mnist(train_pairs=4000):DATA/mnist" presto:DATA/presto

Everything on a card is counted in the pack or taken from the data set's class; the gap comes from
``results/simple_baselines.json`` (`simple_baselines.py`). The heading of a card is the name and options that open its
data set; cards under other headings are kept. Writes ``docs/data_cards.md``.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from pathlib import Path
from typing import Any

from cmkd.data import Pack
from cmkd.data.summary import markdown
from cmkd.datasets import DATASETS, open_data
from cmkd.datasets.open import portable
from cmkd.io import write_text
from records import RESULTS, Records

HEAD = (
    "# Data cards\n\nWritten by `python benchmarks/data_cards.py`; every measured figure names its command. "
    "`cmkd data card NAME` prints one card,\nwithout the gap, which takes minutes to measure. Standard errors (s.e.) "
    "are binomial and treat test pairs as\nindependent, which windows of one person, pixels of one site and patches of "
    "one block are not.\n\n"
    f"`cmkd data list` shows all {len(DATASETS)} data sets. Tested on synthetic files only: `ave`, `cifar100`, "
    "`crema_d`, `eurosat_sar`,\n`fusar_ship`, `nyu_depth`, `sen12ms`, `so2sat`, `stl10`, `sun_rgbd` and `svhn`; "
    "`bigearthnet` on six real pairs, and the radar\nof `opensarship` on eight real scenes. In `fusar_ship` and "
    "`opensarship`, a pair shows two ships of one class, not one ship.\n"
    "`marine_10k` is a fixed release of 6,000 [simulated scenes](marine.md), each in two modes.\n"
)


def gap(pack: Pack, records: Records) -> list[str]:
    """Describe the difference between the better simple baselines of the two modalities; empty if one was not measured.

    The better one is chosen on validation; figures of another version of the data are ignored.
    """
    card = pack.card
    best: dict[str, dict[str, Any]] = {}
    for key, row in records.rows.items():
        modality = pack.modalities.get(row["modality"]) if row["data"] == card.name else None
        files = [] if modality is None else [modality.file, card.index_file]
        if not files or not {card.sha256[file][:16] for file in files} <= set(json.loads(key)):
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
    """Return the reference of a row, quoted for a shell."""
    reference: str = row["reference"]
    return f"'{reference}'" if "(" in reference else reference


def main() -> None:
    """Write the cards."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("data", nargs="+", help="data sets, as in cmkd run --data")
    options.add_argument("--baselines", type=Path, default=RESULTS / "simple_baselines.json")
    options.add_argument("--out", type=Path, default=RESULTS.parents[1] / "docs" / "data_cards.md")
    given = options.parse_args()
    records = Records(given.baselines, identity=())
    cards: dict[str, str] = {}
    if given.out.exists():
        parts = re.split(r"^## ", given.out.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
        cards = {part.split("\n", 1)[0]: f"## {part.rstrip()}\n" for part in parts}
    for reference in given.data:
        pack = open_data(reference)
        opened = portable(reference)
        name = opened.removesuffix(":FOLDER") or pack.card.name
        cards[name] = markdown(pack, gap(pack, records), opened=opened)
        print(f"{name}: {len(pack)} pairs", flush=True)
    write_text(given.out, "\n".join([HEAD, *(cards[name] for name in sorted(cards))]))


if __name__ == "__main__":
    main()
