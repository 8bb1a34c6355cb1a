"""Device names, probing, the CPU's compiler, and `guard`, which turns tinygrad's failures into one plain sentence.

`auto` takes the first usable of METAL, CUDA, NV, AMD, QCOM, CL if it is a GPU, CPU. CUDA stands before NV because it
goes through NVIDIA's own libraries; NV, AMD and QCOM are tinygrad's own drivers. CL on a processor (PoCL) is never
chosen by itself: it runs on the same cores as CPU, no faster. Nor is WEBGPU, which has no 64-bit types. Both can be
named.

tinygrad compiles CPU kernels with `clang`, or what `CC` names. `prepare_cpu` takes the first that works of `CC`,
`clang`, the clang inside the `ziglang` wheel and, on x86-64, tinygrad's own code generator, which needs no compiler.

Always hand the resolved name to tinygrad (`device=`): asked for its default device it opens every backend in turn, and
as root its AMD and NV backends may take a GPU away from the kernel's driver.
"""

import contextlib
import ctypes
import difflib
import errno
import functools
import importlib.util
import json
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeae.errors import DeviceError, EdgeaeError, OutOfMemoryError, UsageError

NAMES = ("CPU", "CUDA", "METAL", "CL", "WEBGPU", "NV", "AMD", "QCOM")
ALIASES = {"OPENCL": "CL", "GPU": "CL"}
AUTO_ORDER = ("METAL", "CUDA", "NV", "AMD", "QCOM", "CL", "CPU")
BUILT_IN = "built-in X86 code generator"

_OPENING = threading.RLock()  # tinygrad may open a device twice when two threads ask for it at once
_RUNS_IN_CHILD_FIRST = ("NV", "AMD", "QCOM", "CL")  # under `auto`, drivers that might hang or crash this process
_LIBRARY = {"CUDA": ("cuda", "cuda"), "CL": ("opencl", "OpenCL"), "WEBGPU": ("webgpu", "webgpu_dawn")}
_NODE = {"NV": "/dev/nvidiactl", "AMD": "/dev/kfd", "QCOM": "/dev/kgsl-3d0"}
_NVIDIA_MEND = "sudo apt install nvidia-driver (in a container: docker run --gpus all)"
_MEND = {
    "CPU": 'pip install "edgeae[compiler]"',
    "CUDA": _NVIDIA_MEND,
    "METAL": "softwareupdate --install --all",
    "CL": "sudo apt install ocl-icd-libopencl1 pocl-opencl-icd (or the GPU vendor's OpenCL driver)",
    "WEBGPU": "pip install dawn-python",
    "NV": _NVIDIA_MEND,
    "AMD": "sudo modprobe amdgpu",
    "QCOM": "use another device, this one needs a board with a Qualcomm Adreno GPU",
}
# What tinygrad 0.13.0 hands to clang (runtime/support/compiler_cpu.py).
_CLANG_FLAGS = ("-c", "-x", "c", "-O2", "-fPIC", "-ffreestanding", "-fno-math-errno", "-nostdlib", "-fno-ident")
_CLANG_TEST = 'const char edgeae_version[] = "edgeae:" __clang_version__ ";"; void edgeae_test(void) {}'
_CHILD = "import json, sys; from edgeae.devices import _report; print(json.dumps(_report(sys.argv[1])))"


@dataclass(frozen=True)
class DeviceStatus:
    """What `probe` found out about one device.

    `kind` is "gpu", or "cpu" for the processor and for drivers that run on it; empty when not usable. `reason` (why
    not) and `mend` (the command that would fix it) are empty when usable. `ms` is how long the probe took.
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
    """The canonical tinygrad name of one device: "gpu" gives "CL", "cuda:0" gives "CUDA", "Cuda:1" gives "CUDA:1".

    Raises UsageError on an unknown name. "auto" is no device: `resolve` knows it.
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
    """What the user asked for, as written, and how to begin a message about it."""
    if name is not None and name.strip():
        return name, ""
    if variable := os.environ.get("EDGEAE_DEVICE", "").strip():
        return variable, "the environment variable EDGEAE_DEVICE: "
    _import_tinygrad()
    from tinygrad.helpers import DEV  # not os.environ: tinygrad writes its own choice of a default there

    return DEV.device or "auto", "the environment variable DEV: "


