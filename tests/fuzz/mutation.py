"""Damage to valid inputs: bytes, numbers in text, nodes of JSON, and chunks whose checksums stay correct."""

from __future__ import annotations

import json
import re
import struct
import zlib
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

MOST_BYTES = 2**16
"""Largest case in bytes; larger ones take more time and find nothing else."""
NUMBERS = ("0", "-1", "1", "255", "65536", "2147483647", "4294967295", "99999999999999999999", "1e999", "-0", "NaN")
EXTREMES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)
VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 3, 2**31, 10**30, 1.5, float("nan"), float("inf"), "", "a", "1", "\x00", "é", "\ud800"),
    *([], [1], [[]], ["a", None], {}, {"a": 1}, {"": []}),
)
"""Replacement values for a node of JSON."""


def mutate(data: bytes, seeds: Sequence[bytes], random: Random) -> bytes:
    """Return a damaged copy of an input with one to four changes; in known formats, 60 % are specific to the format."""
    for _ in range(random.choice((1, 1, 1, 2, 2, 4))):
        form = _form(data)
        if form is not None and random.random() < 0.6:
            data = form(data, random)
        else:
            data = random.choice(_CHANGES)(data, seeds, random)
    return data[:MOST_BYTES]


def _form(data: bytes) -> Callable[[bytes, Random], bytes] | None:
    """Return the function that changes the format of `data`, or None if the format is not known."""
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return _png
    if data[:1] in (b"{", b"["):
        return _json
    if len(data) > 9 and data[8:9] == b"{":
        return _safetensors
    if data[:6] == b"\x93NUMPY":
        return _digits
    if data[:128].isascii() and b"\0" not in data[:128]:
        return _digits
    return None


def _flip(data: bytes, seeds: Sequence[bytes], random: Random) -> bytes:
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 8))):
        if changed:
            changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _byte(data: bytes, seeds: Sequence[bytes], random: Random) -> bytes:
    place = random.randrange(len(data) + 1)
    return data[:place] + random.randbytes(random.choice((1, 1, 2, 4))) + data[place + 1 :]


def _field(data: bytes, seeds: Sequence[bytes], random: Random) -> bytes:
    """Set a number of 16, 32 or 64 bits to an extreme value, a neighboring value, its double, or the input's size."""
    code = random.choice("HIIQ")
    order, width = random.choice("<>"), struct.calcsize(code)
    if len(data) < width:
        return data
    # most headers are at the beginning or the end
    place = random.choice((random.randrange(len(data)), random.randrange(min(len(data), 64)), len(data) - 1 - width))
    place = max(0, min(place, len(data) - width))
    (old,) = struct.unpack_from(order + code, data, place)
    new = random.choice((*EXTREMES, old + 1, old - 1, old * 2, len(data))) % 2 ** (8 * width)
    return data[:place] + struct.pack(order + code, new) + data[place + width :]


def _cut(data: bytes, seeds: Sequence[bytes], random: Random) -> bytes:
    start, end = sorted(random.randrange(len(data) + 1) for _ in range(2))
    return random.choice((data[:start], data[start:], data[:start] + data[end:]))


def _repeat(data: bytes, seeds: Sequence[bytes], random: Random) -> bytes:
    start = random.randrange(len(data) + 1)
    piece = data[start : start + random.choice((1, 2, 4, 12, 64))]
    return data[:start] + piece * random.choice((2, 3, 30, 300)) + data[start:]


def _splice(data: bytes, seeds: Sequence[bytes], random: Random) -> bytes:
    other = random.choice(seeds)
    place = random.randrange(min(len(data), len(other)) + 1)
    return data[:place] + other[place + random.choice((0, 0, 1, -1)) :]


_CHANGES = (_flip, _flip, _byte, _field, _field, _field, _cut, _repeat, _splice)


def _digits(data: bytes, random: Random) -> bytes:
    """Replace a number or a word of a text."""
    found = list(re.finditer(rb"-?\d+|\w+|[^\w\s]", data[:4096]))
    if not found:
        return data
    one = random.choice(found)
    words = (*NUMBERS, "", "null", "~", "é", "\x00", "\n", ",", '"', "(", "[" * 300, "&a", "*a", "!!python/x")
    word = random.choice(found)[0] if random.random() < 0.3 else random.choice(words).encode()
    return data[: one.start()] + word + data[one.end() :]


def _json(data: bytes, random: Random) -> bytes:
    """Replace, remove or add a node of JSON."""
    try:
        tree = json.loads(data)
    except (ValueError, RecursionError):
        return _digits(data, random)
    places: list[tuple[Any, Any]] = []
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        inner = list(node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ())
        places += [(node, key) for key, _ in inner]
        waiting += [value for _, value in inner]
    if not places:
        return json.dumps(random.choice(VALUES)).encode()
    node, key = random.choice(places)
    change = random.random()
    if change < 0.6:
        node[key] = random.choice(VALUES)
    elif change < 0.75:
        del node[key]
    elif change < 0.9:
        other, name = random.choice(places)
        node[key] = json.loads(json.dumps(other[name]))
    elif isinstance(node, dict):
        node[random.choice(("", "extra", "name", "__class__"))] = random.choice(VALUES)
    else:
        node.append(random.choice(VALUES))
    return json.dumps(tree).encode()


def _safetensors(data: bytes, random: Random) -> bytes:
    """Change the JSON header, or the JSON inside its metadata."""
    (length,) = struct.unpack_from("<Q", data)
    head, rest = data[8 : 8 + length], data[8 + length :]
    try:
        inner = json.loads(head)["__metadata__"]
        name = random.choice(list(inner))
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        inner = None
    if isinstance(inner, dict) and isinstance(inner.get(name), str) and random.random() < 0.7:
        tree = json.loads(head)
        tree["__metadata__"][name] = _json(inner[name].encode("utf-8", "replace"), random).decode("utf-8", "replace")
        head = json.dumps(tree).encode()
    else:
        head = _json(head, random)
    return struct.pack("<Q", len(head)) + head + rest


def _png(data: bytes, random: Random) -> bytes:
    """Change a chunk of a PNG and correct its checksum; half of the time, pixel data are changed before compression."""
    chunks, place = [], 8
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
        place += 12 + length
    if not chunks:
        return data
    k = random.randrange(len(chunks))
    name, body = chunks[k]
    if name == b"IDAT" and random.random() < 0.5:
        unpacker = zlib.decompressobj()
        try:
            body = zlib.compress(random.choice(_CHANGES)(unpacker.decompress(body, MOST_BYTES), [b""], random))
        except zlib.error:
            body = random.choice(_CHANGES)(body, [b""], random)
    else:
        body = random.choice(_CHANGES)(body, [b""], random)
    chunks[k : k + 1] = random.choice(([(name, body)], [(name, body)], [(name, body)], [], [(name, body)] * 2))
    return data[:8] + b"".join(_chunk(*chunk) for chunk in chunks)


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
