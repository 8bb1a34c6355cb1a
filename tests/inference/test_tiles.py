"""Tilings of large images: receptive field and memory, the cut, and that joined pieces equal the whole."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgeae.config import ModelConfig
from edgeae.errors import UsageError
from edgeae.inference import tiles
from edgeae.inference.load import load
from edgeae.inference.tiles import Strip

CONFIGS = [
    ModelConfig.default("conv"),
    ModelConfig.default("residual"),
    ModelConfig(arch="conv", size=16, widths=(4,), code=4, context=0),
    ModelConfig(arch="residual", size=16, widths=(4, 6), code=4, context=3),
    ModelConfig(arch="conv", size=32, widths=(4, 4, 6, 8), code=4, context=1),
]
SIZES = [
    (1, 1),
    (20, 30),
    (64, 64),
    (65, 64),
    (128, 171),
    (375, 500),
    (1080, 1920),
    (1, 20000),
    (3000, 4000),
    (900, 70),
]


def ids(config: ModelConfig) -> str:
    return f"{config.arch}-{config.stride}-{config.context}"


# ---- what a network sees -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [c for c in CONFIGS if c.size <= 32], ids=ids)
def test_reach_is_the_distance_at_which_inputs_stop_to_matter(
    config: ModelConfig,
    random_weights: Callable[..., dict[str, np.ndarray]],
    tiny_metadata: Callable[..., dict[str, str]],
    device: str,
    tmp_path: Path,
) -> None:
    """Against the network itself: one changed pixel, and the outputs that it changes."""
    from edgeae.network import weight_file as weights

    path = tmp_path / "model.safetensors"
    # Positive weights: every unit is active, and nothing cancels.
    positive = {
        name: np.abs(value) * (0.3 if "weight" in name else 0) for name, value in random_weights(config).items()
    }
    weights.write(path, positive, tiny_metadata(config))
    session, far = load(path, device), tiles.reach(config)
    side = 2 * (far // config.stride + 2) * config.stride
    found = 0
    for phase in range(config.stride):
        place = side // 2 // config.stride * config.stride + phase
        x = np.zeros((1, side, config.stride, 3), np.float32)
        y = session.run_floats(x)
        x[0, place] = 1e20  # far outside the range, so that what is left of it at the edge can be seen
        changed = np.flatnonzero(np.abs(session.run_floats(x) - y).max(axis=(0, 2, 3)))
        found = max(found, place - changed.min(), changed.max() - place)
    assert found <= far <= found + config.stride


def test_bytes_count_every_layer() -> None:
    config = ModelConfig(arch="conv", size=16, widths=(8, 16), code=4, context=1)
    # in and out 3×; down to 8 at a quarter, 16 at a sixteenth; two blocks and a layer there; up again
    expected = 4 * (18 + 8 / 4 + 16 / 16 * 6 + 8 / 4 + 3)
    assert tiles.bytes_per_pixel(config) == pytest.approx(expected)


# ---- the cut -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[1]}x{size[0]}")
@pytest.mark.parametrize("config", CONFIGS, ids=ids)
@pytest.mark.parametrize("max_mem", [64 << 20, 512 << 20, 16 << 30], ids=lambda n: f"{n >> 20}M")
def test_a_plan_covers_the_image_and_fits_the_memory(size: tuple[int, int], config: ModelConfig, max_mem: int) -> None:
    tiling = tiles.plan(*size, config, max_mem)
    assert np.prod(tiling.shape) * tiles.bytes_per_pixel(config) <= max_mem
    for length, axis in zip(size, (tiling.rows, tiling.columns), strict=True):
        assert axis.side % config.stride == 0 and all(start % config.stride == 0 for start in axis.starts)
        assert axis.starts[0] == 0 and axis.starts[-1] < length <= axis.starts[-1] + axis.side
        total = np.zeros(axis.starts[-1] + axis.side)
        for start, weights in zip(axis.starts, axis.weights, strict=True):
            assert weights.min() >= 0
            total[start : start + axis.side] += weights
        assert np.allclose(total, 1, atol=1e-6)


@pytest.mark.parametrize("config", CONFIGS[:2], ids=ids)
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[1]}x{size[0]}")
def test_pieces_agree_where_they_meet(config: ModelConfig, size: tuple[int, int]) -> None:
    """With the default memory a piece counts only where the image's other side of its edge is out of reach."""
    tiling = tiles.plan(*size, config, 512 << 20)
    for length, axis in zip(size, (tiling.rows, tiling.columns), strict=True):
        for i, (start, weights) in enumerate(zip(axis.starts, axis.weights, strict=True)):
            counted = np.flatnonzero(weights)
            if i > 0:
                assert counted[0] >= tiles.reach(config) - tiles._RAMP
            if start + axis.side < length:
                assert counted[-1] <= axis.side - tiles.reach(config) + tiles._RAMP


