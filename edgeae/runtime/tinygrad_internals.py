"""List what this package uses of tinygrad beyond its public names, and what it needs of each.

Public are `Tensor`, `TinyJit`, `dtypes` and `Device`. Everything else may move with any release, so it is used in this
folder only, beside the code that needs it, and listed here. tests/runtime/test_tinygrad_internals.py checks each entry
against the installed tinygrad: a failure there is a sentence that says what moved and which file to change.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Internal:
    """One thing that this package needs of tinygrad's internals.

    Attributes:
        need: what tinygrad does, as a predicate: "tinygrad …".
        used_in: the file in this folder that relies on it, and for what.
        names: what is imported from tinygrad for it, as `module.name`; empty where it is an attribute of a public one.
    """

    need: str
    used_in: str
    names: tuple[str, ...] = ()


INTERNALS = {
    "program": Internal(
        "runs a compiled PROGRAM node with its BINARY, once for each value of `core_id`",
        "kernels/graph.py builds one for each of our kernels",
        (
            "tinygrad.renderer.Estimates",
            "tinygrad.uop.ops.KernelInfo",
            "tinygrad.uop.ops.Ops",
            "tinygrad.uop.ops.ProgramInfo",
            "tinygrad.uop.ops.UOp",
        ),
    ),
    "custom_kernel": Internal(
        "has `Tensor.custom_kernel`, whose `grad_fxn` gives the gradient of each source of the call",
        "kernels/graph.py puts our kernels and their gradients into a graph with it",
    ),
    "function": Internal(
        "has `@function(grad_fxn=…)`, which replaces the gradient of a function of tensors",
        "convolution.py gives the convolution its gradients",
        ("tinygrad.function.function",),
    ),
    "pool": Internal(
        "has `Tensor._pool`, a view of all windows over the last two axes",
        "convolution.py multiplies windows with weights",
    ),
    "copyin": Internal(
        "has `tensor.uop.base.buffer.copyin`, which overwrites a realized tensor with bytes from the host",
        "input_buffers.py fills the inputs of a captured graph with it",
    ),
    "jit_count": Internal(
        "counts the calls of a TinyJit in `cnt`, and captures it at the second",
        "jit.py frees what the first two calls allocated",
    ),
    "free_cache": Internal(
        "has `Device[name].allocator.free_cache()`, which frees the buffers kept for reuse",
        "jit.py frees memory between graphs",
    ),
    "threads": Internal(
        "takes the number of CPU threads from `CPU_COUNT` and from `global_max` of its CPU renderers",
        "cpu.py (`set_threads`) sets both; kernels/graph.py reads the number",
        (
            "tinygrad.helpers.CPU_COUNT",
            "tinygrad.renderer.cstyle.ClangRenderer",
            "tinygrad.renderer.isa.x86.X86Renderer",
            "tinygrad.renderer.llvmir.CPULLVMRenderer",
        ),
    ),
    "workers": Internal(
        "runs CPU kernels in threads of the class `CPUWorker`, with `thread_id`, `pool` and `run`; devices in "
        "`HCQCompiled.cpu_devices` give them lists of commands through `tasks`, and wait for `timeline_signal`; a wait "
        "calls `CPUSignal._sleep`",
        "workers.py gives them cores, replaces them after a fork, and does without them",
        (
            "tinygrad.runtime.ops_cpu.CPUSignal",
            "tinygrad.runtime.ops_cpu.CPUWorker",
            "tinygrad.runtime.support.hcq.HCQCompiled",
        ),
    ),
    "memory": Internal(
        "allocates the CPU's memory in `CPUAllocator._alloc` as an `HCQBuffer` with an `MMIOInterface`",
        "workers.py keeps it from being shared with forked processes",
        (
            "tinygrad.device.BufferSpec",
            "tinygrad.helpers.mv_address",
            "tinygrad.runtime.ops_cpu.CPUAllocator",
            "tinygrad.runtime.support.hcq.HCQBuffer",
            "tinygrad.runtime.support.hcq.MMIOInterface",
        ),
    ),
    "finalizers": Internal(
        "frees in `__del__` of tensors, `Buffer`, `HCQGraph` and `HCQSignal`, and wraps some in `suppress_finalizing`",
        "finalizers.py makes them wait for the lock",
        (
            "tinygrad.device.Buffer",
            "tinygrad.helpers.suppress_finalizing",
            "tinygrad.runtime.graph.hcq.HCQGraph",
            "tinygrad.runtime.ops_cpu.CPUComputeQueue",
            "tinygrad.runtime.support.hcq.HCQSignal",
        ),
    ),
    "opened_devices": Internal(
        "keeps the names of open devices in `Device._opened_devices`, and forbids devices with `ALLOW_DEVICE_USAGE`",
        "forking.py leaves drivers alone in a forked process",
        ("tinygrad.helpers.ALLOW_DEVICE_USAGE",),
    ),
    "compiler": Internal(
        "compiles CPU kernels with `ClangJITCompiler`: `arch`, `args`, `cachekey`, and `compile_to_obj(source)`",
        "cpu.py (`prepare_cpu`) replaces the clang that it starts",
        ("tinygrad.runtime.support.compiler_cpu.ClangJITCompiler",),
    ),
    "renderers": Internal(
        "keeps the code generators of a device in `renderers`, of which `renderer` is the first that works",
        "cpu.py puts the one that needs no compiler first",
    ),
    "jit_loader": Internal(
        "has `jit_loader`, which relocates an ELF object file into machine code",
        "cpu.py (`link_object`) links our kernels",
        ("tinygrad.runtime.support.elf.jit_loader",),
    ),
    "cpu_program": Internal(
        "has `CPUProgram(device, name, code)`, whose `fxn` calls the code",
        "cpu.py (`load_function`) loads kernels that are timed without a graph",
        ("tinygrad.runtime.ops_cpu.CPUProgram",),
    ),
    "disk_cache": Internal(
        "compiles through `Compiler.compile_cached`, by `cachekey` and `compile`; leaves its cache on disk alone at "
        "`CACHELEVEL` 0; switches both off with `CCACHE`; puts the rest into `cache_dir`; has a `VERSION` of its cache",
        "kernel_cache.py keeps what is compiled in files of its own",
        ("tinygrad.helpers", "tinygrad.helpers.CCACHE", "tinygrad.device.Compiler"),
    ),
    "settings": Internal(
        "writes and loads pickles outside of its cache only if a variable of `_PICKLING` is set when it is imported",
        "guard.py hides them",
    ),
    "dev": Internal(
        "parses the environment variable DEV into `helpers.DEV`: `device`, and `value` with each target's `device` and "
        "`interface`",
        "devices.py and backends.py read which device the user chose",
        ("tinygrad.helpers.DEV",),
    ),
    "findlib": Internal(
        "has `DLL.findlib(name, file_names)`, which returns the path of a shared library or None",
        "backends.py looks for a backend's library without loading it",
        ("tinygrad.runtime.support.c.DLL",),
    ),
    "opencl": Internal(
        "binds OpenCL's `clGetDeviceInfo` in `autogen.opencl`",
        "backends.py asks whether a device is the processor",
        ("tinygrad.runtime.autogen.opencl",),
    ),
    "cuda": Internal(
        "binds CUDA's `cuDeviceGetName` and `cuDriverGetVersion` in `autogen.cuda`",
        "backends.py describes the GPU",
        ("tinygrad.runtime.autogen.cuda",),
    ),
    "webgpu": Internal(
        "binds Dawn's `wgpuDeviceGetAdapterInfo` in `autogen.webgpu`, with `from_wgpu_str` for its strings",
        "backends.py describes the adapter",
        ("tinygrad.runtime.autogen.webgpu", "tinygrad.runtime.ops_webgpu.from_wgpu_str"),
    ),
    "metal": Internal(
        "has `from_ns_str` for Metal's strings",
        "backends.py describes the GPU",
        ("tinygrad.runtime.ops_metal.from_ns_str",),
    ),
}
