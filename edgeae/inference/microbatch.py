"""Many jobs at once, one network: jobs run in threads, and what they ask of the network is run in the caller's thread,
several pieces of one shape together.

While the network works on some pieces, other jobs decode and encode their files. A batch has a fixed size for each
shape, filled up where pieces are missing: how a result is rounded must not depend on what else was going on.
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

T = TypeVar("T")
Floats = npt.NDArray[np.float32]

_PIXELS_A_CALL = 1 << 17  # from here on a larger batch gains nothing (2 cores, AVX-512; measured from 64×64 to 512×512)


def batch_size(height: int, width: int, most: int) -> int:
    """How many pieces of a shape run in one call: a power of two, up to `most`."""
    fitting = max(1, min(most, _PIXELS_A_CALL // (height * width)))
    return 1 << (fitting.bit_length() - 1)


class Stopped(Exception):
    """Raised in a job when no network is left to answer it."""


@dataclass
class _Question:
    piece: Floats
    answer: Floats | None = None
    ms: float = 0.0


class Together(Generic[T]):
    """Runs jobs in threads.

    Args:
        network: (n, h, w, C) → (n, h, w, C'), called in the thread that iterates over `results`.
        most: the most pieces in one call of it.
        workers: threads.
        room: how much the jobs that are under way may take together, in the unit that they say (see `taking`).
    """

    def __init__(self, network: Callable[[Floats], Floats], most: int, workers: int, room: int) -> None:
        self._network, self._most, self._workers, self._room = network, most, workers, room
        self._changed = threading.Condition()
        self._questions: dict[tuple[int, ...], list[_Question]] = {}
        self._results: list[T] = []
        self._busy = 0  # workers that neither wait for the network, nor for room, nor for a job
        self._alive = 0
        self._taken = 0
        self._failure: BaseException | None = None
        self.stopping = threading.Event()

    def results(self, jobs: Iterator[Callable[[], T]]) -> Generator[T]:
        """Run all jobs; gives their results as they come. Closed before the end, it waits for those under way.

        A job calls `ask` for the network and `taking` for room. What a job raises, or the network, ends everything and
        is raised here, after the jobs under way have ended.
        """
        source, lock = jobs, threading.Lock()
        threads: list[threading.Thread] = []
        try:
            self._alive = self._busy = self._workers
            for _ in range(self._workers):
                threads.append(threading.Thread(target=self._work, args=(source, lock), daemon=True))
                threads[-1].start()
            while True:
                with self._changed:
                    self._changed.wait_for(self._something_to_do)
                    results, self._results = self._results, []
                    batch = self._next_batch()
                    ended = not self._alive and not batch
                yield from results
                if batch:
                    self._answer(batch)
                if ended:
                    break
            if self._failure is not None:
                raise self._failure
        finally:
            with self._changed:
                self.stopping.set()
                self._changed.notify_all()
            for thread in threads:
                if thread.ident is not None:  # else an interrupt came before its start
                    thread.join()

    def ask(self, piece: Floats) -> tuple[Floats, float]:
        """In a job: the network's answer to one piece, (h, w, C) → (h, w, C'), and its share of the time in ms."""
        question = _Question(piece)
        with self._changed:
            self._questions.setdefault(piece.shape, []).append(question)
            self._busy -= 1  # `_answer` counts it in again, before another batch is chosen
            self._changed.notify_all()
            self._changed.wait_for(lambda: self.stopping.is_set() or question.answer is not None)
            if question.answer is None:
                self._busy += 1
                raise Stopped
            return question.answer, question.ms

    @contextmanager
    def taking(self, amount: int) -> Iterator[None]:
        """In a job: wait until there is room for so much, or nothing else under way."""
        with self._changed:
            self._wait(lambda: not self._taken or self._taken + amount <= self._room)
            self._taken += amount
        try:
            yield
        finally:
            with self._changed:
                self._taken -= amount
                self._changed.notify_all()

    # ---- in the caller's thread --------------------------------------------------------------------------------------

    def _something_to_do(self) -> bool:
        return bool(self._results or not self._alive or self._ready())

    def _ready(self) -> tuple[int, ...] | None:
        """A shape with a full batch, or, when nobody can ask for more, the one with most questions."""
        waiting = {shape: len(questions) for shape, questions in self._questions.items() if questions}
        for shape, count in waiting.items():
            if count >= batch_size(shape[0], shape[1], self._most):
                return shape
        return max(waiting, key=lambda shape: waiting[shape]) if waiting and not self._busy else None

    def _next_batch(self) -> list[_Question]:
        shape = self._ready()
        if shape is None:
            return []
        count = batch_size(shape[0], shape[1], self._most)
        batch, rest = self._questions[shape][:count], self._questions[shape][count:]
        self._questions[shape] = rest
        return batch

    def _answer(self, batch: list[_Question]) -> None:
        shape = batch[0].piece.shape
        pieces = np.zeros((batch_size(shape[0], shape[1], self._most), *shape), np.float32)
        for row, question in zip(pieces, batch, strict=False):
            row[:] = question.piece
        started = time.perf_counter()
        answers = self._network(pieces)
        ms = (time.perf_counter() - started) * 1e3 / len(batch)
        with self._changed:
            for question, answer in zip(batch, answers, strict=False):
                question.answer, question.ms = answer, ms
                self._busy += 1
            self._changed.notify_all()

    # ---- in the workers' threads -------------------------------------------------------------------------------------

    def _wait(self, condition: Callable[[], bool]) -> None:
        """Wait, with the lock held, as one who asks for nothing meanwhile."""
        self._busy -= 1
        self._changed.notify_all()
        try:
            self._changed.wait_for(lambda: self.stopping.is_set() or condition())
        finally:
            self._busy += 1
        if not condition():
            raise Stopped

    def _next_job(self, jobs: Iterator[Callable[[], T]], lock: threading.Lock) -> Callable[[], T] | None:
        with self._changed:
            self._busy -= 1
            self._changed.notify_all()
        try:
            with lock:
                return None if self.stopping.is_set() else next(jobs, None)
        finally:
            with self._changed:
                self._busy += 1

    def _work(self, jobs: Iterator[Callable[[], T]], lock: threading.Lock) -> None:
        try:
            while (job := self._next_job(jobs, lock)) is not None:
                result = job()
                with self._changed:
                    self._results.append(result)
                    self._changed.notify_all()
        except Stopped:
            pass
        except BaseException as error:
            with self._changed:
                self._failure = self._failure or error
                self.stopping.set()
        finally:
            with self._changed:
                self._alive -= 1
                self._busy -= 1
                self._changed.notify_all()
