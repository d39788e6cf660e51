"""The table of moving averages compares each decay with the last step's weights."""

from __future__ import annotations

from pathlib import Path

import averaging


def test_the_table_compares_with_the_last_weights(tmp_path: Path) -> None:
    gains = {"none": 0.0, "0.98": 0.01, "0.99": 0.02, "0.995": -0.01, "0.99, 3": 0.03, "0.995, 3": 0.0}
    records = averaging.Records(tmp_path / "raw.json", identity=("modality",))
    for modality, base in [("optical", 0.5), ("degraded", 0.3)]:
        described = {"data": "toy", "reference": "toy:DATA", "role": "rich", "modality": modality, "fold": 0}
        records.add(modality, described | {"held_out": {kind: base + gain for kind, gain in gains.items()}})
    averaging.main(["--raw", str(records.path), "--out", str(tmp_path / "averaging.md")])
    text = (tmp_path / "averaging.md").read_text(encoding="utf-8")
    assert "| toy | optical | 1 | 50.0 | 51.0 | 52.0 | 49.0 | 53.0 | 50.0 |" in text
    last = text.strip().splitlines()[-1]
    assert last.startswith("| mean gain |  | 2 |  | **+1.0") and "**+3.0" in last
