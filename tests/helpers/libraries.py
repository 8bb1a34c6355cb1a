"""Compiled libraries in tests: the Python wrapper beside one, random input for it, and compilers that may be absent."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edgeae.engine import targets
from edgeae.errors import DeviceError
from edgeae.exporting.library import CompileReport

LibraryFactory = Callable[..., CompileReport]


def wrapper(report: CompileReport, **arguments: Any) -> Any:
    """Load the Python that stands beside a library, as a script would."""
    path = Path(report.library).parent / f"edgeae_{report.name}.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Model(**arguments)


def random_images(model: Any, count: int) -> npt.NDArray[np.float32]:
    """Return (count, H, W, C) for the model of a `wrapper`."""
    return np.random.default_rng(count).random((count, model.HEIGHT, model.WIDTH, model.CHANNELS_IN), dtype=np.float32)


def require_target(target: str = targets.NATIVE) -> None:
    """Skip the test where no compiler for a target is installed."""
    try:
        targets.toolchain(target)
    except DeviceError as e:
        pytest.skip(str(e))
