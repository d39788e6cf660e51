"""One method, one data set and one encoder, as another package adds them to cmkd."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch.nn.functional as F
from sklearn.datasets import make_moons
from torch import Tensor, nn

from cmkd.data import Pack
from cmkd.datasets import DataSet, Listing
from cmkd.methods import Method
from cmkd.types import Batch, Modality, Output, Spec


class CosineHint(Method):
    """Turn the student's embedding to the direction of the teacher's.

    Args:
        student: output shapes of the student.
        teacher: output shapes of the teacher.
        weight: of the term.
    """

    name = "cosine_hint"
    kind = "features"
    needs = ("embedding",)

    def __init__(self, student: Spec, teacher: Spec, *, weight: float = 1.0) -> None:
        super().__init__(student, teacher)
        self.weight, self.projection = weight, nn.Linear(student.dim, teacher.dim)

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the term ``cosine_hint``."""
        similarity = F.cosine_similarity(self.projection(student.embedding), teacher.embedding)
        return {"cosine_hint": self.weight * (1.0 - similarity).mean()}


class Trainer(CosineHint):
    """A method whose name is that of a group of options of a run."""

    name = "trainer"


class TwoMoons(DataSet):
    """Two half circles, seen clearly and through noise.

    Args:
        pairs: number of pairs.
    """

    name = "two_moons"
    title = "Two half circles and a noisy view of them"
    rich, poor = "clear", "noisy"
    license, citation = "CC0", ""

    def __init__(self, *, pairs: int = 300) -> None:
        self.pairs = pairs

    def prepare(self, source: Path | None, destination: Path) -> Pack:
        """Write the pack; `source` is not needed."""
        clear, labels = make_moons(self.pairs, noise=0.05, random_state=0)
        clear = clear.astype(np.float32)
        noisy = clear + np.random.default_rng(0).normal(0, 0.4, clear.shape).astype(np.float32)
        names = ("train", "train", "train", "validation", "test")
        ids, splits = [f"point{k}" for k in range(self.pairs)], [names[k % 5] for k in range(self.pairs)]
        return self.write(
            destination,
            Listing(ids, labels, splits, {"method": "by position"}, [{"clear": clear, "noisy": noisy}]),
            [Modality(name, "vector", (2,), "float32") for name in ("clear", "noisy")],
            classes=["upper", "lower"],
        )


class LinearEncoder(nn.Module):
    """One linear layer and a rectifier, for vectors.

    Args:
        shape: of an input vector, ``(features,)``.
        width: of the embedding.
    """

    name = "linear"
    kinds = ("vector",)

    def __init__(self, shape: tuple[int], *, width: int = 16) -> None:
        super().__init__()
        self.layer = nn.Linear(shape[0], width)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the embedding and one map of vectors ``(batch, features)``."""
        x = self.layer(x).relu()
        return x, (x[:, :, None, None],)
