"""The weight file: one `.safetensors` file that describes itself, read with distrust.

A file is an 8-byte little-endian length, a JSON header of that length, and the tensors' bytes. The header gives for
each tensor its type, shape and place, and under `__metadata__` strings only:

    format_version    "1"
    edgeae_version, tinygrad_version
    arch, config      `conv`, `residual` or `vae`; the ModelConfig as JSON
    quantize          `none`, `fp16`, `int8` or `int4` (quantize.py says how each is laid out)
    task              what it was trained to undo: a damage specification, or `image-to-image`
    train_data        name of the data, and `licence` what it allows
    seed, epoch       of the training run
    psnr, ssim        on the validation images, in dB and 0 … 1
    golden            how to make the golden input, and what must come out (golden.py)

Tensors are named by the attributes that lead to them in models.py (`down.0.weight`); `optimizer.…` are AdamW's moments,
kept in checkpoints only. Nothing in a file is ever executed, and reading allocates no more than the file's own size.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeae.config import ModelConfig
from edgeae.errors import WeightsError
from edgeae.files import write_bytes_atomic
from edgeae.network import quantize
from edgeae.network.models import Autoencoder, build
from edgeae.network.parameters import parameters
from edgeae.network.tracing import trace

FORMAT_VERSION = "1"
MAX_HEADER_BYTES = 1 << 20  # ours take some 10 kB; as Python objects a hostile one takes thirty times its bytes
MAX_FILE_BYTES = 4 << 30
OPTIMIZER = "optimizer."

_DTYPES = {"F32": np.float32, "F16": np.float16, "I8": np.int8, "U8": np.uint8, "I32": np.int32, "I64": np.int64}
_NAMES = {np.dtype(dtype): name for name, dtype in _DTYPES.items()}

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class WeightFile:
    """The contents of a weight file, checked.

    Attributes:
        path: where it was read from.
        metadata: the strings of the header.
        config: the network it holds.
        tensors: every tensor of the file by its name, as stored.
        size_bytes: of the file.
    """

    path: Path
    metadata: dict[str, str]
    config: ModelConfig
    tensors: dict[str, Array]
    size_bytes: int

    @property
    def scheme(self) -> str:
        """How its weights are quantized."""
        return self.metadata["quantize"]

    def floats(self) -> dict[str, Array]:
        """Every parameter of the network in float32."""
        shapes = {name: tuple(weight.shape) for name, weight, _ in parameters(build(self.config, "PYTHON"))}
        return {name: quantize.unpack(name, self.tensors, shape, self.scheme) for name, shape in shapes.items()}

    def packed_as(self, scheme: str) -> WeightFile:
        """The same weights in another form, one of `quantize.SCHEMES`; UsageError for what is none of them."""
        quantize.check_scheme(scheme)
        tensors: dict[str, Array] = {}
        for name, value in self.floats().items():
            tensors |= quantize.pack(name, value, scheme)
        return replace(self, metadata=self.metadata | {"quantize": scheme}, tensors=tensors)


def build_loaded(file: WeightFile, device: str, half: bool = True) -> Autoencoder:
    """The network of a weight file on a device, its weights in the bits they have in the file.

    Args:
        file: what `read` returned.
        device: tinygrad device.
        half: whether the device can read float16 (devices.supports_half).
    """
    model = build(file.config, device)
    for name, value, layer in list(parameters(model)):
        weight = quantize.to_device(name, file.tensors, tuple(value.shape), file.scheme, device, half)
        setattr(layer, name.rsplit(".", 1)[1], weight)
    return model


# ---- writing -----------------------------------------------------------------------------------------------------


def write(path: str | os.PathLike[str], tensors: Mapping[str, Array], metadata: Mapping[str, str]) -> int:
    """Write a weight file whole, or not at all; returns its size in bytes.

    Raises:
        EdgeaeError: the file cannot be written.
    """
    # Wide types first, as safetensors itself does: every tensor then starts at a multiple of its type's size.
    ordered = sorted(tensors.items(), key=lambda item: -item[1].itemsize)
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    offset = 0
    for name, tensor in ordered:
        header[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + tensor.nbytes],
        }
        offset += tensor.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    body = b"".join(np.ascontiguousarray(tensor).tobytes() for _, tensor in ordered)
    data = len(text).to_bytes(8, "little") + text + body
    write_bytes_atomic(path, data)
    return len(data)


# ---- reading -----------------------------------------------------------------------------------------------------


def read(path: str | os.PathLike[str]) -> WeightFile:
    """Read and check a weight file.

    Raises:
        WeightsError: it is missing, truncated, oversized, not a weight file of this package, or contradicts itself.
    """
    path = Path(path)
    data = _read_bytes(path)
    header, start = _header(path, data)
    metadata = _metadata(path, header.pop("__metadata__", None))
    config = ModelConfig.from_json(metadata["config"], str(path))
    if config.arch != metadata["arch"]:
        raise WeightsError(f"{path}: the file says it holds {metadata['arch'][:20]!r} but configures {config.arch!r}.")
    tensors = _tensors(path, header, memoryview(data)[start:])
    _check_parameters(path, tensors, config, metadata["quantize"])
    return WeightFile(path, metadata, config, tensors, len(data))


def _read_bytes(path: Path) -> bytearray:
    """The whole file, in writable memory: tinygrad copies to a device from nothing else."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise WeightsError(f"{path} is a folder; name the .safetensors file in it.")
        if not stat.S_ISREG(status.st_mode):  # a pipe or /dev/zero would never end
            raise WeightsError(f"{path} is not a regular file; copy the weights to one.")
        if status.st_size > MAX_FILE_BYTES:
            raise WeightsError(f"{path}: {status.st_size:,} bytes is more than any weight file of this package.")
        data = bytearray(status.st_size)
        with path.open("rb") as file:
            del data[file.readinto(data) :]
        return data
    except FileNotFoundError:
        raise WeightsError(f"{path}: no such weight file; check the path.") from None
    except (OSError, ValueError) as e:
        raise WeightsError(f"{path}: cannot be read ({getattr(e, 'strerror', None) or e}).") from None