def resolve(name: str | None = None) -> str:
    """The canonical name of the device to use, which is open and has just computed a right number.

    `name` beats the environment variable EDGEAE_DEVICE, which beats tinygrad's DEV; else it is "auto". Raises
    UsageError on an unknown name, DeviceError with the reason and the command that would mend it when not usable.
    """
    wanted, source = _request(name)
    if wanted.strip().upper() == "AUTO":
        return _auto()
    if "," in wanted:
        raise UsageError(f"{wanted!r} names several devices, but one is needed here: give one of them with -d.")
    try:
        device = normalize(wanted)
    except UsageError as error:
        raise UsageError(f"{source}{error}") from None
    _open(device)
    return device


def resolve_many(name: str | None = None) -> tuple[str, ...]:
    """As `resolve`, for a comma list of one backend's devices: "CUDA:0,CUDA:1" gives ("CUDA", "CUDA:1")."""
    wanted = _request(name)[0]
    if "," not in wanted:
        return (resolve(name),)
    devices = tuple(normalize(part) for part in wanted.split(","))
    if len(set(devices)) < len(devices):
        raise UsageError(f"{wanted!r} names the same device twice: number them, as in CUDA:0,CUDA:1.")
    if len({device.split(":")[0] for device in devices}) > 1:
        raise UsageError(f"{wanted!r} mixes backends: a list must be of one backend, as in CUDA:0,CUDA:1.")
    for device in devices:
        _open(device)
    return devices


def _auto() -> str:
    for name in AUTO_ORDER[:-1]:
        if _absent(name) or (name == "CL" and _only_pocl()):
            continue
        if name in _RUNS_IN_CHILD_FIRST and probe(name).kind != "gpu":
            continue
        with contextlib.suppress(EdgeaeError):  # the next one may do; `probe_all` tells the reasons
            _open(name)
            return name
    _open("CPU")
    return "CPU"


def _only_pocl() -> bool:
    """True when every OpenCL driver listed is PoCL, which runs on the processor; saves `auto` a look at it."""
    folder = Path(os.environ.get("OCL_ICD_VENDORS", "/etc/OpenCL/vendors"))
    drivers = list(folder.glob("*.icd")) if folder.is_dir() else []
    return bool(drivers) and all("pocl" in driver.read_text(errors="replace") for driver in drivers)


# ---- opening and probing -------------------------------------------------------------------------


