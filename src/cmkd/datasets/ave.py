"""AVE: events that are heard and seen, out of videos of the public."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cmkd.data.pack.pack import Pack
from cmkd.datasets.base import DataSet, Source
from cmkd.datasets.formats.archive import Archive
from cmkd.datasets.formats.frames import frames_of, jpeg_bytes, picture
from cmkd.datasets.formats.sound import log_mel, mel_bank, read_wav, wav_bytes
from cmkd.errors import CmkdError
from cmkd.types import Modality

ADDRESS = "https://github.com/YapengTian/AVE-ECCV18"
LISTS = {"train": "trainSet.txt", "validation": "valSet.txt", "test": "testSet.txt"}
BANDS, FRAMES, CHUNK = 64, 128, 256


@dataclass(frozen=True)
class _Event:
    """A line of a list: what is heard and seen in a video, and from when to when in seconds."""

    category: str
    video: str
    first: float
    last: float


class Ave(DataSet):
    """4,143 events of 28 categories in videos of ten seconds: sound (rich) and a frame (poor).

    ``sound`` is a series ``(128, 64)``: the log-mel spectrogram of the event in dB, stretched to 128 time steps.
    ``frame`` is the image ``(3, size, size)`` of the event's middle second. The split is the publishers'; as a video
    may hold several events, train events of a video that validates or tests are left out, and validation events of one
    that tests. Events without sound or frames are left out.

    Videos are not decoded here: take sound and frames out first, for each video with
    ``ffmpeg -i AVE/VIDEO.mp4 -ac 1 -ar 16000 audio/VIDEO.wav -vf fps=1 frames/VIDEO/%04d.jpg``.

    Layout unverified against the real files: the lists ``trainSet.txt``, ``valSet.txt`` and ``testSet.txt``, each line
    ``Category&VideoID&Quality&StartTime&EndTime``, beside the folders ``audio`` and ``frames``.

    Args:
        size: pixels along a frame.

    Raises:
        CmkdError: the size is not positive.
    """

    name = "ave"
    title = "AVE: audio-visual events, the sound beside a frame, by video"
    rich = "sound"
    poor = "frame"
    license = "none stated (videos of YouTube; annotations for research)"
    citation = """@inproceedings{tian2018audio, title={Audio-Visual Event Localization in Unconstrained Videos},
  author={Tian, Yapeng and Shi, Jing and Li, Bochen and Duan, Zhiyao and Xu, Chenliang}, booktitle={European Conference
  on Computer Vision}, year={2018}}"""
    sources = (Source("AVE_Dataset.zip", ADDRESS),)
    mirror = True
    unsound = "Videos of one channel may be in several splits: who uploaded them was not published."

    def __init__(self, *, size: int = 64) -> None:
        if size < 1:
            raise CmkdError(f"size {size} of ave must be at least 1")
        self.size = size

    def prepare(self, source: Path | None, destination: Path) -> Pack:
        """Write the pack, in chunks.

        Args:
            source: the folder with the lists, ``audio`` and ``frames``.
            destination: folder of the pack to make.

        Raises:
            CmkdError: a file is missing or damaged.
        """
        with Archive(self.source_folder(source), address=ADDRESS) as archive:
            events = {split: _events(archive, name) for split, name in LISTS.items()}
            classes = sorted({event.category for listed in events.values() for event in listed})
            frames = frames_of(archive)
            sounds = {Path(name).stem: name for name in archive.sizes if name.lower().endswith(".wav")}
            later: set[str] = set()
            chosen: dict[str, list[_Event]] = {}
            for split in reversed(LISTS):
                whole = [e for e in events[split] if e.video in frames and e.video in sounds]
                chosen[split] = [event for event in whole if event.video not in later]
                later |= {event.video for event in whole}
            if not any(chosen.values()):
                raise CmkdError(
                    f"{source} holds no listed video with audio/VIDEO.wav and frames/VIDEO/*.jpg: get the videos from "
                    f"{ADDRESS} and take both out with ffmpeg, as the documentation of this data set says"
                )
            counts = {split: len(chosen[split]) for split in LISTS}
            modalities = [
                Modality(self.rich, "series", (FRAMES, BANDS), "float32"),
                Modality(self.poor, "image", (3, self.size, self.size), "uint8"),
            ]
            with self.writer(
                destination,
                classes=classes,
                modalities=modalities,
                split={"method": "the publishers' lists, less events of a video in a later list", "counts": counts},
            ) as writer:
                for split in LISTS:
                    for start in range(0, len(chosen[split]), CHUNK):
                        part = chosen[split][start : start + CHUNK]
                        heard = [self._sound(archive, sounds[event.video], event) for event in part]
                        seen = [self._frame(archive, frames[event.video], event) for event in part]
                        writer.add(
                            [f"{split}{start + row:05d}-{event.video}" for row, event in enumerate(part)],
                            [classes.index(event.category) for event in part],
                            [split] * len(part),
                            [event.video for event in part],
                            {self.rich: np.stack(heard), self.poor: np.stack(seen)},
                        )
        return Pack.open(destination)

    def _sound(self, archive: Archive, name: str, event: _Event) -> np.ndarray:
        rate, samples = read_wav(archive.read(name), f"{name} in {archive.place}", ADDRESS)
        part = samples[int(event.first * rate) : max(int(event.last * rate), int(event.first * rate) + 1)]
        return log_mel(part if len(part) else samples, rate, mel_bank(rate, BANDS), FRAMES)

    def _frame(self, archive: Archive, files: list[str], event: _Event) -> np.ndarray:
        second = int((event.first + event.last) / 2)
        return picture(archive, files[min(second, len(files) - 1)], self.size)

    @staticmethod
    def make_tiny(folder: Path) -> Path | None:
        """Write 24 made-up videos in the layout above, one of them in two lists, and return the folder."""
        generator = np.random.default_rng(0)
        (folder / "audio").mkdir(parents=True)
        lines: dict[str, list[str]] = {split: [] for split in LISTS}
        for number in range(24):
            video, label = f"video{number:02d}", number % 4
            tone = 0.3 * np.sin(2 * np.pi * (300 + 300 * label) * np.arange(48000) / 8000)
            (folder / "audio" / f"{video}.wav").write_bytes(wav_bytes(tone + generator.normal(0, 0.01, 48000), 8000))
            (folder / "frames" / video).mkdir(parents=True)
            for second in range(1, 5):
                values = generator.integers(40 * label, 40 * label + 60, (36, 48, 3), dtype=np.uint8)
                (folder / "frames" / video / f"{second:04d}.jpg").write_bytes(jpeg_bytes(values))
            split = "train" if number < 16 else "validation" if number < 20 else "test"
            lines[split].append(f"Category {label}&{video}&good&1&4")
        lines["train"].append(lines["test"][0])
        for split, name in LISTS.items():
            (folder / name).write_text("\n".join(lines[split]) + "\n")
        return folder


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
            raise CmkdError(
                f"{found} line {number} in {archive.place} is not Category&VideoID&Quality&StartTime&EndTime: get it "
                f"again from {ADDRESS}"
            ) from error
    return events
