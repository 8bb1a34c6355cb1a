"""Describe a model for people: its size, its work for one image, what it was trained on."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from edgeae.config import ModelConfig
from edgeae.network.models import build
from edgeae.network.parameters import parameters
from edgeae.network.tracing import trace
from edgeae.network.weight_file import read


def describe(path: Path) -> dict[str, Any]:
    """Return what `edgeae info` shows of a weight file: strings and numbers, in the order to show them.

    Raises:
        WeightsError: the file cannot be read.
    """
    file = read(path)
    return describe_model(path, file.size_bytes, file.config, file.metadata, file.config.size, file.config.size)


def describe_model(
    path: Path, size_bytes: int, config: ModelConfig, metadata: dict[str, str], width: int, height: int
) -> dict[str, Any]:
    """Return the description of a model in any kind of file, for images of width × height pixels."""
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
        "any_size": "no" if config.arch == "vae" else f"yes, worked in multiples of {config.stride}",
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
