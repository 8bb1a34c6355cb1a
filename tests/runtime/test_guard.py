"""Errors of tinygrad and of drivers become one sentence."""

import errno
import os
import pickle
import subprocess
from pathlib import Path

import pytest
from helpers import answer

from edgeae.errors import DataError, DeviceError, EdgeaeError, OutOfMemoryError
from edgeae.runtime import devices
from edgeae.runtime.guard import Unusable, guard, import_tinygrad, mend_for, reason_of


def test_an_environment_that_tinygrad_cannot_read() -> None:
    code = "try: devices.resolve()\nexcept devices.DeviceError as error: print(json.dumps(str(error)))"
    assert "unset the environment variable" in str(answer(code, DEBUG="*"))


@pytest.mark.skipif(os.name != "posix", reason="HOME and XDG_CACHE_HOME")
def test_drivers_load_nothing_from_the_current_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", ".")
    monkeypatch.setenv("POCL_CACHE_DIR", "cache")
    monkeypatch.setenv("CUDA_CACHE_PATH", str(tmp_path))
    import_tinygrad()
    assert not {"XDG_CACHE_HOME", "HOME", "POCL_CACHE_DIR"} & os.environ.keys()
    assert os.environ["CUDA_CACHE_PATH"] == str(tmp_path)


def test_guard_turns_what_tinygrad_raises_into_one_sentence() -> None:
    from tinygrad import Device, Tensor

    device = devices.resolve("CPU")
    with pytest.raises(DeviceError, match=r"^CPU is not usable: .+; to mend it: .+\.$") as caught, guard(device):
        Tensor([1.0, 2.0], device=device).reshape(3)
    assert caught.value.__cause__ is not None and "\n" not in str(caught.value)
    with pytest.raises(DeviceError, match=r"; to mend it: .+\.$"), guard(device):
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
    with pytest.raises(OutOfMemoryError, match=r"CUDA ran out of memory .*`batch`") as caught, guard("CUDA"):
        raise error
    assert caught.value.__cause__ is error and caught.value.exit_code == 1
    assert isinstance(caught.value, EdgeaeError) and not isinstance(caught.value, DeviceError)


def test_a_real_allocation_that_is_too_large() -> None:
    from tinygrad import Tensor

    device = devices.resolve("CPU")
    with pytest.raises(OutOfMemoryError), guard(device):
        Tensor.empty(1 << 50, device=device).contiguous().realize().uop.buffer.allocate()


@pytest.mark.parametrize("error", [DataError("bad file"), KeyboardInterrupt(), ValueError("not tinygrad's")])
def test_guard_lets_others_pass(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, guard("CPU"):
        raise error
    assert caught.value is error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("\n  first.\nsecond"), "first"),
        (ZeroDivisionError(), "ZeroDivisionError"),
        (FileNotFoundError(2, "No such file or directory", "clang"), "clang was not found"),
        (subprocess.CalledProcessError(1, ["clang", "-c"]), "the program clang failed"),
        (subprocess.TimeoutExpired("clang -c", 30), "the program clang failed"),
        (OSError("failed to load library cuda: tried 3 places"), "the library cuda was not found"),
        (RuntimeError("OpenCL Error -1001: unknown"), "no OpenCL driver is installed"),
        (Unusable("CL", "it is off", "turn it on"), "it is off"),
        (ExceptionGroup("", [ValueError("a"), ExceptionGroup("", [ValueError("b"), ValueError("a")])]), "a; b"),
    ],
)
def test_reasons(error: Exception, reason: str) -> None:
    assert reason_of(error) == reason


@pytest.mark.parametrize(
    ("device", "reason", "mend"),
    [
        ("CUDA:7", "invalid device ordinal", "use CUDA "),
        ("CPU", "CPU has no renderer 'X'", "unset the environment variable DEV"),
        ("WEBGPU", "the library webgpu_dawn was not found", "pip install dawn-python"),
        ("WEBGPU", "no adapter", "sudo apt install mesa-vulkan-drivers"),
        ("AMD", "the library amd_comgr was not found", "sudo apt install libamd-comgr2"),
        ("NV:1", "it is busy", "sudo apt install nvidia-driver"),
        ("tinygrad", "", "see edgeae devices"),
        ("CPU", "no C compiler works (clang was not found)", "pip install ziglang"),
        ("CPU", "the C compiler clang failed: error: out of cheese", "pip install ziglang"),
        ("CPU", "the C compiler clang failed: error: No space left on device", "free some space"),
        ("CPU", "[Errno 122] Disk quota exceeded", "free some space"),
        ("CPU", "[Errno 24] Too many open files", "ulimit -n"),
        ("CPU", "can't start new thread", "ulimit -u"),
        ("CPU", "No usable temporary directory found in ['/tmp']", "set TMPDIR"),
        ("CPU:1", "it computed 14 where 15 is right", "report it"),
    ],
)
def test_mends(device: str, reason: str, mend: str) -> None:
    assert mend_for(device, reason).startswith(mend)


def test_an_unusable_device_survives_pickling() -> None:
    error = Unusable("CL", "it is off", "turn it on")
    assert str(error) == "CL is not usable: it is off; to mend it: turn it on."
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_too_many_open_files_are_told_as_such() -> None:
    with pytest.raises(EdgeaeError, match="too many files open"), guard("CPU"):
        raise OSError(errno.EMFILE, "Too many open files", "kernel.c")


def test_an_environment_without_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PATH")
    import_tinygrad()
    assert os.environ["PATH"] == os.defpath
