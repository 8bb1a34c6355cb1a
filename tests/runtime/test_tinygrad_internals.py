"""tinygrad's internals: used in one folder, each listed, and each still there in the installed version."""

import ast
import ctypes
import importlib
import importlib.metadata
import importlib.util
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tinygrad
from helpers import ROOT
from tinygrad import Device, Tensor, TinyJit, helpers
from tinygrad.device import Compiler

from edgeae.runtime import jit
from edgeae.runtime.compilers import find_compiler
from edgeae.runtime.convolution import conv_valid
from edgeae.runtime.cpu import link_object, load_function
from edgeae.runtime.kernels import graph
from edgeae.runtime.kernels.plans import INSTRUCTION_SETS
from edgeae.runtime.tinygrad_internals import INTERNALS

RUNTIME = ROOT / "edgeae" / "runtime"
PUBLIC = {"Tensor", "TinyJit", "dtypes", "Device"}
# Attributes of tensors, graphs and devices that only tinygrad's own code is meant to use.
PRIVATE_ATTRIBUTES = {"uop", "_pool", "custom_kernel", "lazydata", "ptrdtype", "allocator", "renderer", "renderers"}
# A kernel that writes 1 to the number of its core.
TEXT = "void kernel(float *out, int core) { out[core] = 1.0f; }\n"

CHECKS: dict[str, Callable[[], None]] = {}


def check(function: Callable[[], None]) -> Callable[[], None]:
    """Register a check under its own name, which is the name of the entry in INTERNALS."""
    CHECKS[function.__name__.removeprefix("check_")] = function
    return function


def imported_names(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and `module.name` of all that a file imports from tinygrad beyond its public names."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "tinygrad":
            for alias in node.names:
                if node.module != "tinygrad" or alias.name not in PUBLIC:
                    yield node.lineno, f"{node.module}.{alias.name}"
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names if alias.name.startswith("tinygrad."))


def private_attributes(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and name of each attribute that is tinygrad's own business."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute):
            of_device = isinstance(node.value, ast.Subscript) and ast.unparse(node.value.value) == "Device"
            if node.attr in PRIVATE_ATTRIBUTES or (of_device and node.attr != "synchronize"):
                yield node.lineno, node.attr


OUTSIDE = [path for path in sorted((ROOT / "edgeae").rglob("*.py")) if RUNTIME not in path.parents]


@pytest.mark.parametrize("path", OUTSIDE, ids=lambda path: path.relative_to(ROOT / "edgeae").as_posix())
def test_internals_are_used_in_runtime_only(path: Path) -> None:
    uses = [f"line {line}: {name}" for line, name in [*imported_names(path), *private_attributes(path)]]
    assert not uses, f"{path.name} uses tinygrad's internals, which belong in edgeae/runtime: {', '.join(uses)}"


def test_every_import_of_an_internal_is_listed() -> None:
    imported = {name for path in RUNTIME.rglob("*.py") for _, name in imported_names(path)}
    listed = {name for internal in INTERNALS.values() for name in internal.names}
    assert imported == listed


@pytest.mark.parametrize("name", INTERNALS)
def test_tinygrad_still_has(name: str, device: str) -> None:
    internal = INTERNALS[name]
    try:
        CHECKS[name]()
    except Exception as error:
        version = importlib.metadata.version("tinygrad")
        reason = f"{type(error).__name__}: {error}".strip()
        pytest.fail(f"tinygrad {version} no longer {internal.need}; {internal.used_in}. ({reason})", pytrace=False)


def test_a_missing_internal_is_told_in_a_sentence(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tensor, "_pool", None)
    with pytest.raises(pytest.fail.Exception, match=r"no longer has `Tensor\._pool`.*; convolution\.py multiplies"):
        test_tinygrad_still_has("pool", device)


# ---- one check for each entry ------------------------------------------------------------------------------------


def compiled() -> bytes:
    compiler = find_compiler()
    if compiler is None:
        pytest.skip("there is no C compiler")
    return link_object(compiler.compile(TEXT, "-O1"))


def importable(name: str) -> None:
    """Import the module and look the names up that INTERNALS lists."""
    for full_name in INTERNALS[name].names:
        module, _, attribute = full_name.rpartition(".")
        if not hasattr(importlib.import_module(module), attribute):
            importlib.import_module(full_name)


@check
def check_program() -> None:
    code = compiled()
    threads = min(2, int(helpers.CPU_COUNT.value))
    machine = INSTRUCTION_SETS["plain"]
    out = Tensor.zeros(4, device="CPU").contiguous().realize()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph, "compile_text", lambda text, machine: code)
        (result,) = graph._custom_kernel(machine, TEXT, "cores", [out], 1, threads, 0)
    np.testing.assert_array_equal(result.numpy(), [1.0] * threads + [0.0] * (4 - threads))


