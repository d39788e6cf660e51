"""Read options for single modalities, such as ``--kind radar=points``, which state how to read their files."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_type_hints

from cmkd.data.manifest.reading import Reading
from cmkd.errors import CmkdError
from cmkd.expression import split_list
from cmkd.options import described, fits, from_text

_EXAMPLES = {
    "size": "optical=64x64",
    "kind": "radar=points",
    "channels": "radar=last",
    "nodata": "radar=-9999",
    "unit": "radar=dB",
}


def read_readings(**options: str) -> dict[str, Reading]:
    """Read options such as ``nodata="radar=-9999,optical=0"``, by the names of the fields of `Reading`.

    Raises:
        CmkdError: if an option has another form, or its field cannot have the value.

    Example:
        >>> read_readings(kind="radar=points", nodata="radar=-9999", size="")["radar"].nodata
        -9999.0
    """
    hints, found = get_type_hints(Reading), dict[str, Reading]()
    for option, text in options.items():
        for modality, word in read_pairs(option, text, _EXAMPLES[option]).items():
            hint = hints[option]
            listed = f"[{word.replace('x', ',')}]" if option == "size" else word
            value: Any = from_text(listed, hint)
            if not fits(value, hint):
                wanted = "numbers" if option == "size" else described(hint).removesuffix(" or null")
                raise CmkdError(f"cannot read --{option} {modality}={word}: write {wanted}, as in {_EXAMPLES[option]}")
            value = tuple(value) if option == "size" else value
            found[modality] = replace(found.get(modality, Reading()), **{option: value})
    return found


def read_pairs(flag: str, text: str, example: str) -> dict[str, str]:
    """Read a value for each modality from text such as ``modality=value,...``."""
    parts = [part.partition("=")[::2] for part in split_list(text)]
    found = dict(parts)
    if len(found) < len(parts):
        raise CmkdError(f"--{flag} '{text}' names a modality twice: keep one of them")
    for name, value in found.items():
        if not name or not value:
            raise CmkdError(f"cannot read --{flag} '{name}': write modality=value, as in {example}")
    return found
