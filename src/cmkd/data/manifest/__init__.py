"""Folders with a manifest or with folders by class: their table, the readers of their files, and packs made of them."""

from cmkd.data.manifest.build import append, build

__all__ = ["append", "build"]
