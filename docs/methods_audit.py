"""Compare every method's defaults with its paper: ``python docs/methods_audit.py`` writes docs/methods_audit.md."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from cmkd.io import write_text
from cmkd.markdown import table
from cmkd.methods import METHODS
from cmkd.methods.pages import Page, pages

REP = "CRD authors' benchmark (RepDistiller)"
SIM = "SimKD authors' benchmark"
COPIES = "copies of the authors' code"
NOT_CHECKED = ("not checked", "")
PAPER = {
    "ab": ("weight 1", REP),
    "at": ("weight 1000", REP),
    "barlow_twins": ("off-diagonal 0.0051", COPIES),
    "c2kd": NOT_CHECKED,
    "cc": ("weight 0.02, of another loss", REP),
    "crd": ("weight 0.8", REP),
    "ctkd": NOT_CHECKED,
    "decorrelation": NOT_CHECKED,
    "discom_kd": ("all terms weight 1, both models' cross-entropies averaged", "authors' code"),
    "dist": NOT_CHECKED,
    "dkd": ("alpha 1, beta 8, temperature 4, warm-up 20 epochs", COPIES),
    "ds": NOT_CHECKED,
    "fd_cmkd": NOT_CHECKED,
    "fitnet": ("weight 100", REP),
    "fixmatch": ("weight 1, threshold 0.95", "PyTorch versions; quotations of the paper"),
    "fsp": ("weight 50", REP),
    "ft": ("weight 200", REP),
    "generalized": NOT_CHECKED,
    "hallucination": NOT_CHECKED,
    "hypersphere": NOT_CHECKED,
    "ickd": NOT_CHECKED,
    "kd": ("0.9 of KD beside 0.1 of cross-entropy", REP),
    "koleo": NOT_CHECKED,
    "lskd": NOT_CHECKED,
    "mfh": NOT_CHECKED,
    "mgd": ("weight 7e-05, masked 0.15", COPIES),
    "mlld": NOT_CHECKED,
    "mst_distill": NOT_CHECKED,
    "nkd": ("temperature 1, gamma 1.5", COPIES),
    "nst": ("weight 50", REP),
    "ofa": NOT_CHECKED,
    "ofd": NOT_CHECKED,
    "pkt": ("weight 30,000", REP),
    "review_kd": NOT_CHECKED,
    "rkd": ("distance 25, angle 50", REP),
    "self_training": NOT_CHECKED,
    "simkd": NOT_CHECKED,
    "sliced_wasserstein": NOT_CHECKED,
    "sp": ("weight 3000", REP),
    "srd": NOT_CHECKED,
    "srrl": ("weight 1", SIM),
    "ttm": NOT_CHECKED,
    "uniformity": NOT_CHECKED,
    "vicreg": ("invariance 25, variance 25, covariance 1", COPIES),
    "vicreg_reg": ("variance 25, covariance 1, beside an invariance of 25", COPIES),
    "vid": ("weight 1", REP),
    "vkd": NOT_CHECKED,
    "wsld": NOT_CHECKED,
    "wttm": NOT_CHECKED,
}
"""Method -> weight and normalization that were published, and where that was read."""
TOLD = re.compile(r"\b(ours?|here|authors'?|papers?|published|there|after)\b", re.IGNORECASE)
INTRODUCTION = """# The methods against their papers

Written by `python docs/methods_audit.py`. The published weight was read in the source that is named; "not checked"
means that nobody has looked yet, not that it agrees. Where a benchmark with one code for many methods is named, its
setting is that of CIFAR-100. Our defaults were chosen on validation pairs of other data
([performance](performance.md)), so many are smaller. The differences are what the docstrings say of layer, projection,
warm-up and form; hooks are those that a training loop of your own must call.
"""


def differences(page: Page) -> str:
    """Return the sentences of a method's docstrings that compare it with its paper."""
    module = inspect.getmodule(METHODS[page.name])
    own = [
        f for _, f in inspect.getmembers(module, inspect.isfunction) if f.__module__ == METHODS[page.name].__module__
    ]
    sources = [re.search(r"Source:\n(.*?)(?:\n\n|\Z)", inspect.getdoc(f) or "", re.DOTALL) for f in own]
    texts = [*page.details, *(found[1] for found in sources if found)]
    said = [s for text in texts for s in re.split(r"(?<=[.)])\s+(?=[A-Z])", " ".join(text.split())) if TOLD.search(s)]
    return " ".join(dict.fromkeys(said)) or "none stated"


def text() -> str:
    """Return the page."""
    header, cells = ("method", "published weight", "read in", "ours", "hooks", "differences"), []
    for page in pages():
        if page.paper:
            options = ", ".join(f"{h.name} {h.default}" for h in page.hyperparameters) or "no options"
            hooks = ", ".join(page.required_hooks) or "none"
            cells.append((f"`{page.name}`", *PAPER[page.name], options, hooks, differences(page)))
    return f"{INTRODUCTION}\n{table(header, cells)}\n"


if __name__ == "__main__":
    write_text(Path(__file__).with_suffix(".md"), text())
