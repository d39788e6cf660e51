"""Export of a pack as Parquet files that the hub and its library can read."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cmkd.data.huggingface.card import readme
from cmkd.data.huggingface.columns import arrow_type, feature, to_arrow
from cmkd.data.pack.card import FORMAT, SPLITS, CardFile, modality_entry
from cmkd.data.pack.pack import Pack
from cmkd.data.pack.validator import metadata_columns
from cmkd.data.pack.writer import refuse_existing
from cmkd.errors import CmkdError
from cmkd.io import CHUNK_BYTES, staged, sync_folder, write_json
from cmkd.progress import Progress, adding, silent

SHARD_BYTES = 400 * 2**20
"""Maximum bytes of arrays per file, before compression; the hub recommends a few hundred megabytes."""
DESCRIPTION = "cmkd.json"
"""Name of the file with the rest of the card, so that importing gives the same pack."""


def export_pack(pack: Pack, out: Path | str, *, progress: Progress = silent) -> Path:
    """Write one version of a pack as a data set of the hub: ``data/SPLIT-*.parquet``, ``README.md``, ``cmkd.json``.

    The columns are ``id``, ``label`` (a class label, -1 if unlabeled), ``group``, ``position`` in the pack, further
    columns of the pack's index, and one column per modality: PNG if that is lossless, else nested lists, and null if a
    pair lacks the modality. Older versions and the history are not exported. Memory use does not grow with the pack.

    Args:
        pack: the pack.
        out: folder to make; it appears whole or not at all.
        progress: callback, called as pairs are written.

    Raises:
        CmkdError: the folder exists or cannot be written.

    Source:
        The hub's documented layout of Parquet data sets with several splits, with features in the schema. The library
        `datasets` 5.2.0 reads the pack's values from it.

    Example:
        >>> import tempfile
        >>> from cmkd.datasets.digits import Digits
        >>> from cmkd.data.huggingface import import_folder
        >>> home = Path(tempfile.mkdtemp())
        >>> pack = Digits().prepare(None, home / "digits")
        >>> folder = export_pack(pack, home / "hub")
        >>> import_folder(folder, home / "again").card.sha256 == pack.card.sha256
        True
    """
    destination = Path(out)
    refuse_existing(destination)
    pack.verify_content()
    try:
        with staged(destination) as stage:
            (stage / "data").mkdir(parents=True)
            wrote = adding(progress, len(pack))
            files = {split: names for split in SPLITS if (names := _write_split(pack, split, stage / "data", wrote))}
            (stage / "README.md").write_text(readme(pack, files), encoding="utf-8")
            write_json(stage / DESCRIPTION, _description(pack))
            os.rename(stage, destination)
            sync_folder(destination.parent)
    except OSError as error:
        raise CmkdError(f"cannot write {destination}: {error.strerror or error}") from error
    return destination


def _description(pack: Pack) -> dict[str, Any]:
    card = pack.card
    return {
        "format": FORMAT,
        "version": card.version,
        **card.to_dict(),
        "notes": card.notes,
        "classes": card.classes,
        "split": card.split,
        "metadata": metadata_columns(pack.index, card.modalities),
        "modalities": {
            name: modality_entry(m) for name, m in CardFile.read(pack.path).declared(card.modalities).items()
        },
    }


def _schema(pack: Pack) -> pa.Schema:
    text = {"dtype": "string", "_type": "Value"}
    features: dict[str, Any] = {
        "id": text,
        "label": {"names": list(pack.classes), "_type": "ClassLabel"},
        "group": text,
        "position": {"dtype": "int64", "_type": "Value"},
    }
    extra = metadata_columns(pack.index, pack.modalities)
    features |= dict.fromkeys(extra, text)
    features |= {name: feature(modality) for name, modality in pack.modalities.items()}
    fields = [("id", pa.string()), ("label", pa.int64()), ("group", pa.string()), ("position", pa.int64())]
    fields += [(name, pa.string()) for name in extra]
    fields += [(name, arrow_type(modality)) for name, modality in pack.modalities.items()]
    return pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": features}})})


def _write_split(pack: Pack, split: str, folder: Path, wrote: Callable[[float], None]) -> list[str]:
    rows = pack.rows(split)
    row_bytes = sum(modality.row_bytes for modality in pack.modalities.values())
    count = -(-len(rows) * row_bytes // SHARD_BYTES)
    names = [f"{split}-{number:05d}-of-{count:05d}.parquet" for number in range(count)]
    step = max(1, min(256, CHUNK_BYTES // row_bytes))
    for name, part in zip(names, np.array_split(rows, max(count, 1)), strict=False):
        with (folder / name).open("wb") as file, pq.ParquetWriter(file, _schema(pack)) as writer:
            for start in range(0, len(part), step):
                writer.write_batch(_batch(pack, part[start : start + step]))
                wrote(len(part[start : start + step]))
    return names


def _batch(pack: Pack, rows: NDArray[np.int64]) -> pa.RecordBatch:
    index = pack.index.iloc[rows]
    ids = index["id"].tolist()
    columns = [pa.array(ids), pa.array(index["label"].to_numpy(np.int64))]
    columns += [pa.array(index["group"].tolist(), pa.string()), pa.array(rows)]
    columns += [pa.array(index[name].tolist(), pa.string()) for name in metadata_columns(index, pack.modalities)]
    for name, modality in pack.modalities.items():
        present = index[f"has_{name}"].to_numpy(dtype=bool)
        columns.append(to_arrow(modality, pack.array(name)[rows], present, ids))
    return pa.record_batch(columns, schema=_schema(pack))
