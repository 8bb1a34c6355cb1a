"""Shapes of convolutions and of their gradients, tested with the identities that define a gradient."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.kernel_cases import Array, up, windows
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeae.runtime.kernels.shapes import GradientShape, Shape, weight_gradient_shapes


@st.composite
def small_shapes(draw: st.DrawFn) -> Shape:
    kernel, is_up = draw(st.sampled_from([(1, False), (3, False), (4, False), (4, True)]))
    even = 2 if kernel == 4 and not is_up else 1
    return Shape(
        draw(st.integers(1, 3)),
        even * draw(st.integers(1, 5)),
        even * draw(st.integers(1, 5)),
        draw(st.integers(1, 4)),
        draw(st.integers(1, 4)),
        kernel,
        is_up,
    )


every_small_shape = settings(max_examples=60, derandomize=True, deadline=None, database=None)


def convolve(shape: Shape, x: Array, w: Array) -> Array:
    if shape.up:
        return up(x, w)
    return np.einsum("byxcij,ijco->byxo", windows(x, shape.kernel, shape.stride, shape.padding), w)


def draw_arrays(shape: Shape) -> tuple[Array, Array, Array]:
    """Draw an input, weights, and a gradient of the output."""
    rng = np.random.default_rng(0)
    return (
        rng.normal(size=(shape.batch, shape.height, shape.width, shape.c_in)),
        rng.normal(size=(shape.kernel, shape.kernel, shape.c_in, shape.c_out)),
        rng.normal(size=shape.output),
    )


@pytest.mark.parametrize(
    ("shape", "output", "multiplications"),
    [
        (Shape(2, 5, 7, 3, 4, 1), (2, 5, 7, 4), 2 * 5 * 7 * 3 * 4),
        (Shape(1, 5, 7, 3, 4, 3), (1, 5, 7, 4), 9 * 5 * 7 * 3 * 4),  # those on the border's zeros are counted
        (Shape(3, 6, 8, 3, 4, 4), (3, 3, 4, 4), 3 * 16 * 3 * 4 * 3 * 4),
        (Shape(1, 5, 7, 3, 4, 4, up=True), (1, 10, 14, 4), 4 * 10 * 14 * 3 * 4),
    ],
)
def test_size_and_work(shape: Shape, output: tuple[int, ...], multiplications: int) -> None:
    assert shape.output == output
    assert shape.flop == 2 * multiplications
    assert shape.of_input_gradient().flop == shape.flop
    assert all(form.flop == shape.flop for form in weight_gradient_shapes(shape))


@given(shape=small_shapes())
@every_small_shape
def test_the_output_has_its_size(shape: Shape) -> None:
    x, w, dy = draw_arrays(shape)
    assert convolve(shape, x, w).shape == shape.output == dy.shape


@given(shape=small_shapes())
@every_small_shape
def test_the_input_gradient_is_the_adjoint(shape: Shape) -> None:
    """⟨conv(x), dy⟩ = ⟨x, conv′(dy)⟩, with weights whose channels are swapped and, where the size is kept, turned."""
    x, w, dy = draw_arrays(shape)
    back = shape.of_input_gradient()
    assert (back.output, back.of_input_gradient()) == (x.shape, shape)
    swapped = w.transpose(0, 1, 3, 2)
    if shape.stride == shape.step == 1:
        swapped = swapped[::-1, ::-1]
    ahead, behind = np.vdot(convolve(shape, x, w), dy), np.vdot(x, convolve(back, dy, swapped))
    assert ahead == pytest.approx(behind, rel=1e-9, abs=1e-9)


@given(shape=small_shapes())
@every_small_shape
def test_every_form_of_the_weight_gradient_is_the_adjoint(shape: Shape) -> None:
    """⟨conv(x; w), dy⟩ = ⟨w, dw⟩ for any weights, as the convolution is linear in them."""
    x, _, dy = draw_arrays(shape)
    rng = np.random.default_rng(1)
    for form in weight_gradient_shapes(shape):
        dw = sum_windows(form, x, dy)
        assert dw.shape == (shape.kernel, shape.kernel, shape.c_in, shape.c_out)
        for _ in range(3):
            w = rng.normal(size=dw.shape)
            assert np.vdot(convolve(shape, x, w), dy) == pytest.approx(np.vdot(w, dw), rel=1e-9, abs=1e-9), form


def sum_windows(form: GradientShape, x: Array, dy: Array) -> Array:
    """Compute the sum that a GradientShape describes, literally."""
    big, small = (dy, x) if form.error_is_big else (x, dy)
    assert big.shape == (form.batch, form.height, form.width, form.c_big)
    assert small.shape == (form.batch, *form.small_size, form.c_small)
    dw = np.einsum("byxcij,byxo->ijco", windows(big, form.kernel, form.stride, form.padding), small)
    if form.error_is_big:
        dw = dw.transpose(0, 1, 3, 2)
    return dw[::-1, ::-1] if form.turned else dw
