"""Three image autoencoders on tinygrad that train and run on CUDA, Metal, OpenCL or CPU.

    import edgeae
    ae = edgeae.load("faces-conv", device="CPU")
    restored = ae.reconstruct("photo.jpg")

Importing the package imports neither tinygrad nor NumPy: each name below comes with its first use.
"""

import importlib
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
    from edgeae.evaluation import evaluate
    from edgeae.exporting import export
    from edgeae.library import compile
    from edgeae.onnx_files import export_onnx
    from edgeae.session import Session, load
    from edgeae.training import train

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
    "train",
]

_HOMES = {
    "ModelConfig": "config",
    "Session": "session",
    "TrainConfig": "config",
    "bench": "benchmark",
    "compile": "library",
    "evaluate": "evaluation",
    "export": "exporting",
    "export_onnx": "onnx_files",
    "load": "session",
    "train": "training",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'edgeae' has no attribute {name!r}")
    return getattr(importlib.import_module(f"edgeae.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
