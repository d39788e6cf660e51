"""The ``README.md`` of a data set on the hub: the data card with the header that the hub reads."""

from __future__ import annotations

import re
from collections.abc import Mapping

import yaml

from cmkd.data.pack.card import SPLITS
from cmkd.data.pack.pack import Pack
from cmkd.data.summary import markdown
from cmkd.markdown import escape

_LICENSES = (
    "apache-2.0",
    "mit",
    "bsd-3-clause",
    "cc0-1.0",
    "cc-by-4.0",
    "cc-by-sa-4.0",
    "cc-by-sa-3.0",
    "cc-by-nc-4.0",
)
_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))


def readme(pack: Pack, files: Mapping[str, list[str]] | None = None) -> str:
    """Return the text of ``README.md``: the header that the hub reads, then the data card.

    Args:
        pack: the pack.
        files: split -> Parquet files of an export; None for a pushed pack, which has no Parquet files.
    """
    card = pack.card
    paths = [{"split": split, "path": f"data/{split}-*"} for split in SPLITS if split in (files or {})]
    header = {
        "pretty_name": card.title or card.name,
        **_license(card.license),
        "task_categories": ["image-classification" if _any_image(pack) else "tabular-classification"],
        "tags": ["cross-modal", "paired", "knowledge-distillation", "cmkd"],
        "size_categories": [next((name for most, name in _SIZES if len(pack) < most), "10M<n<100M")],
        **({"configs": [{"config_name": "default", "data_files": paths}]} if files is not None else {}),
    }
    how = "exported by `cmkd data export`; `cmkd data import FOLDER --out PACK` reads it back."
    if files is None:
        how = "pushed by `cmkd data push`; `cmkd run --data hf://datasets/USER/NAME` reads it in place."
    told = (
        f"Version {card.version} of {card.history[-1].date}, {how} "
        "Pairs of one group (column `group`) are never in two splits."
    )
    shown = yaml.safe_dump(header, sort_keys=False, allow_unicode=True)
    return f"---\n{shown}---\n\n{markdown(pack, heading=f'# {escape(card.title or card.name)}', lead=told)}"


def _license(text: str) -> dict[str, str]:
    """Return the hub's identifier of a license; ``other`` with the text if unlisted, ``unknown`` if empty."""
    plain = re.sub(r"[\s_]+", "-", text.strip().lower())
    found = next((name for name in _LICENSES if plain in (name, name.removesuffix("-1.0"))), None)
    if found:
        return {"license": found}
    return {"license": "other", "license_name": text} if text else {"license": "unknown"}


def _any_image(pack: Pack) -> bool:
    return any(modality.kind == "image" for modality in pack.modalities.values())
