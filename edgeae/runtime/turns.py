"""The one lock around tinygrad, which threads get in turn, and what is freed inside it."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from typing import Any


class Turns:
    """A reentrant lock that its waiters get in turn.

    Python's own lock goes to whoever asks first after a release: a thread that trains in a loop would keep it for ever.

    Attributes:
        later: calls that free objects of tinygrad, which a thread without the lock left to the one that has it.
    """

    def __init__(self) -> None:
        self.later: deque[Callable[[], None]] = deque()
        self.renew()

    def renew(self) -> None:
        """Forget who holds the lock and who waits: in a forked process these threads do not exist."""
        self._lock: Any = threading.RLock()
        self._next = threading.Lock()  # held by the one thread that waits for `_lock`; the others wait for this one

    def forget_waiters(self) -> None:
        """Forget who waits, but not that this thread holds the lock."""
        self._next = threading.Lock()

    def held(self) -> bool:
        """Return whether this thread holds the lock."""
        return bool(self._lock._is_owned())

    def acquire(self, timeout_s: float = -1) -> bool:
        """Wait for the lock, at most so long; return whether this thread has it now."""
        if self.held():
            return bool(self._lock.acquire())
        if not self._next.acquire(timeout=timeout_s):
            return False
        try:
            return bool(self._lock.acquire(timeout=timeout_s))
        finally:
            self._next.release()

    def release(self) -> None:
        """Free what other threads left, and let the next thread in."""
        self._free_left()
        self._lock.release()
        # Something may have been left between the two lines above.
        while self.later and not self.held() and self._lock.acquire(blocking=False):
            try:
                self._free_left()
            finally:
                self._lock.release()

    def __enter__(self) -> Turns:
        self.acquire()
        return self

    def __exit__(self, *error: object) -> None:
        self.release()

    def free(self, call: Callable[[], None]) -> None:
        """Make a call that frees objects of tinygrad: at once if the lock is free, else when it becomes so.

        Finalizers run in any thread and at any time. They must not wait, since the thread that has the lock may be
        waiting for theirs, nor change what tinygrad is working on.
        """
        if not self._lock.acquire(blocking=False):
            self.later.append(call)
            return
        try:
            call()
        finally:
            self._lock.release()

    def _free_left(self) -> None:
        while self.later:
            call = self.later.popleft()
            with contextlib.suppress(Exception):  # as Python itself does not pass on what a finalizer raises
                call()


TINYGRAD = Turns()  # for all models together: tinygrad keeps its schedule and its caches in globals
