"""Prefetching: the same items, no further ahead than allowed, and no thread left behind."""

import gc
import threading
import time
from collections.abc import Iterator

import pytest

from edgeae.data.prefetch import prefetch
from edgeae.errors import EdgeaeError


def prefetch_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "edgeae-prefetch"]


def test_prefetch_changes_nothing() -> None:
    assert list(prefetch(iter(range(100)))) == list(range(100))
    assert prefetch_threads() == []


def test_prefetch_runs_ahead_by_depth_and_no_further() -> None:
    made: list[int] = []

    def produce() -> Iterator[int]:
        for i in range(100):
            made.append(i)
            yield i

    ahead = prefetch(produce(), depth=3)
    assert made == []  # nothing runs before the first item is requested
    assert next(ahead) == 0
    deadline = time.monotonic() + 5
    while len(made) < 3 and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.02)
    assert made == [0, 1, 2]
    ahead.close()  # type: ignore[attr-defined]
    assert prefetch_threads() == []


def test_an_exception_of_the_producer_comes_after_its_items() -> None:
    def produce() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    ahead = prefetch(produce())
    assert next(ahead) == 1
    with pytest.raises(ValueError, match="broken"):
        next(ahead)
    assert prefetch_threads() == []


@pytest.mark.parametrize("end", ["close", "forget", "interrupt"])
def test_prefetch_stops_its_thread_and_closes_the_producer(end: str) -> None:
    closed = threading.Event()

    def produce() -> Iterator[int]:
        try:
            while True:
                yield 0
        finally:
            closed.set()

    ahead = prefetch(produce())
    next(ahead)
    match end:
        case "close":
            ahead.close()  # type: ignore[attr-defined]
        case "forget":
            del ahead
            gc.collect()
        case "interrupt":
            with pytest.raises(KeyboardInterrupt):
                ahead.throw(KeyboardInterrupt)  # type: ignore[attr-defined]
    assert closed.is_set()
    assert prefetch_threads() == []


def test_where_the_system_gives_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert list(prefetch(iter(range(5)))) == list(range(5))


def test_a_thread_that_a_fork_left_behind_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        release.wait(10)

    stream = prefetch(items())
    assert next(stream) == 1
    monkeypatch.setattr(threading.Thread, "is_alive", lambda thread: False)
    monkeypatch.setattr(threading.Thread, "join", lambda thread: None)
    with pytest.raises(EdgeaeError, match="forked in the middle"):
        next(stream)
    release.set()
