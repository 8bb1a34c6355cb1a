"""Choose the device to compute on, and find out whether a device works.

`auto` takes the first usable of METAL, CUDA, NV, AMD, QCOM, CL if it is a GPU, and CPU. CUDA precedes NV because it
uses NVIDIA's own libraries; NV, AMD and QCOM are tinygrad's own drivers. Two devices are used only if the user names
them: CL on a processor (PoCL), which runs on the same cores as CPU and no faster, and WEBGPU, which lacks 64-bit types.

Always pass the resolved name to tinygrad (`device=`). Without one, tinygrad opens each backend in turn to find a
default; as root its AMD and NV backends may then take a GPU away from the kernel's driver.

Other rooms import from here what they need of devices, including `prepare_cpu` and `set_threads` (cpu.py) and `guard`.
"""

import contextlib
import difflib
import functools
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeae.errors import DeviceError, EdgeaeError, UsageError
from edgeae.interrupts import interrupted
from edgeae.runtime.backends import ALIASES, AUTO_ORDER, NAMES, RUNS_IN_CHILD_FIRST, absence, describe, targets_in_dev
from edgeae.runtime.cpu import BUILT_IN, prepare_cpu, set_threads
from edgeae.runtime.guard import Unusable, guard, import_tinygrad, mend_for
from edgeae.runtime.threads import map_in_threads
from edgeae.runtime.tinygrad_lock import tinygrad_on
from edgeae.runtime.turns import TINYGRAD

__all__ = [
    "BUILT_IN",
    "DeviceStatus",
    "guard",
    "normalize",
    "prepare_cpu",
    "probe",
    "probe_all",
    "resolve",
    "resolve_many",
    "set_threads",
    "supports_half",
]

_POLL_S = 0.1
_CHILD = "import json, sys; from edgeae.runtime.devices import _report; print(json.dumps(_report(sys.argv[1])))"


@dataclass(frozen=True)
class DeviceStatus:
    """The result of probing one device.

    Attributes:
        name: of the device.
        usable: whether it computes a right number.
        kind: "gpu", or "cpu" for the processor and for drivers that run on it; empty if not usable.
        detail: name, driver or compiler; empty if not usable.
        reason: why it is not usable; empty if it is.
        mend: the command that would make it usable; empty if it is.
        ms: how long the probe took, in milliseconds.
    """

    name: str
    usable: bool
    kind: str = ""
    detail: str = ""
    reason: str = ""
    mend: str = ""
    ms: float = 0.0


# ---- names ---------------------------------------------------------------------------------------


def normalize(name: str) -> str:
    """Return tinygrad's name of one device: "CL" for "gpu", "CUDA" for "cuda:0", "CUDA:1" for "Cuda:1".

    Raises:
        UsageError: the name is unknown. So is "auto", which only `resolve` accepts.
    """
    backend, colon, index = name.strip().upper().partition(":")
    backend = ALIASES.get(backend, backend)
    if backend not in NAMES:
        close = difflib.get_close_matches(backend, [*NAMES, *ALIASES, "AUTO"], n=1, cutoff=0.5)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise UsageError(
            f"{name!r} is no device{hint}: choose auto or one of {', '.join(NAMES)} (OPENCL and GPU mean CL), "
            "with a number as in CUDA:1 for one of several."
        )
    if colon and not re.fullmatch("[0-9]{1,4}", index):
        raise UsageError(f"{name!r} is no device: after the colon goes a number, as in {backend}:1.")
    return f"{backend}:{int(index)}" if colon and int(index) else backend


def _request(name: str | None) -> tuple[str, str]:
    """Return the device that the user named, as written, and the beginning of an error message about it."""
    if name is not None and name.strip():
        return name, ""
    if variable := os.environ.get("EDGEAE_DEVICE", "").strip():
        return variable, "the environment variable EDGEAE_DEVICE: "
    import_tinygrad()
    from tinygrad.helpers import DEV  # not os.environ: tinygrad writes its own choice of a default there

    return DEV.device or "auto", "the environment variable DEV: "


