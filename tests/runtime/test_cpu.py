"""The compiler for CPU kernels, also on machines without clang, and threads. Each machine is a child process."""

import platform
import shutil
from pathlib import Path

import pytest
from helpers import answer

from edgeae.errors import UsageError
from edgeae.runtime import devices

IS_X86 = platform.machine().lower() in ("x86_64", "amd64")
needs_clang = pytest.mark.skipif(shutil.which("clang") is None, reason="no clang on PATH")


@pytest.fixture(scope="module")
def no_clang(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A PATH without a C compiler that works: its `clang` fails, and its folder has a space in its name."""
    folder = tmp_path_factory.mktemp("no compiler")
    clang = folder / "clang"
    clang.write_text("#!/bin/sh\necho 'error: broken installation' >&2\nexit 1\n")
    clang.chmod(0o755)
    return str(folder)


def test_cpu() -> None:
    assert devices.resolve("cpu") == "CPU"
    assert devices.prepare_cpu() == devices.prepare_cpu()
    assert devices.prepare_cpu().split()[0] in ("clang", "zig", "built-in")


def test_two_cpus_are_prepared() -> None:
    from tinygrad import Tensor

    both = devices.resolve_many("CPU:0,CPU:1")
    assert (Tensor.arange(8, device="CPU").shard(both, 0) * 2).tolist() == [0, 2, 4, 6, 8, 10, 12, 14]


# Every value of float16, a convolution with its gradient against NumPy's sums, and integer arithmetic.
WORK = """
import numpy as np
device = devices.resolve("CPU")
from tinygrad import Tensor
import tinygrad.device
half = np.arange(65536).astype(np.uint16).view(np.float16)
half = half[np.isfinite(half)]
same = np.array_equal(Tensor(half, device=device).cast("float32").numpy(), half.astype(np.float32))
rng = np.random.default_rng(0)
x, w = rng.normal(size=(2, 3, 9, 8)).astype("f"), rng.normal(size=(4, 3, 3, 3)).astype("f")
patches = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (2, 3))[:, :, ::2, ::2]
want = np.einsum("nchwij,ocij->nohw", patches, w)
tx, tw = Tensor(x, device=device), Tensor(w, device=device)
got = tx.conv2d(tw, stride=2)
grad = got.tanh().sum().gradient(tw)[0].numpy()
want_grad = np.einsum("nohw,nchwij->ocij", 1 - np.tanh(want) ** 2, patches)
byte = rng.integers(0, 256, 99).astype(np.uint8)
nibble = (Tensor(byte, device=device) >> 4).cast("int8").numpy()
print(json.dumps({
    "compiler": devices.prepare_cpu(), "half": same, "opened": sorted(tinygrad.device.Device._opened_devices),
    "error": float(abs(got.numpy() - want).max()), "grad": float(abs(grad - want_grad).max()),
    "nibble": bool((nibble == byte >> 4).all())}))
"""


def check_work(compiler: str, before: str = "", **environment: str) -> None:
    found = answer(before + WORK, **environment)
    assert isinstance(found, dict)
    assert found["compiler"].startswith(compiler)
    assert found["half"] and found["nibble"]
    assert found["error"] < 1e-5 and found["grad"] < 1e-4
    assert set(found["opened"]) <= {"CPU", "NPY", "PYTHON"}


@needs_clang
def test_clang_works(tmp_path: Path) -> None:
    check_work("clang ", EDGEAE_CACHE=str(tmp_path))


@pytest.mark.skipif(not IS_X86, reason="tinygrad's own code generator is for x86-64")
def test_without_a_compiler_the_built_in_generator_works(no_clang: str, tmp_path: Path) -> None:
    hide = "import importlib.util as u; find = u.find_spec; u.find_spec = lambda n: None if n == 'ziglang' else find(n)"
    check_work(devices.BUILT_IN, f"{hide}\n", PATH=no_clang, EDGEAE_CACHE=str(tmp_path))


def test_the_ziglang_wheel_works(no_clang: str, tmp_path: Path) -> None:
    pytest.importorskip("ziglang", reason="the ziglang wheel is not installed")
    check_work("zig (clang ", PATH=no_clang, EDGEAE_CACHE=str(tmp_path))


@needs_clang
def test_cc_is_taken_and_a_useless_one_passed_over(no_clang: str) -> None:
    clang = shutil.which("clang")
    code = "print(json.dumps(devices.prepare_cpu()))"
    assert str(answer(code, PATH=no_clang, CC=f"/usr/bin/env {clang}")).startswith("clang ")
    assert str(answer(code, CC="/no/such/compiler")).startswith("clang ")


def test_no_compiler_at_all_is_one_sentence(no_clang: str) -> None:
    hide = "import platform, importlib.util as u; platform.machine = lambda: 'aarch64'; u.find_spec = lambda n: None\n"
    code = "try: devices.resolve('CPU')\nexcept devices.DeviceError as error: print(json.dumps(str(error)))"
    message = str(answer(hide + code, PATH=no_clang))
    assert "clang failed: error: broken installation" in message
    assert message.endswith("to mend it: pip install ziglang.")


@pytest.mark.skipif(not IS_X86, reason="without the ziglang wheel it takes tinygrad's own code generator, for x86-64")
def test_prepare_works_after_tinygrad_was_used(no_clang: str) -> None:
    code = f"import os, tinygrad; old = tinygrad.Device['CPU'].renderer; os.environ['PATH'] = {no_clang!r}\n"
    compiler = str(answer(f"{code}devices.resolve('CPU')\nprint(json.dumps(devices.prepare_cpu()))"))
    assert compiler.startswith("zig (clang ") or compiler == devices.BUILT_IN


@pytest.mark.skipif(not IS_X86, reason="CPU:X86 is for x86-64")
def test_a_code_generator_that_the_user_chose_is_kept() -> None:
    code = "print(json.dumps([devices.resolve(), devices.prepare_cpu()]))"
    assert answer(code, DEV="CPU:X86") == ["CPU", devices.BUILT_IN]


def test_threads() -> None:
    code = """
n = devices.set_threads(3)
import tinygrad
from tinygrad.helpers import CPU_COUNT
limit = tinygrad.Device[devices.resolve("CPU")].renderer.global_max[0]
print(json.dumps([n, limit, CPU_COUNT.value, devices.set_threads(None)]))
"""
    assert answer(code, CPU_COUNT="2") == [3, 3, 3, 2]
    with pytest.raises(UsageError, match="`threads` 0"):
        devices.set_threads(0)