@check
def check_custom_kernel() -> None:
    parameters = inspect.signature(Tensor.custom_kernel).parameters
    assert {"fxn", "grad_fxn"} <= set(parameters), f"its parameters are {', '.join(parameters)}"


@check
def check_function() -> None:
    importable("function")
    x = Tensor(np.ones((1, 3, 3, 1), np.float32), device="CPU")
    w = Tensor(np.full((2, 2, 1, 1), 2.0, np.float32), device="CPU")
    with Tensor.train():
        dx, dw = conv_valid(x, w).sum().gradient(x, w)
    np.testing.assert_allclose(dx.numpy().reshape(3, 3), [[2, 4, 2], [4, 8, 4], [2, 4, 2]])
    np.testing.assert_allclose(dw.numpy().ravel(), [4, 4, 4, 4])


@check
def check_pool() -> None:
    x = Tensor(np.arange(6, dtype=np.float32).reshape(1, 1, 2, 3), device="CPU")
    windows = x._pool((2, 2), 1).numpy()
    np.testing.assert_array_equal(windows[0, 0], [[[[0, 1], [3, 4]], [[1, 2], [4, 5]]]])


@check
def check_copyin() -> None:
    tensor = Tensor(np.zeros(3, np.float32), device="CPU").clone().realize()
    tensor.uop.base.buffer.copyin(np.array([1, 2, 3], np.float32).data)
    np.testing.assert_array_equal(tensor.numpy(), [1, 2, 3])


@check
def check_jit_count() -> None:
    double = TinyJit(lambda x: (x * 2).realize())
    captured = []
    for value in range(4):
        double(Tensor([float(value)], device="CPU").realize())
        captured.append(jit.was_just_captured(double))
    assert captured == [False, True, False, False] or captured == [False, True, True, True], captured


@check
def check_free_cache() -> None:
    assert callable(Device["CPU"].allocator.free_cache)


@check
def check_threads() -> None:
    importable("threads")
    assert isinstance(helpers.CPU_COUNT.value, int)
    for name in INTERNALS["threads"].names[1:]:
        module, _, attribute = name.rpartition(".")
        renderer = getattr(importlib.import_module(module), attribute)
        assert len(renderer.global_max) == 3, f"global_max of {attribute} is {renderer.global_max}"


@check
def check_workers() -> None:
    from tinygrad.runtime.ops_cpu import CPUWorker
    from tinygrad.runtime.support.hcq import HCQCompiled

    assert callable(CPUWorker.run)
    assert "thread_id" in inspect.signature(CPUWorker.__init__).parameters
    device = Device["CPU"]
    assert device in HCQCompiled.cpu_devices and device.error_state is None
    Tensor.zeros(4, device="CPU").contiguous().realize()
    device.synchronize()
    assert device.tasks.empty() and device.timeline_signal.value == device.timeline_value - 1


@check
def check_memory() -> None:
    importable("memory")
    from tinygrad.device import BufferSpec
    from tinygrad.runtime.ops_cpu import CPUAllocator

    assert list(inspect.signature(CPUAllocator(Device["CPU"])._alloc).parameters)[-2:] == ["size", "options"]
    assert BufferSpec().external_ptr is None


