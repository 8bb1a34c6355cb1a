"""What the kernels' tests share: layers of any shape, the kernels that one runs, and what a kernel computes, in NumPy."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tinygrad import Tensor, dtypes
from tinygrad.dtype import _to_np_dtype
from tinygrad.helpers import CPU_COUNT, Context
from tinygrad.uop.ops import Ops, UOp

from edgeae.compilers import find_compiler
from edgeae.kernels import graph, plans
from edgeae.kernels.shapes import Shape
from edgeae.quantize import GROUP, Int4Weight, Int8Weight

Array = npt.NDArray[Any]
BITS = {"none": 32, "fp16": 16, "int8": 8, "int4": 4}

needs_compiler = pytest.mark.skipif(find_compiler() is None, reason="no C compiler")


def instruction_sets() -> list[str]:
    """Those that this machine and its compiler can run, best first."""
    compiler = find_compiler()
    order = ["avx512", "avx2", "plain"]
    if compiler is None:
        return []
    return order[order.index(compiler.isa):] if compiler.isa in order else [compiler.isa, "plain"]


@dataclass(frozen=True)
class Layer:
    """A layer without its numbers."""

    shape: Shape
    activation: str | None = None
    add: bool = False
    scheme: str = "none"

    @property
    def weight(self) -> tuple[int, int, int, int]:
        """Shape of its weights."""
        return self.shape.kernel, self.shape.kernel, self.shape.c_in, self.shape.c_out


def read(layer: Layer, machine: str, threads: int) -> list[Kernel]:
    """The kernels of a layer: its own and, with float32 weights, those of its gradients. Nothing is compiled or run."""
    with pytest.MonkeyPatch.context() as patch, Context(CPU_COUNT=threads):
        patch.setenv("EDGEAE_KERNELS", machine)
        patch.setattr(graph, "compile_text", lambda text, machine: b"not compiled")
        shape = layer.shape
        x, bias, add, dy = (Tensor.empty(*size, device="CPU") for size in (
            (shape.batch, shape.height, shape.width, shape.c_in), (shape.c_out,), shape.output, shape.output))
        weight = _empty_weight(layer)
        y = graph.convolution(x, weight, bias, add if layer.add else None, layer.activation, shape)
        assert y is not None and CPU_COUNT.value == threads
        results = [y, *(y.gradient(x, weight, bias, gradient=dy) if isinstance(weight, Tensor) else [])]
    programs = {uop: None for tensor in results for uop in tensor.uop.toposort() if uop.op is Ops.PROGRAM}
    return [Kernel.of(uop) for uop in programs]


def _empty_weight(layer: Layer) -> Any:
    shape = layer.weight
    rows, out = int(np.prod(shape[:-1])), shape[-1]
    if layer.scheme == "int8":
        return Int8Weight(Tensor.empty(*shape, dtype=dtypes.int8, device="CPU"), Tensor.empty(out, device="CPU"))
    if layer.scheme == "int4":
        values = Tensor.empty(-(-rows // 2), out, dtype=dtypes.uint8, device="CPU")
        return Int4Weight(values, Tensor.empty(-(-rows // GROUP), out, device="CPU"), shape)
    return Tensor.empty(*shape, dtype=dtypes.float16 if layer.scheme == "fp16" else dtypes.float32, device="CPU")


@dataclass(frozen=True)
class Kernel:
    """A kernel as tinygrad would call it.

    Attributes:
        text: its C, whose last function is `kernel`.
        names, sizes, types: of its arrays, in order; sizes count elements.
        outputs: how many of the arrays, the first ones, it writes.
        threads: how often it is called, with `core` from 0 on.
    """

    text: str
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    types: tuple[str, ...]
    outputs: int
    threads: int

    @classmethod
    def of(cls, program: UOp) -> Kernel:
        """From a PROGRAM node of the graph."""
        text = program.src[3].arg
        entry = re.search(r"void kernel\((.*), int core\)", text)
        assert entry is not None
        names = tuple(parameter.removeprefix("void *") for parameter in entry[1].split(", "))
        arrays = [source.ptrdtype for source in program.src[0].src[: len(names)]]
        return cls(text, names, tuple(array.size for array in arrays),
                   tuple(np.dtype(_to_np_dtype(array.base)).str for array in arrays),
                   len(program.arg.outs), program.arg.global_size[0])

    @property
    def file(self) -> str:
        """Which of the C files it is."""
        return re.findall(r"^    (\w+)\(.*core\);$", self.text, re.MULTILINE)[-1]

    @property
    def bytes(self) -> list[int]:
        """Of each array."""
        return [size * np.dtype(type_).itemsize for size, type_ in zip(self.sizes, self.types, strict=True)]

    @property
    def constants(self) -> dict[str, Any]:
        """Its `#define`s, up to the first other line."""
        defines = self.text[: re.search(r"^(?!#define)", self.text, re.MULTILINE).start()]  # type: ignore[union-attr]
        found = re.findall(r"^#define (\w+) (.*)$", defines, re.MULTILINE)
        return {name: int(value) if value.isdecimal() else value for name, value in found}

    @property
    def label(self) -> str:
        """For messages."""
        return " ".join(f"{name}={value}" for name, value in self.constants.items()) + f" arrays={self.names}"

    def draw(self, rng: np.random.Generator) -> dict[str, Array]:
        """Random numbers for every input."""
        return {name: self._draw_one(name, size, type_, rng)
                for name, size, type_ in list(zip(self.names, self.sizes, self.types, strict=True))[self.outputs:]}

    def _draw_one(self, name: str, size: int, type_: str, rng: np.random.Generator) -> Array:
        if name == "scale":
            return rng.uniform(0.02, 0.1, size).astype(type_)
        if type_ in ("|i1", "|u1"):
            low, high = (-127, 128) if type_ == "|i1" else (0, 256)
            return rng.integers(low, high, size).astype(type_)
        if name == "y":  # what the activation gave
            relu = self.constants["GRADIENT_OF"] == "RELU"
            return (np.maximum(rng.normal(size=size), 0) if relu else rng.random(size)).astype(type_)
        return rng.normal(size=size).astype(type_)

    def expected(self, arrays: dict[str, Array]) -> list[Array]:
        """What it computes, in float64."""
        c = self.constants
        given = {name: array.astype(np.float64) for name, array in arrays.items()}
        big_size, small_size = ((c["BATCH"], c["IN_H"], c["IN_W"], c["C_IN"]), (c["BATCH"], c["OUT_H"], c["OUT_W"], c["C_OUT"]))
        if "dw" in self.names:
            big, small = given["big"].reshape(big_size), given["small"].reshape(small_size)
            if "y" in given and c["ERROR_IS_BIG"]:
                big = big * _slope(c["GRADIENT_OF"], given["y"].reshape(big_size))
            elif "y" in given:
                small = small * _slope(c["GRADIENT_OF"], given["y"].reshape(small_size))
            window = windows(big, c["KERNEL"], c["STRIDE"], c["PADDING"])
            return [np.einsum("byxcij,byxo->ijco", window, small),
                    (big if c["ERROR_IS_BIG"] else small).sum((0, 1, 2))]
        x = given["x"].reshape(big_size)
        if "y" in given:
            x = x * _slope(c["GRADIENT_OF"], given["y"].reshape(big_size))
        side = 4 if c["STEP"] == 2 else c["KERNEL"]
        w = dequantize(arrays["w"], arrays.get("scale"), (side, side, c["C_IN"], c["C_OUT"]))
        y = up(x, w) if c["STEP"] == 2 else np.einsum("byxcij,ijco->byxo",
                                                      windows(x, side, c.get("STRIDE", 1), c["PADDING"]), w)
        y = y + given.get("bias", 0) + (given["add"].reshape(small_size) if "add" in given else 0)
        return [activate(y, {"RELU": "relu", "SIGMOID": "sigmoid"}.get(c["ACTIVATION"]))]

    def shaped(self, outputs: list[Array]) -> list[Array]:
        """Its outputs in the shapes of `expected`: without padding, and with partial sums added."""
        c = self.constants
        if "dw" not in self.names:
            return [outputs[0].reshape(c["BATCH"], c["OUT_H"], c["OUT_W"], c["C_OUT"])]
        k, run, width = plans.padded(c)[-3:]
        dw = outputs[0].reshape(-1, k, run, width).sum(0)[:, : k * c["C_IN"], : c["C_OUT"]]
        error = c["C_IN"] if c["ERROR_IS_BIG"] else c["C_OUT"]
        return [dw.reshape(k, k, c["C_IN"], c["C_OUT"]), outputs[1].reshape(-1, error).sum(0)]

    def check(self, arrays: dict[str, Array], outputs: list[Array], tolerance: float) -> None:
        """Its outputs, flat, against NumPy's: relative to the largest value."""
        for found, wanted in zip(self.shaped(outputs), self.expected(arrays), strict=True):
            assert_close(found, wanted, tolerance, self.label)


