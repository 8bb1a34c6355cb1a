"""Export of models as ONNX files.

A file computes `restored` from `image`, float32 (N, C, H, W) in [0, 1]: channels first, as is usual in ONNX. It may
also hold one half of a network: `code` from `image`, or `image` from `code`. The batch size is free; so are height and
width in multiples of the stride, except for a `vae`. Weights are stored with the bits of the weight file: fp16 followed
by Cast; int8 with one scale for each output channel, or int4 with one for each 32 rows, followed by DequantizeLinear.

Needs the `onnx` package: `pip install "edgeae[onnx]"`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeae._version import __version__
from edgeae.errors import UsageError
from edgeae.files import write_bytes_atomic
from edgeae.formatting import plain_text
from edgeae.inference.golden import golden_input
from edgeae.inference.load import open_session
from edgeae.network import quantize, weight_file
from edgeae.network.layers import Conv2d, Linear, UpConv2d
from edgeae.network.models import build
from edgeae.network.parameters import layer_names
from edgeae.network.shipped import find_model
from edgeae.network.tracing import Step, trace
from edgeae.network.weight_file import WeightFile

# What can be exported, with the names of its input and output.
PARTS = {"reconstruct": ("image", "restored"), "encode": ("image", "code"), "decode": ("code", "image")}
OPSET, OPSET_INT4 = 17, 21  # int4 tensors came with opset 21
_IR_VERSION = {OPSET: 8, OPSET_INT4: 10}  # of the file format that goes with each opset

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class OnnxReport:
    """What `export_onnx` wrote.

    Attributes:
        path, size_bytes: the file.
        part: `reconstruct`, `encode` or `decode`.
        quantize: how the weights are stored: `none`, `fp16`, `int8` or `int4`.
        opset: version of the ONNX operator set.
        largest_difference: largest absolute difference between ONNX Runtime's output and ours for the golden input;
            None if ONNX Runtime is not installed.
    """

    path: str
    size_bytes: int
    part: str
    quantize: str
    opset: int
    largest_difference: float | None


def export_onnx(
    model: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    scheme: str | None = None,
    part: str = "reconstruct",
) -> OnnxReport:
    """Write a model as an ONNX file.

    Args:
        model: a weight file, a run folder (whose best weights are used), or the name of a shipped model.
        output: the file to write; its name must end in `.onnx`.
        scheme: storage of the weights: `none` (float32), `fp16`, `int8` or `int4`. None keeps that of the model. `none`
            writes the rounded weights of a quantized model as float32.
        part: `reconstruct` for the whole network, `encode` for images to codes, or `decode` for codes to images (for a
            `residual` without its skip connections).

    Returns:
        Size and format of the file, and how far ONNX Runtime's output is from ours.

    Raises:
        WeightsError: the model cannot be read.
        UsageError: an unknown part or scheme, an output with another suffix, a quantized model with another scheme than
            its own or `none`, or the onnx package is missing.
        EdgeaeError: the file cannot be written.
    """
    if part not in PARTS:
        raise UsageError(f"unknown part {part!r}; choose one of {', '.join(PARTS)}.")
    if Path(output).suffix != ".onnx":
        raise UsageError(f"{output}: an ONNX file's name ends in .onnx.")
    path = Path(model)
    file = weight_file.read(path / "best.safetensors" if path.is_dir() else find_model(model))
    if scheme is not None and scheme != file.scheme:
        quantize.check_scheme(scheme)
        if scheme != "none" and file.scheme != "none":
            raise UsageError(f"{file.path} is quantized already ({file.scheme}); choose that, or none.")
        file = file.repack(scheme)
    data = onnx_bytes(file, part)
    write_bytes_atomic(output, data)
    opset = OPSET_INT4 if file.scheme == "int4" else OPSET
    return OnnxReport(str(output), len(data), part, file.scheme, opset, _compare(data, file, part))


def onnx_bytes(file: WeightFile, part: str = "reconstruct") -> bytes:
    """Return the bytes of an ONNX file of a model, or of one part of it (see PARTS)."""
    data: bytes = _Writer(file, part).model().SerializeToString()
    return data


def _compare(data: bytes, file: WeightFile, part: str) -> float | None:
    """The largest difference between ONNX Runtime's output and ours on the CPU, for the golden input."""
    try:
        import onnxruntime
    except ImportError:
        return None
    session = open_session(file, "CPU")
    image = golden_input(file.config.size, file.config.in_channels, seed=0)
    if part == "reconstruct":
        x, ours = image, session.run_floats(image)
    elif part == "encode":
        x, ours = image, session.encode(image)
    else:
        x = session.encode(image)
        ours = session.decode(x, np.float32)
    peer = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    theirs = peer.run(None, {PARTS[part][0]: channels_first(x)})[0]
    return float(np.abs(theirs - channels_first(ours)).max())


