"""The base class of data sets known by name, and the registry of all data sets."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from cmkd.data.pack.card import SPLITS, CardInfo
from cmkd.data.pack.pack import Pack
from cmkd.data.pack.writer import PackWriter
from cmkd.datasets.formats.archive import Archive
from cmkd.datasets.formats.fetch import PublishedFile
from cmkd.errors import CmkdError
from cmkd.progress import Progress
from cmkd.registry import Registry
from cmkd.types import Modality

T = TypeVar("T")


@dataclass(frozen=True)
class Listing:
    """All pairs of a data set in order, listed before their values are read.

    Args:
        ids: id of each pair.
        labels: class position of each pair.
        splits: split of each pair: ``train``, ``validation`` or ``test``.
        record: how the split was made; `DataSet.write` adds the counts.
        values: iterable over blocks of consecutive pairs, of any length: modality name -> values ``(pairs, ...)``.
        groups: group of each pair, which must not cross splits; empty if a pair has no group.
        present: modality name -> ``(pairs,)`` bool; by default every modality is present.
        metadata: name of a further column of the index -> one text per pair.
    """

    ids: Sequence[str]
    labels: Sequence[int] | NDArray[np.integer[Any]]
    splits: Sequence[str]
    record: Mapping[str, Any]
    values: Iterable[Mapping[str, NDArray[Any]]]
    groups: Sequence[str] | None = None
    present: Mapping[str, NDArray[np.bool_]] | None = None
    metadata: Mapping[str, Sequence[str]] = field(default_factory=dict)


def read_pairs(
    pairs: Sequence[T], readers: Mapping[str, Callable[[T], NDArray[Any]]], *, block: int = 32
) -> Iterator[dict[str, NDArray[Any]]]:
    """Yield the values of a `Listing` in blocks.

    Args:
        pairs: descriptions of the pairs, from which the readers know which files to read.
        readers: modality name -> function that returns the values of one pair.
        block: number of pairs held in memory at a time.
    """
    for start in range(0, len(pairs), block):
        part = pairs[start : start + block]
        yield {name: np.stack([read(pair) for pair in part]) for name, read in readers.items()}


class DataSet(ABC):
    """A data set that can be prepared into a `Pack`. Options are keyword-only constructor arguments with defaults."""

    name: ClassVar[str]
    """Name on the command line."""
    title: ClassVar[str]
    """One-line description."""
    rich: ClassVar[str]
    """Default modality of the teacher."""
    poor: ClassVar[str]
    """Default modality of the student."""
    license: ClassVar[str]
    citation: ClassVar[str]
    sources: ClassVar[tuple[PublishedFile, ...]] = ()
    """The published files; empty for a data set that ships with a dependency or is simulated."""
    progress: Progress | None = None
    """Callback, called with the number of pairs written and the total number; set it before `prepare`."""
    revision: int = 1
    """Increase when the output of `prepare` changes; older cached packs are then ignored."""
    mirror: ClassVar[bool] = False
    """Whether a mirrored image is a valid sample of its class: true for ships, false for letters."""
    cropped: ClassVar[bool] = False
    """Whether each image is cropped to its object, so that large shifts would cut it."""
    unsound: ClassVar[str] = ""
    """Known weaknesses of the data set as a benchmark, for the card of its pack."""
    group: ClassVar[str] = ""
    """Meaning of a group of pairs, such as ``a person``; empty if the data set has no groups."""

    @classmethod
    def info(cls, **changes: Any) -> CardInfo:  # noqa: ANN401  # any field of `CardInfo`
        """Return the class's information for the card of its pack; the description is the docstring of the class."""
        said = {field.name: getattr(cls, field.name) for field in fields(CardInfo) if hasattr(cls, field.name)}
        paragraphs = inspect.cleandoc(cls.__doc__ or "").split("\n\n")
        said["description"] = "\n\n".join(part for part in paragraphs if not part.startswith(("Args:", "Raises:")))
        return CardInfo(**(said | {"sources": dict.fromkeys(file.url for file in cls.sources)} | changes))

    def identity(self) -> Mapping[str, Any]:
        """Return other inputs of the pack than options and published files, such as a file that an option names."""
        return {}

    def source_folder(self, source: Path | None) -> Path:
        """Return the folder or file with the published files.

        Raises:
            CmkdError: `source` is not given or does not exist; the message says where the files are published.
        """
        addresses = " and ".join(dict.fromkeys(file.url for file in self.sources))
        if source is None:
            raise CmkdError(
                f"{self.name} needs its files: download {addresses} and pass their folder: --data {self.name}:PATH"
            )
        if not source.exists():
            raise CmkdError(f"{source} does not exist: get the files of {self.name} from {addresses}")
        return source

    def opened(self, source: Path | None, *, packed: bool = False) -> Archive:
        """Open the published files as an archive.

        Args:
            source: folder or file with the published files.
            packed: whether to open the published archive itself if `source` is the folder that holds it.

        Raises:
            CmkdError: for the same reasons as `source_folder`, or the archive is not safe to read.
        """
        place = self.source_folder(source)
        file = place / self.sources[0].name
        return Archive(file if packed and file.is_file() else place, address=self.sources[0].url)

    def at_least_one(self, **options: int) -> None:
        """Refuse options below 1.

        Raises:
            CmkdError: an option is below 1; the message names it.
        """
        for option, value in options.items():
            if value < 1:
                raise CmkdError(f"{option} {value} of {self.name} must be at least 1")

    def write(
        self,
        destination: Path,
        listing: Listing,
        modalities: Sequence[Modality],
        *,
        classes: Sequence[str],
        co_registered: bool = False,
        notes: str = "",
        sources: Sequence[str] | None = None,
    ) -> Pack:
        """Write the pack block by block.

        Args:
            destination: folder of the pack.
            listing: all pairs of the pack.
            modalities: modalities of the pack, with their kinds, shapes and dtypes.
            classes: names of the classes; a label is a position in this list.
            co_registered: whether all modalities share a pixel grid.
            notes: anything a reader of the card must know.
            sources: addresses of the published files; by default those in the class attribute `sources`.
        """
        counts = {split: sum(given == split for given in listing.splits) for split in SPLITS}
        groups = [[modality.name for modality in modalities]] if co_registered else []
        info = self.info(co_registered=groups, **({} if sources is None else {"sources": sources}))
        split = {**listing.record, "counts": counts}
        with PackWriter(destination, info, classes=classes, modalities=modalities, split=split, notes=notes) as writer:
            start, total = 0, len(listing.ids)
            for values in listing.values:
                part = slice(start, start + len(next(iter(values.values()))))
                writer.add(
                    listing.ids[part],
                    listing.labels[part],
                    listing.splits[part],
                    listing.groups[part] if listing.groups is not None else None,
                    values,
                    {name: there[part] for name, there in listing.present.items()} if listing.present else None,
                    {column: texts[part] for column, texts in listing.metadata.items()},
                )
                start = min(part.stop, total)
                if self.progress is not None:
                    self.progress(start, total)
            if start < total:
                raise CmkdError(f"{self.name} lists {total} pairs, but has values for {start}: correct its `prepare`")
        return Pack.open(destination)

    @abstractmethod
    def prepare(self, source: Path | None, destination: Path) -> Pack:
        """Write the pack.

        Args:
            source: folder or file with the published files in their own layout; None to use files of a dependency.
            destination: folder of the pack; it appears whole or not at all.

        Raises:
            CmkdError: a source file is missing, truncated or has the wrong checksum; the message names it and its
                address.
        """


DATASETS: Registry[DataSet] = Registry(
    "data set",
    "cmkd.datasets",
    DataSet,
    support=("base", "degradations", "formats", "open", "ship_pairs", "transformed"),
)
"""All data sets by name; plug-ins add theirs as entry points of the group ``cmkd.datasets``."""
