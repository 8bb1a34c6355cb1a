"""Let one thread at a time run tinygrad."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from edgeae.runtime import devices

# tinygrad keeps its schedule and its caches in globals, so this holds for all models together.
_TINYGRAD = threading.RLock()


@contextmanager
def tinygrad_on(device: str) -> Iterator[None]:
    """Wait until no other thread runs tinygrad, and turn what fails in the block into one sentence about `device`.

    Raises:
        DeviceError, OutOfMemoryError: as `guard`.
    """
    with _TINYGRAD, devices.guard(device):
        yield
