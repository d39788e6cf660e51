"""Make torchvision importable beside a CPU build of torch.

PyPI carries only CUDA builds of torchvision. Beside a CPU build of torch its compiled operators cannot load, and
``import torchvision`` (which timm, lightning and torchmetrics do) fails with "operator torchvision::nms does not
exist", because it registers shape functions for the missing operators. Defining the schemas of these operators is
enough, since nothing here calls them. `import cmkd` installs a hook that defines them when torchvision is first
imported, if its own operators do not load.
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
    """Import hook that registers the missing operators just before torchvision is searched for; it finds no module."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            register_missing_ops()
        return None


def install() -> None:
    """Install the hook that registers the missing operators. It imports nothing now and may be called repeatedly."""
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
