"""The text of kernels, their compilers, and the cache."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.kernel_cases import (
    Layer,
    assert_close,
    compute,
    draw_arrays,
    forward,
    in_torch,
    needs_compiler,
    read,
    windows,
)
from tinygrad import Tensor, helpers

from edgeae.errors import DeviceError
from edgeae.network import quantize
from edgeae.runtime import compilers
from edgeae.runtime.compilers import Compiler, find_compiler
from edgeae.runtime.kernel_cache import KernelCache
from edgeae.runtime.kernels import graph, programs
from edgeae.runtime.kernels.plans import INSTRUCTION_SETS, InstructionSet
from edgeae.runtime.kernels.programs import ARGUMENTS, Text, compile_text
from edgeae.runtime.kernels.shapes import Shape

pytestmark = needs_compiler

LAYERS = [
    Layer(Shape(2, 5, 9, 5, 20, 3), "relu", add=True),
    Layer(Shape(1, 6, 8, 18, 33, 4), "sigmoid"),
    Layer(Shape(1, 4, 18, 20, 3, 4, up=True), "sigmoid"),
    Layer(Shape(3, 4, 5, 7, 2, 1), None),
    Layer(Shape(1, 3, 21, 17, 3, 3), "relu"),
]


@pytest.fixture
def machine() -> InstructionSet:
    found = programs.instruction_set()
    assert found is not None
    return found


def find(kind: str) -> Compiler:
    """Find a compiler of one kind, as compilers.py does."""
    command: tuple[str, ...] | None = None
    if kind == "zig":
        command = next((command for command in compilers._clang_commands() if "zig" in Path(command[0]).name), None)
        if command is None and (zig := shutil.which("zig")):
            command = (zig, "clang", "-isystem", str(Path(zig).resolve().parent / "lib" / "include"))
    elif path := shutil.which(kind):
        command = (path,)
    if command is None:
        pytest.skip(f"no {kind}")
    return compilers._probe(command, "gcc" if kind == "gcc" else "clang")


@pytest.mark.parametrize("kind", ["gcc", "clang", "zig"])
def test_every_compiler_makes_kernels_that_are_right(kind: str, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = find(kind)
    assert kind in compiler.name
    monkeypatch.setattr(programs, "find_compiler", lambda: compiler)
    assert programs.instruction_set() == INSTRUCTION_SETS[compiler.isa]
    for layer in LAYERS:
        arrays = draw_arrays(layer)
        found = compute(layer, arrays)
        for name, wanted in in_torch(layer, arrays, found["y"]).items():
            assert_close(found[name], wanted, 1e-5, f"{name} of {layer}")


@pytest.mark.parametrize("kind", ["gcc", "clang", "zig"])
@pytest.mark.parametrize("scheme", ["fp16", "int8", "int4"])
def test_every_compiler_reads_packed_weights(
    kind: str, scheme: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = find(kind)
    monkeypatch.setattr(programs, "find_compiler", lambda: compiler)
    for c_out in (3, 33):
        layer = Layer(Shape(1, 3, 21, 5, c_out, 3), scheme=scheme)
        arrays = draw_arrays(layer)
        stored = quantize.pack("weight", arrays["w"], scheme)
        packed = quantize.to_device("weight", stored, layer.weight, scheme, device, half=True)
        found = forward(layer, {name: Tensor(array, device=device) for name, array in arrays.items()}, packed).numpy()
        w = quantize.unpack("weight", stored, layer.weight, scheme).astype(np.float64)
        wanted = np.einsum("byxcij,ijco->byxo", windows(arrays["x"], 3, 1, 1), w) + arrays["bias"]
        assert_close(found, wanted, 1e-5, str(layer))


# ---- the text ----------------------------------------------------------------------------------------------------


def test_a_text_begins_with_its_constants_and_ends_with_the_kernel() -> None:
    for layer in LAYERS:
        for kernel in read(layer, "avx2", 2):
            assert kernel.text.startswith("#define ") and kernel.constants["LANES"] <= 8
            assert kernel.text.count("void kernel(") == 1
            assert set(kernel.names) <= set(ARGUMENTS[kernel.function])
            assert kernel.text == "".join(kernel.text.splitlines(keepends=True)) and "\r" not in kernel.text
            assert "#include" not in kernel.text


def test_arguments_that_a_kernel_is_not_given_are_null() -> None:
    text = str(Text("narrow", ("out", "x", "w"), {"LANES": 8, "C_OUT": 3}))
    assert "void kernel(void *out, void *x, void *w, int core)" in text
    assert "narrow(out, x, w, 0, 0, 0, scratch, core);" in text


# ---- the cache ---------------------------------------------------------------------------------------------------


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A list of the commands that run during a test, which begins with an empty cache."""
    cache = KernelCache(tmp_path / "kernels")
    monkeypatch.setattr(programs, "open_cache", lambda: cache)
    commands: list[str] = []
    run: Callable[..., Any] = subprocess.run

    def counted(command: list[str], *arguments: Any, **named: Any) -> Any:
        commands.append(command[0])
        return run(command, *arguments, **named)

    monkeypatch.setattr(compilers.subprocess, "run", counted)
    return commands


TEXT = "void kernel(float *out, int core) { out[core] = 1.0f; }\n"


def test_a_text_is_compiled_once(runs: list[str], machine: InstructionSet) -> None:
    code = compile_text(TEXT, machine)
    assert code and len(runs) == 1
    assert compile_text(TEXT, machine) == code and len(runs) == 1
    assert compile_text(f"{TEXT}\n", machine) and len(runs) == 2


