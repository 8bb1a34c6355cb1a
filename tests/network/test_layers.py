"""Layers and their gradients, compared with PyTorch in float64."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tinygrad import Tensor, dtypes

from edgeae.network.layers import Conv2d, Init, Linear, ResBlock, UpConv2d, depth_to_space, space_to_depth

torch = pytest.importorskip("torch")
F = torch.nn.functional

Array = npt.NDArray[Any]
TOLERANCE = 1e-5  # of the largest value compared


def assert_close(actual: Array, expected: Array, what: str = "") -> None:
    assert actual.shape == expected.shape, what
    error = np.abs(actual - expected).max() / np.abs(expected).max()
    assert error < TOLERANCE, f"{what}: {error:.2e}"


def nchw(function: Callable[..., Any]) -> Callable[..., Any]:
    """Turn a PyTorch function of NCHW images into one of NHWC images."""
    return lambda x, *rest: function(x.permute(0, 3, 1, 2), *rest).permute(0, 2, 3, 1)


def conv(x: Any, w: Any, b: Any) -> Any:
    k = w.shape[0]
    stride, padding = {1: (1, 0), 3: (1, 1), 4: (2, 1)}[k]
    return F.conv2d(x, w.permute(3, 2, 0, 1), b, stride, padding)


def up(x: Any, w: Any, b: Any) -> Any:
    return F.conv_transpose2d(x, w.permute(2, 3, 0, 1), b, stride=2, padding=1)


def block(x: Any, w1: Any, b1: Any, w2: Any, b2: Any) -> Any:
    return x + conv(conv(x, w1, b1).relu(), w2, b2)


def check(
    layers: list[Any],
    run: Callable[[Tensor], Tensor],
    reference: Callable[..., Any],
    shape: tuple[int, ...],
    device: str,
) -> None:
    """`run` on random numbers equals `reference` on the input, weights and biases: output and every gradient, as
    training computes them; and the output as inference does."""
    rng = np.random.default_rng(0)
    parameters = []
    for layer in layers:
        layer.bias.replace(Tensor(rng.standard_normal(layer.bias.shape).astype(np.float32), device=device))
        parameters += [layer.weight, layer.bias]
    data = rng.standard_normal(shape).astype(np.float32)
    x = Tensor(data, device=device)

    inputs = [torch.tensor(value.numpy(), dtype=torch.float64, requires_grad=True) for value in [x, *parameters]]
    expected = reference(*inputs)
    direction = rng.standard_normal(tuple(expected.shape)).astype(np.float32)
    (expected * torch.tensor(direction)).sum().backward()

    with Tensor.train():
        output = run(x)
        assert output.dtype == dtypes.float32
        gradients = (output * Tensor(direction, device=device)).sum().gradient(x, *parameters)
        Tensor.realize(output, *gradients)
    assert_close(output.numpy(), expected.detach().numpy(), "output")
    for i, (gradient, value) in enumerate(zip(gradients, inputs, strict=True)):
        assert_close(gradient.numpy(), value.grad.numpy(), f"gradient {i}")
    with Tensor.train(False):
        np.testing.assert_allclose(run(x).numpy(), output.numpy(), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("kernel", "shape", "cout"),
    [
        (1, (1, 3, 5, 1), 4),
        (1, (2, 1, 1, 5), 1),
        (3, (1, 1, 1, 1), 1),
        (3, (3, 5, 7, 3), 5),
        (3, (2, 8, 4, 2), 16),
        (4, (1, 2, 2, 1), 1),
        (4, (3, 6, 10, 3), 5),
        (4, (2, 8, 4, 5), 2),
    ],
)
def test_conv2d(kernel: int, shape: tuple[int, ...], cout: int, device: str) -> None:
    layer = Conv2d(shape[-1], cout, kernel, Init(device, np.random.default_rng(1)), activation=None)
    check([layer], layer, nchw(conv), shape, device)


@pytest.mark.parametrize(("shape", "cout"), [((1, 1, 1, 1), 1), ((3, 5, 3, 4), 3), ((2, 4, 7, 3), 5)])
def test_upconv2d(shape: tuple[int, ...], cout: int, device: str) -> None:
    layer = UpConv2d(shape[-1], cout, Init(device, np.random.default_rng(1)), activation=None)
    check([layer], layer, nchw(up), shape, device)


@pytest.mark.parametrize(("batch", "cin", "cout"), [(1, 1, 1), (3, 37, 5)])
def test_linear(batch: int, cin: int, cout: int, device: str) -> None:
    layer = Linear(cin, cout, Init(device, np.random.default_rng(1)))
    check([layer], layer, lambda x, w, b: x @ w + b, (batch, cin), device)


def test_resblock(device: str) -> None:
    layer = ResBlock(5, Init(device, np.random.default_rng(1)))
    check([layer.conv1, layer.conv2], layer, nchw(block), (2, 5, 3, 5), device)


def test_activations(device: str) -> None:
    init = Init(device, np.random.default_rng(1))
    layer = UpConv2d(2, 3, init, "sigmoid")
    check([layer], layer, nchw(lambda *a: up(*a).sigmoid()), (1, 3, 2, 2), device)
    linear = Linear(6, 3, init, "relu")
    check([linear], linear, lambda x, w, b: (x @ w + b).relu(), (2, 6), device)


def test_two_layers_in_a_row_and_a_shared_input(device: str) -> None:
    """The gradient of a value that two convolutions read is the sum of both."""
    init = Init(device, np.random.default_rng(1))
    a, b = Conv2d(3, 3, 3, init, activation=None), Conv2d(3, 3, 3, init, activation=None)

    def reference(x: Any, wa: Any, ba: Any, wb: Any, bb: Any) -> Any:
        return conv(conv(x, wa, ba), wb, bb) + conv(x, wb, bb)

    check([a, b], lambda x: b(a(x)) + b(x), nchw(reference), (2, 3, 5, 3), device)


def test_space_to_depth_and_back(device: str) -> None:
    x = np.arange(2 * 4 * 6 * 3, dtype=np.float32).reshape(2, 4, 6, 3)
    folded = space_to_depth(Tensor(x, device=device))
    expected = np.concatenate([x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)], axis=-1)
    assert np.array_equal(folded.numpy(), expected)
    assert np.array_equal(depth_to_space(folded).numpy(), x)


def test_first_weights(device: str) -> None:
    """Variance gain / fan-in, where an output pixel of an up-convolution sees only four of its sixteen taps."""
    init = Init(device, np.random.default_rng(1))
    for layer, variance in (
        (Conv2d(32, 64, 3, init), 2 / (9 * 32)),
        (Conv2d(32, 64, 4, init, activation=None), 1 / (16 * 32)),
        (Conv2d(32, 64, 3, init, activation=None, gain=0.1), 0.1 / (9 * 32)),
        (UpConv2d(32, 64, init), 2 / (4 * 32)),
        (UpConv2d(32, 64, init, activation="sigmoid"), 1 / (4 * 32)),
        (Linear(256, 64, init), 1 / 256),
    ):
        assert isinstance(layer.weight, Tensor)
        assert layer.weight.numpy().var() == pytest.approx(variance, rel=0.05)
        assert layer.weight.dtype == dtypes.float32
        assert not layer.bias.numpy().any()
