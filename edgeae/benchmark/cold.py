"""The first image of a fresh process, and where its time goes: with no compiled kernels at hand, and with all.

`measure` starts this file as a program, twice: the first run fills the cache that the second one finds.
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
    """Seconds of a fresh process, and the memory that it took at most.

    Attributes:
        imports: from the start of the process until the runtime is imported.
        load: until the model is loaded.
        compile: what the first image takes longer than later ones.
        first_image: from the start of the process until the first image is there: all of the above and one image.
        peak_bytes: of resident memory.
    """

    imports: float
    load: float
    compile: float
    first_image: float
    peak_bytes: int


def measure(
    model: str | os.PathLike[str], runtime: str, device: str, width: int, height: int, threads: int
) -> tuple[ColdStart, ColdStart]:
    """With an empty and with a full cache.

    Args:
        model: a weight file, or for a peer an ONNX file.

    Raises:
        ColdStartError: the process failed, with its last line.
    """
    with tempfile.TemporaryDirectory() as folder:
        asked = {
            "model": str(model),
            "runtime": runtime,
            "device": device,
            "width": width,
            "height": height,
            "threads": threads,
        }
        environment = {
            **os.environ,
            "CACHEDB": str(Path(folder) / "cache.db"),
            "POCL_CACHE_DIR": folder,
            "MESA_SHADER_CACHE_DIR": folder,
        }
        return _start(asked, environment), _start(asked, environment)


def can_measure(runtime: str, device: str, weights: str) -> bool:
    """Return whether a runtime's fresh process can be timed: PyTorch has no file to load the network from."""
    if runtime in ("edgeae", "edgeae library"):
        return True
    return runtime in ("ONNX Runtime", "OpenVINO") and device == "CPU" and weights in ("float32", "int8")


class ColdStartError(Exception):
    """A fresh process did not give an image."""


def _start(asked: dict[str, Any], environment: dict[str, str]) -> ColdStart:
    asked = asked | {"started": time.time()}
    command = [sys.executable, "-m", "edgeae.benchmark.cold", json.dumps(asked)]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise ColdStartError(f"no image within {TIMEOUT_S:.0f} s") from None
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        raise ColdStartError((done.stderr.strip().splitlines() or ["it gave nothing"])[-1])
    return ColdStart(**json.loads(lines[-1]))


# ---- in the fresh process ------------------------------------------------------------------------------------------


def _peak_bytes() -> int:
    """Of this process. Linux counts in `ru_maxrss` also what the process that started it had taken."""
    status = Path("/proc/self/status")
    if status.exists():
        return 1024 * next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _run(asked: dict[str, Any]) -> ColdStart:
    if asked["runtime"] == "edgeae":
        from edgeae.inference.load import load

        imported = time.time()
        session = load(asked["model"], asked["device"], threads=asked["threads"])
        run = session.run_floats
        shape: tuple[int, ...] = (1, asked["height"], asked["width"], session.config.in_channels)
    elif asked["runtime"] == "edgeae library":
        run, imported, shape = _library(asked)
    else:
        run, imported, shape = _peer(asked)
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
        imports=imported - asked["started"],
        load=loaded - imported,
        compile=max(0.0, first - loaded - min(warm)),
        first_image=first - asked["started"],
        peak_bytes=_peak_bytes(),
    )


def _library(asked: dict[str, Any]) -> tuple[Any, float, tuple[int, ...]]:
    """The Python file beside a compiled library, as a program would use it that has no edgeae."""
    sys.path.insert(0, str(Path(asked["model"]).parent))
    module = importlib.import_module(Path(asked["model"]).stem)
    imported = time.time()
    model = module.Model(threads=asked["threads"])
    return model.run, imported, (1, model.HEIGHT, model.WIDTH, model.CHANNELS_IN)


def _peer(asked: dict[str, Any]) -> tuple[Any, float, tuple[int, ...]]:
    """ONNX Runtime or OpenVINO, as a program would use it that has no edgeae."""
    if asked["runtime"] == "ONNX Runtime":
        import onnxruntime

        imported = time.time()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = asked["threads"]
        session = onnxruntime.InferenceSession(asked["model"], options, providers=["CPUExecutionProvider"])
        channels = session.get_inputs()[0].shape[1]
        return (lambda x: session.run(None, {"image": x})[0]), imported, (1, channels, asked["height"], asked["width"])
    import openvino

    imported = time.time()
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": asked["threads"]}
    compiled = openvino.Core().compile_model(asked["model"], "CPU", settings)
    channels = compiled.input(0).partial_shape[1].get_length()
    request = compiled.create_infer_request()
    return (lambda x: request.infer([x])[0]), imported, (1, channels, asked["height"], asked["width"])


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(_run(json.loads(sys.argv[1])))) + "\n")
