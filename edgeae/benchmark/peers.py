"""The same networks with the same weights in other runtimes: ONNX Runtime, OpenVINO and PyTorch.

Their inputs are arrays in their own layout (channels first), made before, and their outputs are turned into ours only
for the check: no time of theirs includes a conversion.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeae.benchmark import pytorch
from edgeae.benchmark.cases import EXPORTED_TASKS, INPUTS, Case, Prepared, Subject
from edgeae.benchmark.machine import is_installed
from edgeae.errors import EdgeaeError
from edgeae.exporting.onnx import channels_first, onnx_bytes

Floats = npt.NDArray[np.float32]
Run = Callable[[Floats], Floats]  # channels first

ONNX_RUNTIME, OPENVINO, PYTORCH, TORCH_COMPILE = "ONNX Runtime", "OpenVINO", "PyTorch", "torch.compile"
PACKAGES = {
    ONNX_RUNTIME: ("onnx", "onnxruntime"),
    OPENVINO: ("onnx", "openvino"),
    PYTORCH: ("torch",),
    TORCH_COMPILE: ("torch",),
}
ROUNDED = "all int8"  # activations too


class PeerError(EdgeaeError):
    """A runtime cannot do a case."""


def describe_missing() -> list[str]:
    """Return a sentence for each peer that cannot be used."""
    missing = [
        f'{name} is left out: install {" and ".join(packages)}, as with pip install "edgeae[bench]"'
        for name, packages in PACKAGES.items()
        if not is_installed(*packages)
    ]
    if is_installed("torch") and not pytorch.can_compile():
        missing.append(f"{TORCH_COMPILE} is left out: it needs a C++ compiler, such as g++")
    return missing


def list_peers(task: str, device: str) -> list[str]:
    """Return the installed peers that can do a task on a device."""
    names = [name for name, packages in PACKAGES.items() if is_installed(*packages)]
    if not pytorch.can_compile():
        names = [name for name in names if name != TORCH_COMPILE]
    if task not in EXPORTED_TASKS:
        names = [name for name in names if task == "train" and name in (PYTORCH, TORCH_COMPILE)]
    return [name for name in names if device == "CPU" or (device == "CUDA" and _has_cuda(name))]


def _has_cuda(runtime: str) -> bool:
    if runtime in (PYTORCH, TORCH_COMPILE):
        import torch

        return bool(torch.cuda.is_available())
    if runtime == ONNX_RUNTIME:
        import onnxruntime

        return "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    return False


def list_weight_forms(case: Case) -> list[str]:
    """Return the forms of weights to time a peer with.

    Args:
        case: the peer's, with the form of ours.
    """
    forms = ["float32"]
    onnx = case.runtime in (ONNX_RUNTIME, OPENVINO)  # PyTorch has no int8 convolution that is kept up
    return [*forms, "int8", ROUNDED] if onnx and case.device == "CPU" and case.weights == "int8" else forms


def prepare(subject: Subject, case: Case) -> Prepared:
    """Load the network of a peer's case, and run it once.

    Raises:
        PeerError: the peer cannot do it, with the last line of its error.
    """
    try:
        prepared = (
            _prepare_torch(subject, case) if case.runtime in (PYTORCH, TORCH_COMPILE) else _prepare(subject, case)
        )
        prepared.run(0)
    except Exception as e:  # whatever a peer raises, the others go on
        raise PeerError((str(e).strip().splitlines() or [type(e).__name__])[-1]) from e
    return prepared


def _prepare(subject: Subject, case: Case) -> Prepared:
    inputs = [channels_first(x) for x in subject.inputs(case.task, case.batch)]
    data = onnx_bytes(subject.file if case.weights == "int8" else subject.rounded, case.task)
    data = _quantize_onnx(data, inputs) if case.weights == ROUNDED else data
    run = (
        onnxruntime_function(data, case.threads, case.device)
        if case.runtime == ONNX_RUNTIME
        else openvino_function(data, case.threads)
    )
    check = subject.check_outputs(case.task, case.batch, rounds_activations=case.weights == ROUNDED)
    return Prepared(case, lambda number: channels_last(run(inputs[number % INPUTS])), check, len(data), case.batch)


def _prepare_torch(subject: Subject, case: Case) -> Prepared:
    device, compiled = case.device.lower(), case.runtime == TORCH_COMPILE
    network, inputs = pytorch.TorchNetwork(subject.rounded, device), subject.inputs(case.task, case.batch)
    size = sum(value.nbytes for value in subject.rounded.tensors.values())
    if case.task == "train":
        step = pytorch.training_function(network, inputs, case.threads, device, compiled)
        return Prepared(case, step, subject.check_losses(case.batch), size, case.batch)
    run = pytorch.inference_function(network, case.task, inputs, case.threads, device, compiled)
    return Prepared(case, run, subject.check_outputs(case.task, case.batch), size, case.batch)


def channels_last(x: Floats) -> Floats:
    """Return a view (N, H, W, C) of (N, C, H, W); vectors as they are."""
    return x.transpose(0, 2, 3, 1) if x.ndim == 4 else x


def onnxruntime_function(data: bytes, threads: int, device: str = "CPU") -> Run:
    """Return an ONNX file in ONNX Runtime as a function from array to array."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(data, options, providers=[f"{device}ExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: session.run(None, {name: x})[0]


def openvino_function(data: bytes, threads: int) -> Run:
    """Return an ONNX file in OpenVINO as a function from array to array, in float32 also where the processor has bf16.

    Outputs are not copied: the next call may overwrite them.
    """
    import openvino

    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,  # by default it rounds the inputs of matrix products
    }
    core = openvino.Core()
    request = core.compile_model(core.read_model(data), "CPU", settings).create_infer_request()
    return lambda x: request.infer([x], share_inputs=True, share_outputs=True)[0]


def _quantize_onnx(data: bytes, inputs: list[Floats]) -> bytes:
    """Return an ONNX file with weights and activations in int8, made by ONNX Runtime's own tool."""
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
        logging.disable(logging.WARNING)  # it recommends a preparation that changes nothing in these files
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
