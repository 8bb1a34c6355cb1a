"""The one lock around tinygrad, which threads get in turn, and what is freed inside it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

_GIVE_WAY_S = 1e-4  # enough for a thread that was woken to take the lock


class Turns:
    """A reentrant lock that its waiters get in turn.

    Python's own lock goes to whoever asks first after a release: a thread that trains in a loop would keep it for ever.

    Where an interrupt may come, use `with turns.lock` between `announce` and `leave`: no other way to take a lock is
    safe from an exception between taking it and noticing.

    Attributes:
        lock: the lock itself.
        later: calls that free objects of tinygrad, which a thread without the lock left to the one that has it.
    """

    def __init__(self) -> None:
        self.later: deque[Callable[[], None]] = deque()
        self.renew()

    def renew(self) -> None:
        """Forget who holds the lock: in a forked process that thread does not exist."""
        self.lock: Any = threading.RLock()
        self.forget_waiters()

    def forget_waiters(self) -> None:
        """Forget who waits, but not that this thread holds the lock."""
        self._waiting: set[int] = set()  # threads; one that was interrupted stays until it asks again, and does no harm

    def held(self) -> bool:
        """Return whether this thread holds the lock."""
        return bool(self.lock._is_owned())

    def announce(self) -> None:
        """Say that this thread is about to wait for the lock."""
        self._waiting.add(threading.get_ident())

    def enter(self) -> None:
        """Say that this thread has the lock now."""
        self._waiting.discard(threading.get_ident())

    def leave(self) -> None:
        """After a release of the lock: free what was left meanwhile, and give way to a thread that waits."""
        while self.later and not self.held() and self.lock.acquire(blocking=False):
            try:
                self.free_left()
            finally:
                self.lock.release()
        if self._waiting and not self.held():
            time.sleep(_GIVE_WAY_S)

    def acquire(self, timeout_s: float = -1) -> bool:
        """Wait for the lock, at most so long; return whether this thread has it now."""
        self.announce()
        acquired = bool(self.lock.acquire(timeout=timeout_s))
        self.enter()
        return acquired

    def release(self) -> None:
        """Free what other threads left, and let the next thread in."""
        self.free_left()
        self.lock.release()
        self.leave()

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
        if self.held():
            call()
        elif not self.lock.acquire(blocking=False):
            self.later.append(call)
        else:
            try:
                call()
            finally:
                self.lock.release()

    def free_left(self) -> None:
        """Make the calls that other threads left."""
        while self.later:
            call = self.later.popleft()
            with contextlib.suppress(Exception):  # as Python itself does not pass on what a finalizer raises
                call()


TINYGRAD = Turns()  # for all models together: tinygrad keeps its schedule and its caches in globals
