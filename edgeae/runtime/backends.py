"""The backends of tinygrad that this package knows, and what is particular to each of them.

To add one: its name in `NAMES`, how to see that the machine lacks it in `absence`, what its devices are called in
`describe`, and in guard.py the command that would make it work.
"""

import ctypes
import importlib.util
import os
import platform
import sys
from pathlib import Path
from typing import Any

from edgeae.runtime.cpu import processor_name
from edgeae.runtime.guard import MENDS, import_tinygrad
from edgeae.runtime.kernels.programs import instruction_set

NAMES = ("CPU", "CUDA", "METAL", "CL", "WEBGPU", "NV", "AMD", "QCOM")
ALIASES = {"OPENCL": "CL", "GPU": "CL"}
AUTO_ORDER = ("METAL", "CUDA", "NV", "AMD", "QCOM", "CL", "CPU")  # what `auto` tries; devices.py says why
RUNS_IN_CHILD_FIRST = ("NV", "AMD", "QCOM", "CL")  # under `auto`, drivers that might hang or crash this process

# Of each backend: tinygrad's name for its library and the library's file name; or the device file it needs.
_LIBRARY = {"CUDA": ("cuda", "cuda"), "CL": ("opencl", "OpenCL"), "WEBGPU": ("webgpu", "webgpu_dawn")}
_NODE = {"NV": "/dev/nvidiactl", "AMD": "/dev/kfd", "QCOM": "/dev/kgsl-3d0"}


def absence(name: str) -> tuple[str, str] | None:
    """Return why the machine cannot have a device, without opening it.

    Returns:
        The reason, and the command that would mend it; None if nothing speaks against the device.
    """
    import_tinygrad()
    backend = name.split(":")[0]
    if backend == "METAL" and sys.platform != "darwin":
        return "Metal exists only on macOS", "use another device, this one needs a Mac"
    if backend in _NODE:
        node = Path(_NODE[backend])
        if any(target.interface for target in targets_in_dev(backend)):
            return None  # the user chose another way to the device, such as DEV=PCI+AMD
        if not node.exists():
            return f"this system has no {node}", MENDS[backend]
        if not os.access(node, os.R_OK | os.W_OK):
            return f"this user may not open {node}", "sudo usermod -aG render,video $USER, then log in again"
    if backend in _LIBRARY:
        from tinygrad.runtime.support.c import DLL

        if backend == "WEBGPU":
            _point_at_dawn()
        library, file_name = _LIBRARY[backend]
        if DLL.findlib(library, [file_name]) is None:
            return f"the library {file_name} was not found", MENDS[backend]
    return None


def _point_at_dawn() -> None:
    """Let tinygrad find Dawn in the `dawn-python` wheel, which puts it where tinygrad does not look."""
    package = importlib.util.find_spec("pydawn")
    if package is None or package.origin is None or os.environ.get("WEBGPU_PATH"):
        return
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    ending = f"{machine}.dylib" if sys.platform == "darwin" else f"{machine}.so"
    library = Path(package.origin).parent / "lib" / f"libwebgpu_dawn_{ending}"
    if library.is_file():
        os.environ["WEBGPU_PATH"] = str(library)


def targets_in_dev(backend: str) -> list[Any]:
    """Return the targets of a backend in the environment variable DEV: for DEV=PCI+AMD, device AMD, interface PCI."""
    from tinygrad.helpers import DEV

    return [target for target in DEV.value if target.device == backend]


def describe(name: str, device: Any, compiler: str) -> tuple[str, str]:
    """Describe an open device.

    Args:
        name: of the device, such as CUDA:1.
        device: tinygrad's object of it.
        compiler: of the CPU, as `prepare_cpu` returns it.

    Returns:
        Its kind, "cpu" or "gpu", and its name with driver or compiler.
    """
    backend = name.split(":")[0]
    if backend == "CPU":
        from tinygrad.helpers import CPU_COUNT

        machine = instruction_set()
        kernels = f"{machine.name} kernels" if machine else "no kernels of our own"
        return "cpu", f"{processor_name()}, {compiler}, {kernels}, {CPU_COUNT.value} threads"
    if backend == "CL":
        return _describe_cl(device)
    if backend == "CUDA":
        return "gpu", _describe_cuda(device)
    if backend == "WEBGPU":
        return _describe_webgpu(device)
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


def _describe_webgpu(device: Any) -> tuple[str, str]:
    from tinygrad.runtime.autogen import webgpu
    from tinygrad.runtime.ops_webgpu import from_wgpu_str

    info = webgpu.WGPUAdapterInfo()
    webgpu.wgpuDeviceGetAdapterInfo(device.device_res, info)
    through = webgpu.enum_WGPUBackendType.get(info.backendType, "").removeprefix("WGPUBackendType_")
    kind = "cpu" if info.adapterType == webgpu.WGPUAdapterType_CPU or through == "Null" else "gpu"
    return kind, f"{from_wgpu_str(info.device)}, Dawn on {through}"
