"""The same networks with the same weights in other runtimes: ONNX Runtime, OpenVINO and PyTorch.

They are given arrays in their own layout (channels first), made before, and their outputs are turned into ours only for
the check: no time of theirs holds a conversion.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeae.benchmark.cases import INPUTS, Case, Prepared, Subject
from edgeae.benchmark.machine import is_installed
from edgeae.errors import EdgeaeError
from edgeae.exporting.onnx import channels_first, onnx_bytes
from edgeae.network.layers import Linear
from edgeae.network.models import build
from edgeae.network.parameters import layer_names
from edgeae.network.tracing import Trace, trace
from edgeae.network.weight_file import WeightFile

Floats = npt.NDArray[np.float32]
Run = Callable[[Floats], Floats]  # channels first

PACKAGES = {"ONNX Runtime": ("onnx", "onnxruntime"), "OpenVINO": ("onnx", "openvino"), "PyTorch": ("torch",)}
ROUNDED = "all int8"  # activations too


def missing() -> list[str]:
    """A sentence for each peer that is not installed."""
    return [
        f'{name} is left out: install {" and ".join(packages)}, as with pip install "edgeae[bench]"'
        for name, packages in PACKAGES.items()
        if not is_installed(*packages)
    ]


def runtimes(device: str) -> list[str]:
    """The peers that are installed and can use a device."""
    installed = [name for name, packages in PACKAGES.items() if is_installed(*packages)]
    return [name for name in installed if device == "CPU" or (device == "CUDA" and _has_cuda(name))]


def _has_cuda(runtime: str) -> bool:
    if runtime == "PyTorch":
        import torch

        return bool(torch.cuda.is_available())
    if runtime == "ONNX Runtime":
        import onnxruntime

        return "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    return False


def weights_of(runtime: str, device: str, scheme: str) -> list[str]:
    """The forms of weights in which a peer is asked, where ours are in `scheme`."""
    forms = ["float32"]
    if device == "CPU" and runtime != "PyTorch" and scheme == "int8":  # PyTorch keeps up no int8 convolution
        forms += ["int8", ROUNDED]
    return forms


class PeerError(EdgeaeError):
    """A runtime cannot do what it was asked for."""


def prepare(subject: Subject, case: Case) -> Prepared:
    """A case of a peer, which has run once. Raises PeerError with its last words when it cannot."""
    try:
        prepared = _prepare(subject, case)
        prepared.run(0)
    except Exception as e:  # whatever they raise: ours has nothing to do with it
        raise PeerError((str(e).strip().splitlines() or [type(e).__name__])[-1]) from e
    return prepared


def _prepare(subject: Subject, case: Case) -> Prepared:
    inputs = subject.inputs(case.task, case.batch)
    given = [channels_first(x) for x in inputs]
    rounded = subject.rounded()
    if case.runtime == "PyTorch":
        run, size = _torch(rounded, case), sum(value.nbytes for value in rounded.tensors.values())
    else:
        data = onnx_bytes(subject.file if case.weights == "int8" else rounded, case.task)
        data = _quantized(data, given) if case.weights == ROUNDED else data
        run = (
            onnxruntime_run(data, case.threads, case.device)
            if case.runtime == "ONNX Runtime"
            else openvino_run(data, case.threads)
        )
        size = len(data)
    wanted = subject.outputs(subject.floats(), case.task, case.batch)
    exact = subject.outputs(rounded, case.task, case.batch)
    return Prepared(
        case,
        lambda i: channels_last(run(given[i % INPUTS])),
        wanted,
        exact,
        size,
        case.batch,
        exactly=case.weights != ROUNDED,
    )


def channels_last(x: Floats) -> Floats:
    """(N, C, H, W) → (N, H, W, C), a view; vectors as they are."""
    return x.transpose(0, 2, 3, 1) if x.ndim == 4 else x


def onnxruntime_run(data: bytes, threads: int, device: str = "CPU") -> Run:
    """An ONNX file in ONNX Runtime, from array to array."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(data, options, providers=[f"{device}ExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: session.run(None, {name: x})[0]


