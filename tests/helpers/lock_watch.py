"""Report every use of tinygrad by a thread that does not hold the lock."""

import functools
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from edgeae.runtime.turns import TINYGRAD


@contextmanager
def watch_tinygrad() -> Iterator[list[str]]:
    """Watch what everything in tinygrad goes through: operations, graphs, memory, devices, compiling, its cache.

    Returns:
        The uses outside the lock, which grow within the block: what was called, by which thread, from where in edgeae.
    """
    from tinygrad import Device, Tensor, TinyJit, device, helpers
    from tinygrad.device import Buffer, Compiler, LRUAllocator
    from tinygrad.uop.ops import UOp, UOpMetaClass

    uses: list[str] = []
    watched: list[tuple[Any, str]] = [
        (UOpMetaClass, "__call__"),  # every operation on tensors makes one
        (UOp, "__del__"),  # which takes it out of a table that makes equal ones the same
        (Tensor, "realize"),
        (Tensor, "numpy"),
        (TinyJit, "__call__"),
        *((Buffer, name) for name in ("allocate", "deallocate", "copyin", "copyout")),
        (LRUAllocator, "free"),
        (LRUAllocator, "free_cache"),
        (type(Device), "__getitem__"),
        (Compiler, "compile_cached"),
        *((module, name) for module in (helpers, device) for name in ("diskcache_get", "diskcache_put")),
    ]
    with contextlib_stack([mock.patch.object(owner, name, _watched(owner, name, uses)) for owner, name in watched]):
        yield uses


@contextmanager
def contextlib_stack(patches: list[Any]) -> Iterator[None]:
    """Enter all of these, and leave them."""
    for patch in patches:
        patch.start()
    try:
        yield
    finally:
        for patch in patches:
            patch.stop()


def _watched(owner: Any, name: str, uses: list[str]) -> Callable[..., Any]:
    function = getattr(owner, name)

    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        if not TINYGRAD.held():
            frames = [frame for frame in traceback.extract_stack() if "edgeae/" in frame.filename]
            places = [f"{frame.filename.partition('edgeae/')[2]}:{frame.lineno}" for frame in frames]
            uses.append(
                f"{name} of {arguments[0]!s:.60} in {threading.current_thread().name}, from {' > '.join(places[-4:])}"
            )
        return function(*arguments, **named)

    return call
