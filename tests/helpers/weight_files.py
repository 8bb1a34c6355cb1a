"""Forge weight files: take one apart, change its header, and put it together again."""

import json
from collections.abc import Callable
from typing import Any

Header = dict[str, Any]
KEYS = [
    "format_version",
    "edgeae_version",
    "tinygrad_version",
    "arch",
    "config",
    "quantize",
    "task",
    "train_data",
    "licence",
    "seed",
    "epoch",
    "psnr",
    "ssim",
]  # of the metadata; models that are shipped have "golden" too
FIRST, LAST = "down.0.weight", "to_image.bias"  # tensors of the file that is forged


def split(data: bytes) -> tuple[Header, bytes]:
    """Return the header and the bytes of the tensors."""
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def join(header: Header | bytes, body: bytes) -> bytes:
    """Return a weight file with this header, or header text, and these bytes of tensors."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


# ---- changes of a header -----------------------------------------------------------------------------------------


def metadata(**changes: Any) -> Callable[[Header], None]:
    """Change metadata; None leaves an entry out."""

    def forge(header: Header) -> None:
        found = {**header["__metadata__"], **changes}
        header["__metadata__"] = {key: value for key, value in found.items() if value is not None}

    return forge


def config(**changes: Any) -> Callable[[Header], None]:
    """Change the configuration of the network."""

    def forge(header: Header) -> None:
        found = json.loads(header["__metadata__"]["config"]) | changes
        header["__metadata__"] |= {"config": json.dumps(found), "arch": found["arch"]}

    return forge


def entry(name: str = FIRST, **changes: Any) -> Callable[[Header], None]:
    """Change the description of a tensor."""
    return lambda header: header[name].update(changes)


def renamed(old: str, new: str) -> Callable[[Header], None]:
    """Rename a tensor."""
    return lambda header: header.update({new: header.pop(old)})


def moved(name: str, by: int) -> Callable[[Header], None]:
    """Move the place of a tensor by so many bytes."""

    def forge(header: Header) -> None:
        header[name]["data_offsets"] = [place + by for place in header[name]["data_offsets"]]

    return forge


def grown(name: str, values: int) -> Callable[[Header], None]:
    """Claim that a tensor has so many float32 values."""

    def forge(header: Header) -> None:
        first = header[name]["data_offsets"][0]
        header[name].update(shape=[values], data_offsets=[first, first + 4 * values])

    return forge


def added(**changes: Any) -> Callable[[Header], None]:
    """Describe additional tensors."""
    return lambda header: header.update(changes)


# Changes, and what the refusal of the changed file says.
FORGERIES: list[tuple[Callable[[Header], None], str]] = [
    (metadata(format_version=None), "not one that edgeae wrote"),
    (metadata(format_version="2"), "format version '2' is not '1'; update edgeae"),
    (metadata(format_version=1), "metadata 'format_version' is not a string"),
    (metadata(psnr=25.0), "metadata 'psnr' is not a string"),
    (metadata(**{"k" * 9000: {}}), "is not a string"),
    (metadata(arch=None), "metadata 'arch' is missing"),
    (metadata(config=None), "metadata 'config' is missing"),
    (metadata(quantize=None), "metadata 'quantize' is missing"),
    (metadata(quantize="int2"), "unknown quantization 'int2'; update edgeae"),
    (metadata(quantize="\n" * 999), "unknown quantization"),
    (metadata(quantize="int8"), f"tensor '{FIRST}' should be int8"),
    (metadata(quantize="fp16"), f"tensor '{FIRST}' should be float16"),
    (metadata(arch="vae"), "says it holds 'vae' but configures 'conv'"),
    (metadata(arch="x" * 9999), "says it holds 'xxx"),
    (metadata(config="not JSON"), "not valid JSON"),
    (metadata(config="[" * 100_000), "not valid JSON"),
    (metadata(config="{}"), "'arch' is missing"),
    (config(size=10**400), "size must be between"),
    (config(depth=3), "unknown configuration key 'depth'"),
    (config(widths=[8, 32]), "tensor 'down.1.weight' should be float32 (4, 4, 8, 32), not float32 (4, 4, 8, 16)"),
    (config(context=2), "tensor 'gather.1.conv1.weight' is missing"),
    (config(context=0), "belongs to no layer of the network"),
    (config(arch="residual"), "tensor 'before.0.conv1.weight' is missing"),
    (config(arch="vae", code=24), "'to_mu.weight' is missing"),
    (entry(dtype="F64"), f"tensor '{FIRST}' has the unsupported type 'F64'"),
    (entry(dtype="BF16" * 999), "unsupported type"),
    (entry(dtype=7), "described wrongly"),
    (entry(dtype="F16"), "does not fill its place"),
    (entry(dtype="I32"), f"tensor '{FIRST}' should be float32 (4, 4, 3, 8), not int32"),
    (entry(shape=[4, 4, 8, 3]), f"tensor '{FIRST}' should be float32 (4, 4, 3, 8), not float32 (4, 4, 8, 3)"),
    (entry(shape=[384]), f"tensor '{FIRST}' should be"),
    (entry(shape=[-4, -4, 3, 8]), "impossible shape"),
    (entry(shape=[4, 4, 3, 8.0]), "impossible shape"),
    (entry(shape=[True, 4, 4, 3, 8]), "impossible shape"),
    (entry(shape=["4"]), "impossible shape"),
    (entry(shape=[1] * 9), "impossible shape"),
    (entry(shape=[2**62, 2**62]), "impossible shape"),
    (entry(shape=[2**39, 2**39]), "does not fill its place"),
    (entry(shape=[10**4000]), "impossible shape"),
    (entry(shape=[2**39, 2**39, 0], data_offsets=[0, 0]), "impossible shape"),
    (entry(shape=384), "described wrongly"),
    (entry(shape=None), "described wrongly"),
    (entry(data_offsets=[0]), "described wrongly"),
    (entry(data_offsets=[0, 1536, 1536]), "described wrongly"),
    (entry(data_offsets=[0.0, 1536.0]), "described wrongly"),
    (entry(data_offsets=["0", "1536"]), "described wrongly"),
    (entry(data_offsets=[1536, 0]), "does not fill its place"),
    (entry(data_offsets=[-1536, 0]), "overlaps another or leaves a gap"),
    (entry(data_offsets=[10**30, 10**30 + 1536]), "overlaps another or leaves a gap"),
    (grown(LAST, 2**38), f"truncated in tensor '{LAST}'"),
    (entry(extra=1), "described wrongly"),
    (moved(FIRST, 4), "overlaps another or leaves a gap"),
    (moved("down.0.bias", -4), "overlaps another or leaves a gap"),
    (moved(LAST, 4), "overlaps another or leaves a gap"),
    (lambda header: header.update({"down.0.bias": header["gather.0.conv1.bias"]}), "overlaps another or leaves a gap"),
    (lambda header: header.pop(LAST), "12 bytes after the last tensor belong to nothing"),
    (lambda header: header.update({FIRST: 1}), "described wrongly"),
    (renamed(LAST, "to_image.bios"), f"tensor '{LAST}' is missing"),
    (renamed(LAST, "optimizer.0.0"), f"tensor '{LAST}' is missing"),
    (renamed(LAST, "x" * 9999), f"tensor '{LAST}' is missing"),
    (added(empty={"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}), "impossible shape"),
]
