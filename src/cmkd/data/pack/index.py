"""Reader of a pack's index, which has one row per pair and is checked against the card."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from cmkd.data.pack.card import AGAIN, SPLITS, Card
from cmkd.errors import CmkdError, not_let
from cmkd.io import parquet_file
from cmkd.types import UNLABELED


def read_index(folder: Path, card: Card) -> pd.DataFrame:
    """Read the index of a version, as `cmkd.data.pack.pack.Pack.index` describes it.

    Raises:
        CmkdError: the file is missing or damaged, or does not fit the card.
    """
    import pyarrow as pa

    path = folder / card.index_file
    try:
        with parquet_file(path) as file:
            rows, names = file.metadata.num_rows, set(file.schema_arrow.names)
            missing = {"id", "label", "split", "group", *(f"has_{name}" for name in card.modalities)} - names
            if rows != card.rows or missing:  # checked before the rows are read, since there may be many
                lacks = f", without {', '.join(sorted(missing))}" if missing else ""
                raise CmkdError(f"{path} does not match the card: {rows} rows of {card.rows}{lacks}; {AGAIN}")
            index: pd.DataFrame = file.read().to_pandas()
        _check_values(index, card)
    except FileNotFoundError:
        raise CmkdError(f"{path} is missing; {AGAIN}") from None
    except CmkdError:
        raise
    except (OSError, ValueError, TypeError, KeyError, MemoryError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
        damaged = CmkdError(f"{path} is truncated or damaged ({reason}); {AGAIN}")
        raise (not_let(path, error) or damaged) from error
    return index


def _check_values(index: pd.DataFrame, card: Card) -> None:
    for name in (f"has_{modality}" for modality in card.modalities):
        if index[name].dtype != bool:
            raise ValueError(f"{name} holds {index[name].dtype}, not true or false")
    labels = index["label"]
    if labels.dtype != np.int64 or labels.min() < UNLABELED or labels.max() >= len(card.classes):
        raise ValueError(f"a label is not an index of the {len(card.classes)} classes")
    if not index["split"].isin(SPLITS).all():
        raise ValueError(f"its splits must be among {', '.join(SPLITS)}")
    texts = index.drop(columns=["label", *(f"has_{modality}" for modality in card.modalities)])
    for name in map(str, texts):
        if not all(isinstance(cell, str) for cell in texts[name]):  # this also decodes each cell
            raise ValueError(f"{name} holds values that are not text")
    if index["id"].duplicated().any():
        raise ValueError("an id occurs twice")
