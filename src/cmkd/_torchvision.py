"""Let torchvision be imported beside a CPU build of torch.

PyPI carries only CUDA builds of torchvision. Beside a CPU build of torch its compiled operators cannot load, and
``import torchvision`` (which timm and torchmetrics do) fails with "operator torchvision::nms does not exist": it
registers shape functions for operators that are not there. Defining their schemas first is enough: nothing here calls
them.
"""

from __future__ import annotations

import importlib.util
import sys

import torch

_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
_kept: list[torch.library.Library] = []  # a Library's definitions vanish with it


def mend() -> bool:
    """Define the missing operators if, and only if, ``import torchvision`` fails for want of them.

    Returns:
        Whether anything was defined. Safe to call often.
    """
    if _kept or "torchvision" in sys.modules or importlib.util.find_spec("torchvision") is None:
        return bool(_kept)
    try:
        import torchvision  # noqa: F401
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    else:
        return False
    for name in [m for m in sys.modules if m.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for name, schema in _SCHEMAS.items():
        if not hasattr(torch.ops.torchvision, name):
            library.define(schema)  # type: ignore[no-untyped-call]
    _kept.append(library)
    return True
