"""Ways in which people fork processes and start threads around a loaded model, as one script.

    python tests/helpers/processes.py 50 fork-of-a-fork eight-threads-three-models

runs the scenarios so often (all of them without names) in one process, and prints `NAME: ok`, or what went wrong, for
each; every result is compared with that of a single thread, bit for bit. A child that does not answer is killed.
"""

import asyncio
import contextlib
import functools
import gc
import json
import multiprocessing
import os
import pickle
import select
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np

import edgeae

ANSWER_S = 60.0  # until a child counts as hanging
MODELS = ("faces-conv", "faces-vae", "photos-residual")
IMAGE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)

SCENARIOS: dict[str, Callable[[], None]] = {}


def scenario(function: Callable[[], None]) -> Callable[[], None]:
    """Register a scenario under the function's name."""
    SCENARIOS[function.__name__.replace("_", "-")] = function
    return function


@functools.cache
def model(name: str = MODELS[0]) -> edgeae.Session:
    """Return the one session of a model in this process."""
    return edgeae.load(name, device="CPU")


@functools.cache
def expected(name: str = MODELS[0]) -> tuple[np.ndarray, np.ndarray]:
    """Return what a single thread makes of the image, and its code."""
    return model(name).reconstruct(IMAGE), model(name).encode(IMAGE)


def check(name: str = MODELS[0], session: edgeae.Session | None = None) -> None:
    """Run a model, and compare with `expected`."""
    session = session or model(name)
    image, code = expected(name)
    assert np.array_equal(session.reconstruct(IMAGE), image), "another picture"
    assert np.array_equal(session.encode(IMAGE), code), "another code"


class Child:
    """A forked process that calls a function and reports how it ended."""

    def __init__(self, function: Callable[[], object]) -> None:
        self._reader, writer = os.pipe()
        self.pid = os.fork()
        if self.pid:
            os.close(writer)
            return
        report = b"ok"
        try:
            function()
        except BaseException:
            report = traceback.format_exc().encode()
        os.write(writer, report[-4000:])
        os._exit(0)

    def join(self) -> None:
        """Wait for its report."""
        ready, _, _ = select.select([self._reader], [], [], ANSWER_S)
        if not ready:
            os.kill(self.pid, signal.SIGKILL)
        report = os.read(self._reader, 5000) if ready else b"no answer from the child"
        os.close(self._reader)
        os.waitpid(self.pid, 0)
        assert report == b"ok", report.decode()


def fork(function: Callable[[], object] = check) -> None:
    """Call a function in a forked process."""
    Child(function).join()


@contextlib.contextmanager
def busy(function: Callable[[], object] = check) -> Iterator[None]:
    """Let another thread call a function again and again; what it raises is raised here."""
    stop, failures = threading.Event(), []

    def work() -> None:
        try:
            while not stop.is_set():
                function()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    if failures:
        raise failures[0]


def in_order(*calls: Callable[[], object]) -> None:
    """Make calls one after another."""
    for call in calls:
        call()


def in_threads(count: int, function: Callable[[int], object]) -> None:
    """Call a function with the numbers from 0 in as many threads at once."""
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(function, range(count)))


def compile_small(size: int) -> Callable[[], None]:
    """Return a function that compiles a graph anew, and checks its result's shape only."""

    def run() -> None:
        assert edgeae.load(MODELS[2], device="CPU").reconstruct(IMAGE[:, :size]).shape == (48, size, 3)

    return run


# ---- forks -------------------------------------------------------------------------------------------------------


@scenario
def loaded_before_used_in_both() -> None:
    children = [Child(check) for _ in range(2)]
    check()
    for child in children:
        child.join()
    check()


@scenario
def never_called_before_the_fork() -> None:
    session = edgeae.load(MODELS[1], device="CPU")
    expected(MODELS[1])
    fork(lambda: check(MODELS[1], session))
    check(MODELS[1], session)


@scenario
def loaded_in_the_child() -> None:
    fork(lambda: check(MODELS[1], edgeae.load(MODELS[1], device="CPU")))


@scenario
def another_size_in_the_child() -> None:
    fork(compile_small(40))


