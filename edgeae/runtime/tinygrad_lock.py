"""Let one thread at a time run tinygrad."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from edgeae.errors import DeviceError, EdgeaeError
from edgeae.runtime import forking, workers
from edgeae.runtime.guard import guard
from edgeae.runtime.turns import TINYGRAD


@contextmanager
def tinygrad_on(device: str) -> Iterator[None]:
    """Wait until no other thread runs tinygrad, and turn what fails in the block into one sentence about `device`.

    Whatever ends the block early, an interrupt included, tinygrad's CPU threads are made anew: a task that was
    announced but never handed over would be waited for forever.

    Raises:
        DeviceError: as `guard`; or the device was opened before this process was forked and cannot be used in it; or
            the process was forked inside the block, which only a signal's handler can do.
        OutOfMemoryError: as `guard`.
    """
    TINYGRAD.announce()
    with TINYGRAD.lock:
        TINYGRAD.enter()
        workers.prepare()
        forking.refuse_lost(device)
        forks = forking.count_forks()
        try:
            with guard(device):
                try:
                    yield
                except EdgeaeError:
                    raise
                except BaseException:
                    workers.recover()
                    raise
        finally:
            TINYGRAD.free_left()
        if forking.count_forks() != forks:
            raise DeviceError("this process was forked in the middle of a call of a model: make the call again.")
    TINYGRAD.leave()
