"""Run an iterator ahead of its consumer in a thread: training computes one batch while the next is prepared."""

import queue
import threading
from collections.abc import Generator, Iterator
from typing import Any, TypeVar

from edgeae.errors import EdgeaeError

T = TypeVar("T")

_LOOK_S = 1.0  # how often to look whether the thread is still there


def prefetch(iterator: Iterator[T], depth: int = 2) -> Generator[T, None, None]:
    """Yield the items of an iterator that runs in a thread of its own.

    An exception in the iterator is raised here, after the items made before it. Closing this generator (an error or
    Ctrl-C in the consuming loop closes it) lets the thread finish its current item, closes `iterator` if it is a
    generator, and joins the thread. The thread starts when the first item is requested; where the system gives none,
    the items are made here.

    Args:
        iterator: used by the thread alone.
        depth: most items that exist at a time, the one in use included.

    Raises:
        EdgeaeError: this process was forked from the one where the thread runs.
    """
    items: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
    room = threading.Semaphore(max(1, depth))
    stop = threading.Event()

    def produce() -> None:
        try:
            while room.acquire() and not stop.is_set():
                items.put(("item", next(iterator)))
        except StopIteration:
            items.put(("end", None))
        except BaseException as error:
            items.put(("error", error))
        finally:
            if stop.is_set() and hasattr(iterator, "close"):
                iterator.close()

    thread = threading.Thread(target=produce, name="edgeae-prefetch", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # the system gives no more threads
        yield from iterator
        return
    try:
        while True:
            kind, value = _next(items, thread)
            if kind == "end":
                return
            if kind == "error":
                raise value
            yield value
            room.release()
    finally:
        stop.set()
        room.release()
        thread.join()


def _next(items: "queue.SimpleQueue[tuple[str, Any]]", thread: threading.Thread) -> tuple[str, Any]:
    while True:
        alive = thread.is_alive()
        try:
            return items.get(timeout=_LOOK_S) if alive else items.get_nowait()
        except queue.Empty:
            if not alive:
                raise EdgeaeError(
                    "this process was forked in the middle of a training: go on in the one that began."
                ) from None
