"""Free tinygrad's objects inside its lock, whichever thread drops the last reference to them, and whenever.

A tensor that another thread frees changes tables that the thread inside tinygrad is reading at that moment.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from edgeae.runtime.turns import TINYGRAD


def free_in_turn() -> None:
    """Change the finalizers of tinygrad's tensors, graphs and buffers. Call it once."""
    from tinygrad import Tensor, TinyJit
    from tinygrad.device import Buffer
    from tinygrad.helpers import suppress_finalizing
    from tinygrad.runtime.graph.hcq import HCQGraph
    from tinygrad.runtime.ops_cpu import CPUComputeQueue
    from tinygrad.runtime.support.hcq import HCQSignal

    Buffer.__del__ = _in_turn(Buffer.__del__)
    for kind in (Tensor, HCQGraph, HCQSignal):
        # Suppressed at exit: what a finalizer needs may be gone before it.
        kind.__del__ = _in_turn(partial(_empty, suppress_finalizing(kind.__del__)))
    for kind in (TinyJit, CPUComputeQueue):
        kind.__del__ = _in_turn(partial(_empty, None))


def _in_turn(finalize: Callable[[Any], None]) -> Callable[[Any], None]:
    return lambda value: TINYGRAD.free(partial(finalize, value))


def _empty(finalize: Callable[[Any], None] | None, value: Any) -> None:
    """Finalize an object, and drop what it holds while the lock is held, not when its memory is freed afterwards."""
    if finalize is not None:
        finalize(value)
    for name in (*vars(value), *getattr(value, "__slots__", ())):
        if hasattr(value, name):
            delattr(value, name)
