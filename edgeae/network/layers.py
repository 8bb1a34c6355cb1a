"""The layers, on NHWC tensors, and the one convolution under all of them.

Everything here comes down to `conv_valid`: a stride-1 convolution without padding, on a 1×1, 2×2 or 3×3 window.

- A 4×4 convolution of stride 2 is a 2×2 one on the image folded 2×2 into channels (space to depth).
- A 4×4 transposed convolution of stride 2 is a 2×2 one to four times the channels, unfolded (depth to space) and
  cropped by a pixel on each side: its four output phases side by side, with no zeros inserted.

So the gradients are stride-1 convolutions too, which every backend runs several times faster than the strided ones.
On the CPU a whole layer is one kernel of our own instead (kernels/), where it covers the shape. This file is the only
place that knows what a convolution is made of.

Weights are stored as (ky, kx, in, out), those of `Linear` as (in, out). A weight may also be packed (quantize.py): any
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
    """Base of all layers.

    A layer's parameters are the tensors and packed weights among its attributes, and those of the layers in them
    (weights.py): a class that is not derived from this one cannot hold any.
    """


class _Convolution(Layer):
    """A layer that is one convolution: what a kernel or a trace takes of it."""

    weight: Weight
    bias: Tensor
    activation: Activation


def as_float(weight: Weight) -> Tensor:
    """The weight as a float32 expression; nothing is stored, the layer's kernel computes it as it reads."""
    tensor = weight if isinstance(weight, Tensor) else weight.dequantize()
    return tensor.cast(dtypes.float32)


@dataclass(frozen=True)
class Init:
    """Where a layer gets its first weights.

    Attributes:
        device: tinygrad device that holds them.
        rng: draws them; None leaves them unallocated, for weights that are about to be loaded.
    """

    device: str
    rng: np.random.Generator | None = None

    def weight(self, *shape: int, gain: float = 1.0) -> Tensor:
        """Normal weights of variance gain / fan-in (He et al. 2015); the fan-in is every axis but the last."""
        if self.rng is None:
            return Tensor.empty(*shape, device=self.device)
        scale = math.sqrt(gain / math.prod(shape[:-1]))
        return Tensor((self.rng.standard_normal(shape) * scale).astype(np.float32), device=self.device)

    def bias(self, size: int) -> Tensor:
        """Zeros."""
        if self.rng is None:
            return Tensor.empty(size, device=self.device)
        return Tensor(np.zeros(size, np.float32), device=self.device)


# ---- the convolution ---------------------------------------------------------------------------------------------


def pad1(x: Tensor) -> Tensor:
    """One pixel of zeros on every side: (B, H, W, C) → (B, H+2, W+2, C)."""
    return x.pad((None, (1, 1), (1, 1), None))


