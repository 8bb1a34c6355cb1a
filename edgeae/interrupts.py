"""Answer Ctrl-C and SIGTERM at once, also while a decoder in C is at work, which no signal reaches."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
interrupted = threading.Event()  # set by the command line when it is told to stop
_POLL_S = 0.1


def run_interruptibly(function: Callable[[], T]) -> T:
    """Return what a function returns, or raise what it raises; after an interrupt leave it to itself.

    It runs in a thread of its own, which ends with the process, so it must not write anything.

    Raises:
        KeyboardInterrupt: the program was told to stop before the function ended.
    """
    results: list[T] = []
    errors: list[BaseException] = []
    done = threading.Event()

    def work() -> None:
        try:
            results.append(function())
        except BaseException as error:
            errors.append(error)
        finally:
            done.set()

    try:
        threading.Thread(target=work, daemon=True).start()
    except RuntimeError:  # the system gives no more threads
        return function()
    while not done.wait(_POLL_S):
        if interrupted.is_set():
            raise KeyboardInterrupt
    if errors:
        raise errors[0]
    return results[0]
