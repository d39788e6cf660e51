"""The structure metrics as torchmetrics classes: updated batch by batch, on any device, synchronized over processes.

If the metric allows it, the states are float64 sums over samples, so that memory does not grow with their number.
An Apple GPU has no float64, so metrics of its tensors stay on the CPU.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cmkd._torchvision import register_missing_ops

register_missing_ops()  # torchmetrics imports torchvision
from torchmetrics import Metric  # noqa: E402
from torchmetrics.utilities import dim_zero_cat  # noqa: E402

from cmkd.structure import channels, similarity, sphere  # noqa: E402
from cmkd.structure.discriminability import scatter_ratios  # noqa: E402
from cmkd.structure.features import Pooling, as_vectors, check_target, class_sums  # noqa: E402


def _zeros(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.float64)


def _unit(features: Tensor) -> Tensor:
    # a batch may hold a single sample, but `unit_vectors` needs at least two
    x = as_vectors(features, at_least=1)
    return sphere.unit_vectors(torch.cat([x, x[:1]]))[:-1]


class ChannelStructure(Metric):
    """Correlation and spectrum of channels: the metrics of `cmkd.structure.channels` by name.

    Args:
        dim: number of channels.
        pooling: how maps become vectors.

    Example:
        >>> metric = ChannelStructure(2)
        >>> for row in ([1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]):
        ...     metric.update(torch.tensor([row]))
        >>> round(metric.compute()["participation_ratio"], 6)
        2.0
    """

    full_state_update = False
    count: Tensor
    total: Tensor
    products: Tensor

    def __init__(self, dim: int, *, pooling: Pooling = "mean") -> None:
        super().__init__()
        self.pooling: Pooling = pooling
        self.add_state("count", _zeros(), dist_reduce_fx="sum")
        self.add_state("total", _zeros(dim), dist_reduce_fx="sum")
        self.add_state("products", _zeros(dim, dim), dist_reduce_fx="sum")

    def update(self, features: Tensor) -> None:
        """Add features ``(n, dim)`` or maps ``(n, dim, height, width)``."""
        seen = channels.Moments.of(features, pooling=self.pooling)
        self.count += seen.count
        self.total += seen.total
        self.products += seen.products

    def moments(self) -> channels.Moments:
        """Return the sums of this process so far."""
        return channels.Moments(self.count, self.total, self.products)

    def compute(self) -> dict[str, float]:
        """Return the metrics by name."""
        return channels.channel_structure(self.moments())


class ClassScatter(Metric):
    """Fisher's ratio, NC1, mean cosine and tolerance; unlabeled samples are left out.

    Args:
        dim: number of channels.
        classes: number of classes.

    Example:
        >>> metric = ClassScatter(1, 2)
        >>> metric.update(torch.tensor([[-1.0], [1.0], [9.0], [11.0]]), torch.tensor([0, 0, 1, 1]))
        >>> metric.compute()["fisher_ratio"]
        25.0
    """

    full_state_update = False
    products: Tensor
    sums: Tensor
    unit_sums: Tensor
    unit_squares: Tensor
    counts: Tensor

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.add_state("products", _zeros(dim, dim), dist_reduce_fx="sum")
        self.add_state("sums", _zeros(classes, dim), dist_reduce_fx="sum")
        self.add_state("unit_sums", _zeros(classes, dim), dist_reduce_fx="sum")
        self.add_state("unit_squares", _zeros(), dist_reduce_fx="sum")
        self.add_state("counts", _zeros(classes), dist_reduce_fx="sum")

    def update(self, features: Tensor, target: Tensor) -> None:
        """Add features ``(n, dim)`` or maps with their classes ``(n,)``."""
        check_target(features, target)
        kept = target >= 0
        if not kept.any():
            return
        x, y = as_vectors(features[kept], at_least=1), target[kept]
        sums, counts = class_sums(x, y, self.classes)
        unit = _unit(x)
        self.products += x.T @ x
        self.sums += sums
        self.counts += counts
        self.unit_sums += class_sums(unit, y, self.classes)[0]
        self.unit_squares += unit.square().sum()

    def compute(self) -> dict[str, float]:
        """Return the metrics by name."""
        ratio, collapse = scatter_ratios(self.products, self.sums, self.counts)
        n, squares = self.counts.sum(), self.unit_squares
        same_class_pairs = (self.counts * (self.counts - 1)).sum()
        return {
            "fisher_ratio": ratio,
            "nc1": collapse,
            "mean_cosine": float((self.unit_sums.sum(0).square().sum() - squares) / (n * (n - 1))),
            "tolerance": float((self.unit_sums.square().sum() - squares) / same_class_pairs),
        }


class SphereUniformity(Metric):
    """Uniformity of all samples on the hypersphere; it stores all vectors, because every pair counts.

    Args:
        t: inverse width of the Gaussian potential.

    Example:
        >>> metric = SphereUniformity()
        >>> metric.update(torch.tensor([[3.0, 0.0]]))
        >>> metric.update(torch.tensor([[0.0, 2.0]]))
        >>> round(float(metric.compute()), 6)
        -4.0
    """

    full_state_update = False
    vectors: list[Tensor]

    def __init__(self, *, t: float = 2.0) -> None:
        super().__init__()
        self.t = t
        self.add_state("vectors", [], dist_reduce_fx="cat")

    def update(self, features: Tensor) -> None:
        """Add features ``(n, dim)`` or maps."""
        self.vectors.append(_unit(features))

    def compute(self) -> float:
        """Return the uniformity."""
        return sphere.uniformity(dim_zero_cat(self.vectors), t=self.t)


class Similarity(Metric):
    """Linear CKA of two models and, at equal widths, alignment and the diagonal of the cross-correlation.

    Args:
        dim: the student's width.
        teacher_dim: the teacher's width.

    Example:
        >>> metric, x = Similarity(2, 2), torch.tensor([[1.0, 2.0], [2.0, 4.5], [4.0, 1.0]])
        >>> metric.update(x, x)
        >>> round(metric.compute()["linear_cka"], 6)
        1.0
    """

    full_state_update = False
    count: Tensor
    student_total: Tensor
    student_products: Tensor
    teacher_total: Tensor
    teacher_products: Tensor
    products: Tensor
    distance: Tensor

    def __init__(self, dim: int, teacher_dim: int) -> None:
        super().__init__()
        self.equal_widths = dim == teacher_dim
        self.add_state("count", _zeros(), dist_reduce_fx="sum")
        self.add_state("student_total", _zeros(dim), dist_reduce_fx="sum")
        self.add_state("student_products", _zeros(dim, dim), dist_reduce_fx="sum")
        self.add_state("teacher_total", _zeros(teacher_dim), dist_reduce_fx="sum")
        self.add_state("teacher_products", _zeros(teacher_dim, teacher_dim), dist_reduce_fx="sum")
        self.add_state("products", _zeros(dim, teacher_dim), dist_reduce_fx="sum")
        self.add_state("distance", _zeros(), dist_reduce_fx="sum")

    def update(self, student: Tensor, teacher: Tensor) -> None:
        """Add both models' features ``(n, dim)`` and ``(n, teacher_dim)``, or maps, of the same samples."""
        seen = similarity.CrossMoments.of(student, teacher)
        self.count += seen.student.count
        self.student_total += seen.student.total
        self.student_products += seen.student.products
        self.teacher_total += seen.teacher.total
        self.teacher_products += seen.teacher.products
        self.products += seen.products
        if self.equal_widths:
            self.distance += (_unit(student) - _unit(teacher)).square().sum()

    def compute(self) -> dict[str, float]:
        """Return the metrics by name."""
        ours = channels.Moments(self.count, self.student_total, self.student_products)
        theirs = channels.Moments(self.count, self.teacher_total, self.teacher_products)
        moments = similarity.CrossMoments(ours, theirs, self.products)
        found = {"linear_cka": similarity.linear_cka(moments)}
        if self.equal_widths:
            found["cross_correlation_diagonal"] = similarity.cross_correlation_diagonal(moments)
            found["alignment"] = float(self.distance / self.count)
        return found


