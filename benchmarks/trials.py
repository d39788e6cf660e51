"""What the ablation trains: settings, the forms that are tried in each, and the parts that are left out in turn."""

from __future__ import annotations

from collections.abc import Mapping

from lean import Setting

CHOICE, CONFIRM, MORE = (0, 1, 2, 3, 4), (20, 21, 22, 23, 24), (25, 26, 27, 28, 29)
"""Seeds: those that choose on validation never touch the test pairs; `MORE` of them confirm where training is quick."""

FASHION = "fashion_mnist(train_pairs=16000)"
SETTINGS = {
    "digits": Setting("digits", severity=0.5, epochs=15, batch=64),
    "fashion_mnist": Setting(FASHION, severity=0.6, pairs=4000),
    "mars": Setting("mars", pairs=2000, teacher_width=16, student_width=16, epochs=8),
    "digits, few labels": Setting("digits", severity=0.5, labeled=60, epochs=15, batch=64),
    "digits, wide gap": Setting("digits", severity=0.9, epochs=15, batch=64),
    "digits, unlike widths": Setting("digits", severity=0.5, epochs=15, batch=64, teacher_width=32, student_width=8),
    "digits, large batch": Setting("digits", severity=0.5, epochs=40, batch=512),
    "digits, 100 classes": Setting("digits", severity=0.5, batch=64, joined=True),
    "fashion_mnist, few labels": Setting(FASHION, severity=0.6, pairs=4000, labeled=200),
    "fashion_mnist, wide gap": Setting(FASHION, severity=1.0, pairs=4000),
    "digits, other classes": Setting("digits", severity=0.5, labeled=50, epochs=15, batch=64, other_classes=True),
    "fashion_mnist, other classes": Setting(
        FASHION, severity=0.6, pairs=4000, labeled=50, epochs=6, other_classes=True
    ),
}
QUICK = {
    "digits": Setting("digits", severity=0.5, pairs=200, epochs=1, batch=64, teacher_width=4, student_width=4),
    "digits, other classes": Setting(
        "digits", severity=0.5, labeled=50, epochs=1, batch=64, teacher_width=4, student_width=4, other_classes=True
    ),
}

_BASE: Mapping[str, object] = {
    "kd_weight": 8, "temperature": 1, "independence_features": "probabilities", "independence_weight": 30,
    "uniformity_reference": "pairs", "uniformity_weight": 0.3,
}  # fmt: skip


def expression(changes: Mapping[str, object]) -> str:
    """Write the base with changes as the command line does; what a weight of 0 leaves out is not written.

    Example:
        >>> expression({"uniformity_weight": 0, "kd_weight": 0})
        'ds(independence_features=probabilities,independence_weight=30,kd_weight=0,temperature=1,uniformity_weight=0)'
    """
    options = {**_BASE, **changes}
    for part in ("independence", "uniformity"):
        if not options[f"{part}_weight"]:
            left_out = f"{part}_"
            options = {k: v for k, v in options.items() if k == f"{part}_weight" or not k.startswith(left_out)}
    return f"ds({','.join(f'{k}={str(options[k]).lower()}' for k in sorted(options))})".replace(" ", "")


KD = tuple(f"kd(temperature={t},weight={w})" for w, t in ((32, 1), (8, 2), (16, 4), (8, 1), (4, 2), (16, 2)))
DS = tuple(
    expression({"kd_weight": k, "independence_weight": i, "uniformity_weight": u})
    for k, i, u in ((8, 30, 0), (8, 100, 0), (8, 30, 0.3), (0, 100, 0), (0, 30, 0), (8, 10, 1))
)
DIST = tuple(f"dist(temperature={t},weight={w})" for w, t in ((1, 4), (10, 1), (3, 2), (3, 1), (0.3, 4), (3, 4)))
"""As many of each: the same budget of tuning. DIST correlates predictions too, and is the next of kin."""
_ALONE = {"kd_weight": 0, "independence_weight": 0}
OTHER = {
    "sp": tuple(f"sp(weight={w})" for w in (100, 300, 1000, 3000)),
    "rkd": ("0.3*rkd", "rkd", "3*rkd", "10*rkd"),
    "fitnet": tuple(f"fitnet(weight={w})" for w in (1, 3, 10, 30)),
    "crd": tuple(f"crd(weight={w})" for w in (0.03, 0.1, 0.3, 1)),
    "ds": tuple(
        expression({**_ALONE, "uniformity_weight": w, "stages": s})
        for w, s in ((1, [-1]), (3, [-1]), (3, [-2]), (3, [-1, -2]))
    ),
}
"""Without classes in common there are no logits to match: methods of features and of relations, four forms each."""


def families(name: str) -> Mapping[str, tuple[str, ...]]:
    """Return what is tried in a setting, by method and as many of each; fewer where training is slow.

    Example:
        >>> {family: len(methods) for family, methods in families("digits").items()}
        {'kd': 6, 'dist': 6, 'ds': 6}
        >>> {family: len(methods) for family, methods in families("fashion_mnist, wide gap").items()}
        {'kd': 3, 'dist': 3, 'ds': 3}
    """
    if name.endswith("other classes"):
        return OTHER
    if name.startswith("fashion_mnist,"):
        return {"kd": KD[:3], "dist": DIST[:3], "ds": DS[:3]}
    return {"kd": KD, "dist": DIST, "ds": DS}


REFERENCE = "kd(temperature=1,weight=8)"
"""What the parts are compared with: the KD part of the base alone."""
PARTS: Mapping[str, Mapping[str, object]] = {
    "ds as the base": {},
    "no independence": {"independence_weight": 0},
    "no uniformity": {"uniformity_weight": 0},
    "no KD": {"kd_weight": 0},
    "no KD, no uniformity": {"kd_weight": 0, "uniformity_weight": 0},
    "no KD, no independence": {"kd_weight": 0, "independence_weight": 0},
    "no teacher at all": {
        "kd_weight": 0, "independence_features": "embedding", "independence_reference": "self",
        "independence_weight": 10, "uniformity_reference": "self", "uniformity_weight": 0.1,
    },
    "independence of the embedding": {"independence_features": "embedding", "independence_weight": 10},
    "independence of the student's embedding alone": {
        "independence_features": "embedding", "independence_reference": "self", "independence_weight": 10,
    },
    "independence by the teacher's correlations": {"independence_reference": "structure"},
    "no off-diagonal part": {"off_diagonal_weight": 0},
    "off-diagonal weight x 10": {"off_diagonal_weight": 0.05},
    "uniformity: hinge to the teacher's": {"uniformity_reference": "teacher", "uniformity_weight": 0.1},
    "uniformity of the student alone": {"uniformity_reference": "self", "uniformity_weight": 0.1},
    "uniformity of the student alone, not centered": {
        "uniformity_reference": "self", "uniformity_weight": 0.1, "center": False,
    },
    "uniformity weight x 10": {"uniformity_weight": 3},
    "uniformity of the last two stages": {"stages": [-2, -1]},
    "uniformity of the stage before": {"stages": [-2]},
    "uniformity of positions": {"points": "positions"},
}  # fmt: skip
"""What each row of the table of parts changes in the base."""
