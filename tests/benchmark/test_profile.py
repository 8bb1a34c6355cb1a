"""The time of every layer."""

import pytest
from helpers import FileFactory

from edgeae.benchmark.profile import profile
from edgeae.errors import UsageError


def test_profile(arch: str, device: str, tiny_file: FileFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeae.benchmark.profile.ROUNDS", 2)
    path = tiny_file(arch, context=1)
    found = profile(path, device, batch=2)
    names = [layer.name for layer in found.layers]
    assert names[0] == "down.0" and names[-1] == "to_image" and "to_logvar" not in names
    assert sum(layer.share for layer in found.layers) == pytest.approx(1)
    assert all(layer.ms > 0 and layer.flop > 0 and layer.bytes > 0 for layer in found.layers)
    assert found.ms > 0 and found.peak_gflops > 0.1
    with pytest.raises(UsageError, match=r"multiples|takes images"):
        profile(path, device, size=(17, 16))
