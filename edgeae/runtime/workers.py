"""Look after the threads in which tinygrad's CPU device runs kernels, and the memory that they work on.

tinygrad starts them once, waits for them without end, and shares its memory with forked processes. Here they get
cores of their own, are replaced after a fork or an interrupted call, and are done without where the system gives no
more threads; and memory belongs to one process.
"""

from __future__ import annotations

import contextlib
import functools
import mmap
import os
import queue
import sys
import threading
from collections.abc import Callable
from typing import Any

from edgeae.runtime.finalizers import free_in_turn

_LONGEST_S = 5.0  # that a replaced thread may go on with its last kernels


_written_later: list[Any] = []  # signals whose memory must not be used again


class _Leave(BaseException):
    """Ends a worker."""


@functools.cache
def prepare() -> None:
    """Change tinygrad's CPU device as this module says. Call it before the device is opened, inside the lock."""
    from tinygrad.runtime.ops_cpu import CPUAllocator, CPUSignal, CPUWorker

    work, start, allocate, sleep = CPUWorker.run, threading.Thread.start, CPUAllocator._alloc, CPUSignal._sleep

    def run(worker: Any) -> None:
        place(worker, 0)
        with contextlib.suppress(_Leave):
            work(worker)
        for others in worker.pool:
            others.put([_leave, 1, 0])
        if hasattr(worker.tasks, "left"):
            worker.tasks.left.set()

    def sleep_or_leave(signal: Any, waited_ms: int) -> None:
        worker = threading.current_thread()
        if isinstance(worker, CPUWorker) and hasattr(worker.tasks, "left"):
            raise _Leave  # what it waits for was to be given by the call that was interrupted
        sleep(signal, waited_ms)

    def start_or_do_without(worker: Any) -> None:
        try:
            start(worker)
        except RuntimeError:  # the system gives no more threads: whoever waits for this one does its tasks
            worker.tasks.join = functools.partial(_do_tasks_of, worker)

    CPUWorker.run, CPUWorker.start, CPUSignal._sleep = run, start_or_do_without, sleep_or_leave
    if sys.platform != "win32":
        CPUAllocator._alloc = functools.partialmethod(_allocate, allocate)
    free_in_turn()
    for device in _devices():  # somebody else opened it: nothing of what it has may be written by two processes
        _renew_memory(device)
    place_all()


# ---- cores -------------------------------------------------------------------------------------------------------


def place(worker: Any, thread: int) -> None:
    """Give a worker cores of its own.

    A thread is often woken on the core of the thread that wakes it. Both share it for some milliseconds until the
    system notices, so that after a pause the first calls take twice as long. Threads still move among their own cores.

    Args:
        worker: a `CPUWorker`.
        thread: its number in the system; 0 is the calling thread.
    """
    if not hasattr(os, "sched_setaffinity"):
        return
    from tinygrad.helpers import CPU_COUNT

    cores, threads = sorted(os.sched_getaffinity(os.getpid())), int(CPU_COUNT.value)
    share = cores[worker.thread_id % threads :: threads] if threads <= len(cores) else cores
    with contextlib.suppress(OSError):  # a system that forbids it, or has taken cores away meanwhile
        os.sched_setaffinity(thread, share)


def place_all() -> None:
    """Place all workers anew: their number has changed."""
    from tinygrad.runtime.ops_cpu import CPUWorker

    for worker in threading.enumerate():
        if isinstance(worker, CPUWorker) and worker.native_id is not None:
            place(worker, worker.native_id)


# ---- threads -----------------------------------------------------------------------------------------------------


class _Tasks(queue.Queue[Any]):
    """The tasks of a device; its worker starts at the first."""

    def __init__(self, device: Any) -> None:
        super().__init__()
        self._device: Any = device

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        device, self._device = self._device, None
        if device is not None:
            from tinygrad.runtime.ops_cpu import CPUWorker

            CPUWorker(device, self, thread_id=0).start()
        super().put(item, block, timeout)


def _do_tasks_of(worker: Any) -> None:
    """Do the tasks of a worker that has no thread, as `CPUWorker.run` does, the cores one after another."""
    try:
        while not worker.tasks.empty():
            commands = iter(worker.tasks.get())
            for command in commands:
                threads, count = next(commands), next(commands)
                arguments = [next(commands) for _ in range(count)]
                for core in range(threads):
                    command(worker.thread_id + core, *arguments)
    except Exception as error:
        worker.dev.error_state = error


def wait_until_idle() -> None:
    """Wait for all kernels that were started."""
    for device in _devices():
        with contextlib.suppress(Exception):  # it is told in the next call
            device.synchronize()


def recover() -> None:
    """Replace the workers after a call that was interrupted or failed, when they have finished what they have."""
    for device in _devices():
        if not _retire(device.tasks):  # it will write to its signal, when it has finished
            _written_later.append(device.timeline_signal)
            device.timeline_signal = device.new_signal(is_timeline=True)
    renew()


def renew() -> None:
    """Give each open device new workers and nothing to wait for. The old ones are gone, or will be."""
    for device in _devices():
        device.tasks = _Tasks(device)
        device.timeline_signal.value = device.timeline_value - 1
        device.error_state = None


def _retire(tasks: Any) -> bool:
    """Let the worker of these tasks leave after the kernels that it has; return whether it has left."""
    if getattr(tasks, "_device", None) is not None or "join" in vars(tasks):
        return True  # there is none
    tasks.left = threading.Event()  # from here on it waits for nobody
    tasks.put([_leave, 1, 0])
    return bool(tasks.left.wait(_LONGEST_S))


def _leave(number: int) -> None:
    raise _Leave


def _devices() -> list[Any]:
    """Return tinygrad's open CPU devices."""
    hcq: Any = sys.modules.get("tinygrad.runtime.support.hcq")
    return [] if hcq is None else [device for device in hcq.HCQCompiled.cpu_devices if hasattr(device, "tasks")]


# ---- memory ------------------------------------------------------------------------------------------------------


def _allocate(allocator: Any, allocate: Callable[..., Any], size: int, options: Any) -> Any:
    """Return memory that a forked process has its own copy of: tinygrad's would be written by both."""
    if options.external_ptr is not None:
        return allocate(allocator, size, options)
    from tinygrad.helpers import mv_address
    from tinygrad.runtime.support.hcq import HCQBuffer, MMIOInterface

    memory = mmap.mmap(-1, size, mmap.MAP_ANON | mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
    address = mv_address(memory)
    return HCQBuffer(address, size, meta=memory, view=MMIOInterface(address, size, fmt="B"), owner=allocator.dev)


def _renew_memory(device: Any) -> None:
    from tinygrad.device import BufferSpec
    from tinygrad.runtime.support.hcq import HCQCompiled

    device.synchronize()
    device.allocator.free_cache()
    HCQCompiled.signal_pool[device.peer_group].clear()
    device.timeline_signal = device.new_signal(value=device.timeline_value - 1, is_timeline=True)
    device._shadow_timeline_signal = device.new_signal(value=0, is_timeline=True)
    device.kernargs_buf = device.allocator.alloc(device.kernargs_buf.size, BufferSpec(cpu_access=True))