def probe(name: str, timeout_s: float = 20.0) -> DeviceStatus:
    """Opens a device and runs a kernel on it, in a child process: a driver that hangs or crashes does so there.

    Raises UsageError on an unknown name; everything else is told in the status.
    """
    name, start = normalize(name), time.perf_counter()

    def status(usable: bool, **fields: str) -> DeviceStatus:
        return DeviceStatus(name, usable, **fields, ms=round((time.perf_counter() - start) * 1e3, 1))

    if absent := _absent(name):
        return status(False, reason=absent[0], mend=absent[1])
    try:
        child = subprocess.run(
            [sys.executable, "-c", _CHILD, name],
            env=_child_environment(name),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired:
        reason = f"the driver did not answer within {timeout_s:g} s"
    except OSError as error:
        reason = f"no process could be started to try it ({error.strerror})"
    else:
        # The last line alone is ours: tinygrad prints there too when DEBUG is set.
        lines = child.stdout.splitlines()
        if child.returncode == 0 and lines and lines[-1].startswith("{"):
            return status(**json.loads(lines[-1]))
        if child.returncode < 0:
            reason = f"the driver crashed ({signal.Signals(-child.returncode).name})"
        else:
            reason = (child.stderr.strip().splitlines() or [f"the driver ended the process ({child.returncode})"])[-1]
    return status(False, reason=reason, mend=_mend(name, reason))


def probe_all(timeout_s: float = 20.0) -> list[DeviceStatus]:
    """`probe` for every backend in `NAMES`, all at once, in that order."""
    with ThreadPoolExecutor(len(NAMES)) as pool:
        return list(pool.map(lambda name: probe(name, timeout_s), NAMES))


def _child_environment(name: str) -> dict[str, str]:
    backend = name.split(":")[0]
    folder = str(Path(__file__).resolve().parents[1])
    paths = [folder, *filter(None, [os.environ.get("PYTHONPATH", "")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    if not re.search(rf"(^|[;+]){backend}($|[;:])", environment.get("DEV", ""), re.IGNORECASE):
        # KFD and NVK go through the kernel's driver. tinygrad's next choice, PCI, would unbind the GPU from it.
        environment["DEV"] = {"AMD": "KFD+AMD", "NV": "NVK+NV"}.get(backend, backend)
    return environment


def _report(name: str) -> dict[str, Any]:
    """Runs in the child of `probe`: the fields of DeviceStatus that only opening the device can tell."""
    try:
        kind, detail = _open(name)
    except DeviceError as error:
        _, reason, mend = error.args
        return {"usable": False, "reason": reason, "mend": mend}
    except EdgeaeError as error:
        return {"usable": False, "reason": str(error), "mend": _mend(name, "")}
    return {"usable": True, "kind": kind, "detail": detail}


class _Unusable(DeviceError):
    """A DeviceError that keeps its parts apart for `probe`."""

    def __init__(self, name: str, reason: str, mend: str) -> None:
        super().__init__(name, reason, mend)

    def __str__(self) -> str:
        name, reason, mend = self.args
        return f"{name} is not usable: {reason}; to mend it: {mend}."


def _open(name: str) -> tuple[str, str]:
    with _OPENING:
        return _opened(name)


@functools.cache  # a failure is not kept
def _opened(name: str) -> tuple[str, str]:
    """Opens a device and checks a number it computes; gives (kind, detail)."""
    if absent := _absent(name):
        raise _Unusable(name, *absent)
    _import_tinygrad()
    if name.startswith("WEBGPU"):
        _point_at_dawn()
    with guard(name):
        from tinygrad import Device, Tensor

        device = Device[name]
        compiler = prepare_cpu(name) if name.startswith("CPU") else ""
        computed = (Tensor([1.0, 2.0, 3.0], device=name) * 2 + 1).sum().item()
        kind, detail = _describe(name, device, compiler)
    if computed != 15:
        reason = f"it computed {computed:g} where 15 is right ({detail})"
        raise _Unusable(name, reason, _mend(name, reason))
    return kind, detail


def _absent(name: str) -> tuple[str, str] | None:
    """(reason, mend) when the machine plainly lacks the device; looked up without opening it."""
    backend = name.split(":")[0]
    if backend == "METAL" and sys.platform != "darwin":
        return "Metal exists only on macOS", "use another device, this one needs a Mac"
    if backend in _NODE:
        _import_tinygrad()
        from tinygrad.helpers import DEV

        node = Path(_NODE[backend])
        if any(target.device == backend and target.interface for target in DEV.value):
            return None  # the user chose another way to the device, such as DEV=PCI+AMD
        if not node.exists():
            return f"this system has no {node}", _MEND[backend]
        if not os.access(node, os.R_OK | os.W_OK):
            return f"this user may not open {node}", "sudo usermod -aG render,video $USER, then log in again"
    if backend in _LIBRARY:
        _import_tinygrad()
        from tinygrad.runtime.support.c import DLL

        if backend == "WEBGPU":
            _point_at_dawn()
        library, file_name = _LIBRARY[backend]
        if DLL.findlib(library, [file_name]) is None:
            return f"the library {file_name} was not found", _MEND[backend]
    return None


def _point_at_dawn() -> None:
    """Lets tinygrad find Dawn inside the `dawn-python` wheel, which puts it where tinygrad does not look."""
    package = importlib.util.find_spec("pydawn")
    if package is None or package.origin is None or os.environ.get("WEBGPU_PATH"):
        return
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    ending = f"{machine}.dylib" if sys.platform == "darwin" else f"{machine}.so"
    library = Path(package.origin).parent / "lib" / f"libwebgpu_dawn_{ending}"
    if library.is_file():
        os.environ["WEBGPU_PATH"] = str(library)


def _describe(name: str, device: Any, compiler: str) -> tuple[str, str]:
    """(kind, detail) of an open device: what it is called, and its driver or compiler."""
    backend = name.split(":")[0]
    if backend == "CPU":
        from tinygrad.helpers import CPU_COUNT

        return "cpu", f"{_processor()}, {compiler}, {CPU_COUNT.value} threads"
    if backend == "CL":
        return _describe_cl(device)
    if backend == "CUDA":
        return "gpu", _describe_cuda(device)
    if backend == "WEBGPU":
        from tinygrad.runtime.autogen import webgpu
        from tinygrad.runtime.ops_webgpu import from_wgpu_str

        info = webgpu.WGPUAdapterInfo()
        webgpu.wgpuDeviceGetAdapterInfo(device.device_res, info)
        through = webgpu.enum_WGPUBackendType.get(info.backendType, "").removeprefix("WGPUBackendType_")
        kind = "cpu" if info.adapterType == webgpu.WGPUAdapterType_CPU or through == "Null" else "gpu"
        return kind, f"{from_wgpu_str(info.device)}, Dawn on {through}"
    if backend == "METAL":
        from tinygrad.runtime.ops_metal import from_ns_str

        return "gpu", f"{from_ns_str(device.sysdevice.name())}, {device.arch}"
    return "gpu", f"{device.arch}, {type(device.renderer).__name__.removesuffix('Renderer')} compiler"


def _describe_cl(device: Any) -> tuple[str, str]:
    from tinygrad.runtime.autogen import opencl

    kind = ctypes.c_uint64()
    opencl.clGetDeviceInfo(device.device_id, opencl.CL_DEVICE_TYPE, 8, ctypes.byref(kind), None)
    is_cpu = bool(kind.value & opencl.CL_DEVICE_TYPE_CPU)
    return "cpu" if is_cpu else "gpu", f"{device.device_name.strip()}, driver {device.driver_version.strip()}"


def _describe_cuda(device: Any) -> str:
    from tinygrad.runtime.autogen import cuda

    text, version = ctypes.create_string_buffer(256), ctypes.c_int32()
    cuda.cuDeviceGetName(text, 256, device.cu_device)
    cuda.cuDriverGetVersion(ctypes.byref(version))
    compiler = type(device.renderer.compiler).__name__.removesuffix("Compiler")
    driver = f"{version.value // 1000}.{version.value % 1000 // 10}"
    return f"{text.value.decode(errors='replace')}, {device.arch}, CUDA {driver}, {compiler}"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    model = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return model[1].strip() if model else platform.processor() or platform.machine()


def supports_half(device: str) -> bool:
    """True when float16 weights can be stored on the device and read there as float32, tried with a kernel.

    Drivers that lack the type (PoCL) pass too: tinygrad takes it apart with integer arithmetic, where subnormal numbers
    (below 6.1e-5) become zero. Raises as `resolve`.
    """
    name = normalize(device)
    _open(name)
    return _reads_half(name)


@functools.cache
def _reads_half(name: str) -> bool:
    import numpy as np
    from tinygrad import Tensor, dtypes

    values = np.array([0.0, 1.0, -2.5, 65504.0, 6.2e-5, 1 / 3], np.float16)
    try:
        with guard(name):
            read = Tensor(values, device=name).cast(dtypes.float32).numpy()
    except DeviceError:
        return False
    return bool(np.array_equal(read, values.astype(np.float32)))


# ---- the CPU's compiler and threads --------------------------------------------------------------


@functools.cache
def prepare_cpu(name: str = "CPU") -> str:
    """Makes tinygrad's CPU device compile with what this machine has; gives its description, such as "clang 14.0.6".

    It changes the open device object alone (its compiler, or the order of its code generators) and no environment
    variable, so it works also after tinygrad was imported. Kernels cached on disk are kept apart by version. A
    code generator that the user chose, as with DEV=CPU:LLVM, is left alone. Raises DeviceError when nothing works.
    """
    _import_tinygrad()
    with guard(name):
        from tinygrad import Device
        from tinygrad.renderer.isa.x86 import X86Renderer
        from tinygrad.runtime.support.compiler_cpu import ClangJITCompiler

        device = Device[name]
        compiler = device.renderer.compiler
    if isinstance(compiler, ClangJITCompiler):
        failures = []
        for command in _clang_commands():
            program = Path(command[0]).name
            try:
                found = re.search(rb"edgeae:([0-9.]+)", _compile(command, compiler, _CLANG_TEST, timeout_s=30))
            except (OSError, subprocess.SubprocessError, DeviceError) as error:
                failures.append(f"{program}: {_reason(error)}")
                continue
            version = found[1].decode() if found else "of unknown version"
            # tinygrad's own method takes a bare program name, and lets it write its errors to the user's terminal.
            compiler.compile_to_obj = functools.partial(_compile, command, compiler)
            if compiler.cachekey is not None:
                compiler.cachekey += f"_edgeae_{version}"
            return f"zig (clang {version})" if "zig" in program else f"clang {version}"
        if _runs_x86_renderer():
            device.renderers.sort(key=lambda renderer: renderer is not X86Renderer)
        if not isinstance(device.renderer, X86Renderer):
            raise _Unusable(name, f"no C compiler works ({'; '.join(failures)})", _MEND["CPU"])
    if isinstance(device.renderer, X86Renderer):
        return BUILT_IN
    return f"{type(device.renderer).__name__.removesuffix('Renderer')} code generator"


def _clang_commands() -> list[tuple[str, ...]]:
    """The commands that may be a clang, best first: `CC`, `clang`, the `ziglang` wheel's."""
    commands: list[tuple[str, ...]] = []
    if chosen := os.environ.get("CC", "").strip():
        commands.append((chosen,) if shutil.which(chosen) else tuple(shlex.split(chosen, posix=os.name == "posix")))
    if ("clang",) not in commands:
        commands.append(("clang",))
    wheel = importlib.util.find_spec("ziglang")
    if wheel is not None and wheel.origin is not None:
        folder = Path(wheel.origin).parent
        zig = folder / ("zig.exe" if os.name == "nt" else "zig")
        # `zig clang` is the clang driver itself, with clang's own flags; `zig cc` reads neither stdin nor this target.
        commands.append((str(zig), "clang", "-isystem", str(folder / "lib" / "include")))
    return commands


def _compile(command: tuple[str, ...], compiler: Any, source: str, timeout_s: float = 300) -> bytes:
    """Compiles C to an object file as tinygrad does, keeping the compiler's messages for the error."""
    target = f"--target={compiler.arch}-none-unknown-elf"
    done = subprocess.run(
        [*command, *_CLANG_FLAGS, target, *compiler.args, "-", "-o", "-"],
        input=source.encode(),
        capture_output=True,
        timeout=timeout_s,
    )
    if done.returncode or not done.stdout.startswith(b"\x7fELF"):
        said = done.stderr.decode(errors="replace").strip().splitlines()
        message = next((line for line in said if "error" in line), said[0] if said else f"exit {done.returncode}")
        raise DeviceError(f"the C compiler {command[0]} failed: {message[:200]}")
    return done.stdout


def _runs_x86_renderer() -> bool:
    """True on an x86-64 processor with the instructions that tinygrad's X86 code generator uses: AVX2, FMA, F16C."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return True  # macOS and Windows name them elsewhere; their x86-64 machines of the last ten years have them
    flags = re.search(r"^flags\s*:(.*)$", cpuinfo.read_text(), re.MULTILINE)
    return flags is not None and {"avx2", "fma", "f16c"} <= set(flags[1].split())


def set_threads(n: int | None) -> int:
    """Limits CPU kernels made from now on to `n` threads (None: CPU_COUNT, or every core this process may use).

    Returns the number in effect, also in `tinygrad.helpers.CPU_COUNT`. Kernels made before keep theirs: call it before
    the first one. It holds for the whole process, as tinygrad keeps it in classes. Raises UsageError for `n` below 1.
    """
    if n is not None and n < 1:
        raise UsageError(f"--threads {n} makes no sense: give 1 or more.")
    _import_tinygrad()
    from tinygrad.helpers import CPU_COUNT
    from tinygrad.renderer.cstyle import ClangRenderer
    from tinygrad.renderer.isa.x86 import X86Renderer
    from tinygrad.renderer.llvmir import CPULLVMRenderer

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    variable = os.environ.get("CPU_COUNT", "")
    count = n or (int(variable) if variable.isdecimal() and int(variable) else cores)
    CPU_COUNT.value = count
    for renderer in (ClangRenderer, CPULLVMRenderer, X86Renderer):
        renderer.global_max = (count, 0, 0)
    return count


# ---- errors --------------------------------------------------------------------------------------


@contextlib.contextmanager
def guard(device: str) -> Iterator[None]:
    """Turns what tinygrad raises inside the block into a DeviceError, or OutOfMemoryError, of one sentence.

    The original stays as `__cause__`. An EdgeaeError, KeyboardInterrupt, and errors that did not pass through code of
    tinygrad are left as they are.
    """
    try:
        yield
    except EdgeaeError:
        raise
    except Exception as error:
        if _is_out_of_memory(error):
            advice = "use a smaller --batch, smaller images, or a lower --max-mem"
            raise OutOfMemoryError(f"{device} ran out of memory ({_reason(error)}): {advice}.") from error
        if not _passed_tinygrad(error):
            raise
        reason = _reason(error)
        raise _Unusable(device, reason, _mend(device, reason)) from error


def _import_tinygrad() -> None:
    try:
        import tinygrad  # noqa: F401
    except ImportError as error:
        raise _Unusable("tinygrad", _reason(error), "pip install tinygrad==0.13.0") from error
    except Exception as error:
        # It reads its settings at import, and `DEBUG=*`, set for other programs, is no number to it.
        mend = "unset the environment variable that holds it, often DEBUG or DEV"
        raise _Unusable("tinygrad", _reason(error), mend) from error


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
    return [error]


def _passed_tinygrad(error: BaseException) -> bool:
    frame = error.__traceback__
    while frame is not None:
        if str(frame.tb_frame.f_globals.get("__name__", "")).split(".")[0] == "tinygrad":
            return True
        frame = frame.tb_next
    return False


def _is_out_of_memory(error: BaseException) -> bool:
    """By type, or by what CUDA, OpenCL (-4, -5, -6) and the operating system call it."""
    words = r"out of memory|CL_MEM_OBJECT_ALLOCATION_FAILURE|CL_OUT_OF_(RESOURCES|HOST_MEMORY)"
    return any(
        isinstance(leaf, MemoryError)
        or (isinstance(leaf, OSError) and leaf.errno == errno.ENOMEM)
        or re.search(words, str(leaf), re.IGNORECASE)
        for leaf in _leaves(error)
    )


def _reason(error: BaseException) -> str:
    """One line, without a final stop, for an exception or a group of them."""
    return "; ".join(dict.fromkeys(_one_reason(leaf) for leaf in _leaves(error)))[:300]


def _one_reason(error: BaseException) -> str:
    if isinstance(error, subprocess.CalledProcessError | subprocess.TimeoutExpired):
        program = error.cmd[0] if isinstance(error.cmd, list | tuple) else str(error.cmd).split()[0]
        return f"the program {program} failed"
    if isinstance(error, FileNotFoundError) and error.filename:
        return f"{error.filename} was not found"
    if isinstance(error, IndexError) and str(error) == "invalid index":  # ctypes, of the driver's list of devices
        return "there is no device of that number"
    if library := re.search(r"failed to load library (\S+?):", str(error)):
        return f"the library {library[1]} was not found"
    if "OpenCL Error -1001" in str(error):
        return "no OpenCL driver is installed"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".")[:200] if lines else type(error).__name__


def _mend(name: str, reason: str) -> str:
    """The command that would put the device right, by backend and what went wrong."""
    backend = name.split(":")[0]
    if "has no renderer" in reason or (backend == "CPU" and ":" in os.environ.get("DEV", "")):
        return "unset the environment variable DEV"
    if "number" in reason or "ordinal" in reason or "Requesting more devices" in reason:
        return f"use -d {backend} (edgeae devices lists what there is)"
    if backend == "WEBGPU" and "not found" not in reason:
        return "sudo apt install mesa-vulkan-drivers (or the GPU vendor's Vulkan driver)"
    if backend == "AMD" and ("comgr" in reason or "LLVM" in reason):
        return "sudo apt install libamd-comgr2"
    return _MEND.get(backend, "see edgeae devices")
