"""Tensors and a JSON document in one safetensors file, with a checksum: no pickle, and damage is found before use."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from cmkd.documents import RESULT, parse_json
from cmkd.errors import CmkdError
from cmkd.io import atomic, checksum

SHA256 = "sha256"
"""Name, in the document, of the checksum of everything else; files of earlier releases have none. It is not a metadata
key, since safetensors writes several keys in any order, and equal models would then give different files."""


def write_tensors(path: Path, tensors: Mapping[str, Tensor], name: str, document: Mapping[str, Any]) -> None:
    """Write tensors and a document atomically.

    Args:
        path: output file.
        tensors: name -> tensor; tensors are copied to the CPU.
        name: metadata key of the document.
        document: anything that JSON can hold.
    """
    kept = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
    sealed = {**document, SHA256: checksum(_bytes(document, kept))}
    with atomic(path) as temporary:
        save_file(kept, temporary, metadata={name: json.dumps(sealed)})


def read_document(path: Path, name: str, *, fix: str) -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
    """Return a file's document and the shapes of its tensors, from its header alone.

    Args:
        path: file to read.
        name: metadata key of the document.
        fix: advice for a damaged file, for the error message.

    Raises:
        CmkdError: if the file is missing, damaged or not a safetensors file. Without a document, an empty one is
            returned.
    """
    with _opened(path, fix) as file:
        shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
        document = _document(file, path, name, fix)
    document.pop(SHA256, None)
    return document, shapes


def read_tensors(path: Path, name: str, *, fix: str) -> dict[str, Tensor]:
    """Return the tensors of a file after comparing them with its checksum; arguments as for `read_document`.

    Raises:
        CmkdError: if the file is missing or damaged.
    """
    with _opened(path, fix) as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # not a mapping
        document = _document(file, path, name, fix)
    expected = document.pop(SHA256, None)
    if expected is not None and expected != checksum(_bytes(document, tensors)):
        raise CmkdError(f"'{path}' is damaged: it has changed since it was written (sha256); {fix}")
    return tensors


@contextmanager
def _opened(path: Path, fix: str) -> Iterator[Any]:
    if path.is_dir():
        raise CmkdError(f"'{path}' is a folder: give a checkpoint in it, such as teacher/best.safetensors of a run")
    if not path.is_file():
        missing = f"no checkpoint at '{path}'"
        if (path.parent / RESULT).exists():  # left by a finished training
            raise CmkdError(f"{missing}, where one was trained: restore it, or remove its folder and train it again")
        raise CmkdError(f"{missing}: give the folder of a run, or a file that one has written")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError, UnicodeDecodeError, RuntimeError) as error:
        reason = str(error).splitlines()[0][:120]
        raise CmkdError(f"'{path}' is damaged or truncated ({reason}): {fix}") from error


def _document(file: Any, path: Path, name: str, fix: str) -> dict[str, Any]:  # noqa: ANN401  # safetensors has no types
    return parse_json((file.metadata() or {}).get(name, "{}"), f"'{path}'", fix=fix)


def _bytes(document: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Iterator[bytes | memoryview]:
    # sorted and passed through JSON, so that the text is the same for what was written and what is read again
    yield json.dumps(json.loads(json.dumps(document)), sort_keys=True).encode()
    for name in sorted(tensors):
        yield f"{name} {tensors[name].dtype} {list(tensors[name].shape)}".encode()
        yield raw_bytes(tensors[name])


def raw_bytes(tensor: Tensor) -> bytes | memoryview:
    """Return the bytes of a tensor of any type on any device."""
    value = tensor.detach().cpu().contiguous()
    flat = value.as_strided((value.numel(),), (1,))  # a single value may have any stride, which `view` refuses
    return flat.view(torch.uint8).numpy().data if len(flat) else b""
