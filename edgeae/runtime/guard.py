"""Turn what tinygrad and its drivers raise into one plain sentence with the command that mends it."""

import contextlib
import errno
import gc
import os
import re
import subprocess
import traceback
from collections.abc import Iterator
from pathlib import Path

from edgeae.errors import NO_FILES, DeviceError, EdgeaeError, OutOfMemoryError
from edgeae.runtime.kernel_cache import replace_tinygrads_cache
from edgeae.runtime.turns import TINYGRAD

# The command that makes a backend usable.
_NVIDIA_MEND = "sudo apt install nvidia-driver (in a container: docker run --gpus all)"
MENDS = {
    "CPU": "pip install ziglang",
    "CUDA": _NVIDIA_MEND,
    "METAL": "softwareupdate --install --all",
    "CL": "sudo apt install ocl-icd-libopencl1 pocl-opencl-icd (or the GPU vendor's OpenCL driver)",
    "WEBGPU": "pip install dawn-python",
    "NV": _NVIDIA_MEND,
    "AMD": "sudo modprobe amdgpu",
    "QCOM": "use another device, this one needs a board with a Qualcomm Adreno GPU",
}

# What mends the CPU, by words of the reason; the first that fits.
_CPU_MENDS = {
    "no space left|quota": "free some space, or set TMPDIR to a folder on another disk",
    "temporary directory": "set TMPDIR to a folder that you may write to",
    "too many open files": "ulimit -n 1024",
    "memory": "free some memory, or use smaller images",
    "start new thread|temporarily unavailable": "ulimit -u 4096, or fewer `threads`",
    "compiler|clang|zig|the program|was not found": MENDS["CPU"],
}
# Settings of tinygrad that make it write pickles of fixed names to /tmp and to its cache, and its viewer load them.
_PICKLING = ("VIZ", "PROFILE", "TRACK_MATCH_STATS", "CAPTURE_PROCESS_REPLAY", "REWRITE_DATA", "PROFILE_DATA")
_CACHE_VARIABLES = ("XDG_CACHE_HOME", "HOME", "POCL_CACHE_DIR", "MESA_SHADER_CACHE_DIR", "CUDA_CACHE_PATH")


class Unusable(DeviceError):
    """A device cannot be used.

    Attributes:
        device: its name.
        reason: a clause without a final stop.
        mend: the command that would make it usable.
    """

    def __init__(self, device: str, reason: str, mend: str) -> None:
        super().__init__(device, reason, mend)
        self.device, self.reason, self.mend = device, reason, mend

    def __str__(self) -> str:
        return f"{self.device} is not usable: {self.reason}; to mend it: {self.mend}."


