"""AVE: audible and visible events in online videos."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cmkd.data.pack.pack import Pack
from cmkd.datasets.base import DataSet, Listing, read_pairs
from cmkd.datasets.formats.archive import Archive
from cmkd.datasets.formats.fetch import PublishedFile
from cmkd.datasets.formats.pictures import frames_of, rgb, square
from cmkd.datasets.formats.sound import log_mel, mel_bank, read_wav
from cmkd.errors import CmkdError
from cmkd.types import Modality

ADDRESS = "https://github.com/YapengTian/AVE-ECCV18"
LISTS = {"train": "trainSet.txt", "validation": "valSet.txt", "test": "testSet.txt"}
BANDS, FRAMES = 64, 128


@dataclass(frozen=True)
class _Event:
    """One line of a list: the event that is heard and seen in a video from second `first` to second `last`."""

    category: str
    video: str
    first: float
    last: float


class Ave(DataSet):
    """4,143 events of 28 categories in videos of ten seconds: sound (rich) and a frame (poor).

    ``sound`` is a series ``(128, 64)``: the log-mel spectrogram of the event in dB, stretched to 128 time steps.
    ``frame`` is an image ``(3, size, size)`` from the event's middle second. The split is the publishers'. A video may
    hold several events: if they are in different lists, those in earlier lists are left out (train before validation
    before test). Events without sound or frames are left out too.

    Videos are not decoded here. Extract sound and frames of each video first:
    ``ffmpeg -i AVE/VIDEO.mp4 -ac 1 -ar 16000 audio/VIDEO.wav -vf fps=1 frames/VIDEO/%04d.jpg``.

    Layout (tested on synthetic files only): the lists ``trainSet.txt``, ``valSet.txt`` and ``testSet.txt``, each line
    ``Category&VideoID&Quality&StartTime&EndTime``, beside the folders ``audio`` and ``frames``.

    Args:
        size: height and width of a frame, pixels.
    """

    name = "ave"
    title = "AVE: audio-visual events, the sound beside a frame, by video"
    rich = "sound"
    poor = "frame"
    license = "none stated (videos of YouTube; annotations for research)"
    citation = """@inproceedings{tian2018audio, title={Audio-Visual Event Localization in Unconstrained Videos},
  author={Tian, Yapeng and Shi, Jing and Li, Bochen and Duan, Zhiyao and Xu, Chenliang}, booktitle={European Conference
  on Computer Vision}, year={2018}}"""
    sources = (PublishedFile("AVE_Dataset.zip", ADDRESS),)
    group = "a video"
    mirror = True
    unsound = "Videos of one channel may be in several splits: the uploaders were not published."

    def __init__(self, *, size: int = 64) -> None:
        self.at_least_one(size=size)
        self.size = size

    def prepare(self, source: Path | None, destination: Path) -> Pack:
        """Write the pack from the folder with the lists, ``audio`` and ``frames``."""
        with self.opened(source) as archive:
            listed = {split: _events(archive, name) for split, name in LISTS.items()}
            classes = sorted({event.category for events in listed.values() for event in events})
            frames = frames_of(archive)
            sounds = {Path(name).stem: name for name in archive.sizes if name.lower().endswith(".wav")}
            chosen = _chosen(listed, frames.keys() & sounds.keys())
            if not chosen:
                raise CmkdError(
                    f"{source} holds no listed video with audio/VIDEO.wav and frames/VIDEO/*.jpg: get the videos from "
                    f"{ADDRESS} and extract both with ffmpeg, as the documentation of this data set says"
                )

            def sound(event: _Event) -> NDArray[np.float32]:
                rate, samples = read_wav(archive, sounds[event.video])
                first = int(event.first * rate)
                part = samples[first : max(int(event.last * rate), first + 1)]
                return log_mel(part if len(part) else samples, rate, mel_bank(rate, BANDS), FRAMES)

            def frame(event: _Event) -> NDArray[np.uint8]:
                files, second = frames[event.video], int((event.first + event.last) / 2)
                return square(rgb(archive, files[min(second, len(files) - 1)]), self.size)

            values = read_pairs([event for _, _, event in chosen], {self.rich: sound, self.poor: frame})
            return self.write(
                destination,
                Listing(
                    [f"{split}{number:05d}-{event.video}" for split, number, event in chosen],
                    [classes.index(event.category) for _, _, event in chosen],
                    [split for split, _, _ in chosen],
                    {"method": "the publishers' lists, less events of a video in a later list"},
                    values,
                    [event.video for _, _, event in chosen],
                ),
                [
                    Modality(self.rich, "series", (FRAMES, BANDS), "float32"),
                    Modality(self.poor, "image", (3, self.size, self.size), "uint8"),
                ],
                classes=classes,
            )


def _chosen(listed: Mapping[str, list[_Event]], whole: Collection[str]) -> list[tuple[str, int, _Event]]:
    """Return split, number in the split, and event, for the events of `whole` videos that are in no later list."""
    later: set[str] = set()
    chosen: list[tuple[str, int, _Event]] = []
    for split in reversed(LISTS):
        events = [event for event in listed[split] if event.video in whole]
        kept = (event for event in events if event.video not in later)
        chosen = [(split, number, event) for number, event in enumerate(kept)] + chosen
        later |= {event.video for event in events}
    return chosen


def _events(archive: Archive, name: str) -> list[_Event]:
    found = archive.ending(name)
    events = []
    for number, line in enumerate(archive.read(found).decode("utf-8", "replace").splitlines(), start=1):
        parts = line.strip().split("&")
        if not line.strip() or parts[0] == "Category":
            continue
        try:
            events.append(_Event(parts[0], parts[1], float(parts[3]), float(parts[4])))
        except (IndexError, ValueError) as error:
            problem = f"is damaged: line {number} is not Category&VideoID&Quality&StartTime&EndTime"
            raise archive.error(found, problem) from error
    return events
