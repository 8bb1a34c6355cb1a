"""Load a model by its name or path."""

from __future__ import annotations

import os
from pathlib import Path

from edgeae.inference.session import Session
from edgeae.network import weight_file as weights
from edgeae.network.shipped import LIBRARIES, find_model
from edgeae.runtime import devices
from edgeae.runtime.tinygrad_lock import tinygrad_on


def load(
    model: str | os.PathLike[str],
    device: str | None = None,
    *,
    batch: int = 16,
    threads: int | None = None,
    max_mem: int | None = None,
) -> Session:
    """Load a model onto a device.

    Args:
        model: a shipped name such as `faces-conv`, or the path of a weight file or a library of `edgeae compile`.
        device: a tinygrad device, any case; None or `auto` takes `EDGEAE_DEVICE`, `DEV`, or the best usable one.
        batch: the most images that go through in one call.
        threads: CPU threads to use; None is all.
        max_mem: bytes for the network's layers; larger images go through in pieces. None is 512 MB, or a quarter of
            the machine's memory where that is less.

    Raises:
        WeightsError: no such model, or the file is damaged.
        DeviceError: the device is not usable; the message says why and what would mend it.
    """
    if os.fspath(model).endswith(LIBRARIES):
        from edgeae.engine.session import load_library

        return load_library(Path(model), device, threads)
    file = weights.read(find_model(model))
    name = devices.resolve(device)
    devices.set_threads(threads)
    with tinygrad_on(name):
        network = file.build(name, devices.supports_half(name))
    return Session(network, file.config, name, file.metadata, batch, max_mem)
