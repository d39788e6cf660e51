"""CREMA-D: acted emotions, heard and seen."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from cmkd.data.pack.pack import Pack
from cmkd.data.split import assign_splits
from cmkd.datasets.base import DataSet, Source
from cmkd.datasets.formats.archive import Archive
from cmkd.datasets.formats.frames import frames_of, jpeg_bytes, picture
from cmkd.datasets.formats.sound import log_mel, mel_bank, read_wav, wav_bytes
from cmkd.errors import CmkdError
from cmkd.types import Modality

ADDRESS = "https://github.com/CheyneyComputerScience/CREMA-D"
CLASSES = {"ANG": "anger", "DIS": "disgust", "FEA": "fear", "HAP": "happy", "NEU": "neutral", "SAD": "sad"}
BANDS, FRAMES, CHUNK = 64, 128, 256
_NAME = re.compile(rf"(?:^|/)((\d{{4}})_[A-Z]{{3}}_({'|'.join(CLASSES)})_[A-Z]{{2}})\.wav$")


class CremaD(DataSet):
    """7,442 clips of 91 actors who say a sentence with one of six emotions: sound (rich) and face (poor).

    ``sound`` is a series ``(128, 64)``: a log-mel spectrogram in dB, stretched to 128 time steps (see
    `cmkd.datasets.formats.sound.log_mel`). ``face`` is the clip's middle frame ``(3, size, size)``, one still image: what moves is
    lost on purpose, so that it is the poorer view. Splits are drawn by actor. Clips without sound or frames are left
    out. The label is the emotion the actor was asked for.

    Videos are not decoded here: take their frames out first, for each clip with
    ``ffmpeg -i VideoFlash/CLIP.flv -vf fps=2 frames/CLIP/%04d.jpg``.

    Layout unverified against the real files: ``AudioWAV/1001_IEO_ANG_HI.wav`` (actor, sentence, emotion, level) as
    published, and ``frames/1001_IEO_ANG_HI/*.jpg`` beside it.

    Args:
        size: pixels along a frame.

    Raises:
        CmkdError: the size is not positive.
    """

    name = "crema_d"
    title = "CREMA-D: acted emotions, the sound of a sentence beside a frame of the face, by actor"
    rich = "sound"
    poor = "face"
    license = "Open Database License 1.0 (database), Database Contents License 1.0 (contents)"
    citation = """@article{cao2014crema, title={CREMA-D: Crowd-Sourced Emotional Multimodal Actors Dataset}, author={
  Cao, Houwei and Cooper, David G. and Keutmann, Michael K. and Gur, Ruben C. and Nenkova, Ani and Verma, Ragini},
  journal={IEEE Transactions on Affective Computing}, volume={5}, number={4}, pages={377--390}, year={2014}}"""
    sources = (Source("CREMA-D", ADDRESS),)
    mirror = True
    group = "an actor"
    unsound = "The emotions are acted; raters agree with the intended emotion far less often than a label suggests."

    def __init__(self, *, size: int = 64) -> None:
        if size < 1:
            raise CmkdError(f"size {size} of crema_d must be at least 1")
        self.size = size

    def prepare(self, source: Path | None, destination: Path) -> Pack:
        """Write the pack, in chunks.

        Args:
            source: the publishers' repository with the folder ``frames`` in it.
            destination: folder of the pack to make.

        Raises:
            CmkdError: a file is missing or damaged.
        """
        with Archive(self.source_folder(source), address=ADDRESS) as archive:
            frames = frames_of(archive)
            clips = [(match, name) for name in archive.sizes if (match := _NAME.search(name)) and match[1] in frames]
            if not clips:
                raise CmkdError(
                    f"{source} holds no recordings AudioWAV/*.wav with frames/CLIP/*.jpg: get the files from "
                    f"{ADDRESS} and take the frames out: ffmpeg -i VideoFlash/CLIP.flv -vf fps=2 frames/CLIP/%04d.jpg"
                )
            labels = [list(CLASSES).index(match[3]) for match, _ in clips]
            groups = [f"actor{match[2]}" for match, _ in clips]
            splits, record = assign_splits(labels, groups)
            record["method"] += ", by actor"
            modalities = [
                Modality(self.rich, "series", (FRAMES, BANDS), "float32"),
                Modality(self.poor, "image", (3, self.size, self.size), "uint8"),
            ]
            with self.writer(
                destination, classes=list(CLASSES.values()), modalities=modalities, split=record
            ) as writer:
                for start in range(0, len(clips), CHUNK):
                    sounds, faces, kept = [], [], []
                    for row in range(start, min(start + CHUNK, len(clips))):
                        match, name = clips[row]
                        rate, samples = read_wav(archive.read(name), f"{name} in {archive.place}", ADDRESS)
                        if not samples.any():
                            continue
                        kept.append(row)
                        sounds.append(log_mel(samples, rate, mel_bank(rate, BANDS), FRAMES))
                        files = frames[match[1]]
                        faces.append(picture(archive, files[len(files) // 2], self.size))
                    if kept:
                        writer.add(
                            [clips[row][0][1] for row in kept],
                            [labels[row] for row in kept],
                            [splits[row] for row in kept],
                            [groups[row] for row in kept],
                            {self.rich: np.stack(sounds), self.poor: np.stack(faces)},
                        )
        return Pack.open(destination)

    @staticmethod
    def make_tiny(folder: Path) -> Path | None:
        """Write a made-up clip of each emotion for five actors in the publishers' layout, and return the folder."""
        generator = np.random.default_rng(0)
        (folder / "AudioWAV").mkdir(parents=True)
        for actor in range(1001, 1006):
            for label, code in enumerate(CLASSES):
                clip = f"{actor}_IEO_{code}_XX"
                tone = 0.3 * np.sin(2 * np.pi * (200 + 200 * label) * np.arange(8000) / 16000)
                noise = generator.normal(0, 0.01, 8000)
                (folder / "AudioWAV" / f"{clip}.wav").write_bytes(wav_bytes(tone + noise, 16000))
                (folder / "frames" / clip).mkdir(parents=True)
                for number in (1, 2):
                    values = generator.integers(20 * label, 20 * label + 60, (36, 48, 3), dtype=np.uint8)
                    (folder / "frames" / clip / f"{number:04d}.jpg").write_bytes(jpeg_bytes(values))
        return folder
