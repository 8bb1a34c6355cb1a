"""Compute a stride-1 convolution with tinygrad's own operations, and its gradients.

Every device without kernels of our own computes all convolutions here. The layers (network/layers.py) turn their
strided and transposed convolutions into this one.
"""

from __future__ import annotations

from tinygrad import Tensor
from tinygrad.function import function
from tinygrad.uop.ops import UOp


def conv_valid(x: Tensor, w: Tensor) -> Tensor:
    """Return the stride-1 convolution of an image without padding.

    Args:
        x: (B, H, W, in).
        w: (k, k, in, out).

    Returns:
        (B, H−k+1, W−k+1, out).
    """
    return _conv_with_gradients(x, w) if Tensor.training else _conv(x, w)


def _windows(x: Tensor, k: int) -> Tensor:
    """(B, H, W, C) → (B, H−k+1, W−k+1, k, k, C): every k×k window, as a view."""
    return x.permute(0, 3, 1, 2)._pool((k, k), 1).permute(0, 2, 3, 4, 5, 1)


def _conv(x: Tensor, w: Tensor) -> Tensor:
    k, cin, cout = w.shape[0], w.shape[2], w.shape[3]
    patches = _windows(x, k)  # (B, H', W', k, k, in)
    weight = w.permute(3, 0, 1, 2).reshape(1, 1, 1, cout, k, k, cin)
    return (patches.unsqueeze(3) * weight).sum((4, 5, 6))


def _weight_gradient(x: Tensor, dy: Tensor, k: int) -> Tensor:
    batch, height, width, cout = dy.shape
    patches = _windows(x, k).permute(0, 3, 4, 5, 1, 2).reshape(batch, k, k, -1, 1, height * width)
    errors = dy.permute(0, 3, 1, 2).reshape(batch, 1, 1, 1, cout, height * width)
    # Summed over pixels first and over images in a second kernel: up to twice as fast on the CPU as one kernel.
    return (patches * errors).sum(-1).contiguous().sum(0)


# Written out, because both gradients are then stride-1 sums over windows as the convolution itself is; what tinygrad
# derives from the view of windows adds up shifted copies instead.
def _gradients(dy: UOp, call: UOp) -> tuple[UOp, UOp]:
    x, w, dy_ = Tensor(call.src[1]), Tensor(call.src[2]), Tensor(dy).contiguous()
    k = w.shape[0]
    turned = w.flip((0, 1)).permute(0, 1, 3, 2)  # by 180°, (k, k, out, in)
    dx = _conv(dy_.pad((None, (k - 1, k - 1), (k - 1, k - 1), None)), turned)
    return dx.uop, _weight_gradient(x, dy_, k).uop


@function(grad_fxn=_gradients)  # type: ignore[untyped-decorator]
def _conv_with_gradients(x: Tensor, w: Tensor) -> Tensor:
    return _conv(x, w)
