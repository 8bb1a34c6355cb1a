"""Compile a model to a shared library with its weights inside, for machines that have no Python and no compiler.

`edgeae compile` calls `compile`. The C source of the network comes from `engine`; the header, the example, the Python
wrapper and the README beside it from companions.py and the templates in this folder.
"""

from __future__ import annotations

import ctypes
import os
import re
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeae._version import __version__
from edgeae.engine.library_file import MAX_BATCH, MAX_PIXELS, MAX_THREADS
from edgeae.engine.plan import make_plan
from edgeae.engine.source import GoldenOutput, NetworkCode
from edgeae.engine.targets import NATIVE, toolchain
from edgeae.errors import EdgeaeError, UsageError
from edgeae.exporting.library import companions
from edgeae.files import write_bytes_atomic
from edgeae.inference import golden
from edgeae.inference.load import open_session
from edgeae.network import weight_file
from edgeae.network.models import build
from edgeae.network.shipped import find_model
from edgeae.network.weight_file import WeightFile

__all__ = ["CompileReport", "compile"]


@dataclass(frozen=True)
class CompileReport:
    """A compiled library and how it was made.

    Attributes:
        library: path of the shared library.
        size_bytes: its size.
        files: paths of all files that were written.
        name: prefix of its functions.
        target, processor: the machine that it is for.
        instruction_set: the one that its kernels use.
        width, height: of its images, in pixels.
        batch: images that it works on together.
        threads: most threads that it uses.
        seconds: time that compiling took.
        largest_difference: from tinygrad's float32 output, in its self-test; None for another machine's library.
    """

    library: str
    size_bytes: int
    files: list[str]
    name: str
    target: str
    processor: str
    instruction_set: str
    width: int
    height: int
    batch: int
    threads: int
    seconds: float
    largest_difference: float | None


def compile(
    model: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    target: str = NATIVE,
    cpu: str | None = None,
    size: tuple[int, int] | None = None,
    batch: int = 1,
    threads: int | None = None,
    name: str | None = None,
) -> CompileReport:
    """Compile a model to a shared library, with its C source, header, example and Python wrapper beside it.

    Args:
        model: a shipped name or a weight file, of any quantization.
        output: the folder to write to.
        target: `native` or a key of `targets.TARGETS`; one that is not native needs `edgeae[compiler]`.
        cpu: the target's processor as a C compiler names it; None is this one, or that target's default.
        size: width and height of its images, in multiples of the stride; None is what the model was trained on.
        batch: images that it works on together.
        threads: most threads that it can use; None is this machine's cores, or 4 for another machine.
        name: of the library, and prefix of its functions; None is the model's.

    Raises:
        WeightsError: the model cannot be read.
        UsageError: an unknown target, or a size, batch, number of threads or name that is not allowed.
        DeviceError: there is no compiler for the target, or it fails.
        EdgeaeError: a file cannot be written, or the library's own test fails.
    """
    started = time.perf_counter()
    if Path(output).exists() and not Path(output).is_dir():
        raise UsageError(f"{output} is no folder: a library and what belongs to it are several files.")
    file = weight_file.read(find_model(model))
    width, height = _check_size(file, size)
    count = threads or ((os.cpu_count() or 1) if target == NATIVE else 4)
    if not 1 <= batch <= MAX_BATCH or not 1 <= count <= MAX_THREADS:
        raise UsageError(f"batch must be 1 to {MAX_BATCH} and threads 1 to {MAX_THREADS}.")
    tools = toolchain(target, cpu)
    label = name if name is not None else re.sub(r"\W", "_", Path(file.path).stem, flags=re.ASCII)
    companions.check_name(label)
    network = build(file.config, "PYTHON")
    plan = make_plan(
        network,
        (batch, height, width, file.config.in_channels),
        tools.machine,
        count,
        whole_weights=file.scheme == "int8",
    )
    title = f"{label}: {_describe(file, width, height)}, compiled by edgeae {__version__}"
    code = NetworkCode(label, file, network, plan, tools.processor, title, _golden_output(file, width, height))
    folder = Path(output)
    texts = {
        f"{label}.c": code.network_c(),
        f"{label}_weights.c": code.weights_c(),
        f"{label}.h": companions.header(code),
        "example.c": companions.example(code),
        f"edgeae_{label}.py": companions.wrapper(code),
        "README.md": companions.readme(code),
    }
    with tempfile.TemporaryDirectory() as scratch:
        for text_name, text in texts.items():
            (Path(scratch) / text_name).write_text(text, encoding="utf-8")
        library = Path(scratch) / f"lib{label}{tools.suffix}"
        tools.build([Path(scratch) / f"{label}.c", Path(scratch) / f"{label}_weights.c"], library)
        data = library.read_bytes()
        largest = _run_selftest(library, label) if target == NATIVE else None
    files = {library.name: data} | {text_name: text.encode() for text_name, text in texts.items()}
    for file_name, content in files.items():
        write_bytes_atomic(folder / file_name, content)
    return CompileReport(
        str(folder / library.name),
        len(data),
        [str(folder / file_name) for file_name in files],
        label,
        tools.target,
        tools.processor,
        tools.machine.name,
        width,
        height,
        batch,
        count,
        time.perf_counter() - started,
        largest,
    )


def _check_size(file: WeightFile, size: tuple[int, int] | None) -> tuple[int, int]:
    config = file.config
    width, height = size or (config.size, config.size)
    if not config.takes_any_size and (width, height) != (config.size, config.size):
        raise UsageError(f"this vae takes images of {config.size}×{config.size} only.")
    if min(width, height) < config.stride or width % config.stride or height % config.stride:
        raise UsageError(f"the sides must be multiples of {config.stride}.")
    if width * height > MAX_PIXELS:
        raise UsageError(f"{width}×{height} is too large to compile: at most {MAX_PIXELS:,} pixels.")
    return width, height


def _describe(file: WeightFile, width: int, height: int) -> str:
    kind = {
        "conv": "a convolutional autoencoder",
        "residual": "a residual autoencoder",
        "vae": "a variational autoencoder",
    }[file.config.arch]
    scheme = "float32" if file.scheme == "none" else file.scheme
    return f"{kind} for images of {width} x {height}, {scheme} weights"


def _golden_output(file: WeightFile, width: int, height: int) -> GoldenOutput:
    """Run the golden input of this size with tinygrad."""
    session = open_session(file, "CPU")
    image = golden.golden_input(height, file.config.in_channels, seed=0, width=width)
    output = session.run_floats(image)
    return GoldenOutput(golden.places(output.size), golden.sample_output(output).astype(np.uint16), golden.TOLERANCE)


def _run_selftest(library: Path, name: str) -> float:
    """Return the largest difference that the library's own test finds. Raises EdgeaeError when it fails."""
    loaded: Any = ctypes.CDLL(str(library))
    largest = ctypes.c_float()
    code = getattr(loaded, f"{name}_selftest")(ctypes.byref(largest))
    if code:
        error = getattr(loaded, f"{name}_error")
        error.restype = ctypes.c_char_p
        raise EdgeaeError(f"the compiled library fails its own test: {error(code).decode()}, by {largest.value:.1e}.")
    return float(largest.value)