@scenario
def fork_while_another_thread_calls() -> None:
    with busy():
        for _ in range(3):
            fork()


@scenario
def fork_while_another_thread_loads_and_compiles() -> None:
    with busy(compile_small(56)):
        time.sleep(0.02)
        fork()


@scenario
def fork_of_a_fork() -> None:
    fork(lambda: in_order(check, lambda: fork(lambda: in_order(fork, check)), check))


@scenario
def fork_of_a_fork_that_calls_nothing() -> None:
    fork(fork)


@scenario
def fork_from_a_thread() -> None:
    in_threads(1, lambda _: fork())


@scenario
def forks_from_three_threads_at_once() -> None:
    in_threads(3, lambda _: in_order(fork, check))


@scenario
def four_workers_serve_at_once() -> None:
    calls = [functools.partial(check, name) for name in MODELS] * 3
    children = [Child(lambda: in_order(*calls)) for _ in range(4)]
    for child in children:
        child.join()


@scenario
def threads_in_the_child() -> None:
    fork(lambda: in_threads(4, lambda i: check(MODELS[i % 3])))


@scenario
def child_frees_the_model() -> None:
    session = edgeae.load(MODELS[0], device="CPU")
    check(session=session)

    def drop() -> None:
        nonlocal session
        del session
        gc.collect()
        check()

    fork(drop)
    check(session=session)


@scenario
def daemon_by_two_forks() -> None:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        if os.fork() == 0:
            try:
                check()
                os.write(writer, b"ok")
            finally:
                os._exit(0)
        os._exit(0)
    os.waitpid(pid, 0)
    assert select.select([reader], [], [], ANSWER_S)[0], "no answer from the daemon"
    assert os.read(reader, 10) == b"ok"
    os.close(reader)
    os.close(writer)


@scenario
def fork_in_a_signal_handler() -> None:
    # In the middle of a call the child has an error, not a wrong picture and not a hang; its next call is right.
    def check_or_refuse() -> None:
        try:
            check()
        except edgeae.EdgeaeError as error:
            assert "handler" in str(error)

    def handler(number: int, frame: object) -> None:
        children.append(Child(check_or_refuse))

    def interrupted() -> None:
        with contextlib.suppress(edgeae.DeviceError):
            check()

    children: list[Child] = []
    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.002)
    interrupted()
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
    for child in children:
        child.join()
    check()


@scenario
def fork_then_exec() -> None:
    with busy():
        pid = os.fork()
        if pid == 0:
            os.execv("/bin/true", ["true"])
        assert os.waitpid(pid, 0)[1] == 0


@scenario
def subprocess_waits_for_nobody() -> None:
    from edgeae.runtime.turns import TINYGRAD

    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with TINYGRAD.lock:
            held.set()
            done.wait(ANSWER_S)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    try:
        assert subprocess.run(["/bin/true"], timeout=ANSWER_S / 2, check=False).returncode == 0
    finally:
        done.set()
        thread.join()


@scenario
def multiprocessing_pool() -> None:
    with multiprocessing.get_context("fork").Pool(2) as pool:
        pool.map_async(check, [MODELS[0]] * 6).get(ANSWER_S)


@scenario
def multiprocessing_pool_in_a_thread() -> None:
    with busy():
        in_threads(1, lambda _: multiprocessing_pool())


@scenario
def process_pool_executor() -> None:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool:
        list(pool.map(check, [MODELS[0], MODELS[2]] * 2, timeout=ANSWER_S))


@scenario
def workers_fetch_pictures_through_queues() -> None:
    context = multiprocessing.get_context("fork")
    asked, answers = context.Queue(), context.Queue()

    def work() -> None:
        while (image := asked.get()) is not None:
            answers.put(model().reconstruct(image))

    workers = [context.Process(target=work, daemon=True) for _ in range(2)]
    for worker in workers:
        worker.start()
    for _ in range(6):
        asked.put(IMAGE)
    for _ in range(6):
        assert np.array_equal(answers.get(timeout=ANSWER_S), expected()[0])
    for _ in workers:
        asked.put(None)
    for worker in workers:
        worker.join(ANSWER_S)
        assert worker.exitcode == 0


