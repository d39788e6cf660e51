"""Export and import of packs in the layout of the Hugging Face hub: plain Parquet files, without its libraries."""

from cmkd.data.huggingface.reading import import_folder
from cmkd.data.huggingface.writing import export_pack

__all__ = ["export_pack", "import_folder"]
