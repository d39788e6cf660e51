"""Packs as data sets of the Hugging Face hub, and back: plain Parquet files in its layout, without its libraries."""

from cmkd.data.huggingface.reading import import_folder
from cmkd.data.huggingface.writing import export_pack

__all__ = ["export_pack", "import_folder"]
