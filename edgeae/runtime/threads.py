"""Call a function for many items in threads, or without them where the system gives no more."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
U = TypeVar("U")


def map_in_threads(function: Callable[[T], U], items: Iterable[T], most: int | None) -> list[U]:
    """Return the function's result for each item.

    Args:
        function: may be called a second time for an item, if the system gave fewer than `most` threads.
        items: its arguments.
        most: threads; None is Python's own number.
    """
    items = list(items)
    try:
        with ThreadPoolExecutor(most) as pool:
            return list(pool.map(function, items))
    except RuntimeError as error:
        if "start new thread" not in str(error):
            raise
    return [function(item) for item in items]
