"""Let Ctrl-C and SIGTERM end a command by an exception, so that it can tidy up."""

from __future__ import annotations

import _thread
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from edgeae.interrupts import interrupted

INTERRUPTED = 130  # the exit code that shells report for a program that SIGINT ended
TERMINATED = 143  # and for SIGTERM


@contextmanager
def raise_on_signals() -> Iterator[None]:
    """Raise KeyboardInterrupt on SIGINT and SystemExit on SIGTERM inside the block, and lose neither.

    tinygrad frees its buffers in finalizers, and Python drops an exception that is raised in a finalizer. A signal
    whose exception was dropped is sent again.
    """
    if threading.current_thread() is not threading.main_thread():  # only the main thread gets signals
        yield
        return
    stopped = False
    interrupted.clear()
    again: list[threading.Timer] = []
    report = sys.unraisablehook

    def stop(number: int, frame: Any) -> None:
        nonlocal stopped
        stopped = True
        interrupted.set()
        raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(TERMINATED)

    def on_dropped(dropped: Any) -> None:
        if isinstance(dropped.exc_value, KeyboardInterrupt | SystemExit):
            number = signal.SIGINT if isinstance(dropped.exc_value, KeyboardInterrupt) else signal.SIGTERM
            again.append(threading.Timer(0.01, _send, [number]))
            again[-1].start()
        elif not stopped:  # an object that a signal left half made may fail when it is freed: that is no news
            report(dropped)

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    # Signals that are ignored, as under nohup, stay ignored.
    handlers = {number: handler for number, handler in handlers.items() if handler not in (signal.SIG_IGN, None)}
    sys.unraisablehook = on_dropped
    for number in handlers:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for timer in again:
            timer.cancel()
        # Half-made objects are freed as late as at exit, after this block.
        sys.unraisablehook = (lambda dropped: None) if stopped else report
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _send(number: signal.Signals) -> None:
    """Send a signal to the main thread; it also interrupts a system call that blocks that thread."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, number)
    else:
        _thread.interrupt_main(number)