@contextlib.contextmanager
def guard(device: str) -> Iterator[None]:
    """Turn what tinygrad raises inside the block into an error of one sentence.

    The original error becomes its `__cause__`. EdgeaeError, KeyboardInterrupt, and errors that did not pass through
    code of tinygrad are left as they are.

    Python's cyclic garbage collection is off inside the block. It may run in the thread that works off the CPU's queue,
    where freeing an unused graph waits for that same queue, forever (tinygrad 0.13.0).

    Raises:
        OutOfMemoryError: the device or the host has no memory left.
        EdgeaeError: the process may open no more files.
        DeviceError: anything else.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    except EdgeaeError:
        raise
    except Exception as error:
        if any(isinstance(leaf, OSError) and leaf.errno in (errno.EMFILE, errno.ENFILE) for leaf in _leaves(error)):
            raise EdgeaeError(NO_FILES) from error
        reason = reason_of(error)
        if _is_out_of_memory(error):
            raise OutOfMemoryError(f"{device} ran out of memory ({reason})") from error
        if not _passed_tinygrad(error):
            raise
        raise Unusable(device, reason, mend_for(device, reason)) from error
    finally:
        if collects:
            gc.enable()


def import_tinygrad() -> None:
    """Import tinygrad, before anything else of it is imported, and keep it from loading and writing pickles.

    Raises:
        DeviceError: it is missing, or an environment variable makes its import fail.
    """
    _drop_relative_caches()
    try:
        with _without_pickles():
            import tinygrad  # noqa: F401
    except ImportError as error:
        raise Unusable("tinygrad", reason_of(error), "pip install tinygrad==0.13.0") from error
    except Exception as error:
        # It reads its settings at import, and expects a number where other programs expect `DEBUG=*`.
        mend = "unset the environment variable that holds it, often DEBUG or DEV"
        raise Unusable("tinygrad", reason_of(error), mend) from error
    with TINYGRAD.lock:
        replace_tinygrads_cache()


def _drop_relative_caches() -> None:
    """Unset variables by which drivers (PoCL, Mesa, CUDA) would load compiled code from the current folder.

    For XDG_CACHE_HOME that is the rule anyway: a relative path is ignored. Without HOME they ask the system for it.
    """
    for name in _CACHE_VARIABLES if os.name == "posix" else ():
        if not Path(os.environ.get(name, "/")).is_absolute():
            del os.environ[name]


@contextlib.contextmanager
def _without_pickles() -> Iterator[None]:
    """Hide `_PICKLING`, which tinygrad reads when it is imported."""
    hidden = {name: os.environ.pop(name) for name in _PICKLING if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)


def reason_of(error: BaseException) -> str:
    """Return the reason of an exception, or of a group of them, as one line without a final stop."""
    return "; ".join(dict.fromkeys(_one_reason(leaf) for leaf in _leaves(error)))[:300]


def mend_for(device: str, reason: str) -> str:
    """Return the command that would mend a device, by its backend and the reason of the failure."""
    backend = device.split(":")[0]
    if "has no renderer" in reason or (backend == "CPU" and ":" in os.environ.get("DEV", "")):
        return "unset the environment variable DEV"
    if "number" in reason or "ordinal" in reason or "Requesting more devices" in reason:
        return f"use {backend} (edgeae devices lists what there is)"
    if backend == "WEBGPU" and "not found" not in reason:
        return "sudo apt install mesa-vulkan-drivers (or the GPU vendor's Vulkan driver)"
    if backend == "AMD" and ("comgr" in reason or "LLVM" in reason):
        return "sudo apt install libamd-comgr2"
    if backend == "CPU":
        fitting = (mend for words, mend in _CPU_MENDS.items() if re.search(words, reason, re.IGNORECASE))
        return next(fitting, "report it, with what edgeae devices prints")
    return MENDS.get(backend, "see edgeae devices")


def _one_reason(error: BaseException) -> str:
    if isinstance(error, Unusable):
        return error.reason
    if isinstance(error, subprocess.CalledProcessError | subprocess.TimeoutExpired):
        program = error.cmd[0] if isinstance(error.cmd, list | tuple) else str(error.cmd).split()[0]
        return f"the program {program} failed"
    if isinstance(error, FileNotFoundError) and error.filename:
        return f"{error.filename} was not found"
    if isinstance(error, IndexError) and str(error) == "invalid index":  # ctypes: past the end of the driver's list
        return "there is no device of that number"
    if library := re.search(r"failed to load library (\S+?):", str(error)):
        return f"the library {library[1]} was not found"
    if "OpenCL Error -1001" in str(error):
        return "no OpenCL driver is installed"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".")[:200] if lines else type(error).__name__


def _is_out_of_memory(error: BaseException) -> bool:
    """Return whether memory ran out, by the type of the error or the words of CUDA, OpenCL and the system for it."""
    words = r"out of memory|CL_MEM_OBJECT_ALLOCATION_FAILURE|CL_OUT_OF_(RESOURCES|HOST_MEMORY)"
    return any(
        isinstance(leaf, MemoryError)
        or (isinstance(leaf, OSError) and leaf.errno == errno.ENOMEM)
        or re.search(words, str(leaf), re.IGNORECASE)
        for leaf in _leaves(error)
    )


def _passed_tinygrad(error: BaseException) -> bool:
    modules = (str(frame.f_globals.get("__name__", "")) for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(module.split(".")[0] == "tinygrad" for module in modules)


def _leaves(error: BaseException) -> list[BaseException]:
    """Return the exceptions of a group and of the groups in it; for any other exception, itself."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
    return [error]
