"""A folder with a manifest: its table, the readers of its files, and the pack made from it."""

from cmkd.data.manifest.build import Progress, append, build

__all__ = ["Progress", "append", "build"]
