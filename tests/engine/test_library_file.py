"""Descriptions of compiled libraries: a true one is read, and a forged one ends in one sentence before code is run."""

import ctypes
import json
import os
import socket
import struct
from pathlib import Path
from typing import Any

import pytest
from helpers import ConfigFactory, error, run
from helpers.libraries import FUNCTIONS, LibraryFactory, description, forge, mark

from edgeae.engine.library_file import MAX_FILE_BYTES, read_description
from edgeae.errors import WeightsError
from edgeae.inference.load import load

DAMAGED = "description is damaged"
NUMBERS = {"width": 16, "height": 16, "batch": 1, "threads": 1}


@pytest.fixture
def no_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail a test that loads a library."""

    def fail(*arguments: object) -> None:
        raise AssertionError("code was run")

    monkeypatch.setattr(ctypes, "CDLL", fail)


def made_for(**changes: Any) -> dict[str, Any]:
    return {"library": {key: value for key, value in {**NUMBERS, **changes}.items() if value is not None}}


# By name: how a true description is changed.
VALUES: dict[str, dict[str, Any]] = {
    **{
        f"width {value!r}": made_for(width=value) for value in (0, -8, 8.0, "16", True, None, 10**30, 23, [16], 1 << 25)
    },
    **{f"height {value!r}": made_for(height=value) for value in (0, 17, 1e400, float("nan"), {})},
    **{f"batch {value!r}": made_for(batch=value) for value in (0, -1, 1025, "1", None, 2.0)},
    **{f"threads {value!r}": made_for(threads=value) for value in (0, 65, False, None)},
    "no numbers": {"library": {}},
    "numbers in a list": {"library": [16, 16, 1, 1]},
    "no part for the library": {"library": None},
    "no configuration": {"config": None},
    "configuration no text": {"config": {"arch": "conv"}},
    "another architecture": {"arch": "vae"},
    "no architecture": {"arch": None},
    "unknown quantization": {"quantize": "int2"},
    "no quantization": {"quantize": None},
    "quantization no text": {"quantize": 8},
}


@pytest.mark.parametrize("changes", [pytest.param(changes, id=name) for name, changes in VALUES.items()])
def test_forged_values(changes: dict[str, Any], tmp_path: Path, tiny_config: ConfigFactory, no_code: None) -> None:
    path = tmp_path / "forged.so"
    path.write_bytes(forge(description(tiny_config("conv"), **changes)))
    for read in (read_description, load):
        with pytest.raises(WeightsError, match=f"forged.so: .*{DAMAGED}"):
            read(path)


def test_a_network_larger_than_its_file(tmp_path: Path, tiny_config: ConfigFactory) -> None:
    path = tmp_path / "a.so"
    for changes in ({"widths": (4096,) * 4}, {"code": 65536}, {"context": 64}):
        path.write_bytes(forge(description(tiny_config("conv", **changes))))
        with pytest.raises(WeightsError, match=DAMAGED):
            read_description(path)


def test_a_vae_has_one_size(tmp_path: Path, tiny_config: ConfigFactory) -> None:
    (tmp_path / "a.so").write_bytes(forge(description(tiny_config("vae"), **made_for(width=32)), size=1 << 19))
    with pytest.raises(WeightsError, match=DAMAGED):
        read_description(tmp_path / "a.so")


TEXTS = {
    "not JSON": (b"{nothing}", DAMAGED),
    "a list": (b"[]", "no library that edgeae compiled"),
    "empty object": (b"{}", DAMAGED),
    "deep lists": (b'{"library":' + b"[" * 100_000 + b"}", DAMAGED),
    "deep objects": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, DAMAGED),
    "a key twice": (b'{"arch": "conv", "arch": "vae"}', DAMAGED),
    "a number of 10,000 digits": (b'{"library": {"width": ' + b"9" * 10_000 + b"}}", DAMAGED),
    "invalid UTF-8": (b'{"arch": "\xff\xfe"}', DAMAGED),
    "NaN": (b'{"library": {"width": NaN}}', DAMAGED),
    "longer than any": (b"{" + b" " * (1 << 20) + b"}", "no library that edgeae compiled"),
}


@pytest.mark.parametrize(("text", "says"), [pytest.param(*value, id=name) for name, value in TEXTS.items()])
def test_forged_text(text: bytes, says: str, tmp_path: Path, no_code: None) -> None:
    (tmp_path / "a.so").write_bytes(forge(text, size=1 << 21))
    with pytest.raises(WeightsError, match=says):
        load(tmp_path / "a.so")


def _files(good: dict[str, Any]) -> dict[str, tuple[bytes, str]]:
    text = json.dumps(good).encode()
    whole = forge(good)
    thin = b"\x7fELF\1\1\1" + bytes(9) + struct.pack("<HHIIIIIHHHHHH", 3, 40, 1, 0, 52, 0, 0, 52, 32, 0, 40, 0, 0)
    dylib = b"\xcf\xfa\xed\xfe" + struct.pack("<7I", 0x0100000C, 0, 6, 1, 72, 0, 0)
    dylib += struct.pack("<II16sQQQQ", 0x19, 72, b"__TEXT", 0, 1 << 20, 0, 1 << 20) + bytes(16)
    return {
        "empty": (b"", "no shared library"),
        "a text": (b"Dear reader,\n" * 99, "no shared library"),
        "a script": (b"#!/bin/sh\nexit 1\n", "no shared library"),
        "a description alone": (mark(text), "no shared library"),
        "a Windows library": (b"MZ" + bytes(200) + mark(text), "a Windows program"),
        "a macOS library cut short": (dylib + mark(text), "truncated; it should have 1,048,576 bytes"),
        "a macOS library without commands": (dylib[:31], "beginning is damaged"),
        "a library for several macOS machines": (b"\xca\xfe\xba\xbe" + bytes(200) + mark(text), "no shared library"),
        "only the first bytes": (whole[:20], "beginning is damaged"),
        "cut short": (whole[:-1], "truncated; it should have 131,072 bytes"),
        "a segment past the end": (forge(good, claimed=1 << 62), "truncated"),
        "a program": (forge(good, kind=2), "beginning is damaged"),
        "an object file": (forge(good, kind=1), "beginning is damaged"),
        "no segments": (thin, "beginning is damaged"),
        "a library of another program": (whole.replace(b"edgeae library", b"edgeae lubrary"), "no library that edgeae"),
        "no functions": (forge(good, functions=[]), "lacks the function tiny_create"),
        "one function missing": (forge(good, functions=FUNCTIONS[:-2]), "lacks the function tiny_interpolate"),
        "a newer version": (forge(good, version=b"2"), "version 2 of our libraries is not 1; update edgeae"),
        "two descriptions": (whole[:-9999] + mark(text) + bytes(9999), "describes itself twice"),
    }


@pytest.mark.parametrize("name", _files({}))
def test_files_that_are_none_of_our_libraries(
    name: str, tmp_path: Path, tiny_config: ConfigFactory, no_code: None
) -> None:
    content, says = _files(description(tiny_config("conv")))[name]
    (tmp_path / "a.so").write_bytes(content)
    with pytest.raises(WeightsError, match=says):
        load(tmp_path / "a.so")


def test_a_true_description(tmp_path: Path, tiny_config: ConfigFactory, library: LibraryFactory) -> None:
    (tmp_path / "a.so").write_bytes(forge(description(tiny_config("conv"), task="occlude")))
    read = read_description(tmp_path / "a.so")
    assert (read.width, read.height, read.batch, read.threads, read.metadata["task"]) == (16, 16, 1, 1, "occlude")
    path = Path(library("residual", "int8", pixels=(48, 32), batch=2, threads=3).library)
    read = read_description(path)
    assert (read.name, read.width, read.height, read.batch, read.threads) == ("tiny", 48, 32, 2, 3)
    assert read.size_bytes == path.stat().st_size and read.config == tiny_config("residual")


def test_a_description_across_two_blocks(tmp_path: Path, tiny_config: ConfigFactory) -> None:
    whole = forge(description(tiny_config("conv")))
    head, rest = whole[:120], whole[120:]
    for before in range((1 << 20) - 160, (1 << 20) - 100, 7):
        (tmp_path / "a.so").write_bytes(head + bytes(before) + rest)
        assert read_description(tmp_path / "a.so").name == "tiny"


# ---- what is no regular file -------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["so", "safetensors"])
@pytest.mark.parametrize("kind", ["pipe", "socket", "folder", "device", "missing", "forbidden", "loop", "too long"])
def test_what_is_no_regular_file(
    suffix: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, working_folder: None
) -> None:
    path, says = Path(f"a.{suffix}"), "not a regular file"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
    elif kind == "folder":
        path.mkdir()
        says = "is a folder"
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "missing":
        says = "check the path"
    elif kind == "forbidden":
        if os.geteuid() == 0:
            pytest.skip("nothing is forbidden to root")
        path.touch(0)
        says = "Permission denied"
    elif kind == "loop":
        path.symlink_to(path)
        says = "cannot be read"
    else:
        path, says = Path(f"{'x' * 300}.{suffix}"), "cannot be read (File name too long)"
    for command in (["info", f"./{path}"], ["run", "a.png", "-m", f"./{path}"]):
        assert says in error(run(*command, code=1))


@pytest.mark.parametrize("suffix", ["so", "safetensors"])
def test_a_huge_file_without_content(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"huge.{suffix}"
    with path.open("wb") as file:
        file.truncate(12 << 30)
    assert "more than any" in error(run("info", path, code=1))
    with path.open("wb") as file:
        file.truncate(MAX_FILE_BYTES)
    assert "is no" in error(run("info", path, code=1)) or "is not" in error(run("info", path, code=1))


def test_names_that_a_terminal_would_obey(tmp_path: Path, working_folder: None) -> None:
    for name in ("a\n.so", "\x1b[31mred.so", "\x07.safetensors", "\u202egnp.so", "\udcff.so"):
        for path in (f"./{name}", f"./{name}.safetensors"):
            assert error(run("info", path, code=1)).isprintable()
