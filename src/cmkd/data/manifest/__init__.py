"""Folders with a manifest, or with one folder per class: table of pairs, file readers, and conversion to packs."""

from cmkd.data.manifest.build import append, build

__all__ = ["append", "build"]
