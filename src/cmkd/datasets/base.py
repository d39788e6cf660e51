"""The contract of a data set known by name, and the registry of all data sets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from cmkd.data.manifest.build import Progress
from cmkd.data.pack.pack import Pack
from cmkd.data.pack.writer import PackWriter
from cmkd.errors import CmkdError
from cmkd.registry import Registry
from cmkd.types import Modality


@dataclass(frozen=True)
class Source:
    """One file a data set is made from.

    Args:
        name: its file name inside the source folder.
        url: where its publisher offers it.
        sha256: its checksum, empty where the publisher changes it or it is not known.
        md5: another one, where the publisher states no sha256.
        unpacked: sha256 of what a ``.gz`` unpacks to, so that a copy that was packed again is known to be the same.
    """

    name: str
    url: str
    sha256: str = ""
    md5: str = ""
    unpacked: str = ""

    @property
    def fetchable(self) -> bool:
        """Whether it can be downloaded: only what can then be checked is."""
        return bool(self.sha256 or self.md5)


class DataSet(ABC):
    """A data set that can be prepared into a `Pack`. Options are keyword-only constructor arguments with defaults."""

    name: ClassVar[str]
    """The name on the command line."""
    title: ClassVar[str]
    """What it is, in a line."""
    rich: ClassVar[str]
    """The teacher's modality unless told otherwise."""
    poor: ClassVar[str]
    """The student's modality unless told otherwise."""
    license: ClassVar[str]
    citation: ClassVar[str]
    sources: ClassVar[tuple[Source, ...]] = ()
    """Empty for a data set that ships with a dependency or is simulated."""
    tiny: ClassVar[Mapping[str, object]] = {}
    """Options that make a small pack, for tests, where `make_tiny` alone does not."""
    progress: Progress | None = None
    """Told of pairs written by data sets that take long; set on the object before `prepare`."""
    revision: ClassVar[int] = 1
    """Raised whenever `prepare` begins to write other values; packs made before are then left in the cache unread."""
    mirror: ClassVar[bool] = False
    """Whether a mirrored image is as good a sample of its class: of a ship it is, of a letter it is not."""
    cropped: ClassVar[bool] = False
    """Whether each image is cropped to what it shows, so that large shifts would cut it."""
    unsound: ClassVar[str] = ""
    """What is known to be unsound about it as a benchmark; goes into the pack's notes and so onto its data card."""
    group: ClassVar[str] = ""
    """What a group of its pairs is, such as ``a person``; empty where it has none."""

    def writer(
        self,
        destination: Path,
        *,
        classes: Sequence[str],
        modalities: Sequence[Modality],
        split: Mapping[str, Any],
        co_registered: Sequence[Sequence[str]] = (),
        notes: str = "",
        sources: Sequence[str] | None = None,
    ) -> PackWriter:
        """Return a writer of a pack that says of itself what this class says; arguments as in `PackWriter`."""
        return PackWriter(
            destination,
            name=self.name,
            classes=classes,
            modalities=modalities,
            title=self.title,
            rich=self.rich,
            poor=self.poor,
            co_registered=co_registered,
            mirror=self.mirror,
            cropped=self.cropped,
            license=self.license,
            citation=self.citation,
            sources=[item.url for item in self.sources] if sources is None else sources,
            split=split,
            notes=" ".join(part for part in (notes, self.unsound) if part),
        )

    def source_folder(self, source: Path | None) -> Path:
        """Return where the published files are.

        Raises:
            CmkdError: none is given or it does not exist; the line says where they are published.
        """
        address = self.sources[0].url
        if source is None:
            raise CmkdError(f"{self.name} needs its files: get {address} and give their place, as in {self.name}:PATH")
        if not source.exists():
            raise CmkdError(f"{source} does not exist: get the files of {self.name} from {address}")
        return source

    @abstractmethod
    def prepare(self, source: Path | None, destination: Path) -> Pack:
        """Write the pack.

        Args:
            source: folder or file with the published files in their own layout; None to use what a dependency ships.
            destination: folder of the pack to make; it appears whole or not at all.

        Raises:
            CmkdError: a source file is missing, truncated or has the wrong checksum; the line names it and its address.
        """

    @staticmethod
    @abstractmethod
    def make_tiny(folder: Path) -> Path | None:
        """Write a tiny source in the publisher's layout below `folder` for tests; None where `prepare` needs none."""


DATASETS: Registry[DataSet] = Registry(
    "data set", "cmkd.datasets", DataSet, support=("base", "degradations", "formats", "open", "transformed")
)
"""All data sets by name; those of plug-ins are entry points of the group ``cmkd.datasets``."""
