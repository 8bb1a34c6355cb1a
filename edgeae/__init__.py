"""Three image autoencoders on tinygrad that train and run on CUDA, Metal, OpenCL or CPU.

    import edgeae
    ae = edgeae.load("faces-conv", device="CPU")
    restored = ae.reconstruct("photo.jpg")

Importing the package imports neither tinygrad nor NumPy: each name below is imported at its first use.
"""

import importlib
import os
import sys
import threading
from typing import TYPE_CHECKING, Any

from edgeae._version import __version__
from edgeae.errors import (
    DataError,
    DeviceError,
    EdgeaeError,
    GateError,
    ImageError,
    OutOfMemoryError,
    PartialError,
    TrainingError,
    UsageError,
    WeightsError,
)

if TYPE_CHECKING:
    from edgeae.benchmark import bench
    from edgeae.config import ModelConfig, TrainConfig
    from edgeae.exporting.library import compile
    from edgeae.exporting.onnx import export_onnx
    from edgeae.exporting.weights import export
    from edgeae.inference.api import restore, restore_many
    from edgeae.inference.load import load
    from edgeae.inference.session import Session
    from edgeae.training.evaluation import evaluate
    from edgeae.training.loop import train

__all__ = [
    "DataError",
    "DeviceError",
    "EdgeaeError",
    "GateError",
    "ImageError",
    "ModelConfig",
    "OutOfMemoryError",
    "PartialError",
    "Session",
    "TrainConfig",
    "TrainingError",
    "UsageError",
    "WeightsError",
    "__version__",
    "bench",
    "compile",
    "evaluate",
    "export",
    "export_onnx",
    "load",
    "restore",
    "restore_many",
    "train",
]

# The module of each name that is imported at its first use.
_HOMES = {
    "ModelConfig": "config",
    "Session": "inference.session",
    "TrainConfig": "config",
    "bench": "benchmark",
    "compile": "exporting.library",
    "evaluate": "training.evaluation",
    "export": "exporting.weights",
    "export_onnx": "exporting.onnx",
    "load": "inference.load",
    "restore": "inference.api",
    "restore_many": "inference.api",
    "train": "training.loop",
}


_importing = threading.RLock()
_cut_off = False  # a forked process, of one where another thread was importing


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'edgeae' has no attribute {name!r}")
    home = f"edgeae.{_HOMES[name]}"
    if _cut_off and getattr(getattr(sys.modules.get(home), "__spec__", None), "_initializing", True):
        raise EdgeaeError(
            "this process was forked while another thread imported edgeae, which cannot be gone on with: name "
            f"edgeae.{name} once before anything forks."
        )
    with _importing:
        return getattr(importlib.import_module(home), name)


def _after_fork() -> None:
    """Find out whether another thread was importing: the locks of its modules stay locked in the child for ever."""
    global _importing, _cut_off
    _cut_off = _cut_off or not _importing.acquire(blocking=False)
    _importing = threading.RLock()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_after_fork)


def __dir__() -> list[str]:
    return __all__
