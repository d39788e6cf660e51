"""A model of several modalities that classifies with any subset of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from cmkd.errors import CmkdError
from cmkd.models.base import Model, Preprocess, run_on
from cmkd.types import Modality, Output


class FusedModel(Model):
    """A model of several modalities: its embedding is the mean over the modalities that a pair has.

    Each modality has its own preprocessing and encoder. The embedding of the first modality enters unchanged, and the
    others through a linear projection to its width. The mean over any subset is therefore in one space, for one
    classifier, and the model on the first modality alone is an ordinary `Model`. Train it with modality dropout
    (ModDrop, Neverova et al. 2016, IEEE TPAMI 38(8), arXiv 1501.00102; the paper concatenates features and sets those
    of a missing modality to zero; this model averages, which needs no stand-in for them).

    Args:
        first: model of the modality that most pairs in use have; its modules become modules of this model.
        others: models of the other modalities; their "classes" are the values of the first model's embedding.
        together: run the model only with all of its modalities, like a teacher that sees both, and not with every
            subset. The mean is still over the modalities that a pair has.

    Attributes:
        spec: shapes of the model's output. Feature maps are those of the first modality.

    Raises:
        CmkdError: if one of `others` has another number of outputs, or two models read one modality.

    Example:
        >>> from cmkd import models
        >>> radar, optical = (Modality(name, "vector", (4,), "float32", (0.0,) * 4, (1.0,) * 4) for name in "ro")
        >>> first = models.build("mlp(width=8)", radar, classes=3)
        >>> model = FusedModel(first, [models.build("mlp(width=8)", optical, classes=first.spec.dim)]).eval()
        >>> model.subsets, model.classify({"o": torch.ones(2, 4)}).logits.shape
        ((('r',), ('o',), ('r', 'o')), torch.Size([2, 3]))
    """

    def __init__(self, first: Model, others: Sequence[Model], *, together: bool = False) -> None:
        nn.Module.__init__(self)
        self.modality, self.spec, self.together = first.modality, first.spec, together
        self.preprocess, self.encoder, self.classifier = first.preprocess, first.encoder, first.classifier
        self.others = nn.ModuleList(others)  # by position: a name may clash with an attribute of torch
        self.learning_rate = min(model.learning_rate for model in (first, *others))
        names = [modality.name for modality in self.modalities]
        if len(set(names)) < len(names):
            raise CmkdError(f"expected one model per modality, got {', '.join(m.modality.name for m in others)}")
        for other in others:
            if other.spec.classes != self.spec.dim:
                raise CmkdError(
                    f"the model of '{other.modality.name}' gives {other.spec.classes} values, but the embedding of "
                    f"'{self.modality.name}' has {self.spec.dim}; build it with classes={self.spec.dim}"
                )

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """Modalities that the model can read, starting with the first model's."""
        return (self.modality, *(other.modality for other in self.others if isinstance(other, Model)))

    @property
    def scalings(self) -> dict[str, Preprocess]:
        """Modality name -> preprocessing that standardizes its values."""
        models = (self, *(other for other in self.others if isinstance(other, Model)))
        return {model.modality.name: model.preprocess for model in models}

    @property
    def subsets(self) -> tuple[tuple[str, ...], ...]:
        """Subsets of modality names that the model is run with, small subsets first."""
        return super().subsets[-1:] if self.together else super().subsets

    def classify(
        self,
        inputs: Mapping[str, Tensor],
        present: Mapping[str, Tensor] | None = None,
        recorded: Mapping[str, Tensor] | None = None,
    ) -> Output:
        """Classify each pair from those of its modalities that `inputs` holds; arguments as in `Model.classify`.

        A pair that has none of them gets the logits of an embedding of zeros. Without the first modality, there are no
        feature maps. In train mode, each encoder runs only on recordings (see `run_on`), since stand-ins would distort
        its batch statistics.

        Raises:
            CmkdError: if `inputs` holds none of the model's modalities.
        """
        recorded = present if recorded is None else recorded

        def run(name: str, model: nn.Module) -> Output:
            x = inputs[name]
            output: Output = (
                model(x) if recorded is None else run_on(recorded[name], lambda rows: model(x[rows]), model)
            )
            return output

        maps: tuple[Tensor, ...] = ()
        first, embeddings = self.modality.name, dict[str, Tensor]()
        if first in inputs:
            output = run(first, self)
            embeddings[first], maps = output.embedding, output.feature_maps
        for modality, other in zip(self.modalities[1:], self.others, strict=True):
            if modality.name in inputs:
                embeddings[modality.name] = run(modality.name, other).logits
        if not embeddings:
            known = ", ".join(modality.name for modality in self.modalities)
            raise CmkdError(f"expected inputs of one or more of {known}, got {', '.join(inputs) or 'none'}")
        each = torch.stack(list(embeddings.values()), 1)
        if present is None:
            embedding = each.mean(1)
        else:
            weight = torch.stack([present[name] for name in embeddings], 1).to(each.dtype)[..., None]
            embedding = (each * weight).sum(1) / weight.sum(1).clamp(min=1)
        return Output(self.classifier(embedding), embedding, maps)
