"""CREMA-D: acted emotions, sound and face."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cmkd.data.pack.pack import Pack
from cmkd.data.split import assign_splits
from cmkd.datasets.base import DataSet, Listing, read_pairs
from cmkd.datasets.formats.fetch import PublishedFile
from cmkd.datasets.formats.pictures import frames_of, rgb, square
from cmkd.datasets.formats.sound import log_mel, mel_bank, read_wav
from cmkd.errors import CmkdError
from cmkd.types import Modality

ADDRESS = "https://github.com/CheyneyComputerScience/CREMA-D"
CLASSES = {"ANG": "anger", "DIS": "disgust", "FEA": "fear", "HAP": "happy", "NEU": "neutral", "SAD": "sad"}
BANDS, FRAMES = 64, 128
_NAME = re.compile(rf"(?:^|/)((\d{{4}})_[A-Z]{{3}}_({'|'.join(CLASSES)})_[A-Z]{{1,2}})\.wav$")


class CremaD(DataSet):
    """7,442 clips of 91 actors who say a sentence with one of six emotions: sound (rich) and face (poor).

    ``sound`` is a series ``(128, 64)``: a log-mel spectrogram in dB, stretched to 128 time steps
    (`cmkd.datasets.formats.sound.log_mel`). ``face`` is the clip's middle frame ``(3, size, size)``: a still image
    without motion, so that it is the poorer view. The label is the emotion that the actor was asked to show. Splits are
    drawn by actor. Clips without sound or frames are left out.

    Videos are not decoded here. Extract the frames of each clip first:
    ``ffmpeg -i VideoFlash/CLIP.flv -vf fps=2 frames/CLIP/%04d.jpg``.

    Layout (tested on synthetic files only): ``AudioWAV/1001_IEO_ANG_HI.wav`` (actor, sentence, emotion, level) as
    published, and ``frames/1001_IEO_ANG_HI/*.jpg`` beside it.

    Args:
        size: height and width of a frame, pixels.
    """

    name = "crema_d"
    title = "CREMA-D: acted emotions, the sound of a sentence beside a frame of the face, by actor"
    rich = "sound"
    poor = "face"
    license = "Open Database License 1.0 (database), Database Contents License 1.0 (contents)"
    citation = """@article{cao2014crema, title={CREMA-D: Crowd-Sourced Emotional Multimodal Actors Dataset}, author={
  Cao, Houwei and Cooper, David G. and Keutmann, Michael K. and Gur, Ruben C. and Nenkova, Ani and Verma, Ragini},
  journal={IEEE Transactions on Affective Computing}, volume={5}, number={4}, pages={377--390}, year={2014}}"""
    sources = (PublishedFile("CREMA-D", ADDRESS),)
    revision = 3
    mirror = True
    group = "an actor"
    unsound = "The emotions are acted; raters often disagree with the intended emotion, which is the label."

    def __init__(self, *, size: int = 64) -> None:
        self.at_least_one(size=size)
        self.size = size

    def prepare(self, source: Path | None, destination: Path) -> Pack:
        """Write the pack from the publishers' repository with the folder ``frames`` in it."""
        with self.opened(source) as archive:
            frames = frames_of(archive)
            clips = [
                match
                for name in archive.sizes
                if (match := _NAME.search(name)) and match[1] in frames and read_wav(archive, name)[1].any()
            ]
            if not clips:
                raise CmkdError(
                    f"{source} holds no recordings AudioWAV/*.wav with frames/CLIP/*.jpg: get the files from {ADDRESS} "
                    "and extract the frames: ffmpeg -i VideoFlash/CLIP.flv -vf fps=2 frames/CLIP/%04d.jpg"
                )
            labels = [list(CLASSES).index(match[3]) for match in clips]
            groups = [f"actor{match[2]}" for match in clips]
            splits, record = assign_splits(labels, groups)
            record["method"] += ", by actor"

            def sound(clip: re.Match[str]) -> NDArray[np.float32]:
                rate, samples = read_wav(archive, clip.string)
                return log_mel(samples, rate, mel_bank(rate, BANDS), FRAMES)

            def face(clip: re.Match[str]) -> NDArray[np.uint8]:
                files = frames[clip[1]]
                return square(rgb(archive, files[len(files) // 2]), self.size)

            values = read_pairs(clips, {self.rich: sound, self.poor: face})
            return self.write(
                destination,
                Listing([match[1] for match in clips], labels, splits, record, values, groups),
                [
                    Modality(self.rich, "series", (FRAMES, BANDS), "float32"),
                    Modality(self.poor, "image", (3, self.size, self.size), "uint8"),
                ],
                classes=list(CLASSES.values()),
            )
