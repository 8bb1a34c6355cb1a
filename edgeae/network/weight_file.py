"""Read and write the weight file: one `.safetensors` file that describes itself.

A file consists of

1. eight bytes: the length of the header, little-endian;
2. the header: JSON, which gives for each tensor its type (`dtype`), `shape` and place in the rest (`data_offsets`), and
   under `__metadata__` the strings below;
3. the bytes of the tensors, one after the other without gaps.

The metadata:

    format_version    "1"
    edgeae_version, tinygrad_version
    arch, config      `conv`, `residual` or `vae`; the ModelConfig as JSON
    quantize          `none`, `fp16`, `int8` or `int4`; quantize.py describes the tensors of each
    task              what the model was trained to undo: a damage specification, or `image-to-image`
    train_data        name of the training data, and `licence` what it allows
    seed, epoch       of the training run
    psnr, ssim        on the validation images: in dB, and 0 … 1
    golden            how to make the golden input, and the output to expect for it (golden.py)

Tensors are named by the attributes that lead to them in models.py (`down.0.weight`). Names that begin with `optimizer.`
are the state of AdamW; only checkpoints have them.

Files come from anywhere, so reading trusts nothing: no byte of a file is executed, no more memory is allocated than the
file's own size, and each header, shape and tensor is checked against the network that the file claims to hold.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeae.config import UPDATE, ModelConfig
from edgeae.errors import WeightsError
from edgeae.files import write_bytes_atomic
from edgeae.network import quantize
from edgeae.network.models import Autoencoder, build
from edgeae.network.parameters import parameters
from edgeae.untrusted import open_regular, parse_json

FORMAT_VERSION = "1"
MAX_HEADER_BYTES = 1 << 20  # ours have about 10 kB; parsed, a hostile header takes thirty times its size
MAX_FILE_BYTES = 4 << 30
OPTIMIZER = "optimizer."  # prefix of the optimizer's tensors in a checkpoint

_DTYPES = {"F32": np.float32, "F16": np.float16, "I8": np.int8, "U8": np.uint8, "I32": np.int32, "I64": np.int64}
_NAMES = {np.dtype(dtype): name for name, dtype in _DTYPES.items()}

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class WeightFile:
    """The checked contents of a weight file.

    Attributes:
        path: of the file.
        metadata: the strings of the header.
        config: of the network.
        tensors: all tensors by name, as stored.
        size_bytes: of the file.
    """

    path: Path
    metadata: dict[str, str]
    config: ModelConfig
    tensors: dict[str, Array]
    size_bytes: int

    @property
    def scheme(self) -> str:
        """The quantization of its weights, one of `quantize.SCHEMES`."""
        return self.metadata["quantize"]

    def floats(self) -> dict[str, Array]:
        """Return all parameters of the network by name, in float32."""
        shapes = {name: tuple(weight.shape) for name, weight, _ in parameters(build(self.config, "PYTHON"))}
        return {name: quantize.unpack(name, self.tensors, shape, self.scheme) for name, shape in shapes.items()}

    def build(self, device: str, half: bool = True) -> Autoencoder:
        """Build the network on a device, with its weights quantized as in the file.

        Args:
            device: tinygrad device.
            half: whether the device can read float16 (devices.supports_half).
        """
        model = build(self.config, device)
        for name, value, layer in list(parameters(model)):
            weight = quantize.to_device(name, self.tensors, tuple(value.shape), self.scheme, device, half)
            setattr(layer, name.rsplit(".", 1)[1], weight)
        return model

    def repack(self, scheme: str) -> WeightFile:
        """Return the same weights quantized in another way.

        Raises:
            UsageError: the scheme is not one of `quantize.SCHEMES`.
        """
        quantize.check_scheme(scheme)
        tensors: dict[str, Array] = {}
        for name, value in self.floats().items():
            tensors |= quantize.pack(name, value, scheme)
        return replace(self, metadata=self.metadata | {"quantize": scheme}, tensors=tensors)


# ---- writing -----------------------------------------------------------------------------------------------------


def write(path: str | os.PathLike[str], tensors: Mapping[str, Array], metadata: Mapping[str, str]) -> int:
    """Write a weight file completely or not at all.

    Args:
        path: of the file; an existing one is replaced.
        tensors: by name.
        metadata: strings, as this module's docstring lists them.

    Returns:
        Its size in bytes.

    Raises:
        EdgeaeError: the file cannot be written.
    """
    # Types of more bytes first, as safetensors itself does: each tensor then starts at a multiple of its type's size.
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
    text += b" " * (-len(text) % 8)  # so do the tensors as a whole, at a multiple of 8
    body = b"".join(np.ascontiguousarray(tensor).tobytes() for _, tensor in ordered)
    data = len(text).to_bytes(8, "little") + text + body
    write_bytes_atomic(path, data)
    return len(data)


# ---- reading -----------------------------------------------------------------------------------------------------


def read(path: str | os.PathLike[str]) -> WeightFile:
    """Read and check a weight file.

    Raises:
        WeightsError: the file is missing, truncated, oversized, not of this package, or contradicts itself.
    """
    path = Path(path)
    with open_regular(path, MAX_FILE_BYTES, "weight file", WeightsError) as file:
        size_bytes = os.fstat(file.fileno()).st_size
        header, start = _header(path, file, size_bytes)
        metadata = _metadata(path, header.pop("__metadata__", None))
        places = _places(path, header, size_bytes - start)
        # All that reading allocates, writable as tinygrad copies no other memory to a device; tensors are views of it.
        body = bytearray(size_bytes - start)
        if file.readinto(body) != len(body):
            raise WeightsError(f"{path}: truncated while it was read. Copy the file again.")
    config = ModelConfig.from_json(metadata["config"], str(path))
    if config.arch != metadata["arch"]:
        raise WeightsError(f"{path}: the file says it holds {metadata['arch'][:20]!r} but configures {config.arch!r}.")
    tensors = {
        name: np.frombuffer(memoryview(body)[first:last], _DTYPES[kind]).reshape(shape)
        for first, last, name, kind, shape in places
    }
    _check_parameters(path, tensors, config, metadata["quantize"])
    return WeightFile(path, metadata, config, tensors, size_bytes)


def _header(path: Path, file: BufferedReader, size_bytes: int) -> tuple[dict[str, Any], int]:
    """Return the JSON header, and the position of the first tensor."""
    head = file.read(9)
    length = int.from_bytes(head[:8], "little")
    if size_bytes < 10 or not 2 <= length <= MAX_HEADER_BYTES or head[8:] != b"{":
        raise WeightsError(f"{path} is not a safetensors weight file.")
    if 8 + length > size_bytes:
        raise WeightsError(f"{path}: truncated; the header alone should be {length:,} bytes. Copy the file again.")
    try:
        header = parse_json(head[8:] + file.read(length - 1))
    except ValueError as e:
        raise WeightsError(f"{path}: the header is damaged ({str(e)[:80]}). Copy the file again.") from None
    return header, 8 + length


def _metadata(path: Path, metadata: Any) -> dict[str, str]:
    if not isinstance(metadata, dict) or "format_version" not in metadata:
        raise WeightsError(f"{path} is a safetensors file, but not one that edgeae wrote.")
    for key, value in metadata.items():
        if not isinstance(value, str):
            raise WeightsError(f"{path}: metadata {key[:60]!r} is not a string.")
    if metadata["format_version"] != FORMAT_VERSION:
        version = metadata["format_version"][:20]
        raise WeightsError(f"{path}: format version {version!r} is not {FORMAT_VERSION!r}; {UPDATE}.")
    for key in ("arch", "config", "quantize"):
        if key not in metadata:
            raise WeightsError(f"{path}: metadata {key!r} is missing.")
    if metadata["quantize"] not in quantize.SCHEMES:
        raise WeightsError(f"{path}: unknown quantization {metadata['quantize'][:20]!r}; {UPDATE}.")
    return metadata


def _places(path: Path, header: dict[str, Any], body_bytes: int) -> list[tuple[int, int, str, str, list[int]]]:
    """Return first and last byte, name, type and shape of each tensor; they must fill the body without gap or overlap.

    Raises:
        WeightsError: they do not.
    """
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
    for first, last, name, _, _ in places:
        if first != end:
            raise WeightsError(f"{path}: tensor {name[:60]!r} overlaps another or leaves a gap.")
        end = last
        if last > body_bytes:
            raise WeightsError(f"{path}: truncated in tensor {name[:60]!r}. Copy the file again.")
    if end != body_bytes:
        raise WeightsError(f"{path}: {body_bytes - end:,} bytes after the last tensor belong to nothing.")
    return places


def _check_parameters(path: Path, tensors: dict[str, Array], config: ModelConfig, scheme: str) -> None:
    """Raise WeightsError unless the file holds exactly the parameters of the network, all of them finite."""
    expected: dict[str, tuple[str, tuple[int, ...]]] = {}
    # Unallocated: whatever sizes the file claims, building the network takes no memory for its weights.
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