class PredictionSimilarity(Metric):
    """Prediction agreement over all samples and non-target divergence over the labeled ones.

    Example:
        >>> metric = PredictionSimilarity()
        >>> logits = torch.tensor([[2.0, 1.0, 0.0]])
        >>> metric.update(logits, 2.0 * logits, torch.tensor([0]))
        >>> metric.compute()["prediction_agreement"]
        1.0
    """

    full_state_update = False
    agreed: Tensor
    count: Tensor
    divergence: Tensor
    labeled: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("agreed", "count", "divergence", "labeled"):
            self.add_state(name, _zeros(), dist_reduce_fx="sum")

    def update(self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor) -> None:
        """Add logits ``(n, classes)`` of both models with classes ``(n,)``, negative for unlabeled samples."""
        agreement = similarity.prediction_agreement(student_logits, teacher_logits)
        self.agreed += agreement * len(target)
        self.count += len(target)
        kept = target >= 0
        if kept.any():
            each = similarity.non_target_divergences(student_logits[kept], teacher_logits[kept], target[kept])
            self.divergence += each.sum()
            self.labeled += each.numel()

    def compute(self) -> dict[str, float]:
        """Return the metrics by name; the divergence is NaN if no sample is labeled."""
        return {
            "prediction_agreement": float(self.agreed / self.count),
            "non_target_divergence": float(self.divergence / self.labeled),
        }
