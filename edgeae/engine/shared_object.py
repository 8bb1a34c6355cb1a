"""Read the headers of a shared library: its kind, its processor, and whether it is whole. Nothing in it is run.

Formats: ELF (System V ABI, chapter 4) and Mach-O (Apple's loader.h), which `edgeae compile` makes.
"""

from __future__ import annotations

import io
import platform
import struct
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from edgeae.errors import WeightsError

_ELF, _MACH_O_64, _WINDOWS = b"\x7fELF", b"\xcf\xfa\xed\xfe", b"MZ"
_SHARED_OBJECT, _LOAD = 3, 1  # ELF's type of a shared library, and of a segment that is loaded
_DYLIB, _SEGMENT_64 = 6, 0x19  # Mach-O's
_MOST_SEGMENTS = 256
# Names of processors: as ELF and Mach-O number them, and as Python calls this machine's.
_ELF_MACHINES = {3: "i386", 8: "MIPS", 21: "ppc64", 22: "s390x", 40: "arm", 62: "x86-64", 183: "aarch64", 243: "RISC-V"}
_MACH_O_MACHINES = {0x01000007: "x86-64", 0x0100000C: "aarch64"}
_OWN = {"amd64": "x86-64", "x86_64": "x86-64", "arm64": "aarch64", "i686": "i386", "armv7l": "arm", "armv6l": "arm"}


@dataclass(frozen=True)
class SharedObject:
    """What a shared library is for.

    Attributes:
        kind: `ELF` or `Mach-O`.
        processor: its processor, such as `x86-64`.
        bits: size of its addresses, 32 or 64.
    """

    kind: str
    processor: str
    bits: int

    @property
    def machine(self) -> str:
        """The machine in words."""
        return f"{self.processor} ({'macOS' if self.kind == 'Mach-O' else 'Linux'}, {self.bits} bits)"


def this_machine() -> SharedObject:
    """Return what a library for this process has to be."""
    machine = platform.machine().lower()
    processor, bits = _OWN.get(machine, machine), 64 if sys.maxsize > 2**32 else 32
    if bits == 32:  # a 32-bit Python on a 64-bit system
        processor = {"x86-64": "i386", "aarch64": "arm"}.get(processor, processor)
    return SharedObject("Mach-O" if sys.platform == "darwin" else "ELF", processor, bits)


def read_headers(file: BinaryIO, path: Path) -> SharedObject:
    """Read the headers of a shared library.

    Args:
        file: the library, seekable.
        path: its name for messages.

    Raises:
        WeightsError: it is something else, or its end is missing.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    head = file.read(64)
    try:
        if head[:4] == _ELF:
            shared_object, end = _read_elf(file, head)
        elif head[:4] == _MACH_O_64:
            shared_object, end = _read_mach_o(file, head)
        elif head[:2] == _WINDOWS:
            raise WeightsError(f"{path} is a Windows program or library, which edgeae does not compile.")
        else:
            raise WeightsError(f"{path} is no shared library.")
    except (struct.error, KeyError, ValueError):
        raise WeightsError(f"{path} is no shared library, or its beginning is damaged; compile it again.") from None
    if end > size:  # loaded nevertheless, it would end the process where its pages are missing
        raise WeightsError(f"{path}: truncated; it should have {end:,} bytes. Copy the file again.")
    return shared_object


def _read_elf(file: BinaryIO, head: bytes) -> tuple[SharedObject, int]:
    """Return what an ELF file is for, and where its last segment ends."""
    bits, order = {1: 32, 2: 64}[head[4]], {1: "<", 2: ">"}[head[5]]
    kind, machine = struct.unpack_from(order + "HH", head, 16)
    wide = bits == 64
    first, sections = struct.unpack_from(order + ("QQ" if wide else "II"), head, 32 if wide else 28)
    _, entry, count, section_bytes, section_count = struct.unpack_from(order + "HHHHH", head, 52 if wide else 40)
    layout = struct.Struct(order + ("IIQQQQQQ" if wide else "IIIIIIII"))
    if kind != _SHARED_OBJECT or entry != layout.size or not 0 < count <= _MOST_SEGMENTS:
        raise ValueError
    file.seek(first)
    end = sections + section_bytes * section_count
    for segment in layout.iter_unpack(file.read(entry * count)):
        offset, length = (segment[2], segment[5]) if wide else (segment[1], segment[4])
        if segment[0] == _LOAD:
            end = max(end, offset + length)
    return SharedObject("ELF", _ELF_MACHINES.get(machine, f"processor {machine}"), bits), end


def _read_mach_o(file: BinaryIO, head: bytes) -> tuple[SharedObject, int]:
    """Return what a 64-bit Mach-O file is for, and where its last segment ends."""
    machine, _, kind, count, commands_bytes = struct.unpack_from("<5I", head, 4)
    if kind != _DYLIB or count > _MOST_SEGMENTS or commands_bytes > 1 << 16:
        raise ValueError
    file.seek(32)
    commands, at, end = file.read(commands_bytes), 0, 0
    for _ in range(count):
        command, length = struct.unpack_from("<II", commands, at)
        if command == _SEGMENT_64:
            offset, segment_bytes = struct.unpack_from("<QQ", commands, at + 40)
            end = max(end, offset + segment_bytes)
        at += max(8, length)
    return SharedObject("Mach-O", _MACH_O_MACHINES.get(machine, f"processor {machine:#x}"), 64), end
