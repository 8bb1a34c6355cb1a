"""Rates of codes against their definition, and of WebP and JPEG against an exhaustive search over qualities."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeae.images import metrics
from edgeae.inference.load import load
from edgeae.training.rate_distortion import RANGE_BYTES, measure_rate_distortion


def photos(n: int, side: int, channels: int) -> np.ndarray:
    """Smooth colours with an edge."""
    y, x = np.mgrid[:side, :side] / side
    waves = [0.5 + 0.4 * np.sin(3 * x * (c + 1) + 5 * y * (n - i)) * (x > y) for i in range(n) for c in range(channels)]
    return np.stack(waves).reshape(n, channels, side, side).transpose(0, 2, 3, 1).astype(np.float32)


@pytest.mark.parametrize(("arch", "channels"), [("conv", 3), ("conv", 1), ("vae", 3)])
def test_code_and_files(arch: str, channels: int, tiny_file: Callable[..., Path], device: str) -> None:
    session = load(tiny_file(arch, "none", size=64, in_channels=channels, out_channels=channels), device)
    clean = photos(3, 64, channels)
    code, *files = measure_rate_distortion(session, clean)
    assert code.name == "code" and [file.name for file in files] == ["WebP", "JPEG"]
    assert code.bytes == np.prod(session.config.code_shape(64, 64)) + RANGE_BYTES
    assert code.bits_per_pixel == pytest.approx(8 * code.bytes / 64**2)
    assert code.psnr == pytest.approx(metrics.pooled_psnr(session.run_floats(clean), clean), abs=0.2)
    for file, kind in zip(files, ("WEBP", "JPEG"), strict=True):
        sizes, shown = [], []
        for image in (clean * 255).round().astype(np.uint8):
            picture = Image.fromarray(image[..., 0] if channels == 1 else image)
            best = b""
            for quality in range(1, 101):  # all of them, where the module bisects
                stream = io.BytesIO()
                picture.save(stream, kind, quality=quality, optimize=True)
                if not best or len(stream.getvalue()) <= code.bytes:
                    best = stream.getvalue()
            sizes.append(len(best))
            shown.append(np.asarray(Image.open(io.BytesIO(best)).convert("L" if channels == 1 else "RGB")))
        assert file.bytes <= max(code.bytes, np.mean(sizes))
        psnr = metrics.pooled_psnr(np.stack(shown).reshape(clean.shape) / 255, clean.astype(np.float64))
        assert file.psnr == pytest.approx(psnr, abs=0.3)


def test_a_residual_has_no_rate(tiny_file: Callable[..., Path], device: str) -> None:
    assert measure_rate_distortion(load(tiny_file("residual"), device), photos(1, 16, 3)) == []