def test_a_folder_of_many_sizes_needs_few_shapes() -> None:
    rng = np.random.default_rng(0)
    sizes = rng.integers(80, 700, (500, 2)).tolist()
    shapes = {tiles.plan(*size, CONFIGS[1], 512 << 20).shape for size in sizes}
    assert len(shapes) <= 49  # seven rungs of the ladder a side


def test_too_little_memory_is_told() -> None:
    with pytest.raises(UsageError, match="32M"):
        tiles.plan(64, 64, CONFIGS[0], 1 << 20)
    with pytest.raises(UsageError, match="larger `max_mem`"):
        tiles.plan(10**6, 10**7, CONFIGS[0], tiles.MIN_MEM)


# ---- joined ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(130, 517), (400, 64), (96, 96), (333, 331)], ids=str)
def test_the_identity_gives_the_image(size: tuple[int, int]) -> None:
    config = ModelConfig(arch="conv", size=16, widths=(4, 4), code=4, context=0)
    image = np.random.default_rng(0).random((*size, 3), dtype=np.float32)
    tiling = tiles.Tiling(tiles._cut_axis(size[0], 64, config), tiles._cut_axis(size[1], 96, config))
    assert tiling.pieces > 1
    seen = 0
    read = tiles.row_reader(image)
    for strip, joined in tiles.join(lambda count: Strip(read(count)), size[0], tiling, lambda piece: piece.pixels):
        rows = strip.pixels
        assert np.array_equal(rows, image[seen : seen + len(rows)])
        assert joined is not None and np.abs(joined - rows).max() < 1e-6
        seen += len(rows)
    assert seen == size[0]


def test_pieces_that_are_not_needed_are_left_out() -> None:
    config = ModelConfig(arch="conv", size=16, widths=(4, 4), code=4, context=0)
    image = np.zeros((400, 96, 1), np.float32)
    image[150:160, 40:50] = 1
    tiling = tiles.Tiling(tiles._cut_axis(400, 64, config), tiles._cut_axis(96, 64, config))
    read = tiles.row_reader(image)
    bands = list(
        tiles.join(
            lambda count: Strip(read(count)),
            400,
            tiling,
            lambda piece: piece.pixels if piece.pixels.any() else None,
        )
    )
    assert any(joined is None for _, joined in bands)
    whole = np.concatenate([np.zeros_like(strip.pixels) if joined is None else joined for strip, joined in bands])
    assert np.abs(whole - image)[155].max() < 1e-6


@pytest.mark.parametrize("arch", ["conv", "residual"])
def test_pieces_of_a_network_equal_the_whole(arch: str, tiny_file: Callable[..., Path], device: str) -> None:
    """The seam error, far below what 8 bits can show (half of 1/255 is 0.002); the rest is rounding."""
    session = load(tiny_file(arch, seed=3), device)
    config = session.config
    image = np.random.default_rng(0).random((192, 256, 3), dtype=np.float32)
    whole = session.run_floats(image[None])[0]
    assert tiles._exact_overlap(config) < 96
    for sides in ((96, 96), (96, 128), (192, 96)):
        tiling = tiles.Tiling(tiles._cut_axis(192, sides[0], config), tiles._cut_axis(256, sides[1], config))
        read = tiles.row_reader(image)
        bands = tiles.join(
            lambda count, read=read: Strip(read(count)),
            192,
            tiling,
            lambda piece: session.run_floats(piece.pixels[None])[0],
        )
        joined = np.concatenate([band for _, band in bands if band is not None])
        assert np.abs(joined - whole).max() < 1e-4


def test_mirror() -> None:
    rows = np.arange(6).reshape(2, 3, 1)
    assert tiles.mirror(rows, 2, 3) is rows
    assert np.array_equal(tiles.mirror(rows, 5, 4)[..., 0], np.pad(rows[..., 0], ((0, 3), (0, 1)), "symmetric"))


@pytest.mark.parametrize(("machine_gb", "megabytes"), [(16, 512), (1, 256), (0.5, 128), (0.01, 32)])
def test_default_memory(machine_gb: float, megabytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": int(machine_gb * (1 << 18))}
    monkeypatch.setattr(tiles.os, "sysconf", pages.__getitem__, raising=False)
    assert tiles.default_memory() >> 20 == megabytes