def _start(method: str) -> None:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
        answer = pool.submit(edgeae.Session.reconstruct, model(), IMAGE).result(ANSWER_S)
    assert np.array_equal(answer, expected()[0])


@scenario
def spawn() -> None:
    _start("spawn")


@scenario
def forkserver() -> None:
    _start("forkserver")


@scenario
def pickled() -> None:
    check(session=pickle.loads(pickle.dumps(model())))


@scenario
def compiled_library() -> None:
    session = edgeae.load(os.environ["EDGEAE_TEST_LIBRARY"])
    image = np.ascontiguousarray(np.resize(IMAGE, (session.height or 0, session.width or 0, 3)))
    result = session.reconstruct(image)

    def call() -> None:
        assert np.array_equal(session.reconstruct(image), result)

    with busy(call):
        for _ in range(3):
            fork(lambda: in_order(call, lambda: fork(call), call))
    call()


# ---- threads -----------------------------------------------------------------------------------------------------


@scenario
def eight_threads_three_models() -> None:
    in_threads(8, lambda i: in_order(*(functools.partial(check, MODELS[(i + j) % 3]) for j in range(3))))


@scenario
def first_loads_at_once() -> None:
    for name in MODELS:
        expected(name)
    in_threads(6, lambda i: check(MODELS[i % 3], edgeae.load(MODELS[i % 3], device="CPU")))


@scenario
def load_while_another_thread_trains() -> None:
    settings = edgeae.TrainConfig("faces", epochs=1, batch=4, limit=24, corrupt="none")
    config = edgeae.ModelConfig("conv", size=16, widths=(8, 8))

    def train() -> None:
        folder = Path(os.environ["EDGEAE_TEST_FOLDER"]) / f"run{time.monotonic_ns()}"
        edgeae.train(config, settings, folder, device="CPU")

    with busy(train):
        for _ in range(3):
            check(session=edgeae.load(MODELS[0], device="CPU"))


@scenario
def sessions_freed_by_another_thread() -> None:
    sessions = []
    for _ in range(3):
        sessions.append(edgeae.load(MODELS[0], device="CPU"))
        check(session=sessions[-1])
    with busy():
        in_threads(1, lambda _: in_order(sessions.clear, gc.collect))


@scenario
def garbage_collected_in_another_thread() -> None:
    check()
    with busy(lambda: in_order(gc.collect, lambda: time.sleep(0.1))):
        for _ in range(3):
            compile_small(32)()
        check()


@scenario
def asyncio_to_thread() -> None:
    async def run() -> None:
        await asyncio.gather(*(asyncio.to_thread(check, MODELS[i % 3]) for i in range(6)))

    asyncio.run(run())


@scenario
def interrupted_call() -> None:
    armed = False

    def interrupt(number: int, frame: object) -> None:
        if armed:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    hook, sys.unraisablehook = sys.unraisablehook, lambda dropped: None  # interrupts that fall into a finalizer
    for wait in np.random.default_rng(time.monotonic_ns()).uniform(0.0002, 0.005, 10):
        with contextlib.suppress(KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, wait)
            armed = True
            for _ in range(3):
                model().reconstruct(IMAGE)
            armed = False
        armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
    sys.unraisablehook = hook
    check()
    fork()


@scenario
def no_more_threads() -> None:
    def run() -> None:
        def refuse(*arguments: object, **named: object) -> None:
            raise RuntimeError("can't start new thread")

        threading._start_new_thread = refuse  # type: ignore[attr-defined]
        check()
        check(MODELS[2])

    fork(run)


def main(rounds: int, names: list[str]) -> None:
    """Run scenarios so often, and print a line of JSON for each: its name, what went wrong, and its seconds."""
    for name in names or SCENARIOS:
        begun, outcome = time.perf_counter(), "ok"
        try:
            for name_of_model in MODELS:
                expected(name_of_model)
            for _ in range(rounds):
                SCENARIOS[name]()
        except BaseException:
            outcome = traceback.format_exc()
        print(json.dumps({"name": name, "outcome": outcome, "s": round(time.perf_counter() - begun, 2)}), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
