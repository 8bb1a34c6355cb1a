"""The one lock around tinygrad, which threads get in turn, and what is freed inside it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

_GIVE_WAY_S = 1e-4  # enough for a thread that was woken to take the lock


class Turns:
    """A reentrant lock that its waiters get in turn.

    Python's own lock goes to whoever asks first after a release: a thread that trains in a loop would keep it for ever.

    It is taken by `with turns.turn`, or `with turns.lock` where nobody need give way, and in no other way. An interrupt
    can come between any two calls of Python code, also between taking a lock and noting that it was taken; `with` and a
    lock in C leave it no such moment. Hence no `__enter__` here, and no generator of `contextlib` around the lock: the
    traceback of an interrupt would keep either alive, and the lock taken.

    Attributes:
        lock: the lock itself.
        later: calls that free objects of tinygrad, which a thread without the lock left to the one that has it.
        is_unfinished: whether a block inside the lock has not ended; still so afterwards if an interrupt cut its end.
    """

    def __init__(self) -> None:
        self.later: deque[Callable[[], None]] = deque()
        self.renew()

    def renew(self) -> None:
        """Forget who holds the lock: in a forked process that thread does not exist."""
        self.lock: Any = threading.RLock()
        self._attempt = _make_attempt(self.lock)
        self.is_unfinished = False
        self.forget_waiters()

    def forget_waiters(self) -> None:
        """Forget who waits, but not that this thread holds the lock."""
        self._waiting: set[int] = set()  # threads; one that was interrupted stays until it asks again, and does no harm

    def held(self) -> bool:
        """Return whether this thread holds the lock."""
        return bool(self.lock._is_owned())

    @property
    def turn(self) -> Any:
        """The lock, for `with`, after giving way to threads that have waited for it."""
        if not self.held():
            thread = threading.get_ident()
            self._waiting.discard(thread)
            if self._waiting:
                time.sleep(_GIVE_WAY_S)
            self._waiting.add(thread)
        return self.lock

    def enter(self) -> bool:
        """Say that this thread has its turn now; return whether it had none already."""
        thread = threading.get_ident()
        is_first = thread in self._waiting
        self._waiting.discard(thread)
        return is_first

    def free(self, call: Callable[[], None]) -> None:
        """Make a call that frees objects of tinygrad: at once if the lock is free, else when it becomes so.

        Finalizers run in any thread and at any time. They must not wait, since the thread that has the lock may be
        waiting for theirs, nor change what tinygrad is working on.
        """
        if self.held():
            call()
            return
        self.later.append(call)
        taken = False
        try:
            with self._attempt as taken:
                if taken:
                    self.free_left()
        except RuntimeError:  # the attempt's, which releases what it may not have
            if taken:
                raise

    def free_left(self) -> None:
        """Make the calls that other threads left."""
        while self.later:
            call = self.later.popleft()
            with contextlib.suppress(Exception):  # as Python itself does not pass on what a finalizer raises
                call()


def _make_attempt(lock: Any) -> Any:
    """Return what takes a lock in a `with` only if it is free, by C code alone; leaving raises if it was not."""
    methods = {"__enter__": staticmethod(partial(lock.acquire, False)), "__exit__": staticmethod(lock.__exit__)}
    return type("Attempt", (), methods)()


TINYGRAD = Turns()  # for all models together: tinygrad keeps its schedule and its caches in globals
