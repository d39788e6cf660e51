"""Your own modules as models: `wrap` makes any classifier that ends in a named layer return an `Output`."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from cmkd.errors import CmkdError, unknown_name
from cmkd.types import Output


class Wrapped(nn.Module):
    """A module whose calls return an `Output`, made by `wrap`; it shares the weights of the module it wraps."""

    def __init__(self, module: nn.Module, classifier: str, feature_maps: Sequence[str]) -> None:
        super().__init__()
        self.module, self.classifier_name, self.map_names = module, classifier, tuple(feature_maps)
        names = [name for name, _ in module.named_modules() if name]
        for name in (classifier, *self.map_names):
            if name not in names:
                raise unknown_name(f"layer of {type(module).__name__}", name, names)

    def extra_repr(self) -> str:
        """Return the names of the layers that are read."""
        return f"classifier={self.classifier_name}, feature_maps={','.join(self.map_names)}"

    @property
    def classifier(self) -> nn.Module:
        """The layer from embedding to logits."""
        return self.module.get_submodule(self.classifier_name)

    def forward(self, x: Tensor) -> Output:
        """Run the module on ``(batch, ...)`` and collect its embedding and feature maps."""
        seen: dict[str, Tensor] = {}

        # copies, since a later layer may work in place
        def keep_input(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            seen[""] = inputs[0].clone()

        def keep_output(name: str, output: object) -> None:
            if not isinstance(output, Tensor) or not 2 <= output.dim() <= 4:
                found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
                raise CmkdError(
                    f"layer '{name}' must return a feature map (batch, channels), (batch, channels, time) or (batch, "
                    f"channels, height, width), got {found}: name another layer"
                )
            seen[name] = output.clone()

        # hooks are removed after each call: a permanent hook would be shared by copies of the module
        handles = [self.classifier.register_forward_pre_hook(keep_input)]
        for name in self.map_names:
            layer = self.module.get_submodule(name)
            handles.append(layer.register_forward_hook(lambda _, __, output, name=name: keep_output(name, output)))
        try:
            logits = self.module(x)
        finally:
            for handle in handles:
                handle.remove()
        kind = type(self.module).__name__
        for name in ("", *self.map_names):
            if name not in seen:
                raise CmkdError(f"layer '{name or self.classifier_name}' of {kind} did not run; name one that does")
        if not isinstance(logits, Tensor):
            raise CmkdError(
                f"{kind} must return its logits as a tensor (batch, classes), got {type(logits).__name__}: give a "
                "module that calls it and returns them"
            )
        embedding = seen.pop("")
        if embedding.dim() != 2 or logits.dim() != 2:
            found = tuple(logits.shape)
            raise CmkdError(
                f"{kind} must return logits (batch, classes) through its layer '{self.classifier_name}', whose input "
                f"is (batch, dim); got {found} and the input {tuple(embedding.shape)}: name another layer"
            )
        return Output(logits, embedding, tuple(_as_map(seen[name]) for name in self.map_names))


def wrap(module: nn.Module, *, classifier: str | None = None, feature_maps: Sequence[str] = ()) -> Wrapped:
    """Name the parts of your own classifier, so that it can be a teacher or a student.

    Args:
        module: maps float32 inputs ``(batch, ...)`` to logits ``(batch, classes)``.
        classifier: name of the layer that gives the logits, as in ``module.named_modules()``; its input is the
            embedding. By default the last ``nn.Linear``.
        feature_maps: names of layers whose outputs are the feature maps, shallow to deep: ``(batch, channels, height,
            width)``, or ``(batch, channels, time)``, or ``(batch, channels)``.

    Returns:
        A module that shares the weights of `module`; calling it gives an `Output`.

    Raises:
        CmkdError: if there is no such layer; in a call, if a layer did not run or a shape is wrong.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        >>> wrap(net, feature_maps=["1"])(torch.zeros(3, 1, 8, 8)).spec()
        Spec(classes=2, dim=4, map_shapes=((4, 6, 6),))
    """
    if classifier is None:
        linear = [name for name, layer in module.named_modules() if name and isinstance(layer, nn.Linear)]
        if not linear:
            raise CmkdError(
                f"{type(module).__name__} has no nn.Linear to use as its classifier; name the layer that gives the "
                "logits: cmkd.wrap(module, classifier=...)"
            )
        classifier = linear[-1]
    return Wrapped(module, classifier, feature_maps)


def _as_map(output: Tensor) -> Tensor:
    return output[(..., *[None] * (4 - output.dim()))]
