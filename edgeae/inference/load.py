"""Open a model by name or path as a `Session`, with the engine that runs it."""

from __future__ import annotations

import functools
import os
from pathlib import Path

from edgeae.engine.library import CompiledLibrary
from edgeae.errors import UsageError
from edgeae.inference.session import Session
from edgeae.inference.tinygrad_engine import TinygradEngine
from edgeae.network import weight_file
from edgeae.network.shipped import LIBRARIES, find_model
from edgeae.network.weight_file import WeightFile
from edgeae.runtime import devices
from edgeae.runtime.tinygrad_lock import refuse_nested, tinygrad_on
from edgeae.runtime.turns import TINYGRAD


def load(
    model: str | os.PathLike[str],
    device: str | None = None,
    *,
    batch: int = 16,
    threads: int | None = None,
    max_mem: int | None = None,
) -> Session:
    """Load a model onto a device.

    What it returns answers in processes that are forked later, too, unless the device is a GPU or OpenCL, whose
    drivers cannot be carried over; and it can be pickled for other processes, which load the same file with the same
    arguments when they unpickle it.

    Args:
        model: a shipped name such as `faces-conv`, or the path of a weight file or of a library that `edgeae compile`
            made. Loading a library runs its code: only load what you trust.
        device: a tinygrad device, in any case; None or `auto` takes `EDGEAE_DEVICE`, `DEV`, or the best usable one.
            A library runs on the CPU only.
        batch: most images in one call; a library has its own.
        threads: CPU threads to use; None is all, or as many as a library was compiled for.
        max_mem: bytes for the network's layers; larger images are cut into pieces. None is 512 MB, or a quarter of
            the machine's memory where that is less.

    Raises:
        WeightsError: there is no such model, or the file is damaged.
        UsageError: an option is out of range, or a library was asked to run on another device than the CPU.
        DeviceError: the device is not usable; the message says why and how to fix it.
    """
    if os.fspath(model).endswith(LIBRARIES):
        if device is not None and device.strip().upper() not in ("", "AUTO", "CPU"):
            raise UsageError(f"a compiled library runs on the CPU, not on {device}.")
        path = Path(model)
        library = CompiledLibrary(path, threads)
        session = Session(library, library.metadata)
    else:
        path = find_model(model)
        file = weight_file.read(path)
        name = devices.resolve(device)
        devices.set_threads(threads)
        session = open_session(file, name, batch, max_mem)
    session.reopen = functools.partial(load, path.resolve(), device, batch=batch, threads=threads, max_mem=max_mem)
    return session


def open_session(file: WeightFile, device: str, batch: int = 16, max_mem: int | None = None) -> Session:
    """Build the network of a weight file on a device and return its session.

    Args:
        file: what `weight_file.read` returned, or one made in memory.
        device: a resolved tinygrad device name, as `devices.resolve` returns it.
        batch, max_mem: see `load`.

    Raises:
        UsageError: `batch` is below 1.
        DeviceError: the device failed.
    """
    refuse_nested()
    with TINYGRAD.turn, tinygrad_on(device):
        network = file.build(device, devices.supports_half(device))
    return Session(TinygradEngine(network, file.config, device, batch, max_mem), file.metadata)