def resolve(name: str | None = None) -> str:
    """Open the device to use, and check that it computes a right number.

    Args:
        name: any spelling; None takes the environment variable EDGEAE_DEVICE, then tinygrad's DEV, then "auto".

    Returns:
        tinygrad's name of the device.

    Raises:
        UsageError: the name is unknown.
        DeviceError: the device is not usable; the message has the reason and the command that would mend it.
    """
    request, source = _request(name)
    if request.strip().upper() == "AUTO":
        return _auto()
    if "," in request:
        raise UsageError(f"{request!r} names several devices, but one is needed here: give one of them with `device`.")
    try:
        device = normalize(request)
    except UsageError as error:
        raise UsageError(f"{source}{error}") from None
    _open(device)
    return device


def resolve_many(name: str | None = None) -> tuple[str, ...]:
    """Open several devices of one backend, as `resolve` does one: ("CUDA", "CUDA:1") for "CUDA:0,CUDA:1"."""
    request = _request(name)[0]
    if "," not in request:
        return (resolve(name),)
    devices = tuple(normalize(part) for part in request.split(","))
    if len(set(devices)) < len(devices):
        raise UsageError(f"{request!r} names the same device twice: number them, as in CUDA:0,CUDA:1.")
    if len({device.split(":")[0] for device in devices}) > 1:
        raise UsageError(f"{request!r} mixes backends: a list must be of one backend, as in CUDA:0,CUDA:1.")
    for device in devices:
        _open(device)
    return devices


def _auto() -> str:
    """Open the first usable device of AUTO_ORDER."""
    for name in AUTO_ORDER[:-1]:
        if absence(name) or (name == "CL" and _only_pocl()):
            continue
        if name in RUNS_IN_CHILD_FIRST and probe(name).kind != "gpu":
            continue
        with contextlib.suppress(EdgeaeError):  # try the next one; `probe_all` tells the reasons
            _open(name)
            return name
    _open("CPU")
    return "CPU"


def _only_pocl() -> bool:
    """Return whether every installed OpenCL driver is PoCL, which runs on the processor; then `auto` skips CL."""
    folder = Path(os.environ.get("OCL_ICD_VENDORS", "/etc/OpenCL/vendors"))
    drivers = list(folder.glob("*.icd")) if folder.is_dir() else []
    return bool(drivers) and all("pocl" in driver.read_text(errors="replace") for driver in drivers)


# ---- probing: does it work? ----------------------------------------------------------------------


def probe(name: str, timeout_s: float = 20.0) -> DeviceStatus:
    """Open a device and run a kernel on it, in a child process: a driver that hangs or crashes does so there.

    Args:
        name: of the device, any spelling.
        timeout_s: how long to wait for the driver, in seconds.

    Raises:
        UsageError: the name is unknown.
        DeviceError: tinygrad itself cannot be imported. Every other failure is a reason in the status.
    """
    name, start = normalize(name), time.perf_counter()
    absent = absence(name)
    report = _failed(*absent) if absent else _ask_child(name, timeout_s)
    return DeviceStatus(name, **report, ms=round((time.perf_counter() - start) * 1e3, 1))


def probe_all(timeout_s: float = 20.0) -> list[DeviceStatus]:
    """Probe all backends at the same time, and return their status in the order of `NAMES`."""
    return map_in_threads(lambda name: probe(name, timeout_s), NAMES, len(NAMES))


def _failed(reason: str, mend: str) -> dict[str, Any]:
    return {"usable": False, "reason": reason, "mend": mend}


def _report(name: str) -> dict[str, Any]:
    """Return the fields of DeviceStatus that only opening the device can tell; runs in the child of `probe`."""
    try:
        kind, detail = _open(name)
    except Unusable as error:
        return _failed(error.reason, error.mend)
    except EdgeaeError as error:
        return _failed(str(error), mend_for(name, str(error)))
    return {"usable": True, "kind": kind, "detail": detail}


