"""Make a loaded model answer in a child process after a fork.

A fork copies the memory of a process and only the thread that asked for it. In the child, tinygrad's CPU threads are
gone, and so is whoever held a lock. So a fork waits until no thread is inside tinygrad (`turns.TINYGRAD`), and the
child gets new threads, at its first call, and a new connection to the kernel cache: SQLite's may not cross a fork.
Programs that exec at once, as `subprocess` does, run none of this.

Drivers of GPUs and OpenCL cannot be carried into a child: their devices are refused there.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
import threading
from typing import Any

from edgeae.errors import DeviceError
from edgeae.runtime import workers
from edgeae.runtime.turns import TINYGRAD

# How long a fork waits for a thread inside tinygrad. It goes on then: the child's first call starts afresh anyway.
_PATIENCE_S = 30.0
_PLAIN = ("CPU", "DISK", "NPY", "NULL", "PYTHON", "TINYFS")  # devices of tinygrad that are memory and Python alone


class _State(threading.local):
    """Whether the fork of this thread is to release the lock; false inside a call, where only a signal's handler is."""

    is_to_release = False


_state = _State()
_lost: set[str] = set()  # backends that were open when this process was forked
_forks = 0


def count_forks() -> int:
    """Return how often this process and its forebears were forked."""
    return _forks


def refuse_lost(device: str) -> None:
    """Raise DeviceError if a device's driver was open when this process was forked."""
    backend = device.split(":")[0]
    if backend in _lost:
        raise DeviceError(
            f"{device} was opened before this process was forked, and its driver does not work in the child: load the "
            "model in the child only, or start processes with multiprocessing's method spawn."
        )


def _before() -> None:
    if TINYGRAD.held():  # by a signal's handler in the middle of a call: nothing is to be waited for then
        return
    _state.is_to_release = True  # said first: an interrupt may come after each step
    if TINYGRAD.lock.acquire(timeout=_PATIENCE_S):
        workers.wait_until_idle()


def _after_in_parent() -> None:
    if _state.is_to_release:
        _state.is_to_release = False
        _release()


def _after_in_child() -> None:
    global _forks
    _forks += 1
    if not TINYGRAD.held():  # the fork waited in vain, or was made by C code that does not say so beforehand
        TINYGRAD.renew()
        _reset_settings()
    _leave_drivers()
    workers.renew()
    if _state.is_to_release:
        _state.is_to_release = False
        TINYGRAD.forget_waiters()
        _release()


def _release() -> None:
    if TINYGRAD.held():
        TINYGRAD.free_left()
        TINYGRAD.lock.release()


def _reset_settings() -> None:
    """Set back what a vanished thread had changed for the time of its call."""
    gc.enable()
    if "tinygrad.tensor" in sys.modules:
        from tinygrad import Tensor
        from tinygrad.helpers import ALLOW_DEVICE_USAGE

        Tensor.training = False
        ALLOW_DEVICE_USAGE.value = 1


def _leave_drivers() -> None:
    """Never call a driver again that was open: not even to free what it holds, which may wait for its lost threads."""
    device_module: Any = sys.modules.get("tinygrad.device")
    if device_module is None:
        return
    for name in [name for name in device_module.Device._opened_devices if name.split(":")[0] not in _PLAIN]:
        device_module.Device._opened_devices.discard(name)
        _lost.add(name.split(":")[0])
        for module in _modules_of(name):
            for kind in vars(module).values():
                if isinstance(kind, type) and kind.__module__ == module.__name__:
                    for method in ("__del__", "_free", "finalize", "synchronize"):
                        if method in vars(kind):
                            setattr(kind, method, _do_nothing)


def _modules_of(device: str) -> list[Any]:
    backend = device.split(":")[0].lower()
    names = (f"tinygrad.runtime.ops_{backend}", f"tinygrad.runtime.graph.{backend}")
    return [sys.modules[name] for name in names if name in sys.modules]


def _do_nothing(*arguments: object, **named: object) -> None:
    pass


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    # What is registered last is called first: a fork must not take the locks of these two, for which a thread inside
    # tinygrad may be waiting, before it waits for that thread.
    importlib.import_module("concurrent.futures.thread")
    importlib.import_module("logging")
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
