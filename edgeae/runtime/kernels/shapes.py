"""The shape of a convolution, and of the convolutions that its gradients are."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """A convolution that layers.py has: (batch, height, width, c_in) → (batch, *out_size, c_out).

    Attributes:
        kernel: side of its window: 1 and 3 keep the size; 4 halves it (stride 2), or doubles it (`up`).
        up: transposed: every input pixel gives 2×2 cells of output, its phases, each a 2×2 convolution.
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
        """Pixels from one window to the next, of a convolution."""
        return 2 if self.kernel == 4 and not self.up else 1

    @property
    def step(self) -> int:
        """Output pixels for an input pixel, along one side."""
        return 2 if self.up else 1

    @property
    def keeps_size(self) -> bool:
        """The output is as high and wide as the input."""
        return self.stride == self.step

    @property
    def window(self) -> int:
        """Side of the window that one output pixel sees."""
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
        """How many it has."""
        return self.kernel**2 * self.c_in * self.c_out

    @property
    def flop(self) -> int:
        """Floating-point operations: a multiplication and an addition for each weight that an output sees."""
        height, width = self.out_size
        return 2 * self.batch * height * width * self.window**2 * self.c_in * self.c_out

    def of_input_gradient(self) -> Shape:
        """The convolution of the output's gradient that gives the input's, on weights with `c_in` and `c_out` swapped
        and, where the size is kept, turned by 180°."""
        height, width = self.out_size
        return Shape(self.batch, height, width, self.c_out, self.c_in, self.kernel, up=self.stride == 2)


@dataclass(frozen=True)
class GradientShape:
    """What weight_gradient.c sums: windows of `big` times pixels of `small`, over images and pixels.

    Attributes:
        height, width, c_big: of `big`; (height, width) is `stride` times the size of `small`.
        c_small: channels of `small`.
        error_is_big: which of the two is the output's gradient; the other is the layer's input.
        turned: the sum is the gradient of the weights turned by 180°.
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
    """The ways to compute a convolution's weight gradient. Where the size is kept there are two: a window of the input
    around each error, or of the error around each input."""
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
