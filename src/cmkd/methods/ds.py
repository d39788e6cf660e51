"""Dimensional structure: independent output channels and uniform intermediate features (Si et al. 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from cmkd.correlation import cross_correlation, of_unit_scale
from cmkd.distributed import gather
from cmkd.errors import CmkdError, unknown_name
from cmkd.methods.base import Method, projection
from cmkd.methods.kd import kd
from cmkd.ops import at_least_float32, check_pair, off_diagonal, resize_like
from cmkd.pairwise import gaussian_discrepancy, log_mean_gaussian, unit_rows
from cmkd.types import Batch, Output, Spec

INDEPENDENCE_REFERENCES = ("teacher", "cross", "self", "structure")
UNIFORMITY_REFERENCES = ("pairs", "teacher", "self")
OUTPUTS = ("probabilities", "embedding")
POINTS = ("pooled", "positions")


def channel_independence(
    student_output: Tensor,
    teacher_output: Tensor,
    *,
    off_diagonal_weight: float = 0.005,
    reference: Literal["teacher", "cross", "self", "structure"] = "teacher",
) -> Tensor:
    """Channel-wise independence of output features, measured by correlations over the batch.

    Hats mark channels standardized over the batch (biased variance); there are D channels and B samples.

    - ``teacher``: pulls ``C = t̂ᵀ ŝ / B`` toward the identity,
      ``(1/D) Σ_i (1 - C_ii)² + (off_diagonal_weight / D) Σ_{i≠j} C_ij²``. Each student channel is tied to its teacher
      channel and kept independent of the other teacher channels.
    - ``cross``: pulls ``C`` toward the teacher's own correlations ``t̂ᵀ t̂ / B``, with the same two factors. It is 0
      exactly where the student equals the teacher, whereas class probabilities, which sum to 1, cannot all be
      uncorrelated.
    - ``self``: only the off-diagonal part, of ``C = ŝᵀ ŝ / B``: the control without a teacher.
    - ``structure``: ``(off_diagonal_weight / D) Σ_{i≠j} (C^S_ij - C^T_ij)²``, where C^S and C^T are the correlations
      within each model.

    Args:
        student_output: ``(batch, dim)``, after any projection.
        teacher_output: ``(batch, dim)``; ignored with ``reference="self"``.
        off_diagonal_weight: factor of every off-diagonal part.
        reference: target of the student's correlations, see above.

    Returns:
        Scalar. A constant channel counts as uncorrelated with all others and with its teacher channel.

    Raises:
        CmkdError: if the shapes differ or the reference is unknown.

    Source:
        After Si et al. 2023, arXiv 2306.15977, which names channel-wise independence of the output features. The
        formula is our reading: the loss of Zbontar et al. 2021 (arXiv 2103.03230), divided by the number of channels.

    Example:
        >>> x = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
        >>> round(float(channel_independence(x, x)), 4)  # independent channels, equal to the teacher's
        0.0
        >>> round(float(channel_independence(-x, x)), 3)  # C = -1: (1 + 1)² per channel
        4.0
    """
    _check("independence reference", reference, INDEPENDENCE_REFERENCES)
    student, teacher = map(of_unit_scale, check_pair(student_output, teacher_output, same_shape=reference != "self"))
    width = student.shape[1]
    if reference in ("teacher", "cross"):
        correlation = cross_correlation(teacher, student)
        tied = (1.0 - correlation.diagonal()).square().sum() / width
        if reference == "cross":
            correlation = correlation - cross_correlation(teacher, teacher)
        return tied + off_diagonal_weight * off_diagonal(correlation).square().sum() / width
    correlation = cross_correlation(student, student)
    if reference == "structure":
        correlation = correlation - cross_correlation(teacher, teacher)
    return off_diagonal_weight * off_diagonal(correlation).square().sum() / width


def map_points(
    feature_map: Tensor, *, points: Literal["pooled", "positions"] = "pooled", pool: int | None = 2
) -> Tensor:
    """Turn feature maps into vectors.

    Args:
        feature_map: ``(batch, channels, height, width)``.
        points: ``pooled``: one vector per sample, the flattened pooled map; ``positions``: one vector of channels per
            position of the pooled map.
        pool: side of the map after adaptive average pooling, limited to the map's own size; None for no pooling.

    Returns:
        ``(batch, channels p p)`` or ``(batch p p, channels)``, at least float32.

    Example:
        >>> x = torch.zeros(5, 3, 8, 8)
        >>> map_points(x).shape, map_points(x, points="positions", pool=None).shape
        (torch.Size([5, 12]), torch.Size([320, 3]))
    """
    _check("kind of points", points, POINTS)
    (x,) = at_least_float32(feature_map)
    if pool is not None:
        x = resize_like(x, (min(pool, x.shape[2]), min(pool, x.shape[3])))
    return x.flatten(1) if points == "pooled" else x.permute(0, 2, 3, 1).flatten(0, 2)


def feature_uniformity(
    student_points: Tensor,
    teacher_points: Tensor | None = None,
    *,
    t: float = 2.0,
    center: bool = True,
    reference: Literal["pairs", "teacher", "self"] = "pairs",
    eps: float = 1e-6,
) -> Tensor:
    """Uniform distribution of intermediate features on the hypersphere.

    ``L = log mean_{i<j} exp(-t |u_i - u_j|²)``, where the vectors ``u`` are optionally centered, then
    scaled to length 1.

    - ``self`` returns the student's L.
    - ``teacher`` returns ``max(0, L(student) - L(teacher))``: as uniform as the teacher overall, but not more.
    - ``pairs`` compares the potential of each pair, ``k = exp(-t |u_i - u_j|²)``, with the teacher's:
      ``sum_{i<j} (k_S - k_T)² / sum_{i<j} k_T²``. At 0 the student is as uniform as the teacher and its features are
      spread in the same way.

    Args:
        student_points: ``(n, dim)``.
        teacher_points: ``(m, teacher dim)``; with ``pairs``, ``(n, teacher dim)`` for the same samples; ignored with
            ``reference="self"``. They receive no gradient.
        t: inverse width of the potential.
        center: whether to subtract the mean vector first, because features after a ReLU share one orthant.
        reference: how the teacher is used, see above.
        eps: each vector is divided by ``sqrt(|x|² + eps)``. Centering reduces collapsed features to rounding noise; eps
            keeps their gradient below ``1 / sqrt(eps)``.

    Returns:
        Scalar; 0 for fewer than two points. Memory is O(n dim).

    Raises:
        CmkdError: if the reference is unknown; if it needs teacher points and there are none; or, for ``pairs``, if
            the numbers of points differ.

    Source:
        After Si et al. 2023, arXiv 2306.15977, which names uniform distribution of intermediate features. The formula
        is that of Wang, Isola 2020 (arXiv 2005.10242); both ways to use the teacher are ours. Peng et al. 2019 (`cc`)
        and Tung and Mori 2019 (`sp`) also match pairs with a kernel.

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
        >>> round(float(feature_uniformity(x, reference="self")), 3), float(feature_uniformity(x, x))
        (-8.0, 0.0)
    """
    _check("uniformity reference", reference, UNIFORMITY_REFERENCES)

    def on_sphere(points: Tensor) -> Tensor:
        (x,) = at_least_float32(points)
        return unit_rows(x - x.mean(0) if center else x, eps=eps)

    ours = on_sphere(student_points)
    if reference == "self":
        return log_mean_gaussian(ours, t=t)
    if teacher_points is None:
        raise CmkdError("the reference is the teacher: give teacher_points, or choose reference='self'")
    theirs = on_sphere(teacher_points.detach())
    if reference == "pairs":
        return gaussian_discrepancy(ours, theirs, t=t)
    return (log_mean_gaussian(ours, t=t) - log_mean_gaussian(theirs, t=t)).clamp(min=0.0)


def _check(kind: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise unknown_name(kind, value, known)


class DimensionalStructure(Method):
    """Transfer the teacher's dimensional structure to the student, in addition to KD.

    ``kd_weight KD + independence_weight L_ind + uniformity_weight L_uni``; a term of weight 0 is left out and needs no
    inputs. The independence is computed on the class probabilities or on the embeddings (if the widths differ, a
    trained linear map projects the student). The uniformity is the mean over the chosen feature maps. All statistics
    are computed over the global batch.

    If the teacher was trained on different classes, there are no class probabilities to compare: use
    ``ds(kd_weight=0,independence_features=embedding)``. Whether this helps depends on the data, so compare it with
    `none`. The best temperature and weights also differ between data sets and networks.

    Related work: on class probabilities, the diagonal of the independence term is the within-class relation of DIST
    (Huang et al. 2022, arXiv 2205.10536; `dist`), with ``(1 - r)²`` here and ``1 - r`` there.

    Args:
        kd_weight: factor of the KL divergence of the softened logits; the cross-entropy has weight 1.
        temperature: softens the logits of KD, and the class probabilities whose channels are made independent.
        independence_weight: factor of the channel-wise independence.
        independence_features: output features of the independence: class ``probabilities`` or ``embedding``.
        independence_reference: ``teacher``, ``cross``, ``self`` or ``structure``, see `channel_independence`.
        off_diagonal_weight: factor of the off-diagonal part of the independence.
        uniformity_weight: factor of the uniformity.
        uniformity_reference: ``pairs``, ``teacher`` (hinge) or ``self``, see `feature_uniformity`.
        t: inverse width of the Gaussian potential of the uniformity.
        stages: indices of the feature maps for the uniformity, shallow to deep; negative values count from the deepest.
        points: ``pooled`` or ``positions``, see `map_points`.
        pool: side of the pooled map; None for no pooling.
        center: whether the uniformity subtracts the mean vector first.
    """

    name = "ds"
    kind = "structure"
    paper = "Si et al. 2023, arXiv 2306.15977 (the loss's exact form is our reading of its abstract)"
    bibtex = """@article{si2023dimensional, title={A Dimensional Structure based Knowledge Distillation Method for
  Cross-Modal Learning}, author={Si, Lingyu and Dong, Hongwei and Qiang, Wenwen and Yu, Junzhi and Zhai, Wenlong and
  Zheng, Changwen and Xu, Fanjiang and Sun, Fuchun}, journal={arXiv:2306.15977}, year={2023}}"""
    needs: tuple[str, ...] = ("logits", "embedding", "feature_maps")

    def __init__(
        self,
        student: Spec,
        teacher: Spec,
        *,
        kd_weight: float = 1.0,
        temperature: float = 2.0,
        independence_weight: float = 3.0,
        independence_features: Literal["probabilities", "embedding"] = "probabilities",
        independence_reference: Literal["teacher", "cross", "self", "structure"] = "teacher",
        off_diagonal_weight: float = 0.005,
        uniformity_weight: float = 0.1,
        uniformity_reference: Literal["pairs", "teacher", "self"] = "pairs",
        t: float = 2.0,
        stages: Sequence[int] = (-1,),
        points: Literal["pooled", "positions"] = "pooled",
        pool: int | None = 2,
        center: bool = True,
    ) -> None:
        super().__init__(student, teacher)
        _check("independence reference", independence_reference, INDEPENDENCE_REFERENCES)
        _check("uniformity reference", uniformity_reference, UNIFORMITY_REFERENCES)
        _check("kind of points", points, POINTS)
        _check("kind of output features", independence_features, OUTPUTS)
        weights = (kd_weight, independence_weight, off_diagonal_weight, uniformity_weight)
        if not (min(weights) >= 0 and t > 0 and temperature > 0):
            raise CmkdError(
                f"{self.name}: needs weights of 0 or more and t and temperature above 0, got weights {weights}, t {t}, "
                f"temperature {temperature}"
            )
        embeds = bool(independence_weight) and independence_features == "embedding"
        led = bool(independence_weight) and independence_reference != "self"
        if kd_weight or (led and not embeds):
            self.require_same_classes()
        self.teacher_maps = {}
        if uniformity_weight:
            if not stages or (pool is not None and pool < 1):
                raise CmkdError(f"{self.name}: needs at least one stage and a pool of 1 or more, got {stages}, {pool}")
            for stage in stages:
                self.require_stage(stage, of_teacher=uniformity_reference != "self")
            if uniformity_reference != "self":
                paired = points == "positions" and uniformity_reference == "pairs"
                self.teacher_maps = {stage: self._pooled(stage, pool, paired=paired) for stage in stages}
        self.kd_weight, self.temperature = kd_weight, temperature
        self.independence_weight, self.independence_reference = independence_weight, independence_reference
        self.independence_features = independence_features
        self.off_diagonal_weight = off_diagonal_weight
        self.uniformity_weight, self.uniformity_reference = uniformity_weight, uniformity_reference
        self.t, self.stages, self.points, self.pool, self.center = t, tuple(stages), points, pool, center
        own = ("logits", *["embedding"] * embeds, *["feature_maps"] * bool(uniformity_weight))
        outputs = [*["logits"] * bool(kd_weight or (led and not embeds)), *["embedding"] * (led and embeds)]
        read = (*outputs, *["feature_maps"] * bool(self.teacher_maps))
        self.uses_teacher, self.needs = bool(read), read or own  # read of the teacher, or of the student alone
        self.projection = projection(student, teacher) if led and embeds else nn.Identity()

    def _pooled(self, stage: int, pool: int | None, *, paired: bool) -> tuple[int, int] | None:
        """Return the size to which the teacher's map is pooled; None for no pooling."""
        ours, theirs = (
            shape[1:] if pool is None else (min(pool, shape[1]), min(pool, shape[2]))
            for shape in (self.student_spec.map_shapes[stage], self.teacher_spec.map_shapes[stage])
        )
        if paired and ours != theirs:
            raise CmkdError(
                f"{self.name}: positions of stage {stage} cannot be paired, as there are {ours[0]} x {ours[1]} and the "
                f"teacher has {theirs[0]} x {theirs[1]}; choose points=pooled, or a smaller pool"
            )
        return None if pool is None else theirs

    @property
    def same_view(self) -> bool:
        """Whether positions are compared; a pooled map is one vector per pair, which may be averaged over views."""
        return bool(self.teacher_maps) and self.points == "positions"

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the terms ``kd``, ``independence`` and ``uniformity`` whose weight is not 0."""
        terms: dict[str, Tensor] = {}
        if self.kd_weight:
            # gathered like the other terms, so that processes with unequal numbers of pairs agree with one process
            ours, theirs = gather(student.logits), gather(teacher.logits)
            terms["kd"] = self.kd_weight * kd(ours, theirs, temperature=self.temperature)
        if self.independence_weight:
            terms["independence"] = self.independence_weight * channel_independence(
                *self._outputs(student, teacher),
                off_diagonal_weight=self.off_diagonal_weight,
                reference=self.independence_reference,
            )
        if self.uniformity_weight:
            values = [self._uniformity(student, teacher, stage) for stage in self.stages]
            terms["uniformity"] = self.uniformity_weight * torch.stack(values).mean()
        return terms

    def _outputs(self, student: Output, teacher: Output) -> tuple[Tensor, Tensor]:
        alone = self.independence_reference == "self"
        if self.independence_features == "embedding":
            ours = gather(self.projection(student.embedding))
            return ours, ours.detach() if alone else gather(teacher.embedding)
        (ours,) = at_least_float32(gather(student.logits))
        (theirs,) = (ours.detach(),) if alone else at_least_float32(gather(teacher.logits))
        return (ours / self.temperature).softmax(1), (theirs / self.temperature).softmax(1)

    def _uniformity(self, student: Output, teacher: Output, stage: int) -> Tensor:
        def points(output: Output) -> Tensor:
            return gather(map_points(output.feature_maps[stage], points=self.points, pool=self.pool))

        ours, theirs = points(student), None if self.uniformity_reference == "self" else points(teacher)
        return feature_uniformity(ours, theirs, t=self.t, center=self.center, reference=self.uniformity_reference)
