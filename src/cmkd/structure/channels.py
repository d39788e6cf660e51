"""Independence of channels: correlation, spectrum and effective rank, all computed from streamed `Moments`."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from cmkd.errors import CmkdError
from cmkd.ops import off_diagonal
from cmkd.structure.features import Pooling, as_vectors

_CONSTANT = 1e-12
"""A channel whose variance is below this fraction of its mean square is constant up to rounding."""


@dataclass(frozen=True)
class Moments:
    """Float64 sums over samples, from which every metric in this file is computed.

    They are additive: the moments of two sets of samples are the sums of their moments.

    Args:
        count: number of samples, a scalar.
        total: ``(dim,)`` sum of the vectors.
        products: ``(dim, dim)`` sum of the outer products.
    """

    count: Tensor
    total: Tensor
    products: Tensor

    @classmethod
    def of(cls, features: Tensor, *, pooling: Pooling = "mean") -> Moments:
        """Compute the sums over `features` ``(n, dim)`` or maps ``(n, channels, height, width)``, n at least 1."""
        x = as_vectors(features, pooling=pooling, at_least=1)
        return cls(x.new_tensor(float(x.shape[0])), x.sum(0), x.T @ x)

    def covariance(self) -> Tensor:
        """Return the biased covariance ``(dim, dim)``, divided by the number of samples."""
        mean = self.total / self.count
        return self.products / self.count - mean[:, None] * mean[None, :]

    def live(self) -> Tensor:
        """Return ``(dim,)`` bool: which channels are not constant over the samples."""
        return self.covariance().diagonal() > _CONSTANT * self.products.diagonal() / self.count

    def correlation(self) -> Tensor:
        """Return the correlation ``(dim, dim)``; a constant channel has the row and column of the identity."""
        covariance, live = self.covariance(), self.live()
        scale = torch.where(live, covariance.diagonal().clamp(min=1e-300).rsqrt(), 0.0)
        correlation = (covariance * scale[:, None] * scale[None, :]).clamp(-1.0, 1.0)
        return correlation.fill_diagonal_(1.0)


def channel_structure(moments: Moments) -> dict[str, float]:
    """Return the metrics of this module by name."""
    return {
        "constant_channels": float((~moments.live()).sum()),
        "correlation_mean_abs": correlation_mean_abs(moments),
        "correlation_norm": correlation_norm(moments),
        "effective_rank": effective_rank(moments),
        "participation_ratio": participation_ratio(moments),
        "spectral_decay": spectral_decay(moments),
    }


def channel_correlation(features: Tensor, *, pooling: Pooling = "mean") -> Tensor:
    """Return Pearson's correlation of the channels over the samples, ``(dim, dim)`` float64.

    Invariant to shifting and positively scaling each channel, to permuting samples and to duplicating the sample.

    Args:
        features: ``(n, dim)``, n at least 2, or maps.
        pooling: how maps become vectors, see `cmkd.structure.features.as_vectors`.

    Raises:
        CmkdError: if there are fewer than two samples, NaN or infinity.

    Example:
        >>> channel_correlation(torch.tensor([[0.0, 3.0], [1.0, 1.0]])).round(decimals=6).tolist()
        [[1.0, -1.0], [-1.0, 1.0]]
    """
    return Moments.of(as_vectors(features, pooling=pooling)).correlation()


def correlation_mean_abs(moments: Moments) -> float:
    """Mean ``|r_ij|`` over pairs of different channels that are not constant; 0 where there is no such pair.

    Example:
        >>> x = torch.tensor([[1.0, 1.0, 7.0], [1.0, -1.0, 7.0], [-1.0, 1.0, 7.0], [-1.0, -1.0, 7.0]])
        >>> correlation_mean_abs(Moments.of(x))
        0.0
    """
    live = moments.live()
    values = off_diagonal(moments.correlation()[live][:, live])
    return float(values.abs().mean()) if values.numel() else 0.0


def correlation_norm(moments: Moments) -> float:
    """Frobenius norm of the off-diagonal part of the correlation matrix, ``sqrt(Σ_{i≠j} r_ij²)``."""
    return float(off_diagonal(moments.correlation()).norm())


def spectrum(moments: Moments) -> Tensor:
    """Eigenvalues of the covariance, descending, not below 0: ``(dim,)``.

    Invariant to rotation and shift of the features and to duplicating the sample.
    """
    values: Tensor = torch.linalg.eigvalsh(moments.covariance())
    return values.flip(0).clamp(min=0.0)


def effective_rank(moments: Moments) -> float:
    """RankMe: ``exp(-Σ p_k log p_k)`` with p the singular values of the features over their sum, between 1 and dim.

    As in the paper, the features are not centered, so a large common offset lowers the rank. Invariant to rotation, to
    a common scale, and to duplicating the sample. The paper adds 1e-7 to each p; here 0 log 0 is 0.

    Source:
        Garrido et al. 2023, arXiv 2210.02885, equation 1.

    Raises:
        CmkdError: if all features are 0.

    Example:
        >>> round(effective_rank(Moments.of(torch.eye(3))), 6)
        3.0
    """
    squares = torch.linalg.eigvalsh(moments.products).clamp(min=0.0)
    # the square root turns rounding errors of 1e-16 into singular values of 1e-8: cut below the matrix's precision
    singular = torch.where(squares > squares.max() * len(squares) * 1e-15, squares, 0.0).sqrt()
    if not float(singular.sum()) > 0.0:
        raise CmkdError("all features are 0, so the rank is undefined; check the model")
    p = singular / singular.sum()
    return math.exp(float(-torch.xlogy(p, p).sum()))


def participation_ratio(moments: Moments) -> float:
    """``(Σ λ)² / Σ λ²`` of the covariance's eigenvalues, between 1 and dim; 0 for collapsed features.

    Invariant to rotation, shift, a common scale, and to duplicating the sample.

    Source:
        Gao et al. 2017, bioRxiv 214262.

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        >>> round(participation_ratio(Moments.of(x)), 6)
        2.0
    """
    if not moments.live().any():
        return 0.0
    values = spectrum(moments)
    return float(values.sum().square() / values.square().sum())


def spectral_decay(moments: Moments, *, first: int = 1, last: int | None = None) -> float:
    """Exponent α of ``λ_k ∝ k^-α``, fitted to the log-log spectrum by least squares; larger means fewer directions.

    Invariant to rotation, shift, a common scale, and to duplicating the sample. Not every spectrum follows a power law:
    look at the spectrum before you use the exponent.

    Args:
        moments: moments of the features.
        first: first rank of the fit, from 1.
        last: last rank of the fit; by default that of the last eigenvalue above 1e-10 of the largest.

    Returns:
        The exponent; NaN if fewer than two eigenvalues are left to fit.

    Source:
        Stringer et al. 2019, Nature 571; for representations Agrawal et al. 2022 (α-ReQ, NeurIPS).
    """
    if not moments.live().any():
        return math.nan
    values = spectrum(moments)
    usable = int((values > 1e-10 * values[0]).sum())
    stop = usable if last is None else min(last, usable)
    if stop - first + 1 < 2:
        return math.nan
    ranks = torch.arange(first, stop + 1, dtype=values.dtype, device=values.device).log()
    heights = values[first - 1 : stop].log()
    ranks = ranks - ranks.mean()
    return float(-(ranks * heights).sum() / ranks.square().sum())
