"""Push of a pack to an address: resumable, verified by reading back, and visible only once complete."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

from cmkd.data.pack.card import Card, CardFile, index_name
from cmkd.data.pack.pack import Pack
from cmkd.data.remote.hub import HubStore
from cmkd.data.remote.layout import (
    BLOCK_BYTES,
    CARD,
    LAYOUT,
    SHARD_BYTES,
    Layout,
    ShardedArray,
    block_digests,
    card_history,
    object_name,
)
from cmkd.data.remote.store import HUB, TRIES, Store, is_address
from cmkd.errors import CmkdError
from cmkd.io import checksum
from cmkd.progress import Progress
from cmkd.types import Modality

TOGETHER = 4
"""Number of shards held in memory and sent at a time; on the Hugging Face Hub, in one commit."""


def push(pack: Path | str, address: str, *, force: bool = False, progress: Progress | None = None) -> Card:
    """Write all current versions of a pack to an address, from which `Pack.open` reads it.

    Everything is sent in objects that are named by their content, and read back; the card is sent last, so that a
    reader sees the old pack or the new one. To resume an interrupted push, repeat it. For a pack with a new version,
    only new shards are sent.

    Args:
        pack: folder of the pack.
        address: address as for `cmkd.data.remote.store.Store`, but not HTTP. On the Hugging Face Hub, the repository is
            created if it does not exist.
        force: replace a pack that is not an earlier version of this one; the objects of the old pack are not deleted.
        progress: called with the number of bytes already there and of all bytes.

    Returns:
        The card of the latest version.

    Raises:
        CmkdError: the pack is damaged, the address holds another pack, or the address cannot be written.

    Example:
        >>> import tempfile
        >>> from cmkd.datasets.digits import Digits
        >>> home = Path(tempfile.mkdtemp())
        >>> pack = Digits().prepare(None, home / "digits")
        >>> push(home / "digits", f"file://{home}/pushed").rows
        1797
        >>> Pack.open(f"file://{home}/pushed").batch([5]).inputs["optical"].equal(pack.batch([5]).inputs["optical"])
        True
    """
    if not is_address(address) or address.startswith(("http://", "https://")):
        raise CmkdError(f"cannot push to '{address}': give an address such as s3://bucket/ships or file:///mnt/ships")
    CardFile.read(Path(pack))  # refuses a folder that is not a pack
    card = (Path(pack) / CARD).read_bytes()  # as it is now: versions appended while this runs are not sent
    history = card_history(card, f"'{Path(pack) / CARD}'")
    opened = Pack.open(pack, len(history))
    opened.verify()
    store = HubStore(address) if address.startswith(HUB) else Store(address, write=True)
    before = _there(store, opened, history, force=force)
    sender = _Sender(store, progress, sum(len(opened) * m.row_bytes for m in opened.modalities.values()))
    arrays = {
        name: sender.send_array(opened, modality, before.arrays.get(name) if before else None)
        for name, modality in opened.modalities.items()
    }
    for number in range(1, len(history) + 1):
        name = index_name(number)
        sender.send({name: (opened.path / name).read_bytes()})
    if isinstance(store, HubStore):
        store.describe(opened)
    sender.send({LAYOUT: Layout(history, arrays).to_bytes()})
    sender.send({CARD: card})
    return opened.card


def _there(store: Store, pack: Pack, history: tuple[str, ...], *, force: bool) -> Layout | None:
    """Return the layout of an earlier version at the address; None if there is none, or with `force`.

    Raises:
        CmkdError: the address holds another pack or a newer version.
    """
    card = store.read(CARD)
    if card is None or force:
        return None
    there = card_history(card, f"'{store.address}/{CARD}'")
    if not there or there != history[: len(there)]:
        newer = bool(there) and there[: len(history)] == history
        what = (
            f"version {len(there)} of this pack, which is newer" if newer else "another pack, or another version of it"
        )
        folder = f"{store.address}/v{pack.card.version}"
        raise CmkdError(f"{store.address} holds {what}: push to {folder}, or replace it with --force")
    content = store.read(LAYOUT)
    return None if content is None else Layout.parse(content, f"'{store.address}/{LAYOUT}'")


class _Sender:
    """Sends objects, reads them back, and reports progress."""

    def __init__(self, store: Store, progress: Progress | None, total: int) -> None:
        self._store, self._progress, self._total, self._done = store, progress, total, 0

    def send_array(self, pack: Pack, modality: Modality, before: ShardedArray | None) -> ShardedArray:
        """Send the shards of an array; those of an earlier version are there already."""
        block_rows = before.block_rows if before else max(1, BLOCK_BYTES // modality.row_bytes)
        block_bytes = block_rows * modality.row_bytes
        shard_blocks = before.shard_blocks if before else max(1, SHARD_BYTES // block_bytes)
        known = {object_name(shard) for shard in before.shards} if before else set()
        shards: list[str] = []
        digests: list[bytes] = []
        parts = _shards(pack.path / modality.file, len(pack) * modality.row_bytes, shard_blocks * block_bytes)
        while group := list(islice(parts, TOGETHER)):  # shards may be equal, such as those of missing rows
            shards += [sha256 for sha256, _ in group]
            digests += [digest for _, content in group for digest in block_digests(content, block_bytes)]
            self.send({name: content for sha256, content in group if (name := object_name(sha256)) not in known})
            self._done += sum(len(content) for _, content in group)
            if self._progress is not None:
                self._progress(self._done, self._total)
        listed = b"".join(digests)
        sha256 = checksum([listed])
        self.send({object_name(sha256): listed})
        return ShardedArray(
            rows=len(pack),
            row_bytes=modality.row_bytes,
            block_rows=block_rows,
            shard_blocks=shard_blocks,
            shards=tuple(shards),
            digests=sha256,
        )

    def send(self, contents: Mapping[str, bytes]) -> None:
        """Write the objects that are missing or differ at the address, and read them back."""
        missing = {name: content for name, content in contents.items() if self._store.read(name) != content}
        for _ in range(TRIES):
            if not missing:
                return
            self._store.write(missing)
            missing = {name: content for name, content in missing.items() if self._store.read(name) != content}
        raise CmkdError(f"{self._store.address}/{next(iter(missing))} differs from what was written: check the storage")


def _shards(path: Path, length: int, shard_bytes: int) -> Iterator[tuple[str, bytes]]:
    """Yield the sha256 and the content of each shard of the first `length` bytes of a file."""
    with path.open("rb") as file:
        for start in range(0, length, shard_bytes):
            content = file.read(min(shard_bytes, length - start))
            yield checksum([content]), content
