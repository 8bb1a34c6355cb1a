"""Names, precedence, probing, the CPU without clang, and errors. What changes the process runs in a child of it."""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgeae import devices
from edgeae.errors import DataError, DeviceError, EdgeaeError, UsageError

ROOT = Path(__file__).resolve().parents[1]
IS_X86 = platform.machine().lower() in ("x86_64", "amd64")
needs_clang = pytest.mark.skipif(shutil.which("clang") is None, reason="no clang on PATH")


def run(code: str, **environment: str | None) -> subprocess.CompletedProcess[str]:
    """Runs Python code in a child; a variable given as None is unset there."""
    names = ("DEV", "EDGEAE_DEVICE", "CC", "DEBUG", "CPU_COUNT")
    clean = {key: value for key, value in os.environ.items() if key not in names}
    clean |= {"PYTHONPATH": str(ROOT), **{key: value for key, value in environment.items() if value is not None}}
    return subprocess.run([sys.executable, "-c", code], env=clean, capture_output=True, text=True, timeout=60)


def answer(code: str, **environment: str | None) -> object:
    """What the code printed as JSON on its last line."""
    done = run(f"import json; from edgeae import devices\n{code}", **environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def cl() -> devices.DeviceStatus:
    status = devices.probe("CL")
    if not status.usable:
        pytest.skip(f"CL is not usable: {status.reason}")
    return status


@pytest.fixture(scope="module")
def no_clang(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A PATH with no C compiler that works: its `clang` fails, in a folder with a space in its name."""
    folder = tmp_path_factory.mktemp("no compiler")
    clang = folder / "clang"
    clang.write_text("#!/bin/sh\necho 'error: broken installation' >&2\nexit 1\n")
    clang.chmod(0o755)
    return str(folder)


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("cpu", "CPU"),
        ("OpenCL", "CL"),
        ("gpu", "CL"),
        ("gpu:1", "CL:1"),
        ("CUDA:0", "CUDA"),
        ("cuda:01", "CUDA:1"),
        (" Metal ", "METAL"),
        *[(name.lower(), name) for name in devices.NAMES],
    ],
)
def test_normalize(written: str, canonical: str) -> None:
    assert devices.normalize(written) == canonical


@pytest.mark.parametrize("written", ["", "auto", "vulkan", "CUDA:", "CUDA:x", "CUDA:-1", "CUDA:1:2", "CPU,CL"])
def test_normalize_rejects(written: str) -> None:
    with pytest.raises(UsageError, match="is no device") as caught:
        devices.normalize(written)
    assert caught.value.exit_code == 2 and "\n" not in str(caught.value)


def test_a_misspelt_name_gets_a_suggestion() -> None:
    with pytest.raises(UsageError, match=r"'metla' is no device \(did you mean METAL\?\).*CPU, CUDA, METAL"):
        devices.normalize("metla")


def test_the_flag_beats_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(devices, "_open", opened.append)
    monkeypatch.setenv("EDGEAE_DEVICE", "opencl")
    assert devices.resolve("cuda:2") == "CUDA:2"
    assert devices.resolve() == devices.resolve("") == "CL"
    monkeypatch.setenv("EDGEAE_DEVICE", "toaster")
    with pytest.raises(UsageError, match="variable EDGEAE_DEVICE: 'toaster' is no device"):
        devices.resolve()
    monkeypatch.delenv("EDGEAE_DEVICE")
    from tinygrad.helpers import Context

    with Context(DEV="METAL:METAL"):
        assert devices.resolve() == "METAL"
    with Context(DEV="1"), pytest.raises(UsageError, match="variable DEV: '1' is no device"):
        devices.resolve()
    assert opened == ["CUDA:2", "CL", "CL", "METAL"]


def test_resolve_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_open", lambda name: None)
    assert devices.resolve_many("cuda:0, CUDA:1") == ("CUDA", "CUDA:1")
    assert devices.resolve_many("gpu") == ("CL",)
    monkeypatch.setenv("EDGEAE_DEVICE", "NV:0,NV:1")
    assert devices.resolve_many() == ("NV", "NV:1")
    for wrong in ("CUDA,CUDA:0", "CPU,CUDA", "CPU,", "auto,CPU"):
        with pytest.raises(UsageError):
            devices.resolve_many(wrong)
    with pytest.raises(UsageError, match="several devices"):
        devices.resolve("CPU:0,CPU:1")


@pytest.mark.parametrize(
    ("kinds", "chosen"),
    [
        ({"CPU": "cpu"}, "CPU"),
        ({"CPU": "cpu", "CL": "cpu"}, "CPU"),
        ({"CPU": "cpu", "CL": "gpu"}, "CL"),
        ({"CPU": "cpu", "CL": "gpu", "CUDA": "gpu", "NV": "gpu"}, "CUDA"),
        ({"CPU": "cpu", "AMD": "gpu", "CL": "gpu"}, "AMD"),
        ({"CPU": "cpu", "WEBGPU": "gpu"}, "CPU"),
        ({"METAL": "gpu", "CL": "gpu"}, "METAL"),
    ],
)
def test_auto_takes_the_first_that_works(kinds: dict[str, str], chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def opens(name: str) -> None:
        if name not in kinds:
            raise DeviceError(name)

    monkeypatch.setattr(devices, "_absent", lambda name: None)
    monkeypatch.setattr(devices, "_only_pocl", lambda: False)
    monkeypatch.setattr(devices, "_open", opens)
    monkeypatch.setattr(devices, "probe", lambda n: devices.DeviceStatus(n, n in kinds, kind=kinds.get(n, "")))
    assert devices.resolve("auto") == chosen


def test_probe_all_tells_every_backend() -> None:
    found = devices.probe_all()
    assert tuple(status.name for status in found) == devices.NAMES
    for status in found:
        if status.usable:
            assert status.detail and status.kind in ("cpu", "gpu") and not status.reason and not status.mend
        else:
            assert status.reason and status.mend and not status.detail
            assert "\n" not in status.reason + status.mend and "Traceback" not in status.reason
    cpu = found[0]
    assert cpu.usable and cpu.kind == "cpu" and cpu.ms > 0


def test_an_absent_device_ends_in_one_sentence() -> None:
    name = "QCOM" if sys.platform == "darwin" else "METAL"
    with pytest.raises(DeviceError, match=rf"^{name} is not usable: .+; to mend it: .+\.$") as caught:
        devices.resolve(name)
    assert caught.value.exit_code == 5


@pytest.mark.parametrize(
    ("child", "reason"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", r"the driver crashed \(SIGSEGV\)"),
        ("import time; time.sleep(30)", "did not answer within 0.5 s"),
        ("raise SystemExit('driver: no licence')", "driver: no licence"),
        ("pass", r"the driver ended the process \(0\)"),
    ],
)
def test_a_bad_driver_does_not_take_the_caller_with_it(
    child: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "_CHILD", child)
    status = devices.probe("CPU", timeout_s=0.5 if "sleep" in child else 20)
    assert not status.usable and status.mend
    assert re.search(reason, status.reason)


def test_a_number_that_no_device_has(cl: devices.DeviceStatus) -> None:
    status = devices.probe("CL:77")
    assert (status.usable, status.reason) == (False, "there is no device of that number")
    assert status.mend.startswith("use -d CL ")


def test_cl(cl: devices.DeviceStatus) -> None:
    assert devices.resolve("opencl") == "CL"
    assert ", driver " in cl.detail


def test_cpu() -> None:
    assert devices.resolve("cpu") == "CPU"
    assert devices.prepare_cpu() == devices.prepare_cpu()
    assert devices.prepare_cpu().split()[0] in ("clang", "zig", "built-in")


def test_two_cpus_are_prepared() -> None:
    from tinygrad import Tensor

    both = devices.resolve_many("CPU:0,CPU:1")
    assert (Tensor.arange(8, device="CPU").shard(both, 0) * 2).tolist() == [0, 2, 4, 6, 8, 10, 12, 14]


@pytest.mark.parametrize("name", ["CPU", "CL"])
def test_half(name: str, request: pytest.FixtureRequest) -> None:
    if name == "CL":
        request.getfixturevalue("cl")
    assert devices.supports_half(name)


# Every value of float16, a convolution with its gradient against NumPy's sums, and integer arithmetic.
WORK = """
import numpy as np
from edgeae import devices
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


def check_work(compiler: str, before: str = "", **environment: str | None) -> None:
    found = answer(before + WORK, **environment)
    assert isinstance(found, dict)
    assert found["compiler"].startswith(compiler)
    assert found["half"] and found["nibble"]
    assert found["error"] < 1e-5 and found["grad"] < 1e-4
    assert set(found["opened"]) <= {"CPU", "NPY", "PYTHON"}


@needs_clang
def test_clang_works(tmp_path: Path) -> None:
    check_work("clang ", CACHEDB=str(tmp_path / "cache.db"))


@pytest.mark.skipif(not IS_X86, reason="tinygrad's own code generator is for x86-64")
def test_without_a_compiler_the_built_in_generator_works(no_clang: str, tmp_path: Path) -> None:
    hide = "import importlib.util as u; find = u.find_spec; u.find_spec = lambda n: None if n == 'ziglang' else find(n)"
    check_work(devices.BUILT_IN, f"{hide}\n", PATH=no_clang, CACHEDB=str(tmp_path / "cache.db"))


def test_the_ziglang_wheel_works(no_clang: str, tmp_path: Path) -> None:
    pytest.importorskip("ziglang", reason="the ziglang wheel is not installed")
    check_work("zig (clang ", PATH=no_clang, CACHEDB=str(tmp_path / "cache.db"))


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
    assert message.endswith('to mend it: pip install "edgeae[compiler]".')


@pytest.mark.skipif(not IS_X86, reason="without the ziglang wheel it takes tinygrad's own code generator, for x86-64")
def test_prepare_works_after_tinygrad_was_used(no_clang: str) -> None:
    code = f"import os, tinygrad; old = tinygrad.Device['CPU'].renderer; os.environ['PATH'] = {no_clang!r}\n"
    compiler = str(answer(f"{code}print(json.dumps(devices._open('CPU')[1]))"))
    assert "zig (clang " in compiler or devices.BUILT_IN in compiler


def test_a_code_generator_that_the_user_chose_is_kept() -> None:
    if not IS_X86:
        pytest.skip("CPU:X86 is for x86-64")
    code = "print(json.dumps([devices.resolve(), devices.prepare_cpu()]))"
    assert answer(code, DEV="CPU:X86") == ["CPU", devices.BUILT_IN]


def test_an_environment_that_tinygrad_cannot_read() -> None:
    code = "try: devices.resolve()\nexcept devices.DeviceError as error: print(json.dumps(str(error)))"
    assert "unset the environment variable" in str(answer(code, DEBUG="*"))


def test_importing_does_not_import_tinygrad() -> None:
    assert answer("import sys; devices.normalize('gpu'); print(json.dumps('tinygrad' in sys.modules))") is False


def test_threads() -> None:
    code = """
n = devices.set_threads(3)
import tinygrad
from tinygrad.helpers import CPU_COUNT
limit = tinygrad.Device[devices.resolve("CPU")].renderer.global_max[0]
print(json.dumps([n, limit, CPU_COUNT.value, devices.set_threads(None)]))
"""
    assert answer(code, CPU_COUNT="2") == [3, 3, 3, 2]
    with pytest.raises(UsageError, match="--threads 0"):
        devices.set_threads(0)


def test_guard_turns_what_tinygrad_raises_into_one_sentence() -> None:
    from tinygrad import Device, Tensor

    device = devices.resolve("CPU")
    with (
        pytest.raises(DeviceError, match=r"^CPU is not usable: .+; to mend it: .+\.$") as caught,
        devices.guard(device),
    ):
        Tensor([1.0, 2.0], device=device).reshape(3)
    assert caught.value.__cause__ is not None and "\n" not in str(caught.value)
    with pytest.raises(DeviceError), devices.guard(device):
        Device[device].compiler.compile("this is no source")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Allocation of 3.00 GB failed on CUDA"),
        OSError(12, "Cannot allocate memory"),
        RuntimeError("OpenCL Error -4: CL_MEM_OBJECT_ALLOCATION_FAILURE"),
        ExceptionGroup("none", [ValueError("a"), RuntimeError("CUDA Error 2, out of memory")]),
    ],
)
def test_guard_tells_out_of_memory_apart(error: Exception) -> None:
    with (
        pytest.raises(devices.OutOfMemoryError, match=r"CUDA ran out of memory .*--batch") as caught,
        devices.guard("CUDA"),
    ):
        raise error
    assert caught.value.__cause__ is error and caught.value.exit_code == 1
    assert isinstance(caught.value, EdgeaeError) and not isinstance(caught.value, DeviceError)


def test_a_real_allocation_that_is_too_large() -> None:
    from tinygrad import Tensor

    device = devices.resolve("CPU")
    with pytest.raises(devices.OutOfMemoryError), devices.guard(device):
        Tensor.empty(1 << 50, device=device).contiguous().realize().uop.buffer.allocate()


@pytest.mark.parametrize("error", [DataError("bad file"), KeyboardInterrupt(), ValueError("not tinygrad's")])
def test_guard_lets_others_pass(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, devices.guard("CPU"):
        raise error
    assert caught.value is error


def test_device_status_is_plain_data() -> None:
    status = devices.DeviceStatus("CPU", True)
    with pytest.raises(AttributeError):
        status.name = "CL"  # type: ignore[misc]
    assert np.isfinite(status.ms)
