"""No method makes the CPU wait for values that a GPU computes."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

from cmkd.methods.stepped import SteppedMethod

from .rows import NARROW, WIDE, Row, a_batch, built, output
from .table import ROWS


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_step_reads_no_value_from_the_device(row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    # tensors on "meta" have no values, so reading one fails; autocast does not support that device
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    spec = WIDE if row.same_width else NARROW
    method = built(row, spec, WIDE)
    if isinstance(method, SteppedMethod):
        method.generator()  # its seed is read once, before the first step
    method.to("meta")
    ours, theirs = (
        output(each, 6, 0).map(lambda x: torch.empty_like(x, device="meta").requires_grad_()) for each in (spec, WIDE)
    )
    batch = replace(a_batch(6, 4).to("meta"), labeled_rows=torch.arange(4, device="meta"))
    terms = method(ours, theirs if method.trains_teacher else theirs.detach(), batch)
    if terms:
        torch.stack(list(terms.values())).sum().backward()
