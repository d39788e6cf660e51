"""A multi-layer perceptron for vectors."""

from __future__ import annotations

from torch import Tensor, nn

from cmkd.options import BelowOne, Count, Depth


class VectorEncoder(nn.Module):
    """A multi-layer perceptron with batch-norm.

    Args:
        shape: shape of an input vector, ``(features,)``.
        width: width of each hidden layer, and of the embedding.
        layers: number of hidden layers; each is one of the maps, ``(batch, width, 1, 1)``.
        dropout: dropout probability after each layer.
    """

    name = "mlp"
    kinds = ("vector",)

    def __init__(self, shape: tuple[int], *, width: Count = 128, layers: Depth = 2, dropout: BelowOne = 0.3) -> None:
        super().__init__()
        (features,) = shape
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(features if i == 0 else width, width), nn.BatchNorm1d(width), nn.ReLU())
            for i in range(layers)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return embedding and maps of vectors ``(batch, features)``."""
        maps = []
        for layer in self.layers:
            x = self.dropout(layer(x))
            maps.append(x[:, :, None, None])
        return x, tuple(maps)
