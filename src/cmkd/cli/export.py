"""``cmkd export``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from cmkd.cli.evaluate import open_pairs
from cmkd.cli.parsing import call
from cmkd.cli.tables import show, table


def export(
    model: Path,
    *,
    format: Literal["onnx", "pt2"] = "onnx",
    out: Path | None = None,
    int8: bool = False,
    data: str = "",
    module: str = "",
) -> None:
    """Write a student as one ONNX or pt2 file, with preprocessing and calibration inside, compared with PyTorch.

    Args:
        model: a run's folder, for the student that it recommends, or a .safetensors file of a model.
        format: onnx, or pt2, a program of torch.export.
        out: the file to write; by default next to the model.
        int8: also write a quantized NAME.int8.onnx; needs --data.
        data: training data of the model, as cmkd run --data takes it, or RUN/data for your own Dataset; the comparison
            with PyTorch uses its validation pairs.
        module: package.module:Name of your own network, if the model is one.
    """
    from cmkd.deploy.export import OPSET
    from cmkd.deploy.export import export as write
    from cmkd.deploy.latency import BATCHES, timings

    pack = open_pairs(data) if data else None
    found = write(model, out, format=format, int8=int8, data=pack, module=module or None)
    print(f"{found.path}: {f'ONNX, opset {OPSET}' if format == 'onnx' else 'pt2, a program of torch.export'}")
    print(f"largest difference in probability from PyTorch: {found.difference:.1e}, on {found.samples.source}")
    if (small := found.int8) is not None:
        print(
            f"{small.path}: {small.method} int8; accuracy on {small.pairs} validation pairs "
            f"{100 * small.accuracy:.2f} %, float32 {100 * small.float_accuracy:.2f} %"
        )
    made, rows = table("CPU", "size, kB", *(f"batch {batch}, ms" for batch in BATCHES)), timings(found)
    for row in rows:
        made.add_row(
            row.name,
            f"{row.size / 1000:.0f}",
            *(_in_figures(row.milliseconds[batch]) for batch in BATCHES),
        )
    print()
    show(made)
    runs = " and ".join(str(rows[0].runs[batch]) for batch in BATCHES)
    print(f"medians of {runs} interleaved runs, {rows[0].threads} thread(s)")


def _in_figures(milliseconds: float) -> str:
    return f"{milliseconds:.3g}" if milliseconds < 1000 else f"{milliseconds:,.0f}"


def main(arguments: Sequence[str]) -> None:
    """Run from a command line."""
    call(export, arguments, prog="cmkd export")
