"""A model as one shared library with its weights inside, for machines that have neither Python nor a compiler.

`compile` is what `edgeae compile` calls. What the library does is planned in plan.py, its C text is made in source.py
from the files beside it and those of kernels/, and targets.py knows the compilers.
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
from edgeae.engine.plan import make_plan
from edgeae.engine.source import Golden, Source
from edgeae.engine.targets import NATIVE, toolchain
from edgeae.errors import EdgeaeError, UsageError
from edgeae.files import write_bytes_atomic
from edgeae.inference import golden
from edgeae.inference.session import Session
from edgeae.network import weight_file as weights
from edgeae.network.models import build
from edgeae.network.shipped import find_model
from edgeae.network.weight_file import WeightFile
from edgeae.runtime.tinygrad_lock import tinygrad_on

__all__ = ["CompileReport", "compile"]

MAX_BATCH, MAX_THREADS = 1024, 64
MAX_PIXELS = 1920 * 1088  # more would take gigabytes for the output that the self-test is compared with


@dataclass(frozen=True)
class CompileReport:
    """What `compile` made.

    Attributes:
        library: the shared library's path, and `size_bytes` its size.
        files: every file that was written.
        name: of its functions.
        target, processor: that it is for.
        instruction_set: of its kernels.
        width, height, batch, threads: that it is cut for.
        seconds: that it took.
        largest_difference: of its self-test, from tinygrad's float32 output; None for another machine's library.
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
        target: `native` or a name of `targets.TARGETS`; what is not native takes `edgeae[compiler]`.
        cpu: the target's processor as a C compiler names it; None is this one, or a common one of that target.
        size: width and height of its images, in multiples of the stride; None is what the model was trained on.
        batch: images that it works on together.
        threads: the most that it can use; None is this machine's cores, or 4 for another machine.
        name: of the library and its functions; None is the model's.

    Raises:
        WeightsError: the model cannot be read.
        UsageError: an unknown target, or a size, batch, number or name that does not fit.
        DeviceError: there is no compiler for the target, or it fails.
        EdgeaeError: a file cannot be written, or the library's own test fails.
    """
    started = time.perf_counter()
    if Path(output).exists() and not Path(output).is_dir():
        raise UsageError(f"{output} is no folder: a library and what belongs to it are several files.")
    file = weights.read(find_model(model))
    width, height = _checked_size(file, size)
    count = threads or ((os.cpu_count() or 1) if target == NATIVE else 4)
    if not 1 <= batch <= MAX_BATCH or not 1 <= count <= MAX_THREADS:
        raise UsageError(f"batch must be 1 to {MAX_BATCH} and threads 1 to {MAX_THREADS}.")
    tools = toolchain(target, cpu)
    label = name if name is not None else re.sub(r"\W", "_", Path(file.path).stem, flags=re.ASCII)
    if not re.fullmatch(r"[A-Za-z_]\w{0,60}", label, re.ASCII):
        raise UsageError(f"{label!r} cannot be the name of a C library; give another with `name`.")
    network = build(file.config, "PYTHON")
    plan = make_plan(
        network,
        (batch, height, width, file.config.in_channels),
        tools.machine,
        count,
        whole_weights=file.scheme == "int8",
    )
    title = f"{label}: {_described(file, width, height)}, compiled by edgeae {__version__}"
    source = Source(label, file, network, plan, tools.processor, title, _golden(file, width, height))
    folder = Path(output)
    texts = {
        f"{label}.c": source.code(),
        f"{label}_weights.c": source.weights(),
        f"{label}.h": source.header(),
        "example.c": source.example(),
        f"edgeae_{label}.py": source.wrapper(),
        "README.md": source.readme(),
    }
    with tempfile.TemporaryDirectory() as scratch:
        for text_name, text in texts.items():
            (Path(scratch) / text_name).write_text(text, encoding="utf-8")
        library = Path(scratch) / f"lib{label}{tools.suffix}"
        tools.build([Path(scratch) / f"{label}.c", Path(scratch) / f"{label}_weights.c"], library)
        data = library.read_bytes()
        largest = _tested(library, label) if target == NATIVE else None
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


def _checked_size(file: WeightFile, size: tuple[int, int] | None) -> tuple[int, int]:
    config = file.config
    width, height = size or (config.size, config.size)
    if config.arch == "vae" and (width, height) != (config.size, config.size):
        raise UsageError(f"this vae takes images of {config.size}×{config.size} only.")
    if min(width, height) < config.stride or width % config.stride or height % config.stride:
        raise UsageError(f"the sides must be multiples of {config.stride}.")
    if width * height > MAX_PIXELS:
        raise UsageError(f"{width}×{height} is too large to compile: at most {MAX_PIXELS:,} pixels.")
    return width, height


def _described(file: WeightFile, width: int, height: int) -> str:
    kind = {
        "conv": "a convolutional autoencoder",
        "residual": "a residual autoencoder",
        "vae": "a variational autoencoder",
    }[file.config.arch]
    scheme = "float32" if file.scheme == "none" else file.scheme
    return f"{kind} for images of {width} x {height}, {scheme} weights"


def _golden(file: WeightFile, width: int, height: int) -> Golden:
    """What tinygrad gives for the golden input of this size."""
    with tinygrad_on("CPU"):
        session = Session(file.build("CPU"), file.config, "CPU", file.metadata)
    image = golden.golden_input(height, file.config.in_channels, seed=0, width=width)
    output = session.run_floats(image)
    return Golden(golden.places(output.size), golden.sampled(output).astype(np.uint16), golden.TOLERANCE)


def _tested(library: Path, name: str) -> float:
    """The largest difference that the library's own test finds. Raises EdgeaeError when it fails."""
    loaded: Any = ctypes.CDLL(str(library))
    largest = ctypes.c_float()
    code = getattr(loaded, f"{name}_selftest")(ctypes.byref(largest))
    if code:
        error = getattr(loaded, f"{name}_error")
        error.restype = ctypes.c_char_p
        raise EdgeaeError(f"the compiled library fails its own test: {error(code).decode()}, by {largest.value:.1e}.")
    return float(largest.value)
