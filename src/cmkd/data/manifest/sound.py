"""The reader of WAV files: PCM and floating point, in RIFF, RIFX and RF64, including files written to a pipe."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from io import SEEK_END, BytesIO
from typing import IO, Any

from numpy.typing import NDArray

from cmkd.data.manifest.content import File
from cmkd.data.manifest.header import Decoded, FileHeader
from cmkd.data.manifest.size_limit import check_size
from cmkd.errors import CmkdError

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_ENCODINGS = {2: "MS ADPCM", 6: "A-law", 7: "mu-law", 0x11: "IMA ADPCM", 0x31: "GSM 6.10", 0x50: "MP2", 0x55: "MP3"}
_UNKNOWN = 0xFFFFFFFF
"""Size in a header whose writer did not know the length, as with a pipe, or stated it elsewhere, as in RF64."""


@dataclass(frozen=True)
class _Sound:
    """Format and position of a recording's samples in its file."""

    order: str  # byte order, in the notation of `struct`
    form: bytes  # content of the format chunk
    start: int  # byte offset of the samples
    size: int  # bytes of all whole frames
    frame: int  # bytes of one frame: one sample of every channel


def decode_wav(path: File, *, values: bool) -> Decoded:
    """Read a recording ``(time, channels)`` in the file's own dtype; 24-bit samples fill the upper bits of 32."""
    with path.open("rb") as file:
        sound = _find(path, file)
        rate, first = _samples(file, sound, min(sound.size, sound.frame))
        shape = (sound.size // sound.frame, first.shape[1])
        check_size(path, shape, first.dtype.itemsize)
        array = _samples(file, sound, sound.size)[1] if values else None
        if len(first) != min(1, shape[0]) or (array is not None and array.shape != shape):
            raise CmkdError(f"{path} is damaged: its format does not match its samples; replace it")
    return FileHeader("series", shape, first.dtype.name, rate), array


def _find(path: File, file: IO[bytes]) -> _Sound:
    """Find the format and the samples of a recording.

    Raises:
        CmkdError: the file is not a WAV file, is truncated, or has samples in an unsupported encoding.
    """
    end = file.seek(0, SEEK_END)
    file.seek(0)
    name, stated, content = struct.unpack("<4sI4s", file.read(12))
    order = ">" if name == b"RIFX" else "<"
    (stated,) = struct.unpack(f"{order}I", struct.pack("<I", stated))
    if name not in (b"RIFF", b"RIFX", b"RF64") or content != b"WAVE":
        raise CmkdError(f"{path} is not a WAV file: convert it")
    truncated = CmkdError(f"{path} is truncated: {end} bytes, fewer than its header says; replace it")
    if stated != _UNKNOWN and stated + 8 > end:
        raise truncated
    form, long = b"", _UNKNOWN
    for chunk, size in _chunks(file, order, end):
        if chunk == b"ds64":
            long = struct.unpack("<8xQ", file.read(16))[0]
        elif chunk == b"fmt ":
            form = file.read(min(size, 64) // 2 * 2)  # an odd size would need padding when the chunk is written again
        elif chunk == b"data":
            start = file.tell()
            size = long if name == b"RF64" and size == _UNKNOWN else size
            if size != _UNKNOWN and start + size > end:
                raise truncated
            frame = _frame(path, form, order)
            size = min(size, end - start)
            return _Sound(order, form, start, size - size % frame, frame)
    raise truncated


def _chunks(file: IO[bytes], order: str, end: int) -> Iterator[tuple[bytes, int]]:
    """Yield name and stated size of every chunk, with the file positioned at the chunk's content."""
    place = 12
    while place + 8 <= end:
        file.seek(place)
        name, size = struct.unpack(f"{order}4sI", file.read(8))
        yield name, size
        place += 8 + size + size % 2


def _frame(path: File, form: bytes, order: str) -> int:
    """Return the bytes of one frame, that is, one sample of every channel.

    Raises:
        CmkdError: the encoding is not supported, or the format is damaged.
    """
    tag, channels, _, _, frame, bits = struct.unpack(f"{order}HHIIHH", form[:16])
    if tag == _EXTENSIBLE and len(form) >= 26:
        (tag,) = struct.unpack(f"{order}H", form[24:26])
    if tag not in (_PCM, _FLOAT):
        name = _ENCODINGS.get(tag, f"encoding {tag:#06x}")
        raise CmkdError(
            f"{path} holds sound in {name}: convert it to PCM, as in ffmpeg -i IN.wav -c:a pcm_s16le OUT.wav"
        )
    if not channels or frame < channels or frame % channels or not 0 < bits <= 8 * frame // channels:
        raise CmkdError(f"{path} is damaged: {channels} channels of {bits} bits in {frame} bytes; replace it")
    return int(frame)


def _samples(file: IO[bytes], sound: _Sound, size: int) -> tuple[int, NDArray[Any]]:
    """Decode the first `size` bytes of the samples from a rebuilt file, because scipy trusts the sizes in headers."""
    from scipy.io import wavfile

    file.seek(sound.start)
    data, name = file.read(size), b"RIFX" if sound.order == ">" else b"RIFF"
    parts = [(b"fmt ", sound.form), (b"data", data)]
    body = b"".join(struct.pack(f"{sound.order}4sI", chunk, len(held)) + held for chunk, held in parts)
    rate, values = wavfile.read(BytesIO(name + struct.pack(f"{sound.order}I", len(body) + 4) + b"WAVE" + body))
    return int(rate), values[:, None] if values.ndim == 1 else values
