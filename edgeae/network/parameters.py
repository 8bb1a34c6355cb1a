"""Find the parameters of a network by the attributes that hold them."""

from __future__ import annotations

from collections.abc import Iterator

from tinygrad import Tensor

from edgeae.network.layers import Layer
from edgeae.runtime.kernels.operands import PackedWeight, Weight


def parameters(model: Layer, prefix: str = "") -> Iterator[tuple[str, Weight, Layer]]:
    """Yield every parameter of a network in a fixed order.

    Args:
        model: the network, or one of its layers.
        prefix: of all names.

    Yields:
        The parameter's name, its value, and the layer that holds it. A name is the attributes and list positions that
        lead to the parameter, joined by dots: `down.0.weight`.

    Raises:
        TypeError: an attribute is neither a parameter, a layer, a list of layers, nor a plain setting. It could hold
            parameters that would be missing from every file.
    """
    for key, value in vars(model).items():
        yield from _parameters_of(value, f"{prefix}{key}", model)


def _parameters_of(value: object, name: str, holder: Layer) -> Iterator[tuple[str, Weight, Layer]]:
    if isinstance(value, Tensor | PackedWeight):
        yield name, value, holder
    elif isinstance(value, Layer):
        yield from parameters(value, f"{name}.")
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield from _parameters_of(item, f"{name}.{i}", holder)
    elif not isinstance(value, str | int | float | None):
        raise TypeError(f"{type(holder).__name__}.{name} is a {type(value).__name__}: derive it from layers.Layer.")


def layer_names(model: Layer) -> dict[int, str]:
    """Return the name of each layer that holds parameters, such as `down.0`, by the layer's `id`."""
    return {id(layer): name.rpartition(".")[0] for name, _, layer in parameters(model)}