def channels_first(x: Array) -> Array:
    """Return (N, H, W, C) as (N, C, H, W), and vectors (N, C) as they are."""
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if x.ndim == 4 else x


class _Writer:
    """Builds one file: a node or a few for each step of the network's trace.

    Values of the trace are numbered: 0 is the input, n the output of step n. Here they are images (N, C, H, W), or
    vectors as images of one pixel (N, C, 1, 1); the input of a decoder of vectors is (N, C).
    """

    def __init__(self, file: WeightFile, part: str) -> None:
        try:
            import onnx
        except ImportError:
            raise UsageError('ONNX files need the onnx package: pip install "edgeae[onnx]".') from None
        self._onnx, self._helper, self._file, self._part = onnx, onnx.helper, file, part
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {}
        config = file.config
        model = build(config, "PYTHON")
        self._layers = layer_names(model)
        image = (config.size, config.size, config.in_channels)
        shape = config.code_shape(config.size, config.size) if part == "decode" else image
        self._trace = trace(getattr(model, part), (1, *shape))
        self._names = [PARTS[part][0]]  # of the trace's values, by number

    def model(self) -> Any:
        """The whole file, checked by the onnx package."""
        helper, traced, scheme = self._helper, self._trace, self._file.scheme
        source, result = PARTS[self._part]
        for step in traced.steps:
            self._names.append(self._step(step))
        if self._is_vector(len(traced.steps)):
            self._node("Flatten", [self._names[-1]])
        self._nodes[-1].output[0] = result
        info = [
            helper.make_tensor_value_info(name, self._onnx.TensorProto.FLOAT, self._sizes(shape))
            for name, shape in ((source, traced.inputs[0]), (result, traced.shapes[0]))
        ]
        graph = helper.make_graph(
            self._nodes,
            f"{self._file.config.arch}_{self._part}",
            info[:1],
            info[1:],
            initializer=list(self._constants.values()),
        )
        opset = OPSET_INT4 if scheme == "int4" else OPSET
        model = helper.make_model(
            graph,
            producer_name="edgeae",
            producer_version=__version__,
            ir_version=_IR_VERSION[opset],
            opset_imports=[helper.make_opsetid("", opset)],
        )
        metadata = {plain_text(key): plain_text(text) for key, text in self._file.metadata.items() if key != "golden"}
        helper.set_model_props(model, metadata)
        self._onnx.checker.check_model(model, full_check=True)
        return model

    def _sizes(self, shape: tuple[int, ...]) -> list[int | str]:
        """The sizes of an input or output, channels first; free ones are names."""
        if len(shape) == 2:
            return ["batch", shape[1]]
        height, width, channels = shape[1:]
        if not self._file.config.takes_any_size:
            return ["batch", channels, height, width]
        code = "code_" if self._file.config.size != height else ""
        return ["batch", channels, f"{code}height", f"{code}width"]

    # ---- steps -----------------------------------------------------------------------------------------------------

    def _step(self, step: Step) -> str:
        """Add the nodes of one step and return the name of their output."""
        layer, shape, name = step.layer, step.shape, self._layers[id(step.layer)]
        # A Linear is written as a convolution: before a Gemm with quantized weights ONNX Runtime would round the input.
        x = self._as_vector(step.x, shape.c_in) if isinstance(layer, Linear) else self._as_image(step.x, shape.input)
        bias = self._constant(f"{name}.bias", self._file.tensors[f"{name}.bias"])
        y = self._node(
            "ConvTranspose" if shape.up else "Conv",
            [x, self._weight(name, layer), bias],
            kernel_shape=[shape.kernel] * 2,
            pads=[shape.padding] * 4,
            strides=[shape.step * shape.stride] * 2,
        )
        if step.add is not None:
            y = self._node("Add", [y, self._as_image(step.add, shape.output)])
        if layer.activation is not None:
            y = self._node({"relu": "Relu", "sigmoid": "Sigmoid"}[layer.activation], [y])
        if step.clipped:
            limits = [self._constant(str(limit), np.array(limit, np.float32)) for limit in (0, 1)]
            y = self._node("Clip", [y, *limits])
        return y

    def _is_vector(self, number: int) -> bool:
        """True if a value of the trace is a vector for each image."""
        if number == 0:
            return len(self._trace.inputs[0]) == 2
        return isinstance(self._trace.steps[number - 1].layer, Linear)

    def _as_vector(self, number: int, channels: int) -> str:
        """A value as images of one pixel. The numbers keep the order of our vectors, which have the channels last."""
        name = self._names[number]
        if number and self._is_vector(number):
            return name
        last = name if self._is_vector(number) else self._node("Transpose", [name], perm=[0, 2, 3, 1])
        sizes = self._constant(f"pixel_{channels}", np.array([-1, channels, 1, 1], np.int64))
        return self._node("Reshape", [last, sizes])

    def _as_image(self, number: int, shape: tuple[int, ...]) -> str:
        """A value as images; `shape` is ours, (N, H, W, C)."""
        if not self._is_vector(number):
            return self._names[number]
        sizes = self._constant("grid", np.array([-1, *shape[1:]], np.int64))
        return self._node("Transpose", [self._node("Reshape", [self._names[number], sizes])], perm=[0, 3, 1, 2])

    def _weight(self, name: str, layer: Conv2d | UpConv2d | Linear) -> str:
        """The stored weight of a layer, and the nodes that make it float32 in ONNX's order of axes."""
        scheme, stored = self._file.scheme, self._file.tensors[f"{name}.weight"]
        shape = (*(1,) * (4 - len(layer.weight.shape)), *layer.weight.shape)
        # (ky, kx, in, out) → (out, in, ky, kx), or for a transposed convolution (in, out, ky, kx)
        order = [2, 3, 0, 1] if isinstance(layer, UpConv2d) else [3, 2, 0, 1]
        if scheme == "int4":
            pairs = np.stack([stored & 15, stored >> 4], axis=1).reshape(-1, shape[-1])
            values = pairs[: int(np.prod(shape[:-1]))].astype(np.int8) - 8
            scale = self._constant(f"{name}.scale", self._file.tensors[f"{name}.weight.scale"].astype(np.float32))
            matrix = self._node(
                "DequantizeLinear",
                [self._four_bits(f"{name}.weight", values), scale],
                axis=0,
                block_size=quantize.GROUP,
            )
            sizes = self._constant(f"{name}.shape", np.array(shape, np.int64))
            return self._node("Transpose", [self._node("Reshape", [matrix, sizes])], perm=order)
        weight = self._constant(f"{name}.weight", stored.reshape(shape).transpose(order))
        if scheme == "fp16":
            return self._node("Cast", [weight], to=self._onnx.TensorProto.FLOAT)
        if scheme == "int8":
            scale = self._constant(f"{name}.scale", self._file.tensors[f"{name}.weight.scale"])
            return self._node("DequantizeLinear", [weight, scale], axis=order.index(3))
        return weight

    # ---- parts of the file -----------------------------------------------------------------------------------------

    def _node(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        name = f"{kind.lower()}_{len(self._nodes)}"
        self._nodes.append(self._helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def _constant(self, name: str, value: Array) -> str:
        if name not in self._constants:
            self._constants[name] = self._onnx.numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def _four_bits(self, name: str, values: npt.NDArray[np.int8]) -> str:
        """A matrix of four-bit integers, packed in pairs, the first in the low bits."""
        flat = np.append(values.reshape(-1), np.zeros(values.size % 2, np.int8)) & 15
        data = (flat[0::2] | flat[1::2] << 4).astype(np.uint8).tobytes()
        kind = self._onnx.TensorProto.INT4
        self._constants[name] = self._helper.make_tensor(name, kind, values.shape, data, raw=True)
        return name