def space_to_depth(x: Tensor) -> Tensor:
    """(B, H, W, C) → (B, H/2, W/2, 4·C), the channels ordered (row, column, channel)."""
    b, h, w, c = x.shape
    return x.reshape(b, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(b, h // 2, w // 2, 4 * c)


def depth_to_space(x: Tensor) -> Tensor:
    """(B, H, W, 4·C) → (B, 2·H, 2·W, C), the inverse of `space_to_depth`."""
    b, h, w, c = x.shape
    return x.reshape(b, h, w, 2, 2, c // 4).permute(0, 1, 3, 2, 4, 5).reshape(b, 2 * h, 2 * w, c // 4)


def _gain(activation: Activation) -> float:
    return 2.0 if activation == "relu" else 1.0


def _finish(y: Tensor, bias: Tensor, add: Tensor | None, activation: Activation) -> Tensor:
    y = y + bias if add is None else y + bias + add
    if activation is None:
        return y
    return y.relu() if activation == "relu" else y.sigmoid()


def _whole(layer: _Convolution, x: Tensor, add: Tensor | None = None, up: bool = False) -> Tensor | None:
    """The layer all at once: one kernel, where kernels/ has one, or one step of a trace (tracing.py)."""
    batch, height, width, _ = x.shape
    *sides, c_in, c_out = layer.weight.shape
    shape = Shape(batch, height, width, c_in, c_out, kernel=sides[0] if sides else 1, up=up)
    if isinstance(x, Value):
        return x.through(layer, shape, add)
    return graph.convolution(x, layer.weight, layer.bias, add, layer.activation, shape)


# ---- the layers --------------------------------------------------------------------------------------------------


class Conv2d(_Convolution):
    """Convolution, bias and activation.

    A kernel of 1 or 3 keeps the size (zero padding); a kernel of 4 halves it (stride 2, zero padding of 1; the height
    and width must be even).

    Args:
        cin, cout: channels in and out.
        kernel: 1, 3 or 4.
        init: gives the first weights.
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
        """activation(convolution + bias + add): (B, H, W, cin) → (B, H', W', cout), the shape of `add`."""
        if (y := _whole(self, x, add)) is not None:
            return y
        w = as_float(self.weight)
        if self._kernel == 4:
            cin, cout = w.shape[2:]
            x = space_to_depth(pad1(x))
            w = w.reshape(2, 2, 2, 2, cin, cout).permute(0, 2, 1, 3, 4, 5).reshape(2, 2, 4 * cin, cout)
        elif self._kernel == 3:
            x = pad1(x)
        return _finish(conv_valid(x, w), self.bias, add, self.activation)


class UpConv2d(_Convolution):
    """4×4 transposed convolution of stride 2 (padding 1), bias and activation: doubles height and width.

    The arguments are those of `Conv2d`.
    """

    def __init__(
        self, cin: int, cout: int, init: Init, activation: Activation = "relu", gain: float | None = None
    ) -> None:
        # An output pixel sees 2×2 of the 4×4 taps: a quarter of the fan-in that `Init` counts.
        self.weight: Weight = init.weight(4, 4, cin, cout, gain=4 * (_gain(activation) if gain is None else gain))
        self.bias = init.bias(cout)
        self.activation = activation

    def __call__(self, x: Tensor, add: Tensor | None = None) -> Tensor:
        """activation(transposed convolution + bias + add): (B, H, W, cin) → (B, 2·H, 2·W, cout), the shape of `add`."""
        if (y := _whole(self, x, add, up=True)) is not None:
            return y
        w = as_float(self.weight)
        cin, cout = w.shape[2:]
        # Output row 2·i + q − 1 is the sum of input rows i − 1 + a times taps ky = 2·(1 − a) + q, for a, q in {0, 1}.
        phases = w.reshape(2, 2, 2, 2, cin, cout).flip((0, 2)).permute(0, 2, 4, 1, 3, 5).reshape(2, 2, cin, 4 * cout)
        y = depth_to_space(conv_valid(pad1(x), phases))[:, 1:-1, 1:-1]
        return _finish(y, self.bias, add, self.activation)


class Linear(_Convolution):
    """Matrix product, bias and activation: (B, in) → (B, out)."""

    def __init__(
        self, cin: int, cout: int, init: Init, activation: Activation = None, gain: float | None = None
    ) -> None:
        self.weight: Weight = init.weight(cin, cout, gain=_gain(activation) if gain is None else gain)
        self.bias = init.bias(cout)
        self.activation = activation

    def __call__(self, x: Tensor) -> Tensor:
        batch, cin = x.shape
        columns = x.reshape(1, batch, 1, cin)  # a 1×1 convolution of one image, as high as the batch
        if (y := _whole(self, columns)) is not None:
            return y.reshape(batch, -1)
        return _finish(x @ as_float(self.weight), self.bias, None, self.activation)


class ResBlock(Layer):
    """Two 3×3 convolutions beside the identity: x + conv(relu(conv(x))).

    Nothing is done to the sum (Lim et al. 2017, EDSR): a ReLU there would let no gradient back to what it once turned
    off, and without normalization whole scales fall silent.
    """

    def __init__(self, channels: int, init: Init) -> None:
        self.conv1 = Conv2d(channels, channels, 3, init)
        # The block starts near the identity, which takes the place of a normalization layer (Zhang et al. 2019).
        self.conv2 = Conv2d(channels, channels, 3, init, activation=None, gain=0.1)

    def __call__(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x), add=x)