def test_another_compiler_or_other_flags_are_another_entry(
    runs: list[str], machine: InstructionSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = find_compiler()
    assert compiler is not None
    others = [
        compiler,
        replace(compiler, version="0.1"),
        replace(compiler, machine=(*compiler.machine, "-DX=1")),
        replace(compiler, kind="gcc"),
        replace(compiler, processor="another"),
    ]
    for count, other in enumerate(others, 1):
        monkeypatch.setattr(programs, "find_compiler", lambda other=other: other)
        for _ in range(2):
            compile_text(TEXT, machine)
            assert len(runs) == count
    monkeypatch.setattr(programs, "find_compiler", lambda: compiler)
    names = {programs.flags(other): other for other in INSTRUCTION_SETS.values()}
    for other in names.values():
        compile_text(TEXT, other)
    assert len(runs) == len(others) + len(names) - 1


def test_without_tinygrads_cache_every_text_is_compiled(runs: list[str], machine: InstructionSet) -> None:
    with helpers.Context(CCACHE=0):
        assert compile_text(TEXT, machine) == compile_text(TEXT, machine)
    assert len(runs) == 2
    compile_text(TEXT, machine)
    assert len(runs) == 3  # nothing was stored either


def test_kernels_of_a_dry_run_are_compiled_behind_it(runs: list[str], machine: InstructionSet) -> None:
    """Each is compiled once, however often the block uses it; none is if the block fails."""
    texts = [f"// {i}\n{TEXT}" for i in range(3)]
    with programs.compiled_together():
        assert [compile_text(text, machine) for text in texts + texts] == 6 * [b""]
        assert not runs
    assert len(runs) == 3
    assert all(compile_text(text, machine) for text in texts)
    assert len(runs) == 3
    with pytest.raises(ZeroDivisionError), programs.compiled_together():
        compile_text(f"// another\n{TEXT}", machine)
        raise ZeroDivisionError
    assert len(runs) == 3
    with pytest.raises(DeviceError, match=r"the C compiler \S+ failed"), programs.compiled_together():
        compile_text("void kernel(int core) { this is not C; }\n", machine)
    assert compile_text(TEXT, machine) and len(runs) == 5  # as before, outside of a block


# ---- what is compiled for ----------------------------------------------------------------------------------------


def test_the_instruction_set(monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = find_compiler()
    assert compiler is not None
    monkeypatch.delenv("EDGEAE_KERNELS", raising=False)
    assert programs.instruction_set() == INSTRUCTION_SETS[compiler.isa]
    for value, name in (("plain", "plain"), (" Plain ", "plain"), ("", compiler.isa)):
        monkeypatch.setenv("EDGEAE_KERNELS", value)
        assert programs.instruction_set() == INSTRUCTION_SETS[name]
    monkeypatch.setenv("EDGEAE_KERNELS", "OFF")
    assert programs.instruction_set() is None
    monkeypatch.delenv("EDGEAE_KERNELS")
    monkeypatch.setattr(programs, "find_compiler", lambda: None)
    assert programs.instruction_set() is None


def test_a_compiler_that_fails_is_one_sentence(runs: list[str], machine: InstructionSet) -> None:
    sentence = r"^CPU is not usable: the C compiler \S+ failed: .*; to mend it: .*\.$"
    with pytest.raises(DeviceError, match=sentence) as caught:
        compile_text("void kernel(int core) { this is not C; }\n", machine)
    assert "\n" not in str(caught.value)
    with pytest.raises(DeviceError):  # what failed is not remembered as a success
        compile_text("void kernel(int core) { this is not C; }\n", machine)


@pytest.mark.parametrize("script", ["exit 1", "echo 'internal compiler error' >&2; exit 4", "exit 0"])
def test_a_compiler_that_breaks_is_one_sentence(
    script: str, runs: list[str], machine: InstructionSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that writes nothing and reports success."""
    broken = tmp_path / "clang"
    broken.write_text(f"#!/bin/sh\n{script}\n")
    broken.chmod(0o755)
    compiler = replace(find_compiler(), command=(str(broken),))  # type: ignore[type-var]
    monkeypatch.setattr(programs, "find_compiler", lambda: compiler)
    with pytest.raises(DeviceError, match=r"^CPU is not usable: the C compiler \S+ failed: [^\n]*\.$"):
        compile_text(TEXT, machine)


def test_a_compiler_that_is_gone_is_one_sentence(
    runs: list[str], machine: InstructionSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = replace(find_compiler(), command=(str(tmp_path / "clang"),))  # type: ignore[type-var]
    monkeypatch.setattr(programs, "find_compiler", lambda: compiler)
    with pytest.raises(DeviceError, match=r"^CPU is not usable: [^\n]*\.$"):
        compile_text(TEXT, machine)


def test_a_layer_whose_compiler_fails_says_so(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **named: Any) -> bytes:
        return compilers.compile_c(("false",), TEXT)

    monkeypatch.setattr(Compiler, "compile", fail)
    with pytest.raises(DeviceError, match="the C compiler false failed: exit 1"), helpers.Context(CCACHE=0):
        x, w, bias = (Tensor.empty(*size, device=device) for size in ((1, 2, 3, 4), (1, 1, 4, 5), (5,)))
        graph.convolution(x, w, bias, None, None, Shape(1, 2, 3, 4, 5, 1))


def test_the_same_text_gives_the_same_numbers_from_the_cache(runs: list[str], device: str) -> None:
    arrays = draw_arrays(LAYERS[0])
    first = compute(LAYERS[0], arrays)
    count = len(runs)
    assert count >= 3
    again = compute(LAYERS[0], arrays)
    assert len(runs) == count
    assert all(np.array_equal(again[name], first[name]) for name in first)
