"""Time the first image of a fresh process, with an empty cache of compiled kernels and with a full one.

`measure` starts this module as a program twice: the first run fills the cache that the second one uses.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

WARM_CALLS = 3
TIMEOUT_S = 300.0


@dataclass(frozen=True)
class ColdStart:
    """Seconds of a fresh process, and its memory.

    Attributes:
        imports: from the start of the process until the runtime is imported.
        load: from there until the model is loaded.
        compile: by how much the first image takes longer than later ones.
        first_image: from the start of the process until the first image is done.
        peak_bytes: most resident memory.
    """

    imports: float
    load: float
    compile: float
    first_image: float
    peak_bytes: int


def measure(
    model: str | os.PathLike[str], runtime: str, device: str, width: int, height: int, threads: int
) -> tuple[ColdStart, ColdStart]:
    """Time the first image in two fresh processes.

    Args:
        model: a weight file, for a compiled library the Python file beside it, for a peer an ONNX file.
        runtime, device: as those of a `Case`.
        width, height: of the image, in pixels.
        threads: CPU threads.

    Returns:
        The times with an empty and with a full cache.

    Raises:
        ColdStartError: a process failed; the message is the last line of its error.
    """
    with tempfile.TemporaryDirectory() as folder:
        request = {
            "model": str(model),
            "runtime": runtime,
            "device": device,
            "width": width,
            "height": height,
            "threads": threads,
        }
        environment = {
            **os.environ,
            "EDGEAE_CACHE": folder,
            "POCL_CACHE_DIR": folder,
            "MESA_SHADER_CACHE_DIR": folder,
        }
        return _start(request, environment), _start(request, environment)


def can_measure(runtime: str, device: str, weights: str) -> bool:
    """Return whether a runtime's fresh process can be timed: PyTorch has no file to load the network from."""
    if runtime in ("edgeae", "edgeae library"):
        return True
    return runtime in ("ONNX Runtime", "OpenVINO") and device == "CPU" and weights in ("float32", "int8")


class ColdStartError(Exception):
    """A fresh process failed before its first image."""


def _start(request: dict[str, Any], environment: dict[str, str]) -> ColdStart:
    request = request | {"started": time.time()}
    command = [sys.executable, "-m", "edgeae.benchmark.cold", json.dumps(request)]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise ColdStartError(f"no image within {TIMEOUT_S:.0f} s") from None
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        raise ColdStartError((done.stderr.strip().splitlines() or ["it printed nothing"])[-1])
    return ColdStart(**json.loads(lines[-1]))


# ---- in the fresh process ------------------------------------------------------------------------------------------


def _peak_bytes() -> int:
    """Return the most resident memory of this process.

    On Linux from /proc, since `ru_maxrss` there includes what the process that started it had.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return 1024 * next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _run(request: dict[str, Any]) -> ColdStart:
    if request["runtime"] == "edgeae":
        from edgeae.inference.load import load

        imported = time.time()
        session = load(request["model"], request["device"], threads=request["threads"])
        run = session.run_floats
        shape: tuple[int, ...] = (1, request["height"], request["width"], session.config.in_channels)
    elif request["runtime"] == "edgeae library":
        run, imported, shape = _load_library(request)
    else:
        run, imported, shape = _load_peer(request)
    loaded = time.time()
    import numpy as np

    images = np.random.default_rng(0).random((1 + WARM_CALLS, *shape), dtype=np.float32)
    run(images[0])
    first = time.time()
    warm = []
    for image in images[1:]:
        started = time.perf_counter()
        run(image)
        warm.append(time.perf_counter() - started)
    return ColdStart(
        imports=imported - request["started"],
        load=loaded - imported,
        compile=max(0.0, first - loaded - min(warm)),
        first_image=first - request["started"],
        peak_bytes=_peak_bytes(),
    )


def _load_library(request: dict[str, Any]) -> tuple[Any, float, tuple[int, ...]]:
    """Load a compiled library with the Python file beside it, as a program without edgeae does."""
    sys.path.insert(0, str(Path(request["model"]).parent))
    module = importlib.import_module(Path(request["model"]).stem)
    imported = time.time()
    model = module.Model(threads=request["threads"])
    return model.run, imported, (1, model.HEIGHT, model.WIDTH, model.CHANNELS_IN)


def _load_peer(request: dict[str, Any]) -> tuple[Any, float, tuple[int, ...]]:
    """Load an ONNX file in ONNX Runtime or OpenVINO, as a program without edgeae does."""
    if request["runtime"] == "ONNX Runtime":
        import onnxruntime

        imported = time.time()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = request["threads"]
        session = onnxruntime.InferenceSession(request["model"], options, providers=["CPUExecutionProvider"])
        channels = session.get_inputs()[0].shape[1]
        return (
            (lambda x: session.run(None, {"image": x})[0]),
            imported,
            (1, channels, request["height"], request["width"]),
        )
    import openvino

    imported = time.time()
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": request["threads"]}
    compiled = openvino.Core().compile_model(request["model"], "CPU", settings)
    channels = compiled.input(0).partial_shape[1].get_length()
    infer = compiled.create_infer_request().infer
    return (lambda x: infer([x])[0]), imported, (1, channels, request["height"], request["width"])


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(_run(json.loads(sys.argv[1])))) + "\n")
