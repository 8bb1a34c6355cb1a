"""The layers of the networks, on (B, H, W, C) tensors: convolutions, a linear layer, and the residual block.

On the CPU a layer runs as one kernel of our own (runtime/kernels/), where that covers its shape. Everywhere else it is
computed by `conv_valid` (runtime/convolution.py), a stride-1 convolution without padding, which the layers reach so:

- A 3×3 convolution pads its input by one pixel on each side.
- A 4×4 convolution of stride 2 is a 2×2 one on the image folded 2×2 into channels (`space_to_depth`).
- A 4×4 transposed convolution of stride 2 is a 2×2 one to four times the channels, its four output phases side by
  side, which are then unfolded (`depth_to_space`) and cropped by one pixel on each side. No zeros are inserted.

All gradients are stride-1 convolutions too, then, which every backend runs several times faster than strided ones.

Weights are stored as (ky, kx, in, out), those of `Linear` as (in, out). A weight may also be packed (quantize.py): an
object with `dequantize() -> Tensor`, whose arithmetic becomes part of the layer's own kernel on the device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from tinygrad import Tensor, dtypes

from edgeae.network.tracing import Value
from edgeae.runtime.convolution import conv_valid
from edgeae.runtime.kernels import graph
from edgeae.runtime.kernels.operands import Activation, Weight
from edgeae.runtime.kernels.shapes import Shape


class Layer:
    """Base of all layers and networks.

    The parameters of a layer are the tensors and packed weights among its attributes, and those of the layers in its
    attributes. They are found by type (parameters.py): only classes derived from this one can hold any.
    """


class _Convolution(Layer):
    """A layer that is one convolution; a kernel or a step of a trace takes its weight, bias and activation.

    Attributes:
        weight: (ky, kx, in, out), or (in, out) for a linear layer.
        bias: (out,).
        activation: `relu`, `sigmoid` or None.
    """

    weight: Weight
    bias: Tensor
    activation: Activation


@dataclass(frozen=True)
class Init:
    """Source of a layer's first weights.

    Attributes:
        device: tinygrad device that holds them.
        rng: draws them; None leaves them unallocated, for weights that are about to be loaded.
    """

    device: str
    rng: np.random.Generator | None = None

    def weight(self, *shape: int, gain: float = 1.0) -> Tensor:
        """Draw normal weights of variance gain / fan-in (He et al. 2015); all axes but the last make up the fan-in."""
        if self.rng is None:
            return Tensor.empty(*shape, device=self.device)
        scale = math.sqrt(gain / math.prod(shape[:-1]))
        return Tensor((self.rng.standard_normal(shape) * scale).astype(np.float32), device=self.device)

    def bias(self, size: int) -> Tensor:
        """Return zeros."""
        if self.rng is None:
            return Tensor.empty(size, device=self.device)
        return Tensor(np.zeros(size, np.float32), device=self.device)


# ---- the parts of a layer ----------------------------------------------------------------------------------------


def as_float(weight: Weight) -> Tensor:
    """Return the weight as a float32 expression; nothing is stored, the layer's kernel computes it as it reads."""
    tensor = weight if isinstance(weight, Tensor) else weight.dequantize()
    return tensor.cast(dtypes.float32)


def pad1(x: Tensor) -> Tensor:
    """Add one pixel of zeros on every side: (B, H, W, C) → (B, H+2, W+2, C)."""
    return x.pad((None, (1, 1), (1, 1), None))


