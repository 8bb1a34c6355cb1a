"""Shapes of a convolution and of its gradients, which are convolutions too."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """A convolution of a layer: (batch, height, width, c_in) → (batch, *out_size, c_out).

    Attributes:
        batch: images.
        height, width: of the input.
        c_in, c_out: channels of input and output.
        kernel: side of the window. 1 and 3 keep the size; 4 halves it (stride 2), or doubles it (`up`).
        up: whether the convolution is transposed. Each input pixel then has 2×2 outputs, its phases, and each phase is
            a 2×2 convolution.
    """

    batch: int
    height: int
    width: int
    c_in: int
    c_out: int
    kernel: int
    up: bool = False

    @property
    def stride(self) -> int:
        """Input pixels from one window to the next."""
        return 2 if self.kernel == 4 and not self.up else 1

    @property
    def step(self) -> int:
        """Output pixels per input pixel, along one side."""
        return 2 if self.up else 1

    @property
    def keeps_size(self) -> bool:
        """Whether the output is as high and wide as the input."""
        return self.stride == self.step

    @property
    def window(self) -> int:
        """Side of the window of inputs that one output pixel depends on."""
        return 2 if self.up else self.kernel

    @property
    def padding(self) -> int:
        """Zeros around the input."""
        return 0 if self.kernel == 1 else 1

    @property
    def out_size(self) -> tuple[int, int]:
        """Height and width of the output."""
        return self.height * self.step // self.stride, self.width * self.step // self.stride

    @property
    def input(self) -> tuple[int, int, int, int]:
        """Shape of the input."""
        return self.batch, self.height, self.width, self.c_in

    @property
    def output(self) -> tuple[int, int, int, int]:
        """Shape of the output."""
        return self.batch, *self.out_size, self.c_out

    @property
    def weights(self) -> int:
        """Number of weights."""
        return self.kernel**2 * self.c_in * self.c_out

    @property
    def flop(self) -> int:
        """Floating-point operations: a multiplication and an addition for each weight of each output."""
        height, width = self.out_size
        return 2 * self.batch * height * width * self.window**2 * self.c_in * self.c_out

    def of_input_gradient(self) -> Shape:
        """Return the convolution that turns the output's gradient into the input's.

        Its weights are this one's with `c_in` and `c_out` swapped and, where the size is kept, turned by 180°.
        """
        height, width = self.out_size
        return Shape(self.batch, height, width, self.c_out, self.c_in, self.kernel, up=self.stride == 2)


@dataclass(frozen=True)
class GradientShape:
    """The sum that is a weight gradient: windows of `big` times pixels of `small`, over images and pixels.

    One of the two is the layer's input, the other the gradient of its output (the error).

    Attributes:
        batch: images.
        height, width, c_big: of `big`; height and width are `stride` times those of `small`.
        c_small: channels of `small`.
        kernel: side of the windows.
        stride: pixels of `big` from one window to the next.
        error_is_big: whether `big` is the error.
        turned: whether the sum is the gradient of the weights turned by 180°.
    """

    batch: int
    height: int
    width: int
    c_big: int
    c_small: int
    kernel: int
    stride: int
    error_is_big: bool
    turned: bool = False

    @property
    def padding(self) -> int:
        """Zeros around `big`."""
        return 0 if self.kernel == 1 else 1

    @property
    def small_size(self) -> tuple[int, int]:
        """Height and width of `small`."""
        return self.height // self.stride, self.width // self.stride

    @property
    def flop(self) -> int:
        """Floating-point operations."""
        height, width = self.small_size
        return 2 * self.batch * height * width * self.kernel**2 * self.c_big * self.c_small


def weight_gradient_shapes(shape: Shape) -> list[GradientShape]:
    """Return the sums that a convolution's weight gradient can be computed as.

    Where the size is kept there are two: over windows of the input around each error, or of the error around each
    input. They differ in which of the two channel counts fills the lanes.
    """
    if shape.up:
        height, width = shape.out_size
        return [GradientShape(shape.batch, height, width, shape.c_out, shape.c_in, 4, 2, error_is_big=True)]
    direct = GradientShape(
        shape.batch, shape.height, shape.width, shape.c_in, shape.c_out, shape.kernel, shape.stride, error_is_big=False
    )
    if shape.stride == 2:
        return [direct]
    return [
        direct,
        GradientShape(
            shape.batch,
            shape.height,
            shape.width,
            shape.c_out,
            shape.c_in,
            shape.kernel,
            1,
            error_is_big=True,
            turned=True,
        ),
    ]
