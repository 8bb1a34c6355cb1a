"""Weight files: exchanged with the safetensors package in both directions, and refused in one line when damaged."""

import copy
import json
import os
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from helpers import FileFactory
from helpers.weight_files import FIRST, FORGERIES, KEYS, LAST, Header, config, join, split
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeae.config import ModelConfig
from edgeae.errors import EdgeaeError, WeightsError
from edgeae.network import quantize, weight_file
from edgeae.network.models import build
from edgeae.network.parameters import parameters


def refusal(path: Path | str) -> str:
    """Return the one line that refuses a file; any other exception fails the test."""
    with pytest.raises(WeightsError) as caught:
        weight_file.read(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert message.endswith(".")
    assert len(message) < len(str(path)) + 300
    return message


@pytest.fixture
def good(tiny_file: FileFactory) -> bytes:
    """Bytes of a valid file."""
    return tiny_file("conv").read_bytes()


# ---- writing and reading -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", quantize.SCHEMES)
def test_read_back(
    arch: str, scheme: str, tiny_file: FileFactory, random_weights: Any, tiny_config: Any, tiny_metadata: Any
) -> None:
    path = tiny_file(arch, scheme)
    file = weight_file.read(path)
    config = tiny_config(arch)
    assert (file.path, file.config, file.scheme, file.size_bytes) == (path, config, scheme, path.stat().st_size)
    assert file.metadata == tiny_metadata(config, scheme)
    assert set(file.metadata) == set(KEYS)
    original = random_weights(config)
    floats = file.floats()
    assert list(floats) == list(original)
    for name, value in original.items():
        expected = quantize.unpack(name, quantize.pack(name, value, scheme), value.shape, scheme)
        assert np.array_equal(floats[name], expected), name


@pytest.mark.parametrize("scheme", ["none", "int4"])
def test_the_safetensors_package_reads_it(arch: str, scheme: str, tiny_file: FileFactory) -> None:
    path = tiny_file(arch, scheme)
    file = weight_file.read(path)
    with safetensors.safe_open(path, "numpy") as other:
        assert other.metadata() == file.metadata
        assert set(other.keys()) == set(file.tensors)
        for name, value in file.tensors.items():
            theirs = other.get_tensor(name)
            assert theirs.dtype == value.dtype
            assert np.array_equal(theirs, value)


@pytest.mark.parametrize("scheme", ["none", "int4"])
def test_a_file_of_the_safetensors_package_is_read(
    arch: str, scheme: str, tiny_file: FileFactory, tmp_path: Path
) -> None:
    file = weight_file.read(tiny_file(arch, scheme))
    safetensors.numpy.save_file(file.tensors, tmp_path / "other.safetensors", file.metadata)
    other = weight_file.read(tmp_path / "other.safetensors")
    assert (other.metadata, other.config) == (file.metadata, file.config)
    assert set(other.tensors) == set(file.tensors)
    for name, value in file.tensors.items():
        assert np.array_equal(other.tensors[name], value)
        assert other.tensors[name].dtype == value.dtype


def test_tensors_are_aligned_and_writable(arch: str, tiny_file: FileFactory) -> None:
    """Each tensor begins at a multiple of its type's size, also after one of an odd number of bytes."""
    for scheme in ("int8", "int4"):
        path = tiny_file(arch, scheme, widths=(7, 9))
        header, body = split(path.read_bytes())
        start = path.stat().st_size - len(body)
        itemsize = {"F32": 4, "F16": 2, "I8": 1, "U8": 1}
        del header["__metadata__"]
        for entry in header.values():
            assert (start + entry["data_offsets"][0]) % itemsize[entry["dtype"]] == 0
        assert all(value.flags.writeable for value in weight_file.read(path).tensors.values())


def test_optimizer_state_is_kept(tiny_file: FileFactory, tmp_path: Path) -> None:
    file = weight_file.read(tiny_file("conv"))
    state = {"optimizer.0.0": np.array([0.5], np.float32), "optimizer.0.1": np.zeros((2, 3), np.float32)}
    weight_file.write(tmp_path / "last.safetensors", {**file.tensors, **state}, file.metadata)
    again = weight_file.read(tmp_path / "last.safetensors")
    assert all(np.array_equal(again.tensors[name], value) for name, value in state.items())
    assert set(again.floats()) == set(file.tensors)


def test_a_failed_write_leaves_the_old_file(good: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(good)
    with pytest.raises(EdgeaeError, match="cannot be written"):
        weight_file.write(tmp_path / "file" / "inside", {}, {})
    assert (tmp_path / "file").read_bytes() == good


# ---- paths that are not files, and truncation -----------------------------------------------------------------------


def test_missing_files_and_folders(tmp_path: Path) -> None:
    assert "no such weight file" in refusal(tmp_path / "missing.safetensors")
    assert "is a folder" in refusal(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    assert "not a safetensors" in refusal(tmp_path / "file")
    assert "cannot be read" in refusal(tmp_path / "file" / "inside")
    assert "cannot be read" in refusal(tmp_path / ("x" * 300))
    with pytest.raises(WeightsError, match="cannot be read"):
        weight_file.read("a\0b")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_pipes_and_devices_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in refusal(tmp_path / "pipe")
    assert "not a regular file" in refusal("/dev/zero")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_no_permission(good: bytes, tmp_path: Path) -> None:
    path = tmp_path / "secret.safetensors"
    path.write_bytes(good)
    path.chmod(0)
    assert "ermission denied" in refusal(path)


def test_oversized_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "large.safetensors"
    path.write_bytes(b"x" * 1001)
    monkeypatch.setattr(weight_file, "MAX_FILE_BYTES", 1000)
    assert "1,001 bytes is more than any" in refusal(path)


def test_truncation_at_any_byte(good: bytes, tmp_path: Path) -> None:
    path = tmp_path / "part.safetensors"
    for length in {*range(0, len(good), len(good) // 50), *range(12), len(good) - 1}:
        path.write_bytes(good[:length])
        message = refusal(path)
        assert "truncated" in message or length < 10


@pytest.mark.parametrize(
    "data",
    [
        b"hello\n",
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        b"PK\x03\x04" + bytes(100),
        b"\x80\x04\x95" + bytes(1000),
        bytes(4096),
        b'{"a": 1}' * 10,
        (2**63).to_bytes(8, "little") + b"{}",
        (2**42).to_bytes(8, "little") + b"{}" * 100,
        join(b"[]", b""),
        join(b'"text"', b""),
        join(b"1", b""),
    ],
    ids=repr,
)
def test_other_kinds_of_files(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(data)
    assert "not a safetensors weight file" in refusal(tmp_path / "file")


# ---- forged headers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"{]", "header is damaged"),
        (b"{}}", "header is damaged"),
        (b'{"a": \xff}', "header is damaged"),
        (b'{"a": ' + b"[" * 200_000 + b"]" * 200_000 + b"}", "header is damaged"),
        (b'{"a": ' * 100_000 + b"1" + b"}" * 100_000, "header is damaged"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "header is damaged"),
        (b'{"a": 1, "a": 2}', "a key occurs twice"),
        (b'{"__metadata__": {"x": "1", "x": "2"}}', "a key occurs twice"),
        (b"{}", "not one that edgeae wrote"),
        (b'{"__metadata__": null}', "not one that edgeae wrote"),
        (b'{"__metadata__": ["format_version"]}', "not one that edgeae wrote"),
        (b'{"__metadata__": {"format": "pt"}}', "not one that edgeae wrote"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_bad_json(text: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(join(text, bytes(16)))
    assert said in refusal(tmp_path / "file")


@pytest.mark.parametrize(("forge", "said"), FORGERIES, ids=[f"{i}-{f[1][:40]}" for i, f in enumerate(FORGERIES)])
def test_forged_headers(forge: Callable[[Header], None], said: str, good: bytes, tmp_path: Path) -> None:
    header, body = split(good)
    forge(header)
    (tmp_path / "file").write_bytes(join(header, body))
    assert said in refusal(tmp_path / "file")


def test_a_header_without_forgery_is_read(good: bytes, tmp_path: Path) -> None:
    header, body = split(good)
    (tmp_path / "file").write_bytes(join(header, body))
    assert weight_file.read(tmp_path / "file").config.arch == "conv"


def test_bytes_after_the_end(good: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(good + b"more")
    assert "4 bytes after the last tensor belong to nothing" in refusal(tmp_path / "file")


def test_an_additional_tensor(tiny_file: FileFactory, tmp_path: Path) -> None:
    file = weight_file.read(tiny_file("conv"))
    weight_file.write(tmp_path / "file", {**file.tensors, "up.7.weight": np.zeros(3, np.float32)}, file.metadata)
    assert "tensor 'up.7.weight' belongs to no layer of the network" in refusal(tmp_path / "file")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("scheme", "name"),
    [
        ("none", FIRST),
        ("none", LAST),
        ("fp16", FIRST),
        ("int8", f"{FIRST}.scale"),
        ("int4", f"{FIRST}.scale"),
    ],
)
def test_values_that_are_not_finite(scheme: str, name: str, bad: float, tiny_file: FileFactory, tmp_path: Path) -> None:
    file = weight_file.read(tiny_file("conv", scheme))
    file.tensors[name].flat[-1] = bad
    weight_file.write(tmp_path / "file", file.tensors, file.metadata)
    assert f"tensor {name!r} holds NaN or infinity" in refusal(tmp_path / "file")


@pytest.mark.parametrize(
    "changes",
    [
        {"widths": [4096] * 8, "size": 4096, "context": 64, "code": 65536},
        {"widths": [4096] * 8, "size": 4096, "context": 64, "code": 65536, "arch": "residual"},
        {"widths": [4096], "size": 4096, "context": 64, "code": 65536, "arch": "vae"},
    ],
)
@pytest.mark.parametrize("scheme", ["none", "int4"])
def test_a_huge_network_allocates_nothing(changes: dict[str, Any], scheme: str, good: bytes, tmp_path: Path) -> None:
    header, body = split(good)
    config(**changes)(header)
    header["__metadata__"]["quantize"] = scheme
    (tmp_path / "file").write_bytes(join(header, body))
    started = time.perf_counter()
    tracemalloc.start()
    try:
        assert "tensor '" in refusal(tmp_path / "file")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 << 20
    assert time.perf_counter() - started < 5


def test_reading_allocates_the_size_of_the_file(tmp_path: Path, tiny_metadata: Any) -> None:
    large = ModelConfig.default("vae")
    tensors = {name: np.ones(value.shape, np.float32) for name, value, _ in parameters(build(large, "PYTHON"))}
    size = weight_file.write(tmp_path / "file", tensors, tiny_metadata(large))
    tracemalloc.start()
    try:
        weight_file.read(tmp_path / "file")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.5 * size


# ---- random damage -----------------------------------------------------------------------------------------------

lenient = settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400) | st.just(2**63),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def read_or_refuse(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    try:
        file = weight_file.read(path)
    except WeightsError as e:
        assert "\n" not in str(e)
    else:
        file.floats()


@lenient
@given(flips=st.lists(st.tuples(st.floats(0, 1), st.booleans(), st.integers(1, 255)), min_size=1, max_size=8))
def test_flipped_bytes(flips: list[tuple[float, bool, int]], good: bytes, tmp_path: Path) -> None:
    data = bytearray(good)
    header = 8 + int.from_bytes(good[:8], "little")
    for share, in_header, mask in flips:
        data[int(share * ((header if in_header else len(data)) - 1))] ^= mask
    read_or_refuse(tmp_path / "file", bytes(data))


@lenient
@given(data=st.data(), value=json_values)
def test_replaced_header_values(data: st.DataObject, value: Any, good: bytes, tmp_path: Path) -> None:
    """A value anywhere in the header, or in the configuration, replaced with any other."""
    header, body = split(good)
    header["__metadata__"]["config"] = json.loads(header["__metadata__"]["config"])
    forged: Any = copy.deepcopy(header)
    place: Any = forged
    while True:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.integers(0, 3)) == 0:
            break
        place = place[key]
    place[key] = value
    inner = forged["__metadata__"]
    if isinstance(inner, dict) and isinstance(inner.get("config"), dict):
        inner["config"] = json.dumps(inner["config"])
    read_or_refuse(tmp_path / "file", join(forged, body))
