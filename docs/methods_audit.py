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
    "cc": ("weight 0.02, of another loss", REP),
    "crd": ("weight 0.8", REP),
    "discom_kd": ("all terms weight 1, both models' cross-entropies averaged", "authors' code"),
    "dkd": ("alpha 1, beta 8, temperature 4, warm-up 20 epochs", COPIES),
    "fitnet": ("weight 100", REP),
    "fixmatch": ("weight 1, threshold 0.95", "PyTorch versions; quotations of the paper"),
    "fsp": ("weight 50", REP),
    "ft": ("weight 200", REP),
    "kd": ("0.9 of KD beside 0.1 of cross-entropy", REP),
    "mgd": ("weight 7e-05, masked 0.15", COPIES),
    "mst_distill": ("weight 1, halved every 30 epochs, temperature 4", "authors' code"),
    "nkd": ("temperature 1, gamma 1.5", COPIES),
    "nst": ("weight 50", REP),
    "pkt": ("weight 30,000", REP),
    "rkd": ("distance 25, angle 50", REP),
    "sp": ("weight 3000", REP),
    "srd": ("weight 2, beside KL of the logits at temperature 1", "authors' code"),
    "srrl": ("weight 1", SIM),
    "vicreg": ("invariance 25, variance 25, covariance 1", COPIES),
    "vicreg_reg": ("variance 25, covariance 1, beside an invariance of 25", COPIES),
    "vid": ("weight 1, of a sum over stages where ours is a mean", REP),
    "wsld": ("weight 2.25 at temperature 4, or 2.5 at 2", COPIES),
}
"""Method -> published weight and normalization, and the source where they were read; other methods were not checked."""
TOLD = re.compile(r"\b(ours?|here|authors'?|papers?|published|there|after|recipes?|benchmarks?)\b", re.IGNORECASE)
INTRODUCTION = """# The methods against their papers

Written by `python docs/methods_audit.py`. The published weight was read in the source that is named; "not checked"
means that no source was read for this table, not that it agrees. Where a benchmark with one code for many methods is
named, its setting is that of CIFAR-100. Our defaults, some of them chosen on validation, are for other data
([performance](performance.md)), so many are smaller. *Differences* quotes what the docstrings say about layers,
projections, warm-up and formula. *Hooks* lists what your own training loop must call, in some methods for a warm-up
alone.
"""


def differences(page: Page) -> str:
    """Return the sentences of a method's docstrings that compare it with its paper."""
    module = inspect.getmodule(METHODS[page.name])
    own = [
        f for _, f in inspect.getmembers(module, inspect.isfunction) if f.__module__ == METHODS[page.name].__module__
    ]
    sources = [re.search(r"Source:\n(.*?)(?:\n\n|\Z)", inspect.getdoc(f) or "", re.DOTALL) for f in own]
    texts = [*page.details, *(found[1] for found in sources if found)]
    sentences = (s for text in texts for s in re.split(r"(?:(?<=\.)|(?<=\.\)))\s+(?=[A-Z])", " ".join(text.split())))
    said = [sentence for sentence in sentences if TOLD.search(sentence)]
    said += [f"`{option.name}`: {option.text}" for option in page.hyperparameters if TOLD.search(option.text)]
    return " ".join(dict.fromkeys(said)) or "none stated"


def text() -> str:
    """Return the page."""
    header, cells = ("method", "published weight", "read in", "ours", "hooks", "differences"), []
    for page in pages():
        if page.paper:
            options = ", ".join(f"{h.name} {h.default}" for h in page.hyperparameters) or "no options"
            hooks = ", ".join(page.required_hooks) or "none"
            cells.append((f"`{page.name}`", *PAPER.get(page.name, NOT_CHECKED), options, hooks, differences(page)))
    return f"{INTRODUCTION}\n{table(header, cells)}\n"


if __name__ == "__main__":
    write_text(Path(__file__).with_suffix(".md"), text())
