"""Let torchvision be imported beside a CPU build of torch, by whoever imports it.

PyPI carries only CUDA builds of torchvision. Beside a CPU build of torch its compiled operators cannot load, and
``import torchvision`` (which timm, lightning and torchmetrics do) fails with "operator torchvision::nms does not
exist": it registers shape functions for operators that are missing. Their schemas are enough, as nothing here calls
them. They are defined when torchvision is first imported, if its operators do not load; `import cmkd` installs that.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
_kept: list[object] = []  # a Library's definitions vanish with it


class _BeforeTorchvision(MetaPathFinder):
    """Registers the missing operators just before torchvision is looked for; finds no module itself."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            register_missing_ops()
        return None


def install() -> None:
    """Register the missing operators when torchvision is first imported. Imports nothing now; safe to call often."""
    if "torchvision" not in sys.modules and not any(isinstance(f, _BeforeTorchvision) for f in sys.meta_path):
        sys.meta_path.insert(0, _BeforeTorchvision())


def register_missing_ops() -> bool:
    """Define the operators' schemas if, and only if, torchvision's own library does not load.

    Returns:
        Whether anything was defined.
    """
    spec = PathFinder.find_spec("torchvision")
    if _kept or spec is None or spec.origin is None:
        return bool(_kept)
    import torch

    for library in Path(spec.origin).parent.glob("_C*.so"):
        try:
            torch.ops.load_library(str(library))
        except OSError:
            continue
        return False
    fragment = torch.library.Library("torchvision", "FRAGMENT")
    for name, schema in _SCHEMAS.items():
        if not hasattr(torch.ops.torchvision, name):
            fragment.define(schema)
    _kept.append(fragment)
    return True