@check
def check_finalizers() -> None:
    importable("finalizers")
    for name in INTERNALS["finalizers"].names:
        module, _, attribute = name.rpartition(".")
        kind = getattr(importlib.import_module(module), attribute)
        assert attribute == "suppress_finalizing" or "__del__" in vars(kind), f"{attribute} has no __del__"


@check
def check_opened_devices() -> None:
    assert Device["CPU"].device in Device._opened_devices
    assert helpers.ALLOW_DEVICE_USAGE.value == 1


@check
def check_compiler() -> None:
    from tinygrad.runtime.support.compiler_cpu import ClangJITCompiler

    compiler = ClangJITCompiler(["x86_64", "native"])
    assert callable(compiler.compile_to_obj)
    assert compiler.arch == "x86_64" and isinstance(compiler.args, list) and isinstance(compiler.cachekey, str)


@check
def check_renderers() -> None:
    cpu = Device["CPU"]
    assert isinstance(cpu.renderers, list) and cpu.renderers
    assert hasattr(cpu.renderer, "compiler")


@check
def check_jit_loader() -> None:
    assert compiled()


@check
def check_cpu_program() -> None:
    out = np.zeros(4, np.float32)
    load_function(compiled())(ctypes.c_void_p(out.ctypes.data), 2)
    np.testing.assert_array_equal(out, [0, 0, 1, 0])


@check
def check_disk_cache() -> None:
    importable("disk_cache")
    assert helpers.CACHELEVEL.value == 0 and isinstance(helpers.cache_dir, str)
    compiler = Device["CPU"].renderer.compiler
    assert compiler.cachekey is None or isinstance(compiler.cachekey, str)
    assert callable(Compiler.compile_cached) and isinstance(Compiler().compile("text"), bytes)
    assert helpers.diskcache_put("edgeae", "key", b"value") == b"value"
    assert helpers.diskcache_get("edgeae", "key") is None and helpers._db_connection is None


@check
def check_settings() -> None:
    folder = Path(tinygrad.__file__).parent
    text = "".join((folder / name).read_text() for name in ("device.py", "uop/ops.py", "helpers.py"))
    assert text.count("pickle.load(") == 0 and text.count("pickle.dump(") == 2


@check
def check_dev() -> None:
    assert isinstance(helpers.DEV.device, str)
    with helpers.Context(DEV="PCI+AMD"):
        (target,) = helpers.DEV.value
        assert (target.device, target.interface) == ("AMD", "PCI")


@check
def check_findlib() -> None:
    from tinygrad.runtime.support.c import DLL

    assert DLL.findlib("edgeae_missing", ["edgeae_missing"]) is None


@check
def check_opencl() -> None:
    assert_binds("tinygrad.runtime.autogen.opencl", "clGetDeviceInfo", "CL_DEVICE_TYPE", "CL_DEVICE_TYPE_CPU")


@check
def check_cuda() -> None:
    assert_binds("tinygrad.runtime.autogen.cuda", "cuDeviceGetName", "cuDriverGetVersion")


@check
def check_webgpu() -> None:
    names = ("WGPUAdapterInfo", "wgpuDeviceGetAdapterInfo", "enum_WGPUBackendType", "WGPUAdapterType_CPU")
    assert_binds("tinygrad.runtime.autogen.webgpu", *names)
    assert_defines("tinygrad.runtime.ops_webgpu", "from_wgpu_str")


@check
def check_metal() -> None:
    assert_defines("tinygrad.runtime.ops_metal", "from_ns_str")


def assert_binds(module: str, *names: str) -> None:
    """Import a module of bindings, which needs no driver, and look the names up."""
    bindings: Any = importlib.import_module(module)
    missing = [name for name in names if not hasattr(bindings, name)]
    assert not missing, f"{module} has no {', '.join(missing)}"


def assert_defines(module: str, name: str) -> None:
    """Look for a function in a module's text: importing it would need the driver."""
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None, f"there is no {module}"
    text = Path(spec.origin).read_text(encoding="utf-8")
    assert f"def {name}(" in text or f"{name} =" in text, f"{module} defines no {name}"


def test_there_is_a_check_for_each_entry() -> None:
    assert set(CHECKS) == set(INTERNALS)