# ---- a layer's arithmetic, in NumPy ------------------------------------------------------------------------------


def windows(x: Array, kernel: int, stride: int, padding: int) -> Array:
    """(B, H, W, C) → (B, H', W', C, kernel, kernel): what each output of a convolution sees."""
    padded = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    return np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), (1, 2))[:, ::stride, ::stride]


def up(x: Array, w: Array) -> Array:
    """4×4 transposed convolution of stride 2 and padding 1: every input pixel adds its 4×4 square of outputs."""
    batch, height, width, _ = x.shape
    y = np.zeros((batch, 2 * height + 2, 2 * width + 2, w.shape[-1]))
    for ky in range(4):
        for kx in range(4):
            y[:, ky : ky + 2 * height : 2, kx : kx + 2 * width : 2] += x @ w[ky, kx]
    return y[:, 1:-1, 1:-1]


def dequantize(values: Array, scale: Array | None, shape: tuple[int, ...]) -> Array:
    """Weights in the form that quantize.py describes, as float64."""
    if scale is None or values.dtype == np.int8:
        return values.astype(np.float64).reshape(shape) * (1 if scale is None else scale.astype(np.float64))
    rows, out = int(np.prod(shape[:-1])), shape[-1]
    pairs = values.reshape(-1, out).astype(np.float64)
    matrix = np.empty((2 * len(pairs), out))
    matrix[0::2], matrix[1::2] = pairs % 16 - 8, pairs // 16 - 8
    row = np.arange(rows)
    return (matrix[:rows] * scale.reshape(-1, out).astype(np.float64)[row // 32]).reshape(shape)


def activate(z: Array, activation: str | None) -> Array:
    """None, relu or sigmoid."""
    if activation == "relu":
        return np.maximum(z, 0)
    return 1 / (1 + np.exp(-z)) if activation == "sigmoid" else z


def _slope(activation: str, y: Array) -> Array:
    return y > 0 if activation == "RELU" else y * (1 - y)


def assert_close(found: Array, wanted: Array, tolerance: float, what: str) -> None:
    """Equal within `tolerance` of the largest wanted value."""
    assert found.shape == wanted.shape, f"{found.shape} is not {wanted.shape}: {what}"
    assert np.isfinite(found).all(), f"not finite: {what}"
    error = np.abs(found - wanted).max() / (np.abs(wanted).max() or 1)
    assert error < tolerance, f"{error:.2e}: {what}"