def space_to_depth(x: Tensor) -> Tensor:
    """Fold 2×2 pixels into channels: (B, H, W, C) → (B, H/2, W/2, 4·C), channels ordered (row, column, channel)."""
    b, h, w, c = x.shape
    return x.reshape(b, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(b, h // 2, w // 2, 4 * c)


def depth_to_space(x: Tensor) -> Tensor:
    """Unfold channels into 2×2 pixels: (B, H, W, 4·C) → (B, 2·H, 2·W, C), the inverse of `space_to_depth`."""
    b, h, w, c = x.shape
    return x.reshape(b, h, w, 2, 2, c // 4).permute(0, 1, 3, 2, 4, 5).reshape(b, 2 * h, 2 * w, c // 4)


def _gain(activation: Activation) -> float:
    # A ReLU halves the mean square of what passes it (He et al. 2015). Weights of twice the variance make up for it, so
    # that features keep their scale through all layers without normalization.
    return 2.0 if activation == "relu" else 1.0


def _add_bias_and_activate(y: Tensor, bias: Tensor, add: Tensor | None, activation: Activation) -> Tensor:
    y = y + bias if add is None else y + bias + add
    if activation is None:
        return y
    return y.relu() if activation == "relu" else y.sigmoid()


def _run_as_one_kernel(layer: _Convolution, x: Tensor, add: Tensor | None = None, up: bool = False) -> Tensor | None:
    """Run the layer as one kernel of ours, or record it as a step of a trace (tracing.py); None if neither applies."""
    batch, height, width, _ = x.shape
    *sides, c_in, c_out = layer.weight.shape
    shape = Shape(batch, height, width, c_in, c_out, kernel=sides[0] if sides else 1, up=up)
    if isinstance(x, Value):
        return x.through(layer, shape, add)
    return graph.convolution(x, layer.weight, layer.bias, add, layer.activation, shape)


# ---- the layers --------------------------------------------------------------------------------------------------


class Conv2d(_Convolution):
    """Convolution, bias and activation.

    A kernel of 1 or 3 keeps height and width (zero padding). A kernel of 4 halves them: stride 2, zero padding of 1;
    both must be even.

    Args:
        cin, cout: channels in and out.
        kernel: side of the window: 1, 3 or 4.
        init: source of the first weights.
        activation: applied to the result; None for none.
        gain: variance of the first weights times the fan-in; by default 2 before a ReLU, else 1.
    """

    def __init__(
        self, cin: int, cout: int, kernel: int, init: Init, activation: Activation = "relu", gain: float | None = None
    ) -> None:
        self.weight: Weight = init.weight(kernel, kernel, cin, cout, gain=_gain(activation) if gain is None else gain)
        self.bias = init.bias(cout)
        self._kernel, self.activation = kernel, activation

    def __call__(self, x: Tensor, add: Tensor | None = None) -> Tensor:
        """Return activation(convolution + bias + add): (B, H, W, cin) → (B, H', W', cout), the shape of `add`."""
        if (y := _run_as_one_kernel(self, x, add)) is not None:
            return y
        w = as_float(self.weight)
        if self._kernel == 4:
            cin, cout = w.shape[2:]
            x = space_to_depth(pad1(x))  # (B, H, W, cin) → (B, H/2 + 1, W/2 + 1, 4·cin)
            # The window as 2×2 cells of 2×2 pixels: axes (cell y, y, cell x, x) → (cell y, cell x, y, x).
            w = w.reshape(2, 2, 2, 2, cin, cout).permute(0, 2, 1, 3, 4, 5).reshape(2, 2, 4 * cin, cout)
        elif self._kernel == 3:
            x = pad1(x)
        return _add_bias_and_activate(conv_valid(x, w), self.bias, add, self.activation)


class UpConv2d(_Convolution):
    """4×4 transposed convolution of stride 2 (padding 1), bias and activation: doubles height and width.

    Args: as of `Conv2d`.
    """

    def __init__(
        self, cin: int, cout: int, init: Init, activation: Activation = "relu", gain: float | None = None
    ) -> None:
        # An output pixel sees only 2×2 of the 4×4 taps, a quarter of the fan-in that `Init` counts; hence the 4.
        self.weight: Weight = init.weight(4, 4, cin, cout, gain=4 * (_gain(activation) if gain is None else gain))
        self.bias = init.bias(cout)
        self.activation = activation

    def __call__(self, x: Tensor, add: Tensor | None = None) -> Tensor:
        """Return activation(transposed convolution + bias + add): (B, H, W, cin) → (B, 2·H, 2·W, cout)."""
        if (y := _run_as_one_kernel(self, x, add, up=True)) is not None:
            return y
        w = as_float(self.weight)
        cin, cout = w.shape[2:]
        # With a, q in {0, 1}: output row 2·i + q − 1 is the sum over a of input row i − 1 + a times tap
        # ky = 2·(1 − a) + q. So the phase q of the output is a 2×2 convolution over a, with the taps in reverse order
        # (the flip). Rows −1 and 2·H, which exist so, are what the crop by one pixel takes off. Columns are the same.
        phases = w.reshape(2, 2, 2, 2, cin, cout).flip((0, 2)).permute(0, 2, 4, 1, 3, 5).reshape(2, 2, cin, 4 * cout)
        y = depth_to_space(conv_valid(pad1(x), phases))[:, 1:-1, 1:-1]
        return _add_bias_and_activate(y, self.bias, add, self.activation)


class Linear(_Convolution):
    """Matrix product, bias and activation: (B, in) → (B, out)."""

    def __init__(
        self, cin: int, cout: int, init: Init, activation: Activation = None, gain: float | None = None
    ) -> None:
        self.weight: Weight = init.weight(cin, cout, gain=_gain(activation) if gain is None else gain)
        self.bias = init.bias(cout)
        self.activation = activation

    def __call__(self, x: Tensor) -> Tensor:
        """Return activation(x @ weight + bias): (B, cin) → (B, cout)."""
        batch, cin = x.shape
        columns = x.reshape(1, batch, 1, cin)  # a 1×1 convolution on one image of batch × 1 pixels
        if (y := _run_as_one_kernel(self, columns)) is not None:
            return y.reshape(batch, -1)
        return _add_bias_and_activate(x @ as_float(self.weight), self.bias, None, self.activation)


class ResBlock(Layer):
    """Residual block: x + conv(relu(conv(x))) with two 3×3 convolutions.

    There is no ReLU after the sum (Lim et al. 2017, EDSR). It would pass no gradient to features that it has turned
    off, and without normalization whole scales then stay off.
    """

    def __init__(self, channels: int, init: Init) -> None:
        self.conv1 = Conv2d(channels, channels, 3, init)
        # gain 0.1: the block starts near the identity, which replaces a normalization layer (Zhang et al. 2019, Fixup).
        self.conv2 = Conv2d(channels, channels, 3, init, activation=None, gain=0.1)

    def __call__(self, x: Tensor) -> Tensor:
        """Return x + conv2(conv1(x)), of the shape of x; the addition is part of the second convolution's kernel."""
        return self.conv2(self.conv1(x), add=x)
