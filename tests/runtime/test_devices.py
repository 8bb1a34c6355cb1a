"""Names, precedence, `auto` and probing."""

import re
import sys

import numpy as np
import pytest
from helpers import answer

from edgeae.errors import DeviceError, OutOfMemoryError, UsageError
from edgeae.runtime import backends, devices
from edgeae.runtime.guard import Unusable


@pytest.fixture(scope="module")
def cl() -> devices.DeviceStatus:
    status = devices.probe("CL")
    if not status.usable:
        pytest.skip(f"CL is not usable: {status.reason}")
    return status


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
        *[(name.lower(), name) for name in backends.NAMES],
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

    monkeypatch.setattr(devices, "absence", lambda name: None)
    monkeypatch.setattr(devices, "_only_pocl", lambda: False)
    monkeypatch.setattr(devices, "_open", opens)
    monkeypatch.setattr(devices, "probe", lambda n: devices.DeviceStatus(n, n in kinds, kind=kinds.get(n, "")))
    assert devices.resolve("auto") == chosen


def test_probe_all_tells_every_backend() -> None:
    found = devices.probe_all()
    assert tuple(status.name for status in found) == backends.NAMES
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


def test_what_fails_after_opening_is_told_in_the_status(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise error

    monkeypatch.setattr(devices, "_open", fail)
    error: Exception = Unusable("CPU", "the disk is full", "make room")
    assert devices._report("CPU") == {"usable": False, "reason": "the disk is full", "mend": "make room"}
    error = OutOfMemoryError("CPU ran out of memory")
    assert devices._report("CPU")["reason"] == str(error)


def test_a_number_that_no_device_has(cl: devices.DeviceStatus) -> None:
    status = devices.probe("CL:77")
    assert (status.usable, status.reason) == (False, "there is no device of that number")
    assert status.mend.startswith("use CL ")


def test_cl(cl: devices.DeviceStatus) -> None:
    assert devices.resolve("opencl") == "CL"
    assert ", driver " in cl.detail


@pytest.mark.parametrize("name", ["CPU", "CL"])
def test_half(name: str, request: pytest.FixtureRequest) -> None:
    if name == "CL":
        request.getfixturevalue("cl")
    assert devices.supports_half(name)


def test_importing_does_not_import_tinygrad() -> None:
    assert answer("import sys; devices.normalize('gpu'); print(json.dumps('tinygrad' in sys.modules))") is False


def test_device_status_is_plain_data() -> None:
    status = devices.DeviceStatus("CPU", True)
    with pytest.raises(AttributeError):
        status.name = "CL"  # type: ignore[misc]
    assert np.isfinite(status.ms)
