"""How a backend is found to be absent, on simulated machines. test_devices.py tests descriptions."""

import os
import platform
import sys
from pathlib import Path

import pytest

from edgeae.runtime import backends


def test_metal_is_for_macos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    assert backends.absence("METAL:1") == ("Metal exists only on macOS", "use another device, this one needs a Mac")


@pytest.mark.parametrize("name", ["NV", "AMD:1", "QCOM"])
def test_a_kernel_driver_is_seen_by_its_node(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tinygrad.helpers import Context

    backend, node = name.split(":")[0], tmp_path / "node"
    monkeypatch.setitem(backends._NODE, backend, str(node))
    reason, mend = backends.absence(name) or ("", "")
    assert reason == f"this system has no {node}" and mend
    with Context(DEV=f"PCI+{backend};CPU"):  # another way to the device
        assert backends.absence(name) is None
        assert [target.interface for target in backends.targets_in_dev(backend)] == ["PCI"]
    node.touch()
    assert backends.absence(name) is None
    monkeypatch.setattr(os, "access", lambda *_: False)
    reason, mend = backends.absence(name) or ("", "")
    assert reason == f"this user may not open {node}" and "usermod" in mend


def test_a_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(backends._LIBRARY, "CL", ("no-such-library", "no-such-library"))
    reason, mend = backends.absence("CL") or ("", "")
    assert reason == "the library no-such-library was not found" and "apt install" in mend
    assert backends.absence("CPU") is None


def test_dawn_is_found_in_its_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "AMD64")
    library = tmp_path / "pydawn" / "lib" / f"libwebgpu_dawn_x86_64.{'dylib' if sys.platform == 'darwin' else 'so'}"
    library.parent.mkdir(parents=True)
    library.touch()
    (tmp_path / "pydawn" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("WEBGPU_PATH", "the user's own")
    backends._point_at_dawn()
    assert os.environ["WEBGPU_PATH"] == "the user's own"
    monkeypatch.delenv("WEBGPU_PATH")
    backends._point_at_dawn()
    assert os.environ["WEBGPU_PATH"] == str(library)
