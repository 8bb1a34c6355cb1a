"""Run many jobs in threads, and what they ask of one network in batches.

Jobs decode and encode their files while the network runs. What they ask of it waits in a queue; one runner, the thread
that iterates over the results, runs several pieces of one shape together as soon as a batch is full, or 2 ms after its
first piece came and the batch before ended. A batch has a fixed size for each shape, filled up with zeros where pieces
are missing: the rounding of a result must not depend on what else was going on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from edgeae.errors import NO_THREADS, EdgeaeError

T = TypeVar("T")
Floats = npt.NDArray[np.float32]

_PIXELS_A_CALL = 1 << 17  # from here on a larger batch gains nothing (2 cores, AVX-512; measured from 64×64 to 512×512)
_PATIENCE_S = 0.002  # how long less than a full batch waits for more
_LONGEST_S = 0.25  # a piece that has waited so long goes before fuller batches, or a rare shape might never come up


def batch_size(height: int, width: int, most: int) -> int:
    """Return how many pieces of a shape run in one call: a power of two, up to `most`."""
    fitting = max(1, min(most, _PIXELS_A_CALL // (height * width)))
    return 1 << (fitting.bit_length() - 1)


class Stopped(Exception):
    """Raised in a job when no runner is left to answer it."""


@dataclass
class _Request:
    """A piece for the network; its answer, and its share of the time in ms, or the error."""

    piece: Floats
    came: float
    answer: Floats | None = None
    ms: float = 0.0
    error: Exception | None = None

    @property
    def done(self) -> bool:
        return self.answer is not None or self.error is not None


class MicroBatcher(Generic[T]):
    """Runs jobs in threads, and their requests to a network in batches.

    Attributes:
        stopping: set when no further job is to begin.
    """

    def __init__(self, network: Callable[[Floats], Floats], most: int, workers: int, room: int) -> None:
        """
        Args:
            network: (n, h, w, C) → (n, h, w, C'), called in the thread that iterates over `run`.
            most: the most pieces in one call of it.
            workers: threads.
            room: how much the jobs under way may reserve together, in the unit of `reserve`.
        """
        self._network, self._most, self._workers, self._room = network, most, workers, room
        self.stopping = threading.Event()
        # One lock over all that follows, and whom a change of it concerns.
        lock = threading.Lock()
        self._for_runner, self._for_askers, self._for_room = (threading.Condition(lock) for _ in range(3))
        self._requests: dict[tuple[int, ...], list[_Request]] = {}  # by shape, the oldest first
        self._results: list[T] = []
        self._failure: BaseException | None = None
        self._running = 0  # workers
        self._reserved = 0
        self._free_since = 0.0  # when the runner ended its last batch

    # ---- in the caller's thread: the runner --------------------------------------------------------------------------

    def run(self, jobs: Iterator[Callable[[], T]]) -> Generator[T]:
        """Run all jobs and yield their results as they come; closed before the end, wait for those under way.

        A job calls `ask` for the network and `reserve` for room. What a job raises ends everything and is raised here,
        after the jobs under way have ended; what the network raises is raised in the jobs that asked.
        """
        taking = threading.Lock()  # an iterator cannot be shared by threads without
        threads = [threading.Thread(target=self._work, args=(jobs, taking), daemon=True) for _ in range(self._workers)]
        self._running = len(threads)
        try:
            self._start(threads)
            while True:
                results, batch, ended = self._wait()
                yield from results
                if batch:
                    self._run_batch(batch)
                elif ended:
                    break
            if self._failure is not None:
                raise self._failure
        finally:
            self._stop()
            for thread in threads:
                if thread.ident is not None:  # else an interrupt came before its start
                    thread.join()

    def _start(self, threads: list[threading.Thread]) -> None:
        """Start as many threads as the system gives."""
        for i, thread in enumerate(threads):
            try:
                thread.start()
            except RuntimeError:
                if i == 0:
                    raise EdgeaeError(NO_THREADS) from None
                with self._for_runner:
                    self._running -= len(threads) - i
                return

    def _wait(self) -> tuple[list[T], list[_Request], bool]:
        """Wait for something to do: results to yield, a batch to run, or the end of all workers."""
        with self._for_runner:
            while True:
                results, self._results = self._results, []
                batch = self._take_batch()
                if results or batch or not self._running:
                    return results, batch, not self._running
                deadlines = [self._deadline(waiting) for waiting in self._requests.values()]
                self._for_runner.wait(max(0.0, min(deadlines) - time.monotonic()) if deadlines else None)

    def _deadline(self, waiting: list[_Request]) -> float:
        """Return when to run less than a full batch: after a moment in which those just answered can ask again."""
        return max(waiting[0].came, self._free_since) + _PATIENCE_S

    def _take_batch(self) -> list[_Request]:
        """Take the fullest batch from the queue of those that are full or have waited long enough."""
        if self.stopping.is_set():
            self._requests.clear()
        now, best, size, best_rank = time.monotonic(), None, 0, (False, 0.0)
        for shape, waiting in self._requests.items():
            whole = batch_size(shape[0], shape[1], self._most)
            age = now - waiting[0].came
            overdue = age > _LONGEST_S  # whatever its deadline, which each batch that ends puts off
            rank = overdue, age if overdue else len(waiting) / whole
            if (overdue or len(waiting) >= whole or self._deadline(waiting) <= now) and rank > best_rank:
                best, size, best_rank = shape, whole, rank
        if best is None:
            return []
        waiting = self._requests.pop(best)
        if waiting[size:]:
            self._requests[best] = waiting[size:]
        return waiting[:size]

    def _run_batch(self, batch: list[_Request]) -> None:
        shape = batch[0].piece.shape
        pieces = np.zeros((batch_size(shape[0], shape[1], self._most), *shape), np.float32)
        for row, request in zip(pieces, batch, strict=False):
            row[:] = request.piece
        started = time.perf_counter()
        try:
            answers, error = self._network(pieces), None
        except Exception as caught:
            answers, error = pieces, caught
        ms = (time.perf_counter() - started) * 1e3 / len(batch)
        self._free_since = time.monotonic()
        with self._for_askers:
            for request, answer in zip(batch, answers, strict=False):
                request.answer, request.ms, request.error = answer, ms, error
            self._for_askers.notify_all()

    def _stop(self) -> None:
        self.stopping.set()
        with self._for_askers:
            self._for_askers.notify_all()
            self._for_room.notify_all()

    # ---- in the workers' threads -------------------------------------------------------------------------------------

    def ask(self, piece: Floats) -> tuple[Floats, float]:
        """Run the network on one piece, (h, w, C) → (h, w, C'); return this and its share of the time in ms.

        Raises:
            Stopped: the runner has ended.
            Exception: what the network raised.
        """
        request = _Request(piece, time.monotonic())
        with self._for_askers:
            self._requests.setdefault(piece.shape, []).append(request)
            self._for_runner.notify()
            self._for_askers.wait_for(lambda: request.done or self.stopping.is_set())
        if request.error is not None:
            raise request.error
        if request.answer is None:
            raise Stopped
        return request.answer, request.ms

    @contextmanager
    def reserve(self, amount: int) -> Iterator[None]:
        """Wait until there is room for so much, or nothing else is under way.

        Raises:
            Stopped: the runner has ended.
        """
        with self._for_room:
            self._for_room.wait_for(
                lambda: self.stopping.is_set() or not self._reserved or self._reserved + amount <= self._room
            )
            if self.stopping.is_set():
                raise Stopped
            self._reserved += amount
        try:
            yield
        finally:
            with self._for_room:
                self._reserved -= amount
                self._for_room.notify_all()

    def _work(self, jobs: Iterator[Callable[[], T]], taking: threading.Lock) -> None:
        try:
            while (job := self._next_job(jobs, taking)) is not None:
                result = job()
                with self._for_runner:
                    self._results.append(result)
                    self._for_runner.notify()
        except Stopped:
            pass
        except BaseException as error:
            with self._for_runner:
                self._failure = self._failure or error
            self._stop()
        finally:
            with self._for_runner:
                self._running -= 1
                self._for_runner.notify()

    def _next_job(self, jobs: Iterator[Callable[[], T]], taking: threading.Lock) -> Callable[[], T] | None:
        with taking:
            return None if self.stopping.is_set() else next(jobs, None)