def openvino_run(data: bytes, threads: int) -> Run:
    """An ONNX file in OpenVINO, from array to array, in float32 also where the processor has bf16.

    Its outputs are shared, not copied: the next call may overwrite them.
    """
    import openvino

    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
    }  # or it rounds what goes into matrix products, unasked
    core = openvino.Core()
    request = core.compile_model(core.read_model(data), "CPU", settings).create_infer_request()
    return lambda x: request.infer([x], share_inputs=True, share_outputs=True)[0]


def _quantized(data: bytes, inputs: list[Floats]) -> bytes:
    """An ONNX file with weights and activations in int8, as ONNX Runtime's own tool makes it."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self, name: str) -> None:
            self._rest = iter([{name: x} for x in inputs])

        def get_next(self) -> dict[str, Floats] | None:
            return next(self._rest, None)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        model = onnx.load_model_from_string(data)
        logging.disable(logging.WARNING)  # it recommends a preparation that does nothing for these files
        try:
            quantize_static(
                model,
                path,
                Reader(model.graph.input[0].name),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
        finally:
            logging.disable(logging.NOTSET)
        return path.read_bytes()


# ---- PyTorch -------------------------------------------------------------------------------------------------------


def _torch(file: WeightFile, case: Case) -> Run:
    """PyTorch, eager, in its faster memory layout for convolutions."""
    import torch

    torch.set_num_threads(case.threads)
    device = case.device.lower()
    run = torch_function(file, case.task, device)

    def call(x: Floats) -> Floats:
        with torch.inference_mode():
            found: Floats = run(torch.from_numpy(x).contiguous(memory_format=_layout(x)).to(device)).cpu().numpy()
        return found

    return call


def _layout(x: Floats) -> Any:
    import torch

    return torch.channels_last if x.ndim == 4 else torch.contiguous_format


def torch_function(file: WeightFile, part: str, device: str) -> Callable[[Any], Any]:
    """A part of a network as a function of a tensor on PyTorch's device, channels first."""
    import torch
    from torch.nn import functional

    config, floats = file.config, file.floats()
    model = build(config, "PYTHON")
    image = (config.size, config.size, config.in_channels)
    given = config.code_shape(config.size, config.size) if part == "decode" else image
    found: Trace = trace(getattr(model, part), (1, *given))
    names = layer_names(model)
    activations: dict[str | None, Callable[[Any], Any]] = {
        "relu": torch.relu,
        "sigmoid": torch.sigmoid,
        None: lambda y: y,
    }
    layers = []
    for step in found.steps:
        weight = torch.from_numpy(floats[f"{names[id(step.layer)]}.weight"])
        order = (1, 0) if weight.ndim == 2 else (2, 3, 0, 1) if step.shape.up else (3, 2, 0, 1)
        weight = weight.permute(order).contiguous()
        if weight.ndim == 4:
            weight = weight.to(memory_format=torch.channels_last)
        bias = torch.from_numpy(floats[f"{names[id(step.layer)]}.bias"])
        layers.append((step, weight.to(device), bias.to(device)))

    def as_image(x: Any, shape: tuple[int, ...]) -> Any:
        return x if x.ndim == 4 else x.reshape(-1, *shape[1:]).permute(0, 3, 1, 2)

    def run(x: Any) -> Any:
        values = [x]
        for step, weight, bias in layers:
            x, shape = values[step.x], step.shape
            if isinstance(step.layer, Linear):
                y = functional.linear(x.permute(0, 2, 3, 1).flatten(1) if x.ndim == 4 else x, weight, bias)
            elif shape.up:
                y = functional.conv_transpose2d(as_image(x, shape.input), weight, bias, 2, 1)
            else:
                y = functional.conv2d(as_image(x, shape.input), weight, bias, shape.stride, shape.padding)
            y = y if step.add is None else y + as_image(values[step.add], shape.output)
            y = activations[step.layer.activation](y)
            values.append(y.clamp(0, 1) if step.clipped else y)
        return values[found.outputs[0]]

    return run
