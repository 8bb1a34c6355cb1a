"""Let one thread at a time run tinygrad."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from edgeae.errors import DeviceError, EdgeaeError
from edgeae.runtime import forking, workers
from edgeae.runtime.guard import guard
from edgeae.runtime.turns import TINYGRAD


@contextmanager
def tinygrad_on(device: str) -> Iterator[None]:
    """Turn what fails in the block into one sentence about `device`; for a thread whose turn it is:

        with TINYGRAD.turn, tinygrad_on(device):

    Whatever ends the block early, an interrupt included, tinygrad's CPU threads are made anew: a task that was
    announced but never handed over would be waited for forever.

    Raises:
        DeviceError: as `guard`; or the device was opened before this process was forked and cannot be used in it; or
            the process was forked inside the block, which only a signal's handler can do.
        OutOfMemoryError: as `guard`.
    """
    assert TINYGRAD.held(), "`with TINYGRAD.turn` is missing"
    is_first = TINYGRAD.enter()
    workers.prepare()
    forking.refuse_lost(device)
    if is_first and TINYGRAD.is_unfinished:
        workers.recover()
        gc.enable()  # as `guard` would have done
    TINYGRAD.is_unfinished = True
    forks = forking.count_forks()
    try:
        with guard(device):
            try:
                yield
            except (EdgeaeError, GeneratorExit):  # GeneratorExit: an interrupt came just before or after the block
                raise
            except BaseException:
                workers.recover()
                raise
    finally:
        if TINYGRAD.held():  # not so if an interrupt's traceback kept this generator
            TINYGRAD.free_left()
            TINYGRAD.is_unfinished = not is_first
    if forking.count_forks() != forks:
        raise DeviceError("this process was forked in the middle of a call of a model: make the call again.")


def refuse_nested() -> None:
    """Raise EdgeaeError if this thread is inside tinygrad already.

    Only what a signal's handler calls can be: it stands between two steps of the call that it came into, which may hold
    locks that the handler would wait for without end.
    """
    if TINYGRAD.held():
        raise EdgeaeError(
            "a signal's handler cannot use a model while its own thread is in the middle of a call of one: let the "
            "handler set a flag, and make the call after that, or in another thread."
        )
