"""Run tinygrad in one thread at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from edgeae.runtime import devices

# tinygrad keeps its schedule and caches in globals: one thread at a time may be inside it, whatever the model.
_TINYGRAD = threading.RLock()


@contextmanager
def tinygrad_on(device: str) -> Iterator[None]:
    """Run tinygrad code alone, with its failures on `device` as one-sentence errors."""
    with _TINYGRAD, devices.guard(device):
        yield
