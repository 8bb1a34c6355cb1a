"""Compiled libraries in tests: the wrapper beside one, random input, compilers that may be absent, and forged files."""

import importlib.util
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edgeae.config import ModelConfig
from edgeae.engine import targets
from edgeae.engine.shared_object import this_machine
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


# ---- forged ones -------------------------------------------------------------------------------------------------

_NAMES = ("create", "destroy", "run_float", "encode_float", "decode_float", "interpolate", "error")
FUNCTIONS = [f"tiny_{name}" for name in _NAMES]
MACHINE = {"x86-64": 62, "aarch64": 183}.get(this_machine().processor, 62)  # ELF's number


def description(network: ModelConfig, **changes: Any) -> dict[str, Any]:
    """What a library of a tiny network says about itself; None leaves a key out."""
    values = {
        "arch": network.arch,
        "config": network.to_json(),
        "quantize": "none",
        "library": {"width": 16, "height": 16, "batch": 1, "threads": 1},
    }
    return {key: value for key, value in {**values, **changes}.items() if value is not None}


def mark(text: bytes, version: bytes = b"1") -> bytes:
    """A description as it stands in a library."""
    return b"\0edgeae library tiny " + version + b"\0" + text + b"\0"


def forge(
    text: object,
    *,
    version: bytes = b"1",
    functions: list[str] = FUNCTIONS,
    kind: int = 3,
    machine: int = MACHINE,
    size: int = 1 << 17,
    claimed: int | None = None,
) -> bytes:
    """A file with the headers of an ELF library, names of functions and a description, and no code.

    kind: ELF's type of file. size: bytes of the file. claimed: bytes of its one segment.
    """
    body = mark(text if isinstance(text, bytes) else json.dumps(text).encode(), version)
    body += b"\0" + b"".join(name.encode() + b"\0" for name in functions)
    head = (
        b"\x7fELF\2\1\1" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", kind, machine, 1, 0, 64, 0, 0, 64, 56, 1, 64, 0, 0)
    )
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, claimed or size, claimed or size, 4096)
    return (head + segment + body).ljust(size, b"\0")
