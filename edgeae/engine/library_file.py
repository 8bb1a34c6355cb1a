"""Read what a compiled library says about itself, without running any of its code, and check it as a weight file is.

The description is in the library's bytes: `edgeae library NAME 1`, a zero, JSON, a zero (head.c). The JSON has the
strings of the weight file and, under `library`, what the library was compiled for.

Files come from anywhere, so nothing is believed before it is checked: the file is a shared library, whole, with our
functions in it; and its weights have room in it. No more than a few MB of it are held in memory.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np

from edgeae.config import ModelConfig
from edgeae.engine.shared_object import SharedObject, read_headers
from edgeae.errors import WeightsError
from edgeae.network import quantize
from edgeae.network.describe import describe_model
from edgeae.network.models import build
from edgeae.network.parameters import parameters
from edgeae.untrusted import open_regular, parse_json

# What `edgeae compile` makes at most.
MAX_BATCH, MAX_THREADS = 1024, 64
MAX_PIXELS = 1920 * 1088  # tinygrad's output, which the self-test is compared with, takes gigabytes for more
MAX_FILE_BYTES = 1 << 30
MAX_DESCRIPTION_BYTES = 1 << 20  # ours have about 10 kB

_VERSION = b"1"  # of the functions and of the description
_MARK = b"edgeae library "
_DESCRIPTION = re.compile(rb"([A-Za-z_]\w{0,60}) ([0-9]{1,9})\0(\{[^\0]*\})\0")
_FUNCTIONS = ("create", "destroy", "run_float", "encode_float", "decode_float", "interpolate", "error")
_BLOCK_BYTES = 1 << 20
_MOST_MARKS = 100  # each is looked at; a library has one


@dataclass(frozen=True)
class Description:
    """What a library says about itself.

    Attributes:
        name: prefix of its C functions.
        metadata: the strings of its weight file.
        config: the sizes of the network.
        shared_object: the kind of file that it is in, and for which processor.
        size_bytes: size of the library.
        width, height, batch, threads: what it was compiled for.
    """

    name: str
    metadata: dict[str, str]
    config: ModelConfig
    shared_object: SharedObject
    size_bytes: int
    width: int
    height: int
    batch: int
    threads: int


def read_description(path: Path) -> Description:
    """Read and check the description in a library's bytes.

    Raises:
        WeightsError: the file is none of our libraries, is damaged or cut short, or contradicts itself.
    """
    with open_regular(path, MAX_FILE_BYTES, "library", WeightsError) as file:
        shared_object = read_headers(file, path)
        name, text = _find_description(file, path)
        missing = _absent(file, [f"{name}_{function}\0".encode() for function in _FUNCTIONS])
        size_bytes = file.seek(0, 2)
    if missing:
        raise WeightsError(f"{path} lacks the function {missing[0][:-1].decode()}; compile it again.")
    try:
        values = parse_json(text)
        metadata = {key: value for key, value in values.items() if isinstance(value, str)}
        made_for = values["library"]
        numbers = {
            "width": _whole(made_for["width"], 1, MAX_PIXELS),
            "height": _whole(made_for["height"], 1, MAX_PIXELS),
            "batch": _whole(made_for["batch"], 1, MAX_BATCH),
            "threads": _whole(made_for["threads"], 1, MAX_THREADS),
        }
        _require(metadata["quantize"] in quantize.SCHEMES)
        config = ModelConfig.from_json(metadata["config"], str(path))
        _require(metadata["arch"] == config.arch and _fits(config, numbers["width"], numbers["height"]))
        _require(_weight_bytes(config, metadata["quantize"]) <= size_bytes)
    except (KeyError, ValueError, TypeError, AttributeError):
        raise WeightsError(f"{path}: the library's description is damaged; compile it again.") from None
    return Description(name, metadata, config, shared_object, size_bytes, **numbers)


def describe_library(path: Path) -> dict[str, Any]:
    """Return what `edgeae info` prints about a library. Raises WeightsError."""
    description = read_description(path)
    width, height = description.width, description.height
    return describe_model(path, description.size_bytes, description.config, description.metadata, width, height) | {
        "any_size": f"no, compiled for {width}×{height}",
        "batch": description.batch,
        "threads": description.threads,
        "machine": description.shared_object.machine,
    }


def _require(holds: bool) -> None:
    if not holds:
        raise ValueError


def _whole(value: Any, least: int, most: int) -> int:
    _require(type(value) is int and least <= value <= most)
    return int(value)


def _fits(config: ModelConfig, width: int, height: int) -> bool:
    """Return whether a network can be compiled for images of this size."""
    if not config.takes_any_size:
        return width == height == config.size
    return width * height <= MAX_PIXELS and width % config.stride == height % config.stride == 0


def _weight_bytes(config: ModelConfig, scheme: str) -> int:
    """Return what the weights of a network take in a file."""
    shapes: list[tuple[str, tuple[int, ...]]] = []
    for name, value, _ in parameters(build(config, "PYTHON")):  # unallocated
        shapes += quantize.packed_shapes(name, tuple(value.shape), scheme).values()
    return sum(math.prod(shape) * np.dtype(dtype).itemsize for dtype, shape in shapes)


def _find_description(file: BufferedReader, path: Path) -> tuple[str, bytes]:
    """Return the prefix of the library's functions and the text of the description."""
    found = []
    for position in itertools.islice(_positions(file, _MARK), _MOST_MARKS):
        file.seek(position + len(_MARK))
        if match := _DESCRIPTION.match(file.read(MAX_DESCRIPTION_BYTES)):
            found.append(match)
        if len(found) > 1:
            raise WeightsError(f"{path} describes itself twice; compile it again.")
    if not found:
        raise WeightsError(f"{path} is no library that edgeae compiled.")
    name, version, text = found[0].groups()
    if version != _VERSION:
        raise WeightsError(
            f"{path}: version {version.decode()} of our libraries is not {_VERSION.decode()}; update edgeae."
        )
    return name.decode(), text


def _positions(file: BufferedReader, word: bytes) -> Iterator[int]:
    """Yield where a word begins in a file, which may be read elsewhere in between."""
    at, window = 0, b""
    while True:
        file.seek(at + len(window))
        block = file.read(_BLOCK_BYTES)
        if not block:
            return
        window += block
        start = window.find(word)
        while start >= 0:
            yield at + start
            start = window.find(word, start + 1)
        kept = len(word) - 1
        at, window = at + len(window) - min(kept, len(window)), window[-kept:]


def _absent(file: BufferedReader, words: list[bytes]) -> list[bytes]:
    """Return those of these words that are nowhere in a file."""
    file.seek(0)
    longest, window = max(map(len, words)) - 1, b""
    while words and (block := file.read(_BLOCK_BYTES)):
        window += block
        words = [word for word in words if word not in window]
        window = window[-longest:]
    return words