def _header(path: Path, data: bytearray) -> tuple[dict[str, Any], int]:
    """The JSON header and where the tensors start."""
    length = int.from_bytes(data[:8], "little")
    if len(data) < 10 or not 2 <= length <= MAX_HEADER_BYTES or data[8:9] != b"{":
        raise WeightsError(f"{path} is not a safetensors weight file.")
    if 8 + length > len(data):
        raise WeightsError(f"{path}: truncated; the header alone should be {length:,} bytes. Copy the file again.")
    try:
        header = json.loads(data[8 : 8 + length].decode(), object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as e:
        raise WeightsError(f"{path}: the header is damaged ({str(e)[:80]}). Copy the file again.") from None
    return header, 8 + length


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key occurs twice")
    return values


def _metadata(path: Path, metadata: Any) -> dict[str, str]:
    if not isinstance(metadata, dict) or "format_version" not in metadata:
        raise WeightsError(f"{path} is a safetensors file, but not one that edgeae wrote.")
    for key, value in metadata.items():
        if not isinstance(value, str):
            raise WeightsError(f"{path}: metadata {key[:60]!r} is not a string.")
    if metadata["format_version"] != FORMAT_VERSION:
        version = metadata["format_version"][:20]
        raise WeightsError(f"{path}: format version {version!r} is not {FORMAT_VERSION!r}; update edgeae.")
    for key in ("arch", "config", "quantize"):
        if key not in metadata:
            raise WeightsError(f"{path}: metadata {key!r} is missing.")
    if metadata["quantize"] not in quantize.SCHEMES:
        raise WeightsError(f"{path}: unknown quantization {metadata['quantize'][:20]!r}; update edgeae.")
    return metadata


def _tensors(path: Path, header: dict[str, Any], body: memoryview) -> dict[str, Array]:
    """Views into the file's own bytes; the places must follow each other, without gap or overlap, to the file's end."""
    places = []
    for name, entry in header.items():
        match entry:
            case {"dtype": str(kind), "shape": list(shape), "data_offsets": [int(first), int(last)]} if len(entry) == 3:
                pass
            case _:
                raise WeightsError(f"{path}: tensor {name[:60]!r} is described wrongly in the header.")
        if kind not in _DTYPES:
            raise WeightsError(f"{path}: tensor {name[:60]!r} has the unsupported type {kind[:20]!r}.")
        if len(shape) > 8 or not all(type(n) is int and 1 <= n < 2**40 for n in shape):
            raise WeightsError(f"{path}: tensor {name[:60]!r} has an impossible shape.")
        if last - first != math.prod(shape) * np.dtype(_DTYPES[kind]).itemsize:
            raise WeightsError(f"{path}: tensor {name[:60]!r} does not fill its place in the file.")
        places.append((first, last, name, kind, shape))
    places.sort()
    end = 0
    tensors = {}
    for first, last, name, kind, shape in places:
        if first != end:
            raise WeightsError(f"{path}: tensor {name[:60]!r} overlaps another or leaves a gap.")
        end = last
        if last > len(body):
            raise WeightsError(f"{path}: truncated in tensor {name[:60]!r}. Copy the file again.")
        tensors[name] = np.frombuffer(body[first:last], _DTYPES[kind]).reshape(shape)
    if end != len(body):
        raise WeightsError(f"{path}: {len(body) - end:,} bytes after the last tensor belong to nothing.")
    return tensors


def _check_parameters(path: Path, tensors: dict[str, Array], config: ModelConfig, scheme: str) -> None:
    """The file holds exactly the network's parameters, with finite values; unallocated shapes are compared."""
    expected: dict[str, tuple[str, tuple[int, ...]]] = {}
    for name, value, _ in parameters(build(config, "PYTHON")):
        expected |= quantize.packed_shapes(name, tuple(value.shape), scheme)
    for name, (dtype, shape) in expected.items():
        if name not in tensors:
            raise WeightsError(f"{path}: tensor {name!r} is missing.")
        stored = tensors[name]
        if stored.dtype != dtype or stored.shape != shape:
            raise WeightsError(f"{path}: tensor {name!r} should be {dtype} {shape}, not {stored.dtype} {stored.shape}.")
        if stored.dtype.kind == "f" and not np.isfinite(stored).all():
            raise WeightsError(f"{path}: tensor {name!r} holds NaN or infinity.")
    for name in tensors:
        if name not in expected and not name.startswith(OPTIMIZER):
            raise WeightsError(f"{path}: tensor {name[:60]!r} belongs to no layer of the network.")


def describe(path: Path) -> dict[str, Any]:
    """What `edgeae info` tells of a weight file: strings and numbers, in the order to show them."""
    file = read(path)
    return described(path, file.size_bytes, file.config, file.metadata, file.config.size, file.config.size)


def described(
    path: Path, size_bytes: int, config: ModelConfig, metadata: dict[str, str], width: int, height: int
) -> dict[str, Any]:
    """What is told of a model in a file, for images of width × height."""
    model = build(config, "PYTHON")
    count = sum(math.prod(value.shape) for _, value, _ in parameters(model))
    code = math.prod(config.code_shape(height, width))
    pixels = width * height * config.in_channels
    work = trace(model.reconstruct, (1, height, width, config.in_channels))
    return {
        "file": str(path),
        "size_bytes": size_bytes,
        "architecture": config.arch,
        "parameters": count,
        "mflop_an_image": round(work.flop / 1e6, 1),
        "image": f"{width}×{height}, {config.in_channels} → {config.out_channels} channels",
        "any_size": f"yes, worked in multiples of {config.stride}" if config.takes_any_size else "no",
        "code_size": code,
        "compression_ratio": round(pixels / code, 2),
        "quantize": metadata.get("quantize", "none"),
        "task": metadata.get("task", ""),
        "train_data": metadata.get("train_data", ""),
        "licence": metadata.get("licence", ""),
        "epoch": metadata.get("epoch", ""),
        "psnr_db": metadata.get("psnr", ""),
        "ssim": metadata.get("ssim", ""),
        "edgeae_version": metadata.get("edgeae_version", ""),
        "tinygrad_version": metadata.get("tinygrad_version", ""),
    }
