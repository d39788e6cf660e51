"""Open a pushed pack: its card and index are copied into the cache, and its arrays are read in blocks."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from cmkd.data.remote.cache import BlockCache, block_cache
from cmkd.data.remote.layout import AGAIN, CARD, DIGEST_BYTES, LAYOUT, Layout, as_digests, card_history, object_name
from cmkd.data.remote.store import Store
from cmkd.data.remote.streamed import StreamedArray
from cmkd.errors import CmkdError
from cmkd.io import checksum, writable_cache, write_bytes
from cmkd.types import Modality


class Remote:
    """A pushed pack.

    Args:
        address: address of the pack, as for `cmkd.data.remote.store.Store`.

    Attributes:
        folder: local folder with copies of the card and of the objects requested with `copied`.

    Raises:
        CmkdError: there is no pushed pack, it cannot be reached, or its card does not match its layout.
    """

    def __init__(self, address: str) -> None:
        self.store = Store(address)
        self.address = self.store.address
        self.folder = writable_cache("streams", checksum([self.address.encode()])[:16])
        # the card first: a card newer than the layout is refused, an older one is accepted
        card, layout = self.store.read(CARD), self.store.read(LAYOUT)
        if card is None or layout is None:
            lacks = CARD if card is None else LAYOUT
            raise CmkdError(f"{address} is not a pushed pack: it has no {lacks}; make one with `cmkd data push`")
        self.layout = Layout.parse(layout, f"'{address}/{LAYOUT}'")
        known = card_history(card, f"'{address}/{CARD}'")
        if not known or known != self.layout.history[: len(known)]:
            raise CmkdError(f"'{self.address}/{CARD}' does not match its {LAYOUT}: {AGAIN}, or wait for a push to end")
        write_bytes(self.folder / CARD, card)

    @cached_property
    def cache(self) -> BlockCache:
        """Cache of blocks on the local disk."""
        return block_cache()

    def copied(self, name: str, sha256: str) -> Path:
        """Return the path of an object's copy in `folder`; it is read again unless the copy has the checksum.

        Raises:
            CmkdError: the object is missing or changed at the address.
        """
        path = self.folder / name
        if path.is_file() and checksum(path) == sha256:
            return path
        content = self.store.read(name)
        if content is None or checksum([content]) != sha256:
            state = "is missing" if content is None else "is damaged (sha256)"
            raise CmkdError(f"{self.address}/{name} {state}: {AGAIN}")
        write_bytes(path, content)
        return path

    def array(self, modality: Modality, rows: int) -> StreamedArray:
        """Return the first rows of a modality's array.

        Raises:
            CmkdError: the layout does not fit the card.
        """
        sharded = self.layout.arrays.get(modality.name)
        if sharded is None or sharded.row_bytes != modality.row_bytes or sharded.rows < rows:
            raise CmkdError(f"'{self.address}/{LAYOUT}' does not match the card for {modality.name}: {AGAIN}")
        digests = self.copied(object_name(sharded.digests), sharded.digests).read_bytes()
        if len(digests) != sharded.blocks * DIGEST_BYTES:
            raise CmkdError(f"'{self.address}/{LAYOUT}' does not match its checksums of {modality.name}: {AGAIN}")
        shape = (rows, *modality.shape)
        return StreamedArray(
            self.store, self.cache, sharded, as_digests(digests, sharded.blocks), shape, modality.dtype
        )
