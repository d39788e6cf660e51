"""Factor transfer (Kim et al. 2018)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from cmkd.errors import CmkdError
from cmkd.methods.base import Method
from cmkd.ops import at_least_float32, check_pair, match_resolution
from cmkd.types import Batch, Output, Spec


def ft(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Mean absolute difference of factors, each L2-normalized per sample: ``mean |f_s / ||f_s|| - f_t / ||f_t|||``.

    Args:
        student_map: the student's factor ``(batch, channels, height, width)``.
        teacher_map: the teacher's factor, of the same shape.

    Raises:
        CmkdError: if the shapes differ.

    Source:
        Kim, Park, Kwak 2018, arXiv 1802.04977, equation 3 with p = 1. RepDistiller's FT first averages the
        squares over channels, as attention transfer does; the paper does not.

    Example:
        >>> import torch
        >>> float(ft(3.0 * torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2, 2)))
        0.0
    """
    student, teacher = (F.normalize(x.flatten(1)) for x in check_pair(student_map, teacher_map, same_shape=True))
    return (student - teacher).abs().mean()


def _two_convolutions(channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, out_channels, 3, padding=1),
        nn.LeakyReLU(0.1),
        nn.Conv2d(out_channels, out_channels, 3, padding=1),
    )


class FT(Method):
    """Match a compressed form of the teacher's map, found by an autoencoder on the teacher.

    The paper trains the autoencoder (the paraphraser) beforehand. Here it trains at the same time by its own
    reconstruction term, which gives the student no gradient, and its code is a constant for the student. Each side has
    two convolutions instead of three, without batch-norm. Both are our choices. Maps of different resolution are pooled
    to the smaller one.

    Args:
        stage: index of the map, shallow to deep; negative values count from the deepest.
        ratio: channels of the factor, as a fraction of the teacher's channels.
        weight: factor of the term (200 in RepDistiller, for 240 epochs on CIFAR-100; in a short training this
            dominates the cross-entropy).
    """

    name = "ft"
    kind = "features"
    paper = "Kim, Park, Kwak 2018, NeurIPS, arXiv 1802.04977"
    bibtex = """@inproceedings{kim2018paraphrasing, title={Paraphrasing Complex Network: Network Compression via Factor
  Transfer}, author={Kim, Jangho and Park, SeongUk and Kwak, Nojun}, booktitle={NeurIPS}, year={2018}}"""
    needs = ("feature_maps",)

    def __init__(
        self, student: Spec, teacher: Spec, *, stage: int = -1, ratio: float = 0.5, weight: float = 20.0
    ) -> None:
        super().__init__(student, teacher)
        ours, theirs = self.require_stage(stage)
        if not 0 < ratio <= 16:
            raise CmkdError(f"ft: ratio must be above 0 and at most 16, got {ratio}")
        self.teacher_maps = {stage: self.smaller_size(stage)}
        self.stage, self.weight = stage, weight
        factor = max(round(ratio * theirs), 1)
        self.translator = _two_convolutions(ours, factor)
        self.encoder, self.decoder = _two_convolutions(theirs, factor), _two_convolutions(factor, theirs)

    def forward(self, student: Output, teacher: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the terms ``ft`` and ``ft_paraphraser``, the autoencoder's own."""
        ours, theirs = match_resolution(student.feature_maps[self.stage], teacher.feature_maps[self.stage].detach())
        factor = self.encoder(theirs)
        rebuilt, wanted = at_least_float32(self.decoder(factor), theirs)
        transfer = ft(self.translator(ours), factor.detach())
        return {"ft": self.weight * transfer, "ft_paraphraser": F.mse_loss(rebuilt, wanted)}