def _ask_child(name: str, timeout_s: float) -> dict[str, Any]:
    """Return the child's `_report`, or the reason why it gave none."""
    try:
        child = _run_child(name, timeout_s)
    except subprocess.TimeoutExpired:
        reason = f"the driver did not answer within {timeout_s:g} s"
    except OSError as error:
        reason = f"no process could be started to try it ({error.strerror})"
    else:
        # Only the last line is ours: tinygrad prints to stdout, too, when DEBUG is set.
        lines = child.stdout.splitlines()
        if child.returncode == 0 and lines and lines[-1].startswith("{"):
            report: dict[str, Any] = json.loads(lines[-1])
            return report
        if child.returncode < 0:
            reason = f"the driver crashed ({signal.Signals(-child.returncode).name})"
        else:
            reason = (child.stderr.strip().splitlines() or [f"the driver ended the process ({child.returncode})"])[-1]
    return _failed(reason, mend_for(name, reason))


def _run_child(name: str, timeout_s: float) -> subprocess.CompletedProcess[str]:
    """Run the child, and end it on an interrupt, which reaches no thread that waits for one.

    Raises:
        subprocess.TimeoutExpired: it has not ended in time, and is killed.
        KeyboardInterrupt: the program was told to stop.
    """
    arguments, ends = [sys.executable, "-c", _CHILD, name], time.monotonic() + timeout_s
    with subprocess.Popen(
        arguments,
        env=_child_environment(name),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    ) as child:
        try:
            while True:
                try:
                    output = child.communicate(timeout=_POLL_S)
                    return subprocess.CompletedProcess(arguments, child.returncode, *output)
                except subprocess.TimeoutExpired:
                    if interrupted.is_set():
                        raise KeyboardInterrupt from None
                    if time.monotonic() > ends:
                        raise
        except BaseException:
            child.kill()
            raise


def _child_environment(name: str) -> dict[str, str]:
    backend = name.split(":")[0]
    folder = str(Path(__file__).resolve().parents[2])
    paths = [folder, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    if not targets_in_dev(backend):
        # KFD and NVK go through the kernel's driver. tinygrad's next choice, PCI, would unbind the GPU from it.
        environment["DEV"] = {"AMD": "KFD+AMD", "NV": "NVK+NV"}.get(backend, backend)
    return environment


# ---- opening -------------------------------------------------------------------------------------


@functools.cache  # an exception is not cached: a device that failed is tried again
def _open(name: str) -> tuple[str, str]:
    """Open a device, check a number that it computes, and return its kind and detail (see DeviceStatus)."""
    if absent := absence(name):
        raise Unusable(name, *absent)
    with TINYGRAD.turn, tinygrad_on(name):  # tinygrad may open a device twice when two threads ask for it at once
        from tinygrad import Device, Tensor

        device = Device[name]
        compiler = prepare_cpu(name) if name.startswith("CPU") else ""
        computed = (Tensor([1.0, 2.0, 3.0], device=name) * 2 + 1).sum().item()
        kind, detail = describe(name, device, compiler)
    if computed != 15:
        reason = f"it computed {computed:g} where 15 is right ({detail})"
        raise Unusable(name, reason, mend_for(name, reason))
    return kind, detail


@functools.cache
def supports_half(device: str) -> bool:
    """Return whether float16 weights can be stored on the device and read there as float32, which a kernel tries.

    Drivers that lack the type (PoCL) pass, too: tinygrad decodes it with integer arithmetic, where subnormal numbers
    (below 6.1e-5) become zero.

    Raises:
        UsageError, DeviceError: as `resolve`.
    """
    name = normalize(device)
    _open(name)
    import numpy as np
    from tinygrad import Tensor, dtypes

    values = np.array([0.0, 1.0, -2.5, 65504.0, 6.2e-5, 1 / 3], np.float16)
    try:
        with TINYGRAD.turn, tinygrad_on(name):
            read = Tensor(values, device=name).cast(dtypes.float32).numpy()
    except DeviceError:
        return False
    return bool(np.array_equal(read, values.astype(np.float32)))
