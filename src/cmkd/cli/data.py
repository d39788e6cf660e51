"""``cmkd data``: list, inspect, prepare, build, extend, verify and check paired data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from shlex import quote
from typing import Literal

from cmkd.cli.capture import check, diff, export, import_data, open_version, read_groups
from cmkd.cli.pair import pair
from cmkd.cli.parsing import choose
from cmkd.cli.readings import read_readings
from cmkd.cli.tables import show, table
from cmkd.data.manifest.build import append as append_manifest
from cmkd.data.manifest.build import build as build_manifest
from cmkd.data.pack.card import SPLITS
from cmkd.data.pack.merge import merge as merge_packs
from cmkd.data.pack.pack import Pack
from cmkd.data.summary import HISTORY, facts, history_rows, markdown, short, summarize, type_and_unit
from cmkd.datasets.base import DATASETS, DataSet
from cmkd.datasets.open import open_data, parse_reference, portable, without_files
from cmkd.datasets.open import prepare as prepare_data
from cmkd.options import Seed, Threads
from cmkd.progress import shown


def main(arguments: Sequence[str]) -> None:
    """Run ``cmkd data COMMAND ...``."""
    commands: dict[str, Callable[..., object]] = {
        "list": list_data,
        "info": info,
        "card": card,
        "prepare": prepare,
        "pair": pair,
        "build": build,
        "append": append,
        "merge": merge,
        "history": history,
        "verify": verify,
        "push": push,
        "check": check,
        "diff": diff,
        "export": export,
        "import": import_data,
    }
    choose(commands, arguments, prog="cmkd data")


def list_data() -> None:
    """List all data sets known by name."""
    listed = table("name", "rich", "poor", "files needed", "what it is", "license")
    for name, kind in DATASETS.items():
        needed = kind.sources[0].url if kind.sources else "none"
        listed.add_row(name, kind.rich, kind.poor, needed, kind.title, kind.license)
    show(listed)


def info(reference: str) -> None:
    """Show a data set, preparing it if needed; if its files are missing, show where to get them.

    Args:
        reference: a data set's name, as in digits(severity=0.3) or mars:FOLDER, a pack (PACK@N for version N), or a
            folder of pairs.
    """
    kind = without_files(reference)
    if kind is not None:
        _show_sources(kind)
        return
    with shown("reading") as report:
        pack = open_data(reference, progress=report)
    _show(pack)


def _show_sources(kind: type[DataSet]) -> None:
    rows = table("data set", f"{kind.name}: {kind.title}")
    rows.add_row("rich, poor", f"{kind.rich}, {kind.poor}")
    rows.add_row("license", kind.license or "not stated")
    rows.add_row("citation", " ".join(kind.citation.split()) or "none")
    for source in kind.sources:
        rows.add_row("file", f"{source.name} from {source.url}")
    rows.add_row("unsound", kind.unsound or "nothing noted")
    show(rows)
    how = "`cmkd data prepare` downloads them, or" if all(s.fetchable for s in kind.sources) else "download them and"
    print(f"the files are missing: {how} pass their folder as {kind.name}:FOLDER")


def card(reference: str) -> None:
    """Print the data card as Markdown: classes, groups, shortcuts, duplicates across splits, what is unsound.

    Args:
        reference: the data set, as in `cmkd data info`.
    """
    with shown("reading") as told:
        pack = open_data(reference, progress=told)
    print(markdown(pack, opened=portable(reference)), end="")


def prepare(name: str, *, source: Path | None = None, out: Path | None = None) -> None:
    """Prepare the pack of a data set known by name.

    Args:
        name: the data set, with options as in digits(severity=0.3).
        source: folder of its published files; by default files with known checksums are downloaded.
        out: folder of the pack to make; by default in the cache.
    """
    call, place = parse_reference(name)
    with shown("reading") as told:
        pack = prepare_data(call, source if source is not None else place, out=out, progress=told)
    _show(pack)


def build(
    folder: Path,
    *,
    out: Path,
    seed: Seed = 0,
    size: str = "",
    kind: str = "",
    channels: str = "",
    nodata: str = "",
    unit: str = "",
    co_registered: str = "",
    rich: str | None = None,
    poor: str | None = None,
    exclude: Path | None = None,
    license: str = "",
    workers: Threads = 1,
) -> None:
    """Make a pack from a folder with a manifest, or with folders by class.

    Without a manifest.csv or manifest.parquet, a pair is optical/CLASS/NAME.png and radar/CLASS/NAME.tif.

    Args:
        folder: folder with a manifest (columns id, label, optional split and group, file paths per modality, and
            metadata) or with folders by class.
        out: folder of the pack to make; must not exist.
        seed: seed of the splits that are not given.
        size: size of modalities whose files differ, as in optical=64x64,radar=32x32.
        kind: kind of a modality, as in radar=points: image, vector, series, points or point_series.
        channels: axis of the channels of a modality's arrays, as in radar=last: first or last.
        nodata: value of invalid samples, as in radar=-9999, in place of the files' tags; none ignores the tags.
        unit: unit of a modality's values, as in radar=dB. These five may also be in manifest.yaml next to the manifest.
        co_registered: image modalities that share a pixel grid, as in optical+radar; commas between groups.
        rich: the teacher's modality by default.
        poor: the student's modality by default.
        exclude: faults.json of cmkd data check, whose flagged pairs are left out and counted on the card.
        license: license of the data, for the card.
        workers: threads that read files.
    """
    with shown("reading") as report:
        pack = build_manifest(
            folder,
            out,
            seed=seed,
            readings=read_readings(size=size, kind=kind, channels=channels, nodata=nodata, unit=unit),
            co_registered=read_groups(co_registered),
            rich=rich,
            poor=poor,
            exclude=exclude,
            license=license,
            workers=workers,
            progress=report,
        )
    _show(pack)
    print(f"\nto find duplicates, blank, clipped and other faulty pairs: cmkd data check {quote(str(out))} --out DIR")


def append(
    pack: Path,
    folder: Path,
    *,
    new_classes: Literal["refuse", "allow"] = "refuse",
    exclude: Path | None = None,
    workers: Threads = 1,
) -> None:
    """Add pairs to a pack as its next version; older versions do not change.

    Groups of the pack keep their split; new ones get one by a hash of their name, in the pack's proportions.

    Args:
        pack: folder of the pack.
        folder: folder with the manifest, or the folders by class, of the new pairs.
        new_classes: refuse labels that are not classes of the pack, or allow them as new classes.
        exclude: faults.json of cmkd data check, whose flagged pairs are left out.
        workers: threads that read files.
    """
    with shown("reading") as report:
        made = append_manifest(pack, folder, new_classes=new_classes, exclude=exclude, workers=workers, progress=report)
    _show(made)


def merge(*packs: str, out: Path) -> None:
    """Merge packs of one kind into a new one, such as the parts that several machines simulated.

    Args:
        packs: folders of packs, or PACK@N for version N; numbered parts are put in their order.
        out: folder of the pack to make; must not exist.
    """
    with shown("merging") as report:
        made = merge_packs([open_version(pack) for pack in packs], out, progress=report)
    _show(made)


def history(pack: str) -> None:
    """Show what each version of a pack added: pairs, classes, groups and notes.

    Args:
        pack: folder of the pack, or PACK@N for the versions up to N.
    """
    rows = table(*HISTORY)
    for cells in history_rows(open_version(pack)):
        rows.add_row(*cells)
    show(rows)


def push(pack: Path, address: str, *, force: bool = False) -> None:
    """Write a pack to object storage or a Hub repository, where `--data ADDRESS` reads it in place.

    Repeat a push that was stopped to continue it; for a new version of a pack, only what is new is sent.

    Args:
        pack: folder of the pack.
        address: s3://BUCKET/FOLDER, gs://..., az://..., hf://datasets/USER/NAME, or file:///FOLDER.
        force: replace a pack there that is not an earlier version of this one.
    """
    from cmkd.data.remote.push import push as send

    with shown("pushing", "bytes") as report:
        card = send(pack, address, force=force, progress=report)
    print(f"{card.rows} pairs of version {card.version} at {address}, all read back: cmkd run --data {quote(address)}")


def verify(pack: str) -> None:
    """Compare every file of a pack with its checksums.

    Args:
        pack: folder of the pack, or its address; PACK@N for version N.
    """
    opened = open_version(pack)
    with shown("reading", "bytes") as told:
        opened.verify(progress=told)
    print(f"{pack}: version {opened.card.version}, {len(opened)} pairs, all files unchanged")


def _show(pack: Pack) -> None:
    card = pack.card
    rows = table("pack", str(pack.place))
    rows.add_row("name", f"{card.name}: {card.title}" if card.title else card.name)
    names = ", ".join(pack.classes[:12]) + (", ..." if len(pack.classes) > 12 else "")
    rows.add_row("classes", f"{len(pack.classes)}: {names}")
    rows.add_row("rich, poor", f"{card.rich or 'not set'}, {card.poor or 'not set'}")
    for name, fact in facts(pack).items():
        rows.add_row(name.lower(), fact)
    rows.add_row("citation", " ".join(card.citation.split()) or "none")
    sensors = table("modality", "kind", "shape", "type", "mean", "std", *SPLITS)
    for name, modality in pack.modalities.items():
        numbers = [str(len(pack.rows(split, modalities=[name]))) for split in SPLITS]
        shape = " x ".join(map(str, modality.shape))
        numbers = [short(modality.mean), short(modality.std), *numbers]
        sensors.add_row(name, modality.kind, shape, type_and_unit(modality), *numbers)
    sensors.add_row("all, labeled", "", "", "", "", "", *map(str, summarize(pack).pairs.values()))
    show(rows, sensors)
