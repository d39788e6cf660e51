"""The data card: ``README.md`` with the header that the hub reads."""

from __future__ import annotations

import re
from collections.abc import Mapping

import yaml

from cmkd.data.pack.card import SPLITS
from cmkd.data.pack.pack import Pack

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
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def data_card(pack: Pack, files: Mapping[str, list[str]]) -> str:
    """Return the card as Markdown.

    Args:
        pack: what was exported.
        files: split -> names of its files.
    """
    card = pack.card
    header = {
        "pretty_name": card.title or card.name,
        **_license(card.license),
        "task_categories": ["image-classification" if _any_image(pack) else "tabular-classification"],
        "tags": ["cross-modal", "paired", "knowledge-distillation", "cmkd"],
        "size_categories": [next((name for most, name in _SIZES if len(pack) < most), "n>1M")],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": f"data/{split}-*"} for split in SPLITS if split in files],
            }
        ],
    }
    lines = [
        "---",
        yaml.safe_dump(header, sort_keys=False, allow_unicode=True).rstrip(),
        "---",
        "",
        f"# {card.title or card.name}",
        "",
        f"{len(pack)} pairs of {', '.join(pack.modalities)}, {len(pack.classes)} classes; version {card.version} of "
        f"{card.history[-1].date}. Exported by `cmkd data export`; `cmkd data import FOLDER --out PACK` reads it back.",
        *(["", card.notes] if card.notes else []),
        "",
        "## Modalities",
        "",
        "| modality | kind | shape | type | mean | standard deviation |",
        "|---|---|---|---|---|---|",
        *_sensors(pack),
        "",
        f"Means and deviations are per channel over the train split. Teacher's modality: {card.rich or 'not set'}; "
        f"student's: {card.poor or 'not set'}. "
        + (
            "Pixel by pixel co_registered: " + "; ".join(", ".join(g) for g in card.co_registered)
            if card.co_registered
            else ""
        )
        + ("." if card.co_registered else "No modalities are declared co-registered pixel by pixel."),
        "",
        "## Composition",
        "",
        f"| class | {' | '.join(SPLITS)} |",
        "|---" * (1 + len(SPLITS)) + "|",
        *_composition(pack),
        "",
        f"Split: {card.split.get('method', 'not recorded')}, seed {card.split.get('seed', 'none')}. Pairs of one group "
        "(column `group`) are never in two splits.",
    ]
    if card.sources:
        lines += ["", "## Sources", "", *(f"- {source}" for source in card.sources)]
    if card.citation:
        lines += ["", "## Citation", "", "```bibtex", card.citation, "```"]
    return "\n".join(lines) + "\n"


def _license(text: str) -> dict[str, str]:
    """Return the hub's identifier where the text is one, else ``other`` with the text."""
    plain = re.sub(r"[\s_]+", "-", text.strip().lower())
    found = next((name for name in _LICENSES if plain in (name, name.removesuffix("-1.0"))), None)
    if found:
        return {"license": found}
    return {"license": "other", "license_name": text} if text else {"license": "unknown"}


def _any_image(pack: Pack) -> bool:
    return any(modality.kind == "image" for modality in pack.modalities.values())


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4g}" for value in values[:6]) + (", ..." if len(values) > 6 else "")


def _sensors(pack: Pack) -> list[str]:
    lines = []
    for m in pack.modalities.values():
        cells = (m.name, m.kind, " x ".join(map(str, m.shape)), m.dtype, _numbers(m.mean), _numbers(m.std))
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _composition(pack: Pack) -> list[str]:
    lines = []
    for label, name in [*enumerate(pack.classes), (-1, "(no label)")]:
        part = pack.index[pack.index["label"] == label]
        if len(part) or label >= 0:
            lines.append(
                f"| {name} | " + " | ".join(str(int((part["split"] == split).sum())) for split in SPLITS) + " |"
            )
    return lines
