"""Jobs in threads whose requests to one network run in batches."""

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from helpers.threads import limit_threads

from edgeae.errors import DeviceError, EdgeaeError
from edgeae.inference.microbatch import MicroBatcher, batch_size


class Network:
    """Doubles what it gets, and remembers the shapes and the threads."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []
        self.threads: set[int] = set()

    def __call__(self, x: np.ndarray) -> np.ndarray:
        self.shapes.append(x.shape)
        self.threads.add(threading.get_ident())
        time.sleep(0.002)
        return 2 * x


def piece(value: float, side: int = 8) -> np.ndarray:
    return np.full((side, side, 3), value, np.float32)


@pytest.mark.parametrize(
    ("shape", "most", "size"),
    [
        ((64, 64), 16, 16),
        ((64, 64), 32, 32),
        ((64, 64), 20, 16),
        ((256, 256), 16, 2),
        ((512, 512), 16, 1),
        ((64, 64), 1, 1),
    ],
)
def test_batch_size(shape: tuple[int, int], most: int, size: int) -> None:
    assert batch_size(*shape, most) == size


@pytest.mark.parametrize("workers", [1, 3, 20])
@pytest.mark.parametrize("jobs", [0, 1, 50])
def test_every_job_gets_its_own_answers(workers: int, jobs: int) -> None:
    network = Network()
    batcher: MicroBatcher[tuple[int, float]] = MicroBatcher(network, 8, workers, 100)

    def job(i: int) -> tuple[int, float]:
        with batcher.reserve(10 + i):
            first, ms = batcher.ask(piece(i, side=8 if i % 3 else 16))
            assert ms > 0
            return i, float(batcher.ask(first)[0].max())

    results = dict(batcher.run((lambda i=i: job(i)) for i in range(jobs)))  # type: ignore[misc]
    assert results == {i: 4.0 * i for i in range(jobs)}
    assert network.threads <= {threading.get_ident()}
    assert {shape[0] for shape in network.shapes} <= {8}  # always a full batch
    if workers == 20 and jobs == 50:
        assert len(network.shapes) < 60  # of 100 pieces: they did go together


def test_room_is_kept_and_one_that_needs_more_is_alone() -> None:
    batcher: MicroBatcher[int] = MicroBatcher(Network(), 4, 8, 10)
    taken, most, lock = 0, [], threading.Lock()

    def job(amount: int) -> int:
        nonlocal taken
        with batcher.reserve(amount):
            with lock:
                taken += amount
                most.append(taken)
            batcher.ask(piece(1))
            with lock:
                taken -= amount
        return amount

    amounts = [3, 4, 3, 25, 5, 5, 1] * 4
    found = sorted(batcher.run((lambda a=a: job(a)) for a in amounts))  # type: ignore[misc]
    assert found == sorted(amounts)
    assert all(total <= 10 or total == 25 for total in most)


@pytest.mark.parametrize("where", ["network", "job", "jobs"])
def test_what_is_raised_ends_everything(where: str) -> None:
    calls = 0

    def network(x: np.ndarray) -> np.ndarray:
        nonlocal calls
        calls += 1
        if where == "network" and calls == 3:
            raise DeviceError("gone")
        return x

    before = threading.active_count()
    batcher: MicroBatcher[int] = MicroBatcher(network, 2, 6, 100)

    def job(i: int) -> int:
        batcher.ask(piece(i))
        if where == "job" and i == 7:
            raise ValueError("a bug")
        return i

    def jobs() -> Iterator[object]:
        for i in range(40):
            if where == "jobs" and i == 9:
                raise OSError("no more")
            yield lambda i=i: job(i)

    done = []
    with pytest.raises((DeviceError, ValueError, OSError)):
        for result in batcher.run(jobs()):  # type: ignore[arg-type]
            done.append(result)
    assert len(done) < 40 and threading.active_count() <= before


def test_the_error_of_a_batch_reaches_those_who_asked() -> None:
    """A job may go on after it; other batches do not see it."""

    def network(x: np.ndarray) -> np.ndarray:
        if x.max() >= 5:
            raise DeviceError("too bright")
        return x

    batcher: MicroBatcher[str] = MicroBatcher(network, 1, 3, 100)

    def job(i: int) -> str:
        try:
            return f"{batcher.ask(piece(i))[0].max():.0f}"
        except DeviceError as error:
            return str(error)

    results = sorted(batcher.run((lambda i=i: job(i)) for i in range(8)))  # type: ignore[misc]
    assert results == ["0", "1", "2", "3", "4", "too bright", "too bright", "too bright"]


def test_less_than_a_batch_runs_after_a_moment() -> None:
    """Though another worker is busy all the while, and could still ask."""
    network, answered = Network(), threading.Event()
    batcher: MicroBatcher[bool] = MicroBatcher(network, 8, 2, 100)

    def ask() -> bool:
        batcher.ask(piece(1))
        answered.set()
        return True

    assert list(batcher.run(iter([ask, lambda: answered.wait(10)]))) == [True, True]
    assert network.shapes == [(8, 8, 8, 3)]


def test_closed_before_the_end_it_waits_for_the_threads() -> None:
    before = threading.active_count()
    batcher: MicroBatcher[int] = MicroBatcher(Network(), 8, 6, 20)

    def job(i: int) -> int:
        with batcher.reserve(9):
            return int(batcher.ask(piece(i))[0].max())

    results = batcher.run((lambda i=i: job(i)) for i in range(1000))  # type: ignore[misc]
    assert next(results) >= 0
    results.close()
    assert threading.active_count() <= before


def test_an_interrupt_stops_the_threads() -> None:
    before = threading.active_count()
    batcher: MicroBatcher[int] = MicroBatcher(Network(), 2, 6, 100)

    def jobs() -> Iterator[object]:
        i = 0
        while not batcher.stopping.wait(0.001):
            i += 1
            yield lambda i=i: int(batcher.ask(piece(i))[0].max())

    with pytest.raises(KeyboardInterrupt):
        for count, _ in enumerate(batcher.run(jobs())):  # type: ignore[arg-type]
            if count == 20:
                raise KeyboardInterrupt
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert batcher.stopping.is_set() and threading.active_count() <= before


def test_a_rare_shape_does_not_wait_for_ever() -> None:
    """Four jobs keep batches of two full; a fifth asks for one piece of another shape."""

    def network(x: np.ndarray) -> np.ndarray:
        time.sleep(0.01)
        return x

    batcher: MicroBatcher[int] = MicroBatcher(network, 2, 5, 100)
    answered = threading.Event()

    def common() -> int:
        for count in range(300):
            if answered.is_set():
                return count
            batcher.ask(piece(0))
        return 300

    def rare() -> int:
        time.sleep(0.1)
        batcher.ask(piece(0, side=16))
        answered.set()
        return 0

    assert max(batcher.run(iter([common, common, common, common, rare]))) < 300


@pytest.mark.parametrize("given", [1, 2])
def test_fewer_threads_than_asked_for(given: int, monkeypatch: pytest.MonkeyPatch) -> None:
    limit_threads(monkeypatch, given)
    batcher: MicroBatcher[int] = MicroBatcher(lambda x: x, 4, 8, 100)
    assert sorted(batcher.run(iter([lambda i=i: i for i in range(20)]))) == list(range(20))


def test_no_thread_at_all_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    batcher: MicroBatcher[int] = MicroBatcher(lambda x: x, 4, 8, 100)
    with pytest.raises(EdgeaeError, match="no more threads"):
        list(batcher.run(iter([lambda: 1])))
